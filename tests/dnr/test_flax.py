"""The layers beside Flax's own: where `nn.BatchNorm` or `nn.LayerNorm` stood, with the arguments that were there."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.dnr import CrossLayerDNR, CrossTemporalDNR, StaticNorm, precise_statistics, without_carry
from tests.dnr import reference
from tests.dnr.settings import C, features

pytestmark = pytest.mark.compat

Batch = without_carry(StaticNorm)


def both(ours: nn.Module, theirs: nn.Module, x: jax.Array, **mode):
    """Return outputs and running statistics of two layers with the same random variables."""
    shapes = jax.eval_shape(functools.partial(theirs.init, **mode), jax.random.key(0), x)
    variables = reference.variables_like(shapes, seed=1)
    found = jax.eval_shape(functools.partial(ours.init, **mode), jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, shapes)
    return [layer.apply(variables, x, mutable=["batch_stats"], **mode) for layer in (ours, theirs)]


@pytest.fixture
def promotion():
    """Flax's layers count on it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("base", ["ln", "gn"])
@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4), (2, 4, 2, 3)])
def test_statistics_of_positions_are_flax_s(x64, base, shape):
    x = features(*shape)
    fields = {"epsilon": 1e-3, "param_dtype": jnp.float64}
    if base == "ln":
        ours, theirs = Batch(base="ln", statistics="token", **fields), nn.LayerNorm(**fields)
    else:
        ours = Batch(base="gn", statistics="token", channels_per_group=4, **fields)
        theirs = nn.GroupNorm(C // 4, reduction_axes=-1, **fields)
    ours = ours.clone(use_running_average=True)
    found, expected = both(ours, theirs, x)
    reference.assert_close(found[0], expected[0])


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"use_scale": False},
        {"use_bias": False},
        {"use_scale": False, "use_bias": False},
        {"dtype": jnp.float32},
        {"momentum": 0.7, "epsilon": 1e-3},
    ],
    ids=str,
)
def test_static_norm_is_batch_norm(x64, fields):
    ours = Batch(param_dtype=jnp.float64, **fields)
    theirs = nn.BatchNorm(param_dtype=jnp.float64, **{"momentum": 0.9} | fields)
    (y, stats), (expected, expected_stats) = both(ours, theirs, features(2, 4, 3), use_running_average=False)
    assert y.dtype == expected.dtype
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if "dtype" in fields else {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(y, expected, **tolerance)
    for name, expected_average in expected_stats.get("batch_stats", {}).items():
        average = stats["batch_stats"][name]
        assert average.dtype == jnp.float64
        if name == "mean":  # the variance that torch keeps is unbiased, Flax's is not
            np.testing.assert_allclose(average, expected_average, **tolerance)


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("layer", [Batch, without_carry(CrossTemporalDNR)])
def test_running_statistics_reach_the_batch_s_with_narrow_parameters(layer):
    """Averages in bfloat16 would stop where a tenth of what is left is less than they can tell apart."""
    x = jnp.asarray(features(2, 4, 3), jnp.float32) + 3.3
    ours, theirs = (kind(param_dtype=jnp.bfloat16, momentum=0.9) for kind in (layer, nn.BatchNorm))
    for norm in (ours, theirs):
        variables = norm.init(jax.random.key(0), x, use_running_average=True)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {jnp.dtype("bfloat16")}
        stats = three_hundred_steps(norm, variables, x)
        assert {leaf.dtype for leaf in jax.tree.leaves(stats)} == {jnp.dtype("float32")}
        np.testing.assert_allclose(stats["mean"], np.mean(x, (0, 1, 2)), rtol=1e-5)


def three_hundred_steps(norm, variables, x):
    """Return the running statistics after 300 steps of training on one batch."""

    def step(_, stats):
        return norm.apply({**variables, "batch_stats": stats}, x, use_running_average=False, mutable=["batch_stats"])[
            1
        ]["batch_stats"]

    return jax.jit(lambda stats: jax.lax.fori_loop(0, 300, step, stats))(variables["batch_stats"])


@pytest.mark.usefixtures("promotion")
def test_running_statistics_of_older_weights_become_wider():
    x = jnp.asarray(features(2, 4, 3), jnp.float32)
    variables = Batch().init(jax.random.key(0), x, use_running_average=True)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    _, updates = Batch().apply(narrow, x, use_running_average=False, mutable=["batch_stats"])
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}


def test_scales_and_shifts_start_as_said():
    layer = StaticNorm(scale_init=nn.initializers.zeros_init(), bias_init=nn.initializers.constant(2.0))
    variables = layer.init(jax.random.key(0), None, jnp.ones((1, 2, C)), use_running_average=True)
    np.testing.assert_array_equal(variables["params"]["scale"], np.zeros(C))
    np.testing.assert_array_equal(variables["params"]["bias"], np.full(C, 2.0))


