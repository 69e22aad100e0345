"""Pure functions of arrays, each against the loop or the formula that it replaces."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.dnr import functional, interlace
from tests.dnr import reference


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(1.0, 2.0, shape))


@pytest.mark.parametrize(
    ("features", "statistics"),
    [("float64", "float64"), ("float32", "float32"), ("bfloat16", "float32"), ("float16", "float32")],
)
def test_statistics_are_kept_in_float32_or_wider(features, statistics):
    assert functional.statistics_dtype(jnp.dtype(features)) == jnp.dtype(statistics)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool", "complex64"])
def test_features_that_are_not_floating_point_are_refused(dtype):
    with pytest.raises(TypeError, match=f"got {dtype}: normalise the pixels"):
        functional.statistics_dtype(jnp.dtype(dtype))


@pytest.mark.parametrize("spatial", [(), (3,), (3, 2), (2, 3, 2)])
def test_frame_moments_reduce_every_spatial_axis(x64, spatial):
    x = np.asarray(normal(2, 4, *spatial, 3))
    flat = x.reshape(2, 4, -1, 3)
    moments = functional.frame_moments(jnp.asarray(x))
    np.testing.assert_allclose(moments.mean, flat.mean(2), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, flat.var(2), rtol=1e-10, atol=1e-12)


def test_sums_of_half_precision_features_do_not_overflow():
    moments = functional.frame_moments(jnp.full((1, 1, 64, 64, 1), 300, jnp.float16))
    assert moments.mean.item() == 300
    assert moments.mean_square.item() == 90000


def test_variance_is_never_negative():
    moments = functional.Moments(jnp.full((3,), 1.0), jnp.full((3,), 1.0 - 1e-6))
    assert moments.variance.tolist() == [0, 0, 0]


def test_groups_are_of_consecutive_frames():
    frames = jnp.arange(6.0).reshape(1, 6, 1)
    assert functional.group_frames(frames, 3)[0, :, :, 0].tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("num_groups", [4, 0, -1])
def test_frames_that_cannot_be_grouped_are_named(num_groups):
    with pytest.raises(ValueError, match=f"6 frames cannot be cut into {num_groups} equal groups"):
        functional.group_frames(jnp.zeros((1, 6, 1)), num_groups)


@pytest.mark.parametrize(("num_groups", "clips"), [(1, 0), (2, 0), (4, 2), (2, 1), (1, 4)])
def test_batch_moments_pool_each_set_of_clips_and_each_group(x64, num_groups, clips):
    x = np.asarray(normal(4, 8, 3, 2, 5))
    pooled = functional.batch_moments(functional.frame_moments(jnp.asarray(x)), num_groups, clips)
    sets, length = 4 // (clips or 4), 8 // num_groups
    assert pooled.mean.shape == (sets, num_groups, 5)
    for r in range(sets):
        for g in range(num_groups):
            members = np.split(x, sets)[r][:, g * length : (g + 1) * length]
            np.testing.assert_allclose(pooled.mean[r, g], members.mean((0, 1, 2, 3)), rtol=1e-12)
            np.testing.assert_allclose(pooled.variance[r, g], members.var((0, 1, 2, 3)), rtol=1e-10)


def test_clips_that_cannot_share_statistics_are_named():
    with pytest.raises(ValueError, match="clips_per_statistics=3 does not divide the batch of 4 clips"):
        functional.batch_moments(functional.frame_moments(jnp.zeros((4, 2, 1))), 1, 3)


@pytest.mark.parametrize("momentum", [0.9, 0.5, 0.0])
@pytest.mark.parametrize("num_groups", [1, 4])
def test_updated_average_is_one_update_after_another(x64, momentum, num_groups):
    average, observed = normal(5), normal(3, num_groups, 5)
    expected = average
    for g in range(num_groups):
        expected = momentum * expected + (1 - momentum) * (observed[0, g] + observed[1, g] + observed[2, g]) / 3
    np.testing.assert_allclose(functional.updated_average(average, observed, momentum), expected, rtol=1e-12)


def test_unbiased_variance(x64):
    values = np.asarray(normal(7))
    np.testing.assert_allclose(functional.unbiased(jnp.asarray(values.var()), 7), values.var(ddof=1), rtol=1e-12)


def test_variance_of_a_single_value_stays_finite():
    assert functional.unbiased(jnp.zeros(()), 1) == 0


@pytest.mark.parametrize("runs", [1, 2, 8])
@pytest.mark.parametrize("clips", [1, 2])
def test_modulate_gives_each_run_of_frames_its_factors(x64, runs, clips):
    x, a, b = normal(2, 8, 3, 2, 4), normal(clips, runs, 4), normal(clips, runs, 4) + 1
    found = functional.modulate(x, functional.Affine(a, b))
    x, a, b = np.asarray(x), np.asarray(a), np.asarray(b)
    for n in range(2):
        for t in range(8):
            row = n % clips, t * runs // 8
            np.testing.assert_allclose(found[n, t], x[n, t] * a[row] + b[row], rtol=1e-12)


def test_folded_standardisation_is_equations_1_and_2(x64):
    mean, scale, shift = normal(3, 4)
    variance = jnp.square(normal(4))
    x = normal(2, 1, 4)
    standardized = functional.standardization((mean[None, None], variance[None, None]), 1e-3)
    affine = functional.transform(standardized, scale[None, None], shift[None, None])
    for row, found in zip(x[:, 0], functional.modulate(x, affine)[:, 0], strict=True):
        expected = scale * (row - mean) / jnp.sqrt(variance + 1e-3) + shift
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.125, 0.5])
@pytest.mark.parametrize("num_frames", [1, 4])
def test_interlace_is_a_shift_of_channels(fraction, num_frames):
    x = normal(2, num_frames, 2, 3, 8)
    np.testing.assert_array_equal(interlace(x, fraction), reference.interlace(x, fraction))


def test_interlace_takes_the_first_channels_from_the_next_frame_and_the_second_from_the_one_before():
    frames = jnp.broadcast_to(jnp.array([1.0, 2.0, 3.0])[:, None], (3, 4))
    assert interlace(frames[None], 0.25)[0].tolist() == [[2, 0, 1, 1], [3, 1, 2, 2], [0, 2, 3, 3]]


@pytest.mark.parametrize(("channels", "fraction", "moved"), [(200, 0.29, 58), (49, 1 / 49, 1), (30, 1 / 8, 3)])
def test_interlace_moves_the_channels_that_the_fraction_says(channels, fraction, moved):
    """Products of floats can be a little less than the whole number that is meant."""
    x = interlace(jnp.ones((1, 1, channels)), fraction)
    assert (x == 0).sum() == 2 * moved


def test_interlace_keeps_the_dtype():
    assert interlace(jnp.ones((1, 2, 1, 1, 8), jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("fraction", [-0.1, 0.51, 1.0])
def test_interlace_refuses_fractions_out_of_range(fraction):
    with pytest.raises(ValueError, match=f"between 0 and 0.5, got {fraction}"):
        interlace(jnp.zeros((1, 2, 1, 1, 8)), fraction)


@pytest.mark.parametrize("function", [functional.interlace, functional.frame_moments])
def test_features_without_an_axis_of_frames_are_refused(function):
    with pytest.raises(ValueError, match=r"got 2 axes: \(4, 8\); x\[:, None\] makes each entry a clip of one frame"):
        inspect.unwrap(function)(jnp.ones((4, 8)))  # without the checks of types that only tests make


@pytest.mark.parametrize("runs", [1, 2, 4])
@pytest.mark.parametrize("groups", [0, 1, 2])
def test_instance_moments_are_those_of_a_clips_channel_groups(x64, runs, groups):
    x = normal(2, 4, 3, 2, 6)
    found = functional.instance_moments(functional.frame_moments(x), runs, groups)
    assert found.mean.shape == (2, runs, 6)
    size = 6 // (groups or 6)
    for n in range(2):
        for run in range(runs):
            for c in range(6):
                first = c // size * size
                values = np.asarray(x)[n, run * 4 // runs : (run + 1) * 4 // runs, :, :, first : first + size]
                np.testing.assert_allclose(found.mean[n, run, c], values.mean(), rtol=1e-10)
                np.testing.assert_allclose(found.variance[n, run, c], values.var(), rtol=1e-10)


def test_channels_that_cannot_be_grouped_are_named():
    with pytest.raises(ValueError, match="6 channels cannot be cut into 4 equal groups"):
        functional.instance_moments(functional.frame_moments(jnp.zeros((1, 2, 6))), 1, 4)


@pytest.mark.parametrize(("coarse", "fine"), [(1, 4), (2, 4), (4, 2), (4, 4)])
def test_transform_gives_each_run_its_scale_and_its_statistics(x64, coarse, fine):
    x, scale, shift = normal(2, 4, 3), normal(2, fine, 3), normal(2, fine, 3) + 1
    mean, variance = normal(2, coarse, 3) + 2, jnp.square(normal(2, coarse, 3)) + 0.1
    standardized = functional.standardization((mean, variance), 1e-3)
    found = functional.modulate(x, functional.transform(standardized, scale, shift))
    for t in range(4):
        row, own = t * coarse // 4, t * fine // 4
        expected = (x[:, t] - mean[:, row]) / jnp.sqrt(variance[:, row] + 1e-3) * scale[:, own] + shift[:, own]
        np.testing.assert_allclose(found[:, t], expected, rtol=1e-9, atol=1e-11)


def test_runs_are_repeated_for_shorter_ones():
    v = jnp.arange(4.0).reshape(1, 2, 2)
    assert functional.spread_runs(v, 4).tolist() == [[[0, 1], [0, 1], [2, 3], [2, 3]]]
    assert functional.spread_runs(v, 2) is v
    assert functional.spread_runs(v[:, :1], 4).shape == (1, 1, 2)


def test_arrays_are_placed_on_explicit_meshes_only():
    x = jnp.zeros((4, 3))
    assert functional.place_like(x, x) is x
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        batch = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
        assert jax.typeof(functional.place_like(x, batch)).sharding.spec[0] == "data"
        assert jax.typeof(functional.place_like(batch, None)).sharding.spec[0] is None


@pytest.mark.parametrize(("channels", "expected"), [(2, [1, 2]), (3, [1, 2, 3]), (5, [1, 2, 3, -4, -5])])
def test_a_state_keeps_the_channels_that_there_are(channels, expected):
    state = (jnp.array([[1.0, 2.0, 3.0]]),) * 2
    start = (-jnp.arange(1.0, channels + 1)[None],) * 2
    found = functional.fit_channels(state, start)
    assert [part.tolist() for part in found] == [[expected]] * 2
