"""The jitted steps of training. Video arrives as uint8 and is normalised on the device."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Num

from dnr_jax.config import ExperimentConfig
from dnr_jax.dnr.statistics import Variables
from dnr_jax.runs.devices import Batch, along_batch, replicated
from dnr_jax.runs.inference import normalize
from dnr_jax.runs.state import TrainState
from dnr_jax.training.mix import draw_mixture

Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def weighted_mean(values: Num[Array, " b"], weight: Float[Array, " b"]) -> Float[Array, ""]:
    """Return the mean of ``values [B]`` under ``weight [B]``; 0 where all weights are 0."""
    return jnp.sum(values * weight) / jnp.maximum(jnp.sum(weight), 1.0)


def cross_entropy(
    logits: Float[Array, "b k"], target: Float[Array, "b k"], smoothing: float = 0.0
) -> Float[Array, " b"]:
    """Return the cross-entropy of each sample against its smoothed target.

    Args:
      logits: ``[B, K]``.
      target: ``[B, K]``, shares of the classes.
      smoothing: share of the target that is spread evenly over all ``K`` classes.

    Returns:
      ``[B]``, in nats.
    """
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(target, smoothing))


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    schedule: optax.Schedule,
    config: ExperimentConfig,
    mesh: Mesh,
) -> TrainStep:
    """Return the jitted training step ``(state, batch) -> (state, metrics)``; the old state is donated.

    The batch has ``video`` uint8 ``[B, T, H, W, 3]``, ``label`` int32 ``[B]`` and ``weight`` float32 ``[B]``, sharded
    along ``B`` over the devices; samples of weight 0 do not count in the loss. Dropout and
    :mod:`dnr_jax.training.mix` depend on the run's key and on the number of the step only. The metrics are float32
    scalars: ``loss``, ``accuracy`` (of a mixed clip, the share of the class that scores best), ``grad_norm`` (before
    clipping) and ``learning_rate``.

    Args:
      model: maps ``[N, T, H, W, 3]`` to scores ``[N, K]``.
      tx: the optimiser.
      schedule: its learning rate, for the metrics.
      config: the experiment.
      mesh: the devices.
    """
    dtype, averaging = jnp.dtype(config.model.dtype), config.train.averaging

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        rngs = {"dropout": key}
        video = batch["video"]
        mixture = draw_mixture(jax.random.fold_in(key, 1), batch["weight"], video.shape[2:4], config.train)
        video = normalize(mixture.video(video) if mixture else video, config.data, dtype)

        def objective(params: optax.Params) -> tuple[jax.Array, tuple[jax.Array, jax.Array, dict]]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, updated = model.apply(variables, video, train=True, mutable=["batch_stats"], rngs=rngs)
            target = jax.nn.one_hot(batch["label"], logits.shape[-1], dtype=logits.dtype)
            target = mixture.target(target) if mixture else target
            losses = cross_entropy(logits, target, config.train.label_smoothing)
            return weighted_mean(losses, batch["weight"]), (logits, target, updated.get("batch_stats", {}))

        (loss, (logits, target, batch_stats)), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        best = jnp.argmax(logits, axis=-1, keepdims=True)
        hits = jnp.take_along_axis(target, best, axis=-1)[:, 0].astype(jnp.float32)
        metrics = {
            "loss": loss,
            "accuracy": weighted_mean(hits, batch["weight"]),
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step),
        }
        params = optax.apply_updates(state.params, updates)
        state = state.replace(step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state)
        if averaging:
            state = state.replace(average=averaging.update(state.average, state.variables, state.step))
        return state, metrics

    copy, sharded = replicated(mesh), along_batch(mesh)
    return jax.jit(step, in_shardings=(copy, sharded), out_shardings=(copy, copy), donate_argnums=0)


def make_observe_step(
    model: nn.Module, config: ExperimentConfig, mesh: Mesh
) -> Callable[[Variables, Batch], Variables]:
    """Return the jitted function ``(variables, batch) -> sums`` that :func:`dnr_jax.precise_statistics` takes.

    Args:
      model: maps ``[N, T, H, W, 3]`` to scores ``[N, K]``.
      config: the experiment.
      mesh: the devices, over which the batch's ``video``, uint8 ``[B, T, H, W, 3]``, is sharded.
    """
    dtype = jnp.dtype(config.model.dtype)

    def observe(variables: Variables, batch: Batch) -> Variables:
        video = normalize(batch["video"], config.data, dtype)
        rngs = {"dropout": jax.random.key(0)}  # acts after the last norm
        _, updates = model.apply(variables, video, train=True, mutable=["moments", "batch_stats"], rngs=rngs)
        return updates["moments"]

    return jax.jit(observe, in_shardings=(replicated(mesh), along_batch(mesh)), out_shardings=replicated(mesh))


@jax.jit
def all_finite(tree: TrainState) -> jax.Array:
    """Return whether every number of a tree is finite, as a boolean scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
