"""The package as somebody else's code sees it."""

import subprocess
import sys

import dnr_jax
from tests.paths import REPOSITORY

HEAVY = ("grain", "tensorflow_datasets", "tensorflow", "av", "cv2")


def test_import_loads_neither_the_input_pipeline_nor_a_video_decoder():
    program = f"import sys, dnr_jax; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


def test_public_names():
    assert set(dnr_jax.__all__) == {
        *("CrossLayerDNR", "CrossTemporalDNR", "StaticNorm", "InstanceLevelMetaNorm", "AttentiveNorm", "RelayCell"),
        *("DNRSpec", "create_model", "interlace", "without_carry"),
        *("inspect", "plot_relays", "RelayTrace", "precise_statistics"),
    }
    assert all(getattr(dnr_jax, name).__doc__ for name in dnr_jax.__all__)
