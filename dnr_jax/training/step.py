"""The jitted steps of training. Video arrives as uint8 and is normalised on the device."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Num

from dnr_jax.config import ExperimentConfig
from dnr_jax.dnr.statistics import Variables
from dnr_jax.runs.devices import Batch, along_batch, gathered, mesh_options, replicated, scattered
from dnr_jax.runs.inference import normalize
from dnr_jax.runs.state import TrainState
from dnr_jax.training.mix import draw_mixture, mixed_labels
from dnr_jax.training.optimizer import without_gradient
from dnr_jax.training.state import state_sharding

Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def share_of_mean(values: Num[Array, " b"], weight: Float[Array, " b"], total: Float[Array, ""]) -> Float[Array, ""]:
    """Return what samples add to a weighted mean of ``values [B]``: of the ones here, under ``weight [B]``.

    Args:
      values: of the samples.
      weight: of the samples.
      total: of the weights of all samples, of which these may be a part; where it is 0, so is the mean.
    """
    return jnp.sum(values * weight) / jnp.maximum(total, 1.0)


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

    It is compiled with options of its own, which JAX takes of the outermost jitted function alone: within another one
    call ``inspect.unwrap(step)``.

    The batch has ``video`` uint8 ``[B, T, H, W, 3]``, ``label`` int32 ``[B]`` and ``weight`` float32 ``[B]``, sharded
    along ``B`` over the devices; samples of weight 0 do not count in the loss. Dropout and
    :mod:`dnr_jax.training.mix` depend on the run's key and on the number of the step only. With ``train.accumulate``
    the batch is cut into parts behind the mixing, whose gradients are added up before the one update. A state that the
    mesh shards stays sharded: the parameters are gathered once a step, the gradients of each part scattered, and every
    device updates what it holds. The metrics are float32 scalars: ``loss``, ``accuracy`` (of a mixed clip, the share of
    the class that scores best), ``grad_norm`` (before clipping, of the parameters that are trained) and
    ``learning_rate`` (before ``rate_factors``).

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
        samples, total = mixed(batch, jax.random.fold_in(key, 1), config), jnp.sum(batch["weight"])

        def objective(params: optax.Params, part: Batch, key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            params = without_gradient(config.optimizer, params)
            variables = {"params": params, "batch_stats": state.batch_stats}
            video = normalize(part["video"], config.data, dtype)
            logits, updated = model.apply(variables, video, train=True, mutable=["batch_stats"], rngs={"dropout": key})
            target = soft_labels(part, logits.shape[-1], logits.dtype)
            losses = cross_entropy(logits, target, config.train.label_smoothing)
            hits = shares_of_best(logits, target)
            loss, accuracy = (share_of_mean(values, part["weight"], total) for values in (losses, hits))
            return loss, (accuracy, updated.get("batch_stats", {}))

        def gradients(params: optax.Params, part: Batch, key: jax.Array) -> tuple[Any, optax.Params]:
            values, grads = jax.value_and_grad(objective, has_aux=True)(params, part, key)
            return values, scattered(grads, mesh)

        whole = gathered(state.params, mesh)
        if config.train.accumulate == 1:
            (loss, (accuracy, batch_stats)), grads = gradients(whole, samples, key)
        else:
            parts = cut(samples, config, mesh)
            (loss, (accuracy, batch_stats)), grads = accumulated(gradients, whole, parts, key)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": schedule(state.step),
        }
        params = optax.apply_updates(state.params, updates)
        state = state.replace(step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state)
        if averaging:
            state = state.replace(average=averaging.update(state.average, state.variables, state.step))
        return state, metrics

    place = state_sharding(model, tx, config.data.clip_shape, mesh, averaging is not None)
    places, outcome = (place, along_batch(mesh)), (place, replicated(mesh))
    return jax.jit(
        step, in_shardings=places, out_shardings=outcome, donate_argnums=0, compiler_options=mesh_options(mesh)
    )


def mixed(batch: Batch, key: jax.Array, config: ExperimentConfig) -> Batch:
    """Return video, label and weight of a batch; of mixed clips also the label of the ``partner`` and its ``share``."""
    samples = {name: batch[name] for name in ("video", "label", "weight")}
    mixture = draw_mixture(key, batch["weight"], batch["video"].shape[2:4], config.train)
    if mixture is None:
        return samples
    partners = {"partner": batch["label"][mixture.partner], "share": mixture.label_share}
    return samples | {"video": mixture.video(batch["video"]), **partners}


def shares_of_best(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Return the share ``[B]`` that the class which scores best has of each target; both are ``[B, K]``."""
    best = jnp.argmax(logits, axis=-1, keepdims=True)
    return jnp.take_along_axis(target, best, axis=-1)[:, 0].astype(jnp.float32)


