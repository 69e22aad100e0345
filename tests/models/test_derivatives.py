"""The derivatives written here are those of JAX: values, both modes, orders, ties, placements."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dnr_jax.models.derivatives import contract, max_pool
from dnr_jax.runs.devices import make_mesh
from tests.dnr.reference import jit

POOLS = [
    (3, 2, ((1, 1), (1, 1))),  # of stems
    (3, 2, ((0, 1), (0, 0))),  # Caffe's, with a last window that is not full
    (3, 1, ((1, 1), (1, 1))),
    (2, 2, ((0, 0), (0, 0))),
    (2, 3, ((0, 0), (1, 0))),  # pixels that no window sees
]


def normal(*shape: int, seed: int = 0, dtype=jnp.float64) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def whole(*shape: int, seed: int = 0, below: int = 3) -> jax.Array:
    """Few whole numbers, so that there are ties and sums are exact."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, below, shape), jnp.float32)


def plain(x, kernel):
    return jnp.einsum("...c,cf->...f", x, kernel)


def flax_pool(x, size, strides, padding):
    return nn.max_pool(x, (1, size, size), (1, strides, strides), ((0, 0), *padding))


def derivatives(function, *primals):
    """Value, gradients for one cotangent, and the derivative along one tangent."""

    @jit
    def computed(primals, tangents, cotangent):
        y, pull = jax.vjp(function, *primals)
        return y, pull(cotangent), jax.jvp(function, primals, tangents)[1]

    y = jax.eval_shape(function, *primals)
    tangents = tuple(normal(*x.shape, seed=7, dtype=x.dtype) for x in primals)
    return computed(primals, tangents, normal(*y.shape, seed=8, dtype=y.dtype))


def assert_near(found, expected, tolerance: float) -> None:
    def compare(a, b):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.max(np.abs(b)))

    jax.tree.map(compare, found, expected)


@pytest.mark.parametrize(("channels", "features"), [(5, 3), (3, 5), (4, 4)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5), ("bfloat16", 2e-2)])
def test_contractions_have_the_derivatives_of_einsum(x64, channels, features, dtype, tolerance):
    x, kernel = normal(2, 3, 4, channels, dtype=dtype), normal(channels, features, seed=1, dtype=dtype)
    assert_near(derivatives(contract, x, kernel), derivatives(plain, x, kernel), tolerance)


@pytest.mark.parametrize("features", [2, 4])
def test_contractions_have_second_derivatives_and_batches(x64, features):
    xs, kernel = normal(2, 4, 3), normal(3, features, seed=1)

    def gradient(function, x, kernel):
        return jax.grad(lambda *args: jnp.sum(jnp.sin(function(*args))), argnums=(0, 1))(x, kernel)

    def second(function):
        gradients = functools.partial(gradient, function)
        forward = jax.jvp(jax.vmap(gradients, (0, None)), (xs, kernel), (xs + 1, kernel - 1))[1]
        recomputed = functools.partial(gradient, jax.checkpoint(function), xs)
        return forward, jax.grad(lambda k: jnp.sum(jnp.square(recomputed(k)[1])))(kernel)

    found, expected = (jit(functools.partial(second, function))() for function in (contract, plain))
    assert_near(found, expected, 1e-12)


def test_the_narrower_operand_of_the_kernels_gradient_comes_first():
    def products(channels: int, features: int) -> set[str]:
        kernel = jax.ShapeDtypeStruct((channels, features), jnp.float32)
        x, g = (jax.ShapeDtypeStruct((40, width), jnp.float32) for width in (channels, features))
        program = jax.jit(lambda x, kernel, g: jax.vjp(lambda k: contract(x, k), kernel)[1](g)).lower(x, kernel, g)
        return set(re.findall(r"f32\[(\d+,\d+)\]\S* dot\(", program.compile().as_text()))

    assert products(24, 8) == products(8, 24) == {"8,24"}


@pytest.mark.parametrize(("size", "strides", "padding"), POOLS)
def test_pooling_has_the_gradient_of_xla_ties_included(size, strides, padding):
    x, rows = whole(2, 7, 8, 3), (7 + sum(padding[0]) - size) // strides + 1
    columns = (8 + sum(padding[1]) - size) // strides + 1

    @functools.partial(jit, static_argnums=0)
    def computed(pool, x, g):
        y, pull = jax.vjp(lambda x: pool(x, size, strides, padding), x)
        return y, pull(g)[0]

    g = whole(2, rows, columns, 3, seed=1, below=100)
    found, expected = (computed(pool, x, g) for pool in (max_pool, flax_pool))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_gradient_of_pooling_goes_to_the_first_maximum():
    x = jnp.asarray([[1, 5, 5], [5, 2, 5], [0, 5, 3]], jnp.float32)[..., None]
    gradient = jit(jax.grad(lambda x: jnp.sum(max_pool(x, 3, 1, ((0, 0), (0, 0))))))(x)[..., 0]
    assert gradient.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6), ("bfloat16", 2e-2)])
def test_pooling_has_the_derivatives_of_xla_in_every_dtype(x64, dtype, tolerance):
    size, strides, padding = POOLS[0]
    x = jax.nn.relu(normal(1, 2, 6, 5, 3, dtype=dtype))
    expected = derivatives(jax.vmap(lambda x: flax_pool(x, size, strides, padding)), x)
    ways = jax.vmap if dtype == "float64" else lambda pool: pool
    assert_near(derivatives(ways(lambda x: max_pool(x, size, strides, padding)), x), expected, tolerance)


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_the_number_of_devices_changes_nothing(x64):
    x, kernel = normal(8, 2, 6, 6, 5), normal(5, 3, seed=1)

    @jax.jit
    def gradients(x, kernel):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(max_pool(contract(x, kernel), *POOLS[0])))

        return jax.grad(loss, argnums=(0, 1))(x, kernel)

    sharded = jax.device_put(x, NamedSharding(make_mesh(jax.devices()[:8]), PartitionSpec("data")))
    assert_near(gradients(sharded, kernel), gradients(x, kernel), 1e-12)
