"""Stems: from frames to the features of the first stage."""

from typing import Any

import flax.linen as nn
import jax

from dnr_jax.dnr import DNRSpec
from dnr_jax.models.layers import FRAMES, Convolution, ConvSize, static_norm

STEMS = ("imagenet", "small")


def max_pool(x: jax.Array) -> jax.Array:
    """Halve the rows and columns of ``[N, T, H, W, C]`` by 3x3 max pooling, padded by 1 on each side."""
    return nn.max_pool(x, (1, 3, 3), (1, 2, 2), padding=((0, 0), (1, 1), (1, 1)))


def stem_pool(stem: str, x: jax.Array) -> jax.Array:
    """Pool the features of an ``imagenet`` stem; those of a ``small`` one are small enough."""
    return x if stem == "small" else max_pool(x)


def stem_size(stem: str, features: int, frames: int = 1) -> ConvSize:
    """Return the first convolution: ``imagenet`` (7x7, stride 2) or ``small`` (3x3), over ``frames``."""
    return ConvSize(features, (frames, 3, 3)) if stem == "small" else ConvSize(features, (frames, 7, 7), (1, 2, 2))


def stem_features(
    x: jax.Array,
    size: ConvSize,
    spec: DNRSpec,
    train: bool,
    *,
    dtype: Any,
    param_dtype: Any,
    convolution: Convolution = FRAMES,
    prefix: str = "",
    number: str = "1",
) -> jax.Array:
    """Convolve, normalise without DNR and apply ReLU; call it in a compact method.

    Args:
      x: frames ``[N, T, H, W, C]``.
      size: of the convolution, see :func:`stem_size`.
      spec: its static norm is used.
      train: whether the norm uses, and updates with, the statistics of the batch.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
      convolution: the kind of the convolution.
      prefix: stands before the names ``conv`` and ``norm``.
      number: stands behind them.

    Returns:
      ``[N, T', H', W', C']``.
    """
    names = [f"{prefix}{layer}{number}" for layer in ("conv", "norm")]
    x = convolution.apply(x, size, train, name=names[0], dtype=dtype, param_dtype=param_dtype)
    return nn.relu(static_norm(spec, x, train, names[1], param_dtype))
