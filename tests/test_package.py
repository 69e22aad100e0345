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


def test_import_loads_nothing_of_the_trainer():
    program = f"import sys, dnr_jax; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


def test_public_names():
    assert set(dnr_jax.__all__) == {
        *("CrossLayerDNR", "CrossTemporalDNR", "StaticNorm", "InstanceLevelMetaNorm", "AttentiveNorm", "RelayCell"),
        *("BatchNorm", "BatchRenorm", "GroupNorm", "InstanceNorm", "LayerNorm", "SwitchableNorm"),
        *("DNRSpec", "create_model", "interlace", "without_carry"),
        *("inspect", "plot_relays", "RelayTrace", "precise_statistics"),
    }
    assert all(getattr(dnr_jax, name).__doc__ for name in dnr_jax.__all__)
