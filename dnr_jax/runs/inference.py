"""The jitted step that scores clips. Video arrives as uint8 and is normalised on the device."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Num

from dnr_jax.config import DataConfig, ExperimentConfig
from dnr_jax.dnr.aliases import Dtype
from dnr_jax.dnr.statistics import Variables
from dnr_jax.runs.devices import Batch, along_batch, mesh_options, replicated

EvalStep = Callable[[Variables, Batch], dict[str, jax.Array]]


def normalize(video: Num[Array, "*b 3"], data: DataConfig, dtype: Dtype = jnp.float32) -> Float[Array, "*b 3"]:
    """Return ``(video - mean) / std`` in ``dtype``, of RGB frames ``[..., 3]`` with values from 0 to 255.

    The colours, those of ``mean`` and ``std`` included, are in the order that ``data.channel_order`` says.
    """
    if data.channel_order == "bgr":
        video = video[..., ::-1]
    shape = (1,) * (video.ndim - 1) + (3,)
    mean, std = (jnp.asarray(v, jnp.float32).reshape(shape) for v in (data.mean, data.std))
    return ((video.astype(jnp.float32) - mean) / std).astype(dtype)


def spread(count: int) -> np.ndarray:
    """Return ``0 ... count - 1`` in an order of which every beginning is spread evenly: int64 ``[count]``.

    The multiples of the golden ratio, modulo 1, are; the order of views is that of time, so few of them see all of a
    video.
    """
    return np.argsort(np.arange(count) * (np.sqrt(5) - 1) / 2 % 1)


def make_eval_step(model: nn.Module, config: ExperimentConfig, mesh: Mesh) -> EvalStep:
    """Return the jitted evaluation step ``(variables, batch) -> result``.

    It is compiled with options of its own, which JAX takes of the outermost jitted function alone: within another one
    call ``inspect.unwrap(step)``.

    The batch has ``video`` uint8 ``[B, V, T, H, W, 3]`` with ``V`` views a video, sharded along ``B`` over the devices.
    The views are scored one after the other, so that memory does not grow with ``V``, and averaged:
    ``config.evaluation.average`` says whether as probabilities or as logits.

    The result is a copy on every device and process: the batch's other entries; ``scores`` float32 ``[B, K]``, the
    probabilities of the classes; ``by_views`` int32 ``[B, V]``, the best class of the average over the first view, the
    first two, ..., all of them, in the order of :func:`spread`.

    Args:
      model: maps ``[N, T, H, W, 3]`` to scores before the softmax ``[N, K]``.
      config: the experiment.
      mesh: the devices.
    """
    dtype = jnp.dtype(config.model.dtype)
    of_probabilities = config.evaluation.average == "probability"

    def step(variables: Variables, batch: Batch) -> dict[str, jax.Array]:
        views = batch["video"]

        def score(view: Int[Array, ""]) -> Float[Array, "b k"]:
            # Slicing keeps the batch axis where it is, and so its sharding; mapping over a moved axis would copy.
            video = jax.lax.dynamic_index_in_dim(views, view, axis=1, keepdims=False)
            logits = model.apply(variables, normalize(video, config.data, dtype), train=False)
            logits = jax.lax.with_sharding_constraint(logits, along_batch(mesh))
            return jax.nn.softmax(logits) if of_probabilities else logits

        scores_of_views = jax.lax.map(score, jnp.arange(views.shape[1]))
        average = jnp.mean(scores_of_views, axis=0)
        scores = average if of_probabilities else jax.nn.softmax(average)
        by_views = jnp.argmax(jnp.cumsum(scores_of_views[spread(views.shape[1])], axis=0), axis=-1).T
        others = {name: array for name, array in batch.items() if name != "video"}
        return others | {"scores": scores, "by_views": by_views.astype(jnp.int32)}

    places = (replicated(mesh), along_batch(mesh))
    return jax.jit(step, in_shardings=places, out_shardings=places[0], compiler_options=mesh_options(mesh))
