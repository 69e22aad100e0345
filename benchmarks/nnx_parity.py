"""Largest differences between the NNX layers and the Linen layers with the same weights, as a table.

``python benchmarks/nnx_parity.py`` compiles a training step of each with either framework, and compares outputs,
running statistics and gradients. Zero is equal to the last bit.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import dnr_jax
import dnr_jax.nnx

CHANNELS = 16
LAYERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("StaticNorm", {}),
    ("StaticNorm", {"base": "gn"}),
    ("StaticNorm", {"base": "in"}),
    ("StaticNorm", {"base": "ln", "statistics": "token"}),
    ("StaticNorm", {"base": "brn"}),
    ("StaticNorm", {"base": "sn"}),
    ("CrossTemporalDNR", {}),
    ("CrossTemporalDNR", {"granularity": "frame", "direction": "bidirectional"}),
    ("CrossTemporalDNR", {"relay": "se", "depth": 2}),
    ("CrossTemporalDNR", {"relay": "fc", "initial_state": "learned"}),
    ("CrossTemporalDNR", {"relay": "none"}),
    ("CrossLayerDNR", {}),
    ("InstanceLevelMetaNorm", {}),
    ("AttentiveNorm", {}),
)


def differences(name: str, fields: dict[str, Any]) -> dict[str, float]:
    """Return the largest absolute difference of each quantity for one layer."""
    linen = getattr(dnr_jax, name)(**fields)
    module = getattr(dnr_jax.nnx, name)(CHANNELS, **fields, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (4, 8, 5, 5, CHANNELS))
    variables = jax.jit(functools.partial(linen.init, use_running_average=True))(jax.random.key(1), None, x)
    dnr_jax.nnx.from_linen(module, variables)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def linen_step(params: Any, x: jax.Array) -> Any:
        given = {**variables, "params": params}
        (_, y), updates = linen.apply(given, None, x, use_running_average=False, mutable=["batch_stats"])
        return jnp.sum(jnp.square(y)), (y, updates.get("batch_stats", {}))

    @nnx.jit
    @functools.partial(nnx.value_and_grad, argnums=(0, 1), has_aux=True)
    def nnx_step(module: nnx.Module, x: jax.Array) -> Any:
        _, y = module(None, x)
        return jnp.sum(jnp.square(y)), y

    (_, (y, stats)), (gradients, of_x) = linen_step(variables.get("params", {}), x)
    (_, nnx_y), (nnx_gradients, nnx_of_x) = nnx_step(module, x)
    moved = dnr_jax.nnx.to_linen(module).get("batch_stats", {})
    nnx.update(module, nnx_gradients)  # the gradients stand where the parameters stood, under their Linen names then
    return {
        "output": _largest(nnx_y, y),
        "running statistics": _largest(moved, stats),
        "gradients": _largest((dnr_jax.nnx.to_linen(module).get("params", {}), nnx_of_x), (gradients, of_x)),
    }


def _largest(found: Any, expected: Any) -> float:
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), found, expected)
    return max(jax.tree.leaves(apart), default=0.0)


def main() -> None:
    """Print the table."""
    print(f"| layer | {' | '.join(('output', 'running statistics', 'gradients'))} |\n|---|---|---|---|")
    for name, fields in LAYERS:
        settings = ", ".join(f"{field}={value!r}" for field, value in fields.items())
        values = " | ".join(f"{value:g}" for value in differences(name, fields).values())
        print(f"| `{name}({settings})` | {values} |", flush=True)


if __name__ == "__main__":
    main()
