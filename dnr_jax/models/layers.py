"""Convolutions as the networks here need them: explicit symmetric padding, torch's layout of the steps."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from dnr_jax.dnr import DNRSpec
from dnr_jax.dnr.aliases import Dtype
from dnr_jax.models.derivatives import contract

kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He initialisation over the fan-out, which MMAction2 and the authors' code give to convolutions."""
Size = tuple[int, int, int]
"""Frames, rows, columns."""


class ConvSize(NamedTuple):
    """Channels of a convolution's result, its kernel, its strides, and the groups of its channels."""

    features: int
    kernel_size: Size
    strides: Size = (1, 1, 1)
    groups: int = 1


def as_size(strides: int | Size) -> Size:
    """Return strides over frames, rows and columns, given those or one over space."""
    return (1, strides, strides) if isinstance(strides, int) else strides


class PointwiseConv(nn.Module):
    """1x1 convolution written as a contraction over the channels.

    The same numbers as a convolution. XLA on CPU differentiates a matrix product several times faster than a 1x1
    convolution; on GPU and TPU both become the same matrix product. A stride drops pixels before the product.
    """

    features: int
    strides: int = 1
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*b h w c"]) -> Float[Array, "*b h2 w2 {self.features}"]:
        """Map ``[..., H, W, C]`` to ``[..., H', W', features]``; the kernel is ``[1, 1, C, features]``."""
        kernel = self.param("kernel", kaiming_normal, (1, 1, x.shape[-1], self.features), self.param_dtype)
        x = subsampled(x, (self.strides, self.strides))
        x, kernel = nn.dtypes.promote_dtype(x, kernel[0, 0], dtype=self.dtype)
        y = contract(x, kernel)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        return y + jnp.expand_dims(bias.astype(y.dtype), range(y.ndim - 1))


def conv(
    features: int,
    kernel_size: int,
    strides: int = 1,
    groups: int = 1,
    *,
    name: str,
    dtype: Dtype | None = None,
    param_dtype: Dtype = jnp.float32,
    use_bias: bool = False,
) -> nn.Conv | PointwiseConv:
    """Return a square 2D convolution, padded by ``kernel_size // 2`` on each side.

    It acts on ``[..., H, W, C]``; padding is explicit because ``SAME`` pads strided convolutions on one side only. Each
    of ``groups`` of channels is convolved by itself.
    """
    if kernel_size == groups == 1:
        return PointwiseConv(features, strides, dtype, param_dtype, use_bias, name=name)
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        (strides, strides),
        padding=kernel_size // 2,
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=kaiming_normal,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )


