"""Accelerators of this machine that JAX does not use, and what to do about it."""

import dataclasses
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess

import jax

DRIVERS = {13: 580, 12: 525}
"""The oldest NVIDIA driver for the libraries of each CUDA version that JAX's packages bring, the newest first."""


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU that NVIDIA's driver sees.

    Attributes:
      name: such as ``Tesla T4``.
      driver: version of the driver, such as ``580.95.05``.
    """

    name: str
    driver: str


def find_gpus() -> list[Gpu]:
    """Return the GPUs that ``nvidia-smi`` lists; none where there is no such program, or it finds no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = (line.rpartition(",") for line in listed.stdout.splitlines() if listed.returncode == 0)
    return [Gpu(name.strip(), driver.strip()) for name, _, driver in rows if name]


def find_tpu_chips(devices: pathlib.Path = pathlib.Path("/dev")) -> list[pathlib.Path]:
    """Return the TPU chips of this machine, as ``/dev/accel0`` and so on; NPUs of laptops are in ``/dev/accel/``."""
    return sorted(devices.glob("accel[0-9]*"))


def unused_accelerator() -> str:
    """Return what is to be said where JAX computes on the CPU of a machine that has, or should have, an accelerator.

    Returns:
      What there is, why JAX does not see it as far as that can be told, and the command that mends it. Empty where JAX
      has an accelerator, where none was found, and where the program itself chose the CPU (``jax.config``).
    """
    if jax.default_backend() != "cpu" or _chosen_by_program():
        return ""
    if gpus := find_gpus():
        names = ", ".join(sorted({gpu.name for gpu in gpus}))
        return f"there is a GPU ({names}, driver {gpus[0].driver}), but JAX sees only the CPU. {_mend_gpu(gpus[0])}"
    if chips := find_tpu_chips():
        return f"there is a TPU ({chips[0]}), but JAX sees only the CPU. {_mend_tpu()}"
    if _version("libtpu"):
        return f"libtpu is installed for a TPU, but JAX sees only the CPU. {_mend_tpu()}"
    return ""


def _mend_gpu(gpu: Gpu) -> str:
    if hidden := _hidden_by("cuda", "gpu", devices="CUDA_VISIBLE_DEVICES"):
        return hidden
    installed = {cuda: version for cuda in DRIVERS if (version := _version(f"jax-cuda{cuda}-plugin"))}
    driver = int(number[0]) if (number := re.match(r"\d+", gpu.driver)) else max(DRIVERS.values())
    usable = [cuda for cuda, oldest in DRIVERS.items() if driver >= oldest]
    if not usable:
        return f"Its driver is too old: install version {min(DRIVERS.values())} or later"
    cuda = next((cuda for cuda in installed if cuda in usable), usable[0])
    if installed.get(cuda) == jax.__version__:
        return "The packages for it are there; this says why they do not work: " + _ask("cuda")
    others = "".join(f" (jax-cuda{cuda}-plugin {version} is not for it)" for cuda, version in installed.items())
    return f"JAX {jax.__version__} lacks the packages for it{others}: {_install(f'cuda{cuda}')}"


def _mend_tpu() -> str:
    if hidden := _hidden_by("tpu", devices="TPU_VISIBLE_CHIPS"):
        return hidden
    if not _version("libtpu"):
        return f"JAX {jax.__version__} lacks the packages for it: {_install('tpu')}"
    return "Another process may hold it ('lsof -w /dev/accel*' lists them); this says what is wrong: " + _ask("tpu")


def _chosen_by_program() -> bool:
    return bool(jax.config.jax_platforms) and not os.environ.get("JAX_PLATFORMS")  # type: ignore[attr-defined]


def _hidden_by(*platforms: str, devices: str) -> str:
    """Say which environment variable keeps JAX from accelerators, where one does."""
    chosen = os.environ.get("JAX_PLATFORMS", "")
    if chosen and not set(platforms) & set(chosen.split(",")):
        return f"JAX_PLATFORMS={chosen} says so: unset JAX_PLATFORMS"
    if os.environ.get(devices) in ("", "-1"):
        return f"{devices}={os.environ[devices]} hides it: unset {devices}"
    return ""


def _install(extra: str) -> str:
    return f"pip install 'jax[{extra}]=={jax.__version__}'"


def _ask(platform: str) -> str:
    return f"JAX_PLATFORMS={platform} python -c 'import jax; print(jax.devices())'"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
