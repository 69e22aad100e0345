"""Compile steps of a network for a GPU that is not there: ``compile_network.py NETWORK NORM:STEP:OPTIONS...``.

It runs in a process of its own, because XLA ends the process where one of its checks fails.
"""

import dataclasses
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

from steps import NetworkSteps

from dnr_jax.config import Network, named
from dnr_jax.dnr import DNRSpec
from dnr_jax.reproduce.experiments import LEAST_SIDES, NETWORKS
from dnr_jax.runs.devices import compiler_options

GPU = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84978434048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 2 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""What XLA has to know of an H100, in its ``GpuTargetConfigProto``."""


def configured(name: str, norm: str) -> tuple[Network, tuple[int, ...]]:
    """Return a network of the mini scale with a norm and the shape of its clips; ``full``: TSN-ResNet-50 at 224x224."""
    spec = {"bn": DNRSpec.static(), "dnr": DNRSpec()}[norm]
    if name == "full":
        return named(Network, "TSN")(dtype="bfloat16", norm=spec), (8, 8, 224, 224, 3)
    kind, fields = NETWORKS[name]
    config = named(Network, kind)(num_classes=8, dtype="bfloat16", **fields)
    frames = 40 if kind == "TDN" else 8
    side = max(LEAST_SIDES.get(name, 0), 16)
    return dataclasses.replace(config, norm=spec), (2, frames, side, side, 3)


def options_of(whose: str) -> dict[str, str] | None:
    """Return the options of the trainer, or XLA's own, with which the networks are part of other programs."""
    if whose == "trainer":
        return compiler_options("gpu")
    # Before 0.8, XLA cannot do without a device that tries its kernels out, unless it is told to.
    return {"xla_gpu_autotune_level": "0"} if jax.__version_info__ < (0, 8) else None


def compile_step(name: str, norm: str, step: str, whose: str) -> None:
    """Compile a step with someone's options."""
    config, shape = configured(name, norm)
    topology = topologies.get_topology_desc(platform="cuda", topology_name="gpu", target_config=GPU, topology="1x1x1")
    sharding = SingleDeviceSharding(topology.devices[0])
    function, *args = NetworkSteps(config, jax.ShapeDtypeStruct(shape, jnp.float32)).step(step)

    def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    jax.jit(function, compiler_options=options_of(whose)).lower(*jax.tree.map(abstract, args)).compile()


if __name__ == "__main__":
    network, *steps = sys.argv[1:]
    for step in steps:
        compile_step(network, *step.split(":"))
        print(f"compiled {step}", flush=True)
