"""XLA compiles every network for a GPU, on a machine without one.

It needs JAX's plugin for CUDA and none of CUDA's libraries, best in a folder of its own, as ``.ci/run`` has it::

    pip install --no-deps --target=cuda jax-cuda13-plugin==0.10.2 jax-cuda13-pjrt==0.10.2   # jax's own version
    PYTHONPATH=cuda pytest -m slow tests/gpu
"""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from dnr_jax.reproduce.experiments import NETWORKS
from dnr_jax.runs.devices import compiler_options
from dnr_jax.training.target_gpus import CHIPS, has_plugin

SCRIPT = pathlib.Path(__file__).parent / "compile_network.py"
BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
STEPS = ("bn:eval:xla", "dnr:train:trainer")


def python(*words: str) -> str:
    """Run Python in a process of its own; return its standard output."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


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
    assert python(str(SCRIPT), network, *STEPS).splitlines() == [f"compiled {step}" for step in STEPS]


def test_xla_knows_of_every_gpu_by_its_name():
    names = "print([target_gpus(name, 2)[1].device_kind for name in CHIPS])"
    told = python("-c", f"from dnr_jax.training.target_gpus import CHIPS, target_gpus; {names}")
    assert told.strip() == str([chip.name for chip in CHIPS.values()])


def test_a_run_on_gpus_is_planned_without_one():
    command = ["plan", "--config", "demo", "--devices", "2", "--videos", "960,240", "--config.model.num_classes=8"]
    step = json.loads(python("-m", "dnr_jax", *command, "--gpu", "h100", "--json"))["step"]
    assert step["batch_size"] == 8 and {entry["kind"] for entry in step["collectives"]} == {"all-reduce"}
    clips = 4 * 8 * 32 * 32 * 16 * 4  # features of the first layer, in float32, on each device
    assert clips < step["memory"]["temporaries"] < 100 * clips


def test_memory_is_compared_with_what_a_gpu_had(tmp_path):
    """A file of ``benchmarks/accelerator.py --smoke``, as if the GPU had had a GiB for each step."""
    step = {"memory (GiB)": 1.0}
    row = {"network": "tsn_r18", "dtype": "float32", "batch": 2, "bn train": step, "dnr train": step}
    failed = {"network": "tsn_r18", "dtype": "float32", "batch": 4, "failed": "out of memory"}
    machine = {"versions": {"jax": jax.__version__}, "compiler options": compiler_options("gpu")}
    file = tmp_path / "accelerator_here.json"
    file.write_text(json.dumps({"machine": machine, "steps": [row, failed]}))
    lines = python(str(BENCHMARKS / "compiled_for_gpus.py"), "--gpu", "h100", str(file)).splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in lines]
    assert [cell[:4] for cell in cells] == [["tsn_r18", "float32", "2", norm] for norm in ("bn", "dnr")]
    parameters = 3 * 175_000 * 4 / 2**30  # with gradients and momentum, in float32
    assert all(parameters < float(ratio) < 0.1 and here != "0.00" for *_, here, _, ratio in cells)
    machine["versions"]["jax"] = "0.1"
    file.write_text(json.dumps({"machine": machine, "steps": [row]}))
    with pytest.raises(AssertionError, match=r"was written with jax 0\.1; this is"):
        python(str(BENCHMARKS / "compiled_for_gpus.py"), "--gpu", "h100", str(file))
