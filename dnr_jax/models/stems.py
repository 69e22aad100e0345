"""Stems: from frames to the features of the first stage."""

import flax.linen as nn
from jaxtyping import Array, Float

from dnr_jax.dnr import DNRSpec
from dnr_jax.dnr.aliases import Dtype
from dnr_jax.models.derivatives import max_pool
from dnr_jax.models.layers import FRAMES, Convolution, ConvSize, static_norm

STEMS = ("imagenet", "small")


def halve(x: Float[Array, "n t h w c"]) -> Float[Array, "n t (h+1)//2 (w+1)//2 c"]:
    """Halve the rows and columns of ``[N, T, H, W, C]`` by 3x3 max pooling, padded by 1 on each side."""
    return max_pool(x, 3, 2, ((1, 1), (1, 1)))


def stem_pool(stem: str, x: Float[Array, "n t h w c"]) -> Float[Array, "n t h2 w2 c"]:
    """Pool the features of an ``imagenet`` stem; those of a ``small`` one are small enough."""
    return x if stem == "small" else halve(x)


def stem_size(stem: str, features: int, frames: int = 1) -> ConvSize:
    """Return the first convolution: ``imagenet`` (7x7, stride 2) or ``small`` (3x3), over ``frames``."""
    return ConvSize(features, (frames, 3, 3)) if stem == "small" else ConvSize(features, (frames, 7, 7), (1, 2, 2))


def stem_features(
    x: Float[Array, "n t h w c"],
    size: ConvSize,
    spec: DNRSpec,
    train: bool,
    *,
    dtype: Dtype,
    param_dtype: Dtype,
    convolution: Convolution = FRAMES,
    prefix: str = "",
    number: str = "1",
) -> Float[Array, "n t2 h2 w2 c2"]:
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
