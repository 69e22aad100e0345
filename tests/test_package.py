"""The package as somebody else's code sees it."""

import subprocess
import sys

import pytest

import dnr_jax
from tests.paths import REPOSITORY

pytestmark = pytest.mark.compat

# What the trainer needs and the layers do not: pyproject.toml says how to do without it.
HEAVY = (
    *("grain", "tensorflow_datasets", "tensorflow", "av", "cv2"),
    *("matplotlib", "optax", "orbax", "pebble", "safetensors", "tensorboardX", "tqdm"),
    "flax.nnx",  # which dnr_jax.nnx needs
)


@pytest.mark.parametrize(
    ("uses", "absent"),
    [
        ("", ("jax", "flax", *HEAVY)),
        ("[getattr(dnr_jax, name) for name in dnr_jax.__all__ if name != 'Predictor']", HEAVY),
    ],
)
def test_importing_loads_nothing_and_using_nothing_of_the_trainer(uses, absent):
    program = f"import sys, dnr_jax\n{uses}\nprint(*sorted(set({absent}) & set(sys.modules)))"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


def test_public_names():
    assert set(dnr_jax.__all__) == {
        *("CrossLayerDNR", "CrossTemporalDNR", "StaticNorm", "InstanceLevelMetaNorm", "AttentiveNorm", "RelayCell"),
        *("BatchNorm", "BatchRenorm", "GroupNorm", "InstanceNorm", "LayerNorm", "SwitchableNorm"),
        *("DNRSpec", "create_model", "interlace", "without_carry"),
        *("inspect", "plot_relays", "RelayTrace", "precise_statistics", "Predictor"),
    }
    assert all(getattr(dnr_jax, name).__doc__ for name in dnr_jax.__all__)
    assert set(dnr_jax.__all__) < set(dir(dnr_jax))
    with pytest.raises(AttributeError, match="module 'dnr_jax' has no attribute 'CrossTemporal'"):
        _ = dnr_jax.CrossTemporal