class Conv3D(nn.Module):
    """Convolution over time and space without bias, padded by half of its (odd) size on each side.

    The same numbers as a 3D convolution, written as a 2D one: the frames that a temporal tap sees are stacked on the
    channels, and a kernel without spatial extent is a matrix product. On CPU, XLA runs and differentiates this faster,
    stems and narrow layers ten times and more (``benchmarks/conv3d.py``).

    Attributes:
      features: channels of the result.
      kernel_size: frames, rows and columns.
      strides: likewise.
      dtype: dtype of the arithmetic.
      param_dtype: dtype of the kernel ``[*kernel_size, C, features]``.
    """

    features: int
    kernel_size: Sequence[int]
    strides: Sequence[int] = (1, 1, 1)
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n t h w c"]) -> Float[Array, "n t2 h2 w2 {self.features}"]:
        """Map ``[N, T, H, W, C]`` to ``[N, T', H', W', features]``, ``T' = ceil(T / stride)`` and so on."""
        t, *space = self.kernel_size
        stride, *spatial = self.strides
        kernel = self.param("kernel", kaiming_normal, (t, *space, x.shape[-1], self.features), self.param_dtype)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        if space == [1, 1]:
            x = temporal_taps(subsampled(x, spatial), t, stride)
            return contract(unfused(x) if stride > 1 else x, kernel.reshape(-1, self.features))
        x = temporal_taps(x, t, stride)
        kernel = jnp.moveaxis(kernel, 0, 2).reshape(*space, -1, self.features)
        y = jax.lax.conv_general_dilated(
            x.reshape(-1, *x.shape[2:]),
            kernel,
            spatial,
            [(size // 2, size // 2) for size in space],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y.reshape(*x.shape[:2], *y.shape[1:])


def unfused(x: jax.Array) -> jax.Array:
    """Return features that XLA has to compute before the matrix product that reads them.

    XLA for GPUs makes one kernel of a product and what is in front of it. Where pixels or frames are skipped there, the
    releases that jax 0.10.2 and 0.11.2 bring end the process: ``Check failed: subdim_size_accumulator == dim_size``
    (https://github.com/openxla/xla/issues/47381; ``tests/gpu`` compiles all networks for a GPU).
    """
    return jax.lax.optimization_barrier(x)


def subsampled(x: Num[Array, "*b h w c"], strides: Sequence[int]) -> Num[Array, "*b h2 w2 c"]:
    """Keep every so many rows and columns of ``[..., H, W, C]``, the first ones among them, for a matrix product."""
    rows, columns = strides
    return x if rows == columns == 1 else unfused(x[..., ::rows, ::columns, :])


def temporal_taps(x: Num[Array, "n t *s c"], size: int, stride: int = 1) -> Num[Array, "n t2 *s {size}*c"]:
    """Stack on each frame's channels the frames that a temporal kernel of ``size`` sees, zeros beyond the clip.

    Args:
      x: ``[N, T, ..., C]``.
      size: frames, odd; the middle one is the frame itself.
      stride: of the frames that are kept.

    Returns:
      ``[N, ceil(T / stride), ..., size * C]``, the earliest frame's channels first.
    """
    frames = x.shape[1]
    padding = [(0, 0), (size // 2, size // 2), *(x.ndim - 2) * [(0, 0)]]
    padded = jnp.pad(x, padding)
    return jnp.concatenate([padded[:, i : i + frames : stride] for i in range(size)], axis=-1)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A kind of convolution, which blocks and stems are made of.

    Attributes:
      apply: ``apply(x, size, train, name=..., dtype=..., param_dtype=...)`` applies a convolution of a
        :class:`ConvSize` to ``[N, T, H, W, C]`` within the compact method of a module.
      first: path of the kernel that reads the features, below the convolution's name; empty where it is its own.
      last: likewise of the kernel whose result it hands on.
    """

    apply: Callable[..., jax.Array]
    first: str = ""
    last: str = ""


def frame_conv(
    x: Float[Array, "n t h w c"], size: ConvSize, train: bool, *, use_bias: bool = False, **fields: Any
) -> Float[Array, "n t h2 w2 {size.features}"]:
    """Convolve each frame of ``[N, T, H, W, C]`` by itself.

    Raises:
      ValueError: for a kernel over several frames, or one that is not square.
    """
    del train
    (frames, side, columns), (temporal, stride, _) = size.kernel_size, size.strides
    if (frames, temporal, columns) != (1, 1, side):
        raise ValueError(f"a convolution of frames one by one has a square kernel over one frame; got {size}")
    return conv(size.features, side, stride, size.groups, use_bias=use_bias, **fields)(x)


def clip_conv(
    x: Float[Array, "n t h w c"], size: ConvSize, train: bool, **fields: Any
) -> Float[Array, "n t2 h2 w2 {size.features}"]:
    """Convolve ``[N, T, H, W, C]`` over time and space.

    Raises:
      ValueError: for groups of channels, which :class:`Conv3D` does not have.
    """
    del train
    if size.groups != 1:
        raise ValueError(f"a convolution over time and space has one group of channels; got {size}")
    return Conv3D(size.features, size.kernel_size, size.strides, **fields)(x)


FRAMES = Convolution(frame_conv)
CLIPS = Convolution(clip_conv)


def static_norm(
    spec: DNRSpec, x: Float[Array, "n t h w c"], train: bool, name: str, param_dtype: Dtype
) -> Float[Array, "n t h w c"]:
    """Normalise ``[N, T, H, W, C]`` without DNR, as stems, shortcuts and lateral connections do."""
    _, y = spec.norm("static", name=name, param_dtype=param_dtype)(None, x, use_running_average=not train)
    return y