@pytest.mark.parametrize("layer", [StaticNorm, CrossTemporalDNR, CrossLayerDNR])
@pytest.mark.parametrize("statistics", ["clip", "token"])
def test_dtype_is_that_of_the_result(layer, statistics):
    norm = layer(base="ln", statistics=statistics, dtype=jnp.bfloat16)
    init = functools.partial(norm.init_with_output, use_running_average=True)
    (_, y), variables = jax.eval_shape(init, jax.random.key(0), None, jnp.ones((2, 4, 3, C), jnp.float32))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} <= {jnp.dtype("float32")}


def test_statistics_over_an_axis_are_those_of_all_devices(x64):
    layer, x = without_carry(CrossTemporalDNR), features(4, 4, 3)
    plain, norm = layer(param_dtype=jnp.float64), layer(param_dtype=jnp.float64, axis_name="batch")
    init = functools.partial(plain.init, use_running_average=False)
    variables = reference.variables_like(jax.eval_shape(init, jax.random.key(0), x), 1)

    def train(norm, x):
        return norm.apply(variables, x, use_running_average=False, mutable=["batch_stats", "moments"])

    expected = train(plain, x)
    y, updates = jax.pmap(functools.partial(train, norm), axis_name="batch")(x.reshape(2, 2, 4, 3, C))
    reference.assert_close(y.reshape(x.shape), expected[0])
    reference.assert_close(jax.tree.map(lambda leaf: leaf[1], updates["batch_stats"]), expected[1]["batch_stats"])
    assert float(updates["moments"]["count"].sum()) == float(expected[1]["moments"]["count"])
    reference.assert_close(train(norm, x), expected)  # where nothing is mapped there is one batch


def test_another_axis_is_named():
    norm = Batch(axis_name="data", use_running_average=False)
    x = jnp.ones((2, 2, 4, C), jnp.float32)
    variables = norm.init(jax.random.key(0), x[0])
    with pytest.raises(ValueError, match="axis_name: is 'data'; expected one of batch"):
        jax.pmap(lambda x: norm.apply(variables, x, mutable=["batch_stats"]), axis_name="batch")(x)


class ResidualBlock(nn.Module):
    """Calls its norm in the ways that Flax's ImageNet example does."""

    norm: object
    last: object

    @nn.compact
    def __call__(self, x):
        y = self.norm()(nn.Conv(C, (3, 3), use_bias=False)(x))
        y = self.last(nn.Conv(C, (3, 3), use_bias=False)(nn.relu(y)))
        return nn.relu(y + self.norm(name="norm_proj")(nn.Conv(C, (1, 1), name="conv_proj")(x)))


class Network(nn.Module):
    """A stem and a block, under the partial of Flax's ImageNet example."""

    layer: object
    zeros: bool = False

    @nn.compact
    def __call__(self, x, train: bool = True):
        norm = functools.partial(
            self.layer,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=jnp.float32,
            axis_name="batch",
        )

        def last(y):
            return (norm(scale_init=nn.initializers.zeros_init()) if self.zeros else norm())(y)

        return ResidualBlock(norm, last)(nn.relu(norm(name="bn_init")(nn.Conv(C, (3, 3), name="conv_init")(x))))


def test_flax_s_own_calls_are_taken():
    x = jnp.ones((2, 4, 6, 6, 3), jnp.float32)

    def variables_of(network):
        return jax.eval_shape(functools.partial(network.init, train=False), jax.random.key(0), x)

    static, dnr = variables_of(Network(Batch, zeros=True)), variables_of(Network(without_carry(CrossTemporalDNR)))
    assert "relay" in dnr["params"]["bn_init"]
    theirs = variables_of(Network(nn.BatchNorm, zeros=True))
    assert sorted(leaf.shape for leaf in jax.tree.leaves(theirs)) == sorted(
        leaf.shape for leaf in jax.tree.leaves(static)
    )
    with pytest.raises(TypeError, match="CrossTemporalDNR takes no scale_init: .*zeros would leave relays without"):
        variables_of(Network(without_carry(CrossTemporalDNR), zeros=True))
    network = Network(without_carry(CrossTemporalDNR))
    precise = jax.eval_shape(lambda v: precise_statistics(network, v, [x]), dnr)
    assert jax.tree.map(jnp.shape, precise) == jax.tree.map(jnp.shape, dict(dnr))


def test_the_mode_may_be_given_by_position():
    x = jnp.ones((2, 4, C), jnp.float32)
    layer = Batch()
    variables = layer.init(jax.random.key(0), x, True)
    np.testing.assert_array_equal(layer.apply(variables, x, True), layer.apply(variables, x, use_running_average=True))