def soft_labels(samples: Batch, num_classes: int, dtype: jnp.dtype) -> jax.Array:
    """Return the shares of the classes ``[B, K]``: one each, or of mixed clips those of both partners."""
    target = jax.nn.one_hot(samples["label"], num_classes, dtype=dtype)
    if "partner" not in samples:
        return target
    return mixed_labels(target, jax.nn.one_hot(samples["partner"], num_classes, dtype=dtype), samples["share"])


def cut(samples: Batch, config: ExperimentConfig, mesh: Mesh) -> Batch:
    """Cut a batch, sharded along its first axis, into the parts that ``train.accumulate`` says.

    Clips that share statistics stay together, and are dealt out in turn, so that every device goes on with clips that
    it has.

    Args:
      samples: arrays ``[B, ...]``.
      config: the experiment.
      mesh: the devices.

    Returns:
      Arrays ``[A, B / A, ...]``, sharded along their second axis.
    """
    parts, together = config.train.accumulate, config.model.norm.base.clips_shared or 1
    dealt_out = NamedSharding(mesh, PartitionSpec(None, *along_batch(mesh).spec))

    def deal_out(array: jax.Array) -> jax.Array:
        sets = array.reshape(-1, parts, together, *array.shape[1:])
        dealt = jnp.moveaxis(sets, 1, 0).reshape(parts, -1, *array.shape[1:])
        return jax.lax.with_sharding_constraint(dealt, dealt_out)

    return {name: deal_out(array) for name, array in samples.items()}


def accumulated(
    gradients: Callable[..., tuple[Any, optax.Params]], params: optax.Params, parts: Batch, key: jax.Array
) -> tuple[tuple[jax.Array, tuple[jax.Array, Any]], optax.Params]:
    """Add up the gradients of the parts of a batch, one part after the other.

    Args:
      gradients: ``(params, part, key)`` to ``((loss, (accuracy, running statistics)), gradients)``. The first two are
        a part's shares of the batch's, the statistics those after a part alone.
      params: of the network.
      parts: arrays ``[A, B / A, ...]``.
      key: of the step.

    Returns:
      The same of the whole batch. Its running statistics are the means of those after each part, as they are of sets
      of clips within a batch; counters are those after one part.
    """
    count = parts["weight"].shape[0]

    def add(total: optax.Params, inputs: tuple[Batch, jax.Array]) -> tuple[optax.Params, Any]:
        values, grads = gradients(params, *inputs)
        return jax.tree.map(jnp.add, total, grads), values

    keys = jax.random.split(jax.random.fold_in(key, 2), count)
    grads, (loss, (accuracy, stats)) = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (parts, keys))

    def joined(values: jax.Array) -> jax.Array:
        return jnp.mean(values, axis=0) if jnp.issubdtype(values.dtype, jnp.floating) else values[-1]

    return (jnp.sum(loss), (jnp.sum(accuracy), jax.tree.map(joined, stats))), grads


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

    def moments(variables: Variables, video: jax.Array) -> Variables:
        video = normalize(video, config.data, dtype)
        rngs = {"dropout": jax.random.key(0)}  # acts after the last norm
        _, updates = model.apply(variables, video, train=True, mutable=["moments", "batch_stats"], rngs=rngs)
        return updates["moments"]

    def observe(variables: Variables, batch: Batch) -> Variables:
        if config.train.accumulate == 1:
            return moments(variables, batch["video"])
        parts = cut({"video": batch["video"]}, config, mesh)["video"]
        sums = jax.lax.map(functools.partial(moments, variables), parts)
        return jax.tree.map(functools.partial(jnp.sum, axis=0), sums)

    return jax.jit(
        observe,
        in_shardings=(replicated(mesh), along_batch(mesh)),
        out_shardings=replicated(mesh),
        compiler_options=mesh_options(mesh),
    )


@jax.jit
def all_finite(tree: TrainState) -> jax.Array:
    """Return whether every number of a tree is finite, as a boolean scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
