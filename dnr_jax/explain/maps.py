"""Maps over the pixels of a clip, from features and their gradients, or from what hidden parts of it cost."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Window = tuple[int, int, int]
"""Frames, rows and columns."""
CamWeights = Callable[[jax.Array, jax.Array], jax.Array]


def grad_cam_weights(
    features: Float[Array, "n t h w c"], gradients: Float[Array, "n t h w c"]
) -> Float[Array, "n 1 1 1 c"]:
    """Weigh channels by their gradients, summed over positions (Selvaraju et al., ICCV 2017)."""
    del features
    return jnp.sum(gradients, axis=(1, 2, 3), keepdims=True)


def grad_cam_pp_weights(
    features: Float[Array, "n t h w c"], gradients: Float[Array, "n t h w c"]
) -> Float[Array, "n 1 1 1 c"]:
    """Weigh channels by their positive gradients, each position by its share (Grad-CAM++, Chattopadhay et al. 2018).

    As in the paper, what is differentiated is the exponential of the score, whose higher derivatives are powers of the
    gradient; the exponential itself is a factor of the whole map, and left out.
    """
    # The paper's share, g^2 / (2 g^2 + sum(A) g^3), with g^2 cancelled: powers of small gradients underflow.
    below = 2 + gradients * jnp.sum(features, axis=(1, 2, 3), keepdims=True)
    shares = jnp.where(below == 0, 0, 1 / jnp.where(below == 0, 1, below))
    return jnp.sum(shares * jnp.maximum(gradients, 0), axis=(1, 2, 3), keepdims=True)


@functools.partial(jax.jit, static_argnames=("weights", "shape"))
def class_activation(
    features: Sequence[jax.Array], gradients: Sequence[jax.Array], weights: CamWeights, shape: Window
) -> Float[Array, "n t h w"]:
    """Return the map of a layer, stretched linearly over the clip.

    Args:
      features: each ``[N, T', H', W', C]``; the maps of several (pathways) are added.
      gradients: of a score at them, likewise.
      weights: of the channels, from features and gradients.
      shape: frames, rows and columns of the clip.

    Returns:
      ``[N, T, H, W]``, float32, 0 or more, on no particular scale.
    """

    def stretched(features: jax.Array, gradients: jax.Array) -> jax.Array:
        features, gradients = features.astype(jnp.float32), gradients.astype(jnp.float32)
        coarse = jnp.maximum(jnp.sum(weights(features, gradients) * features, axis=-1), 0)
        return jax.image.resize(coarse, (len(coarse), *shape), "linear")

    first, *others = map(stretched, features, gradients)
    return sum(others, start=first)


def scaled(maps: np.ndarray) -> np.ndarray:
    """Scale each map of ``[N, T, H, W]`` to a maximum of 1; negative values become 0, and an empty map stays empty."""
    positive = np.maximum(maps, 0).astype(np.float32)
    highest = positive.max(axis=(1, 2, 3), keepdims=True)
    return np.divide(positive, highest, out=np.zeros_like(positive), where=highest > 0)


def windows(shape: Window, size: Window, stride: Window) -> Iterator[tuple[slice, slice, slice]]:
    """Yield the windows of ``size`` every ``stride`` in a clip, the last along each axis at its end."""
    starts = []
    for length, side, step in zip(shape, size, stride, strict=True):
        last = length - side
        starts.append([*range(0, last, step), last])
    for corner in itertools.product(*starts):
        t, h, w = (slice(start, start + side) for start, side in zip(corner, size, strict=True))
        yield t, h, w


def spread(falls: Sequence[float] | np.ndarray, places: Sequence[tuple[slice, ...]], shape: Window) -> np.ndarray:
    """Return the mean, for each pixel of ``[T, H, W]``, of the falls of the windows that hide it."""
    total, count = np.zeros(shape), np.zeros(shape)
    for fall, place in zip(falls, places, strict=True):
        total[place] += fall
        count[place] += 1
    return total / np.maximum(count, 1)
