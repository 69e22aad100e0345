"""XLA compiles every network for a GPU, on a machine without one.

It needs JAX's plugin for CUDA and none of CUDA's libraries, best in a folder of its own, as ``.ci/run`` has it::

    pip install --no-deps --target=cuda jax-cuda13-plugin==0.10.2 jax-cuda13-pjrt==0.10.2   # jax's own version
    PYTHONPATH=cuda pytest -m slow tests/gpu
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from dnr_jax.reproduce.experiments import NETWORKS

SCRIPT = pathlib.Path(__file__).parent / "compile_network.py"
STEPS = ("bn:eval:xla", "dnr:train:trainer")


def has_plugin() -> bool:
    """Return whether JAX's plugin for CUDA is there."""
    return importlib.util.find_spec("jax_plugins") is not None and any(
        importlib.util.find_spec(f"jax_plugins.{name}") for name in ("xla_cuda13", "xla_cuda12")
    )


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_plugin(), reason="JAX's plugin for CUDA is not installed"),
]


@pytest.mark.parametrize(
    "network",
    [pytest.param("full", marks=pytest.mark.compat), pytest.param("r2plus1d", marks=pytest.mark.compat)]
    + [name for name in NETWORKS if name != "r2plus1d"],
)
def test_xla_compiles_a_network_for_a_gpu(network):
    """What pixels and frames are skipped with once ended the process, in all ResNets and with every norm."""
    # The skipped check is of CUDA's libraries, which compiling alone does not need.
    environment = os.environ | {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), network, *STEPS], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [f"compiled {step}" for step in STEPS]
