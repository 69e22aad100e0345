"""The state of a run before its first step."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from dnr_jax.runs.devices import replicated
from dnr_jax.runs.state import TrainState


def _initializer(model: nn.Module, tx: optax.GradientTransformation, clip_shape: tuple[int, ...]) -> Any:
    def init(key: jax.Array) -> TrainState:
        params_key, run_key = jax.random.split(key)
        variables = model.init({"params": params_key}, jnp.zeros((1, *clip_shape), jnp.float32), train=False)
        params = variables["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=tx.init(params),
            key=run_key,
        )

    return init


def abstract_state(
    model: nn.Module, tx: optax.GradientTransformation, clip_shape: tuple[int, ...], mesh: Mesh
) -> TrainState:
    """Return the shapes, dtypes and shardings of the state without computing it.

    Args:
      model: maps ``[N, T, H, W, 3]`` to scores.
      tx: the optimiser.
      clip_shape: ``(T, H, W, 3)``.
      mesh: the devices.
    """
    shapes = jax.eval_shape(_initializer(model, tx, clip_shape), jax.random.key(0))
    sharding = replicated(mesh)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def create_state(
    model: nn.Module, tx: optax.GradientTransformation, clip_shape: tuple[int, ...], mesh: Mesh, seed: int
) -> TrainState:
    """Return the state before the first step, initialised on the devices where it stays.

    Args:
      model: maps ``[N, T, H, W, 3]`` to scores.
      tx: the optimiser.
      clip_shape: ``(T, H, W, 3)``.
      mesh: the devices.
      seed: all randomness of the network follows from it.
    """
    init = jax.jit(_initializer(model, tx, clip_shape), out_shardings=replicated(mesh))
    return init(jax.random.key(seed))


def with_variables(state: TrainState, tx: optax.GradientTransformation, variables: dict[str, Any]) -> TrainState:
    """Return the state before the first step of a network that starts from other variables.

    Args:
      state: from :func:`create_state`.
      tx: the optimiser, whose state starts anew.
      variables: ``params`` and ``batch_stats``, placed as those of ``state``.
    """
    placements = jax.tree.map(lambda leaf: leaf.sharding, state.opt_state)
    opt_state = jax.jit(tx.init, out_shardings=placements)(variables["params"])
    return state.replace(params=variables["params"], batch_stats=variables.get("batch_stats", {}), opt_state=opt_state)
