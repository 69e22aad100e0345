"""Whole networks against the authors' DNR code, MMAction2 and PySlowFast, in float64."""

import pytest

from tests import golden
from tests.golden_networks import NETWORKS, stored, values
from tests.paths import shared_folder

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*NETWORKS, *stored(shared_folder())}))
def test_networks_are_the_peers(shared, name):
    if not (shared / "golden" / "cases" / f"{name}.json").is_file():
        pytest.skip(f"no golden values of {name}")
    case = golden.load(shared, name)
    assert not case.compare(values(case), rtol=golden.RTOL, verbose=False)
