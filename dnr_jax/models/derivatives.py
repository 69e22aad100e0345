"""Operations whose derivatives are written here, because XLA for CPU is slow with those that JAX derives.

The numbers are those of JAX's own derivatives to rounding, of any order and in both modes, and are the same on every
platform: a program for a GPU or a TPU has the same products and sums (``benchmarks/derivatives.py``).
"""

import functools
import math
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Rows above and below, columns left and right."""


def contract(x: Float[Array, "*b c"], kernel: Float[Array, "c f"]) -> Float[Array, "*b f"]:
    """Contract the channels of ``[..., C]`` with a kernel ``[C, F]`` to ``[..., F]``.

    It is a product of matrices: with several axes of features, XLA for CPU first copies one operand of the kernel's
    gradient into another order, with which a contraction to more channels takes up to 1.4 times as long.
    """
    return _product(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], kernel.shape[-1])


@jax.custom_jvp
def _product(x: Float[Array, "m c"], kernel: Float[Array, "c f"]) -> Float[Array, "m f"]:
    """Return ``x @ kernel``, in whose gradient of the kernel the narrower operand stands first.

    The operands are ``x`` and the result's gradient, and the first one is read across its rows.
    """
    return x @ kernel


@_product.defjvp
def _product_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (x_dot, kernel_dot) = primals, tangents
    channels, features = kernel.shape
    if channels <= features:
        of_kernel = x @ kernel_dot
    else:
        # The gradient of the kernel is the product of the result's gradient [M, F] and x, transposed; the barrier
        # keeps XLA from making that the product of x and the result's gradient.
        of_kernel = jnp.einsum("mc,fc->mf", x, jax.lax.optimization_barrier(kernel_dot.T))
    return _product(x, kernel), _product(x_dot, kernel) + of_kernel


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def max_pool(x: Float[Array, "*b h w c"], size: int, strides: int, padding: Padding) -> Float[Array, "*b h2 w2 c"]:
    """Pool rows and columns of ``[..., H, W, C]`` by their maximum.

    The gradient goes to the first maximum of a window, row by row, as in XLA and in torch. XLA for CPU finds it again,
    with the positions of all pixels, which takes more than twice as long, and five times the memory.

    Args:
      x: ``[..., H, W, C]``.
      size: of the square windows, at most 15.
      strides: of the windows.
      padding: what no window takes its maximum from.
    """
    ahead = x.ndim - 3
    window, steps = (*ahead * (1,), size, size), (*ahead * (1,), strides, strides)
    return nn.max_pool(x, window, steps, (*ahead * ((0, 0),), *padding))


@max_pool.defjvp
def _max_pool_jvp(
    size: int, strides: int, padding: Padding, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (x_dot,) = primals, tangents
    y = max_pool(x, size, strides, padding)
    at = functools.partial(_pixels_of_windows, size=size, strides=strides, padding=padding)
    first = jnp.full(y.shape, size**2, jnp.uint8)
    for i, pixels in reversed(list(enumerate(at(x, -jnp.inf)))):
        first = jnp.where(pixels == y, jnp.uint8(i), first)
    zero = jnp.zeros((), x_dot.dtype)
    return y, sum((jnp.where(first == i, dots, zero) for i, dots in enumerate(at(x_dot, 0.0))), zero)


def _pixels_of_windows(x: jax.Array, fill: float, size: int, strides: int, padding: Padding) -> Iterator[jax.Array]:
    """Yield the first pixel of every window, ``[..., H', W', C]``, the second, ..., row by row.

    Pixels are first sorted by their remainders modulo the strides, so that none of these slices, nor its transpose, has
    steps.
    """
    windows = [(n + sum(pads) - size) // strides + 1 for n, pads in zip(x.shape[-3:-1], padding, strict=True)]
    steps = [count - 1 + math.ceil(size / strides) for count in windows]
    pads = [(low, strides * m - n - low, 0) for (low, _), m, n in zip(padding, steps, x.shape[-3:-1], strict=True)]
    x = jax.lax.pad(x, jnp.asarray(fill, x.dtype), [*(x.ndim - 3) * [(0, 0, 0)], *pads, (0, 0, 0)])
    x = x.reshape(*x.shape[:-3], steps[0], strides, steps[1], strides, x.shape[-1])
    sorted_pixels = [jnp.split(rows, strides, axis=-2) for rows in jnp.split(x, strides, axis=-4)]
    for i in range(size):
        for j in range(size):
            pixels = jnp.squeeze(sorted_pixels[i % strides][j % strides], (-4, -2))
            row, column = i // strides, j // strides
            yield pixels[..., row : row + windows[0], column : column + windows[1], :]
