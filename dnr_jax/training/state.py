"""The state of a run before its first step."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Key

from dnr_jax.dnr.statistics import Variables
from dnr_jax.runs.devices import initializer_options, platform_of, replicated, state_devices
from dnr_jax.runs.state import TrainState, placed


def _initializer(
    model: nn.Module, tx: optax.GradientTransformation, clip_shape: tuple[int, ...], averaged: bool
) -> Any:
    def init(key: Key[Array, ""]) -> TrainState:
        params_key, run_key = jax.random.split(key)
        variables = model.init({"params": params_key}, jnp.zeros((1, *clip_shape), jnp.float32), train=False)
        params = variables["params"]
        state = TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=tx.init(params),
            key=run_key,
        )
        return state.replace(average=state.variables) if averaged else state

    return init


def abstract_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    clip_shape: tuple[int, ...],
    mesh: Mesh,
    averaged: bool = False,
) -> TrainState:
    """Return the shapes, dtypes and shardings of the state without computing it.

    Args:
      model: maps ``[N, T, H, W, 3]`` to scores.
      tx: the optimiser.
      clip_shape: ``(T, H, W, 3)``.
      mesh: the devices.
      averaged: whether the weights are averaged over the steps.
    """
    shapes = jax.eval_shape(_initializer(model, tx, clip_shape, averaged), jax.random.key(0))
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes, placed(shapes, mesh)
    )


def state_sharding(
    model: nn.Module,
    tx: optax.GradientTransformation,
    clip_shape: tuple[int, ...],
    mesh: Mesh,
    averaged: bool = False,
) -> TrainState | NamedSharding:
    """Return the shardings of the state, as ``jax.jit`` takes them: one for all, where every device has a copy.

    Takes what :func:`abstract_state` does.
    """
    if state_devices(mesh) == 1:
        return replicated(mesh)  # without tracing the network
    return jax.tree.map(lambda leaf: leaf.sharding, abstract_state(model, tx, clip_shape, mesh, averaged))


def create_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    clip_shape: tuple[int, ...],
    mesh: Mesh,
    seed: int,
    averaged: bool = False,
) -> TrainState:
    """Return the state before the first step, initialised on the devices where it stays.

    Args:
      model: maps ``[N, T, H, W, 3]`` to scores.
      tx: the optimiser.
      clip_shape: ``(T, H, W, 3)``.
      mesh: the devices.
      seed: all randomness of the network follows from it.
      averaged: whether the weights are averaged over the steps.
    """
    places = state_sharding(model, tx, clip_shape, mesh, averaged)
    options = initializer_options(platform_of(mesh))
    init = jax.jit(_initializer(model, tx, clip_shape, averaged), out_shardings=places, compiler_options=options)
    return init(jax.random.key(seed))


def with_variables(state: TrainState, tx: optax.GradientTransformation, variables: Variables) -> TrainState:
    """Return the state before the first step of a network that starts from other variables.

    Args:
      state: from :func:`create_state`.
      tx: the optimiser, whose state starts anew.
      variables: ``params`` and ``batch_stats``, placed as those of ``state``.
    """
    placements = jax.tree.map(lambda leaf: leaf.sharding, state.opt_state)
    opt_state = jax.jit(tx.init, out_shardings=placements)(variables["params"])
    state = state.replace(params=variables["params"], batch_stats=variables.get("batch_stats", {}), opt_state=opt_state)
    if state.average is None:
        return state
    return state.replace(average=jax.tree.map(jnp.copy, state.variables))  # the step gives both of them away
