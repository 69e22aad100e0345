"""Convolutions: the contraction is the convolution, padding and initial weights are torch's."""

import functools
from statistics import NormalDist

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dnr_jax.models.layers import Conv3D, PointwiseConv, conv, temporal_taps
from tests.dnr.reference import assert_close, jit


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def convolution(x, kernel, strides: int, padding: int):
    """XLA's convolution, one clip at a time."""
    pad = ((padding, padding), (padding, padding))
    layout = ("NHWC", "HWIO", "NHWC")
    clips = [jax.lax.conv_general_dilated(x[n], kernel, (strides, strides), pad, None, None, layout) for n in range(2)]
    return jnp.stack(clips)


@pytest.mark.parametrize(("kernel_size", "strides"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("size", [(5, 6), (1, 9)])
def test_values_and_gradients_are_those_of_a_convolution(x64, kernel_size, strides, size):
    layer = conv(5, kernel_size, strides, name="conv", dtype=jnp.float64, param_dtype=jnp.float64)
    x, kernel = normal(2, 3, *size, 4), normal(kernel_size, kernel_size, 4, 5, seed=1)

    def literal(kernel, x):
        return convolution(x, kernel, strides, kernel_size // 2)

    def ours(kernel, x):
        return layer.apply({"params": {"kernel": kernel}}, x)

    def values(function):
        y, pullback = jax.vjp(function, kernel, x)
        return y, pullback(normal(*y.shape, seed=2))

    assert_close(*(jit(functools.partial(values, function))() for function in (ours, literal)))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_biases_are_added_to_each_pixel_and_start_from_zeros(x64, kernel_size):
    plain, biased = (
        conv(5, kernel_size, use_bias=use_bias, name="conv", dtype=jnp.float64, param_dtype=jnp.float64)
        for use_bias in (False, True)
    )
    x, kernel, bias = normal(2, 3, 4, 5, 4), normal(kernel_size, kernel_size, 4, 5, seed=1), normal(5, seed=2)
    expected = np.asarray(plain.apply({"params": {"kernel": kernel}}, x)) + np.asarray(bias)
    found = biased.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert not np.any(biased.init(jax.random.key(0), x)["params"]["bias"])


def values_and_gradients(function, kernel, x):
    y, pullback = jax.vjp(function, kernel, x)
    return y, pullback(normal(*y.shape, seed=2))


@pytest.mark.parametrize(
    ("kernel_size", "strides"),
    [((1, 1, 1), (2, 1, 2)), ((1, 3, 3), (1, 2, 2)), ((3, 1, 1), (2, 1, 1)), ((7, 1, 1), (4, 1, 1))]
    + [((3, 1, 1), (1, 1, 1)), ((3, 3, 3), (2, 2, 2)), ((5, 7, 5), (1, 2, 1)), ((1, 3, 3), (2, 1, 1))],
)
@pytest.mark.parametrize("size", [(4, 5, 6), (3, 1, 9)])
def test_a_convolution_over_time_and_space_is_xlas(x64, kernel_size, strides, size):
    layer = Conv3D(5, kernel_size, strides, dtype=jnp.float64, param_dtype=jnp.float64)
    x, kernel = normal(2, *size, 4), normal(*kernel_size, 4, 5, seed=1)
    padding = [(k // 2, k // 2) for k in kernel_size]

    def literal(kernel, x):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, None, None, ("NDHWC", "DHWIO", "NDHWC"))

    def ours(kernel, x):
        return layer.apply({"params": {"kernel": kernel}}, x)

    found = (jit(functools.partial(values_and_gradients, function))(kernel, x) for function in (ours, literal))
    assert_close(*found)


def test_temporal_taps_are_the_frames_around():
    x = jnp.arange(1, 6)[None, :, None]  # one clip of five frames with one channel
    assert temporal_taps(x, 3)[0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 0]]
    assert temporal_taps(x, 5, stride=2)[0].tolist() == [[0, 0, 1, 2, 3], [1, 2, 3, 4, 5], [3, 4, 5, 0, 0]]
    assert temporal_taps(x, 1, stride=4)[0].tolist() == [[1], [5]]


def test_3d_kernels_start_from_he_normal_over_the_fan_out_and_keep_their_dtype():
    layer = Conv3D(128, (3, 3, 3), dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), jnp.zeros((1, 1, 1, 1, 8)))
    kernel = variables["params"]["kernel"]
    assert (y.dtype, kernel.dtype, kernel.shape) == (jnp.bfloat16, jnp.float32, (3, 3, 3, 8, 128))
    distribution = NormalDist(0, np.sqrt(2 / (27 * 128)))
    assert stats.kstest(np.asarray(kernel).ravel(), np.vectorize(distribution.cdf)).pvalue > 1e-3


def test_pointwise_convolutions_are_contractions():
    assert isinstance(conv(5, 1, name="conv"), PointwiseConv)
    layer = PointwiseConv(5, strides=2)
    x = jnp.zeros((2, 3, 4, 4, 4))
    program = str(jax.make_jaxpr(lambda key, x: layer.init_with_output(key, x))(jax.random.key(0), x))
    assert "conv_general_dilated" not in program


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_kernels_start_from_he_normal_over_the_fan_out(kernel_size):
    layer = conv(128, kernel_size, name="conv")
    params = layer.init(jax.random.key(0), jnp.zeros((1, 1, 1, 1, 32)))["params"]
    assert set(params) == {"kernel"}
    assert params["kernel"].shape == (kernel_size, kernel_size, 32, 128)
    deviation = np.sqrt(2 / (kernel_size**2 * 128))
    assert stats.kstest(np.asarray(params["kernel"]).ravel(), np.vectorize(NormalDist(0, deviation).cdf)).pvalue > 1e-3


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_activations_have_their_dtype_and_parameters_theirs(kernel_size):
    layer: nn.Module = conv(5, kernel_size, name="conv", dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((1, 1, 4, 4, 4), jnp.float32)
    y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16
    assert variables["params"]["kernel"].dtype == jnp.float32
