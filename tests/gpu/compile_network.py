"""Compile steps of a network for a GPU that is not there: ``compile_network.py NETWORK NORM:STEP:OPTIONS...``.

It runs in a process of its own, because XLA ends the process where one of its checks fails.
"""

import dataclasses
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

from steps import NetworkSteps

from dnr_jax.config import Network, named
from dnr_jax.dnr import DNRSpec
from dnr_jax.reproduce.experiments import LEAST_SIDES, NETWORKS
from dnr_jax.runs.devices import compiler_options
from dnr_jax.training.target_gpus import target_gpus


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
    sharding = SingleDeviceSharding(target_gpus("h100", 1)[0])
    function, *args = NetworkSteps(config, jax.ShapeDtypeStruct(shape, jnp.float32)).step(step)

    def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    jax.jit(function, compiler_options=options_of(whose)).lower(*jax.tree.map(abstract, args)).compile()


if __name__ == "__main__":
    network, *steps = sys.argv[1:]
    for step in steps:
        compile_step(network, *step.split(":"))
        print(f"compiled {step}", flush=True)
