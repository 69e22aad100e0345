"""Convolutions as the networks here need them: no bias, explicit symmetric padding, torch's layout of the steps."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He initialisation over the fan-out, which MMAction2 and the authors' code give to convolutions."""


class PointwiseConv(nn.Module):
    """1x1 convolution written as a contraction over the channels.

    The same numbers as a convolution. XLA on CPU differentiates a matrix product several times faster than a 1x1
    convolution; on GPU and TPU both become the same matrix product. A stride drops pixels before the product.
    """

    features: int
    strides: int = 1
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[..., H, W, C]`` to ``[..., H', W', features]``; the kernel is ``[1, 1, C, features]``."""
        kernel = self.param("kernel", kaiming_normal, (1, 1, x.shape[-1], self.features), self.param_dtype)
        if self.strides > 1:
            x = x[..., :: self.strides, :: self.strides, :]
        x, kernel = nn.dtypes.promote_dtype(x, kernel[0, 0], dtype=self.dtype)
        return jnp.einsum("...c,cf->...f", x, kernel)


def conv(
    features: int, kernel_size: int, strides: int = 1, *, name: str, dtype: Any = None, param_dtype: Any = jnp.float32
) -> nn.Conv | PointwiseConv:
    """Return a square 2D convolution without bias, padded by ``kernel_size // 2`` on each side.

    It acts on ``[..., H, W, C]``; padding is explicit because ``SAME`` pads strided convolutions on one side only.
    """
    if kernel_size == 1:
        return PointwiseConv(features, strides, dtype, param_dtype, name=name)
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        (strides, strides),
        padding=kernel_size // 2,
        use_bias=False,
        kernel_init=kaiming_normal,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )
