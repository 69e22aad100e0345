"""GPUs for which programs are compiled without one: XLA has to be told what they are.

JAX's plugin for CUDA compiles them, and needs neither a GPU nor CUDA's libraries for it.
"""

import contextlib
import dataclasses
import importlib.util
import os

import jax
from jax.experimental import topologies

from dnr_jax.config import ConfigError

PLUGINS = ("xla_cuda13", "xla_cuda12")
"""Modules of JAX's plugins for CUDA, in ``jax_plugins``."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """What XLA's choices for a GPU depend on.

    Attributes:
      name: as the driver tells it.
      capability: CUDA's compute capability.
      cores: streaming multiprocessors.
      lanes: float32 units of each.
      threads: most threads of each at a time.
      shared: bytes of memory that the threads of each share.
      block_shared: the most of that for one block.
      cache: bytes of the L2 cache.
      memory: bytes.
      bandwidth: bytes a second.
      gigahertz: clock.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    lanes: int
    threads: int
    shared: int
    block_shared: int
    cache: int
    memory: int
    bandwidth: int
    gigahertz: float

    def target_config(self) -> str:
        """Return XLA's ``GpuTargetConfigProto`` as text."""
        major, minor = self.capability
        return f"""
        gpu_device_info {{
          cuda_compute_capability {{ major: {major} minor: {minor} }}
          core_count: {self.cores} fpus_per_core: {self.lanes} clock_rate_ghz: {self.gigahertz}
          threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: {self.threads}
          registers_per_core_limit: 65536 registers_per_block_limit: 65536
          shared_memory_per_block: 49152 shared_memory_per_core: {self.shared}
          shared_memory_per_block_optin: {self.block_shared}
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
          l2_cache_size: {self.cache} device_memory_size: {self.memory} memory_bandwidth: {self.bandwidth}
        }}
        platform_name: "CUDA"
        dnn_version_info {{ major: 9 minor: 10 patch: 2 }}
        device_description_str: "{self.name}"
        """


_HOPPER = Chip(
    "NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 2048, 233472, 232448, 50 * 2**20, 84978434048, 3352320000000, 1.98
)
CHIPS = {
    "t4": Chip("Tesla T4", (7, 5), 40, 64, 1024, 65536, 65536, 4 * 2**20, 15835660288, 320064000000, 1.59),
    "a100": Chip(
        "NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 2048, 167936, 166912, 40 * 2**20, 85094825984, 2039000000000, 1.41
    ),
    "h100": _HOPPER,
    "h200": dataclasses.replace(_HOPPER, name="NVIDIA H200", memory=150754820096, bandwidth=4800000000000),
}
"""The GPUs, by the names of the command line."""


def target_gpus(name: str, count: int) -> list[jax.Device]:
    """Return GPUs that programs can be compiled for, and that compute nothing.

    Args:
      name: one of :data:`CHIPS`.
      count: how many.

    Raises:
      ConfigError: where JAX's plugin for CUDA is not installed, or does not do it.
    """
    if not has_plugin():
        packages = " ".join(f"jax-cuda13-{part}=={jax.__version__}" for part in ("plugin", "pjrt"))
        raise ConfigError(
            "--gpu: JAX's plugin for CUDA, which compiles for GPUs, is not installed. It needs no GPU, nor CUDA, "
            f"and is best kept apart: pip install --no-deps --target=cuda {packages}; then PYTHONPATH=cuda in front "
            "of this command"
        )
    # It asks for CUDA's libraries, which compiling does not need, when JAX looks for its plugins.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    with contextlib.suppress(RuntimeError):  # JAX was used: it has the devices that it has
        jax.config.update("jax_platforms", "cpu")  # a GPU of this machine is left alone
    try:
        described = topologies.get_topology_desc(
            platform="cuda", topology_name=name, target_config=CHIPS[name].target_config(), topology=f"1x1x{count}"
        )
    except (jax.errors.JaxRuntimeError, RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"--gpu: JAX's plugin for CUDA cannot compile here: {error}") from error
    return list(described.devices)


def has_plugin() -> bool:
    """Return whether JAX's plugin for CUDA is installed."""
    return importlib.util.find_spec("jax_plugins") is not None and any(
        importlib.util.find_spec(f"jax_plugins.{name}") for name in PLUGINS
    )
