"""Accelerators that JAX does not use."""

import pathlib

import jax
import pytest

from dnr_jax.config import ConfigError
from dnr_jax.training import accelerators, loop
from dnr_jax.training.accelerators import Gpu, find_gpus, find_tpu_chips, unused_accelerator
from tests.training.tiny import tiny_config

JAX = jax.__version__
DOCUMENTED = "\n".join(["NVIDIA H100 80GB HBM3, 580.95.05", "NVIDIA H100 80GB HBM3, 580.95.05"])


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(accelerators, "find_tpu_chips", list)
    monkeypatch.setattr(accelerators, "_chosen_by_program", lambda: False)  # as these tests have
    install(monkeypatch)


def install(monkeypatch, **versions: str) -> None:
    monkeypatch.setattr(accelerators, "_version", lambda name: versions.get(name.replace("-", "_"), ""))


def write_nvidia_smi(folder: pathlib.Path, output: str, status: int = 0) -> None:
    """Put a program in place of NVIDIA's that prints ``output`` where it is asked for names and drivers."""
    asked = "--query-gpu=name,driver_version --format=csv,noheader"
    script = f'#!/bin/sh\n[ "$*" = "{asked}" ] || exit 9\nprintf "%s\\n" "{output}"\nexit {status}\n'
    (folder / "nvidia-smi").write_text(script)
    (folder / "nvidia-smi").chmod(0o755)


def test_gpus_are_those_that_the_driver_lists(tmp_path):
    assert find_gpus() == []
    write_nvidia_smi(tmp_path, DOCUMENTED)
    assert find_gpus() == [Gpu("NVIDIA H100 80GB HBM3", "580.95.05")] * 2
    write_nvidia_smi(tmp_path, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver", 9)
    assert find_gpus() == []


def test_tpu_chips_are_told_from_the_npus_of_laptops(tmp_path):
    (tmp_path / "accel").mkdir()
    (tmp_path / "accel" / "accel0").touch()
    assert find_tpu_chips(tmp_path) == []
    (tmp_path / "accel0").touch()
    assert find_tpu_chips(tmp_path) == [tmp_path / "accel0"]


def test_nothing_is_said_where_nothing_is_missed(tmp_path, monkeypatch):
    assert unused_accelerator() == ""
    write_nvidia_smi(tmp_path, DOCUMENTED)
    assert unused_accelerator()
    monkeypatch.setattr(accelerators, "_chosen_by_program", lambda: True)
    assert unused_accelerator() == ""
    monkeypatch.setattr(accelerators, "_chosen_by_program", lambda: False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert unused_accelerator() == ""


def test_a_program_that_chose_the_cpu_is_told_from_a_variable(monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert accelerators._chosen_by_program()  # conftest.py does
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert not accelerators._chosen_by_program()


def test_a_run_says_it_at_its_start(tmp_path, capsys):
    write_nvidia_smi(tmp_path, DOCUMENTED)
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    with pytest.raises(ConfigError):  # there are no videos
        loop.train(tiny_config(tmp_path, batch_size=8), tmp_path / "run")
    assert capsys.readouterr().err.splitlines().count(f"WARNING: {unused_accelerator()}") == 1


@pytest.mark.parametrize(
    ("driver", "installed", "advice"),
    [
        ("580.95.05", {}, f"pip install 'jax[cuda13]=={JAX}'"),
        ("535.104.05", {}, f"pip install 'jax[cuda12]=={JAX}'"),
        ("470.82.01", {}, "Its driver is too old: install version 525 or later"),
        # Colab: another jaxlib came, the plugin stayed.
        (
            "580.82.07",
            {"jax_cuda12_plugin": "0.7.2"},
            "(jax-cuda12-plugin 0.7.2 is not for it): pip install 'jax[cuda12]",
        ),
        ("535.104.05", {"jax_cuda13_plugin": JAX}, f"pip install 'jax[cuda12]=={JAX}'"),
        ("580.95.05", {"jax_cuda13_plugin": JAX}, "JAX_PLATFORMS=cuda python -c 'import jax; print(jax.devices())'"),
    ],
)
def test_a_gpu_that_jax_does_not_see_is_told_with_the_command_that_mends_it(
    driver, installed, advice, tmp_path, monkeypatch
):
    write_nvidia_smi(tmp_path, f"Tesla T4, {driver}")
    install(monkeypatch, **installed)
    text = unused_accelerator()
    assert text.startswith(f"there is a GPU (Tesla T4, driver {driver}), but JAX sees only the CPU. ")
    assert advice in text


@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [
        ("JAX_PLATFORMS", "cpu", "JAX_PLATFORMS=cpu says so: unset JAX_PLATFORMS"),
        ("CUDA_VISIBLE_DEVICES", "", "CUDA_VISIBLE_DEVICES= hides it: unset CUDA_VISIBLE_DEVICES"),
        ("CUDA_VISIBLE_DEVICES", "0", "pip install"),
        ("JAX_PLATFORMS", "cuda,cpu", "pip install"),
    ],
)
def test_a_gpu_that_a_variable_hides_needs_no_packages(variable, value, advice, tmp_path, monkeypatch):
    write_nvidia_smi(tmp_path, DOCUMENTED)
    monkeypatch.setenv(variable, value)
    assert advice in unused_accelerator()


def test_a_tpu_that_jax_does_not_see_is_told(monkeypatch):
    monkeypatch.setattr(accelerators, "find_tpu_chips", lambda: [pathlib.Path("/dev/accel0")])
    assert unused_accelerator().startswith("there is a TPU (/dev/accel0), but JAX sees only the CPU. ")
    assert f"pip install 'jax[tpu]=={JAX}'" in unused_accelerator()
    install(monkeypatch, libtpu="0.0.42")
    assert "lsof -w /dev/accel*" in unused_accelerator()
    monkeypatch.setattr(accelerators, "find_tpu_chips", list)
    assert unused_accelerator().startswith("libtpu is installed for a TPU, but JAX sees only the CPU. ")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert unused_accelerator().endswith("JAX_PLATFORMS=cpu says so: unset JAX_PLATFORMS")
