"""NNX layers: what NNX does with them, and that they take and refuse what the Linen layers do."""

import dataclasses
import functools
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dnr_jax
import dnr_jax.nnx
from tests.dnr.reference import jit
from tests.dnr.settings import C, features
from tests.nnx.as_linen import AsLinen

KINDS = ("StaticNorm", "CrossTemporalDNR", "CrossLayerDNR", "InstanceLevelMetaNorm", "AttentiveNorm")


def build(kind, *args, **fields):
    return getattr(dnr_jax.nnx, kind)(C, *args, **fields, rngs=nnx.Rngs(0))


def clips(*shape, seed=0):
    return features(*shape, seed=seed).astype(jnp.float32)


def refusal(build):
    with pytest.raises((TypeError, ValueError)) as error:
        build()
    return type(error.value), str(error.value)


@pytest.mark.parametrize("kind", [*KINDS, "RelayCell"])
def test_fields_are_those_of_the_linen_layer(kind):
    def fields(cls):
        return {f.name: (f.default, f.default_factory) for f in dataclasses.fields(cls) if f.name not in IGNORED}

    IGNORED = ("parent", "name", "num_features", "use_running_average", "streaming")
    ours, linen = fields(getattr(dnr_jax.nnx, kind)), fields(getattr(dnr_jax, kind))
    assert ours == linen and list(ours) == list(linen)


@pytest.mark.parametrize(
    "fields",
    [
        {"relay_distance": -1},
        {"momentum": 2.0},
        {"base": "gn", "momentum": 0.5},
        {"base": "batch"},
        {"axis": 1},
        {"scale_init": jnp.zeros},
        {"relay": "lst"},
        {"relay": "fc", "reduction": 2},
        {"base": "gn", "axis_name": "batch"},
        {"dtype": "int8"},
    ],
    ids=lambda fields: " ".join(fields),
)
def test_refusals_are_those_of_the_linen_layer(fields):
    linen = refusal(lambda: dnr_jax.CrossTemporalDNR(**fields))
    assert refusal(lambda: build("CrossTemporalDNR", **fields)) == linen


def test_what_only_nnx_layers_refuse():
    with pytest.raises(ValueError, match="^StaticNorm: num_features: is 0; expected at least 1"):
        dnr_jax.nnx.StaticNorm(0, rngs=nnx.Rngs(0))
    layer, x = build("StaticNorm"), clips(2, 4, 3)
    with pytest.raises(ValueError, match="the layer has 8 channels, and what it is given has 4"):
        layer(None, x[..., :4])
    layer.use_running_average = None
    with pytest.raises(ValueError, match="use_running_average: is None; expected True or False"):
        layer(None, x)
    with pytest.raises(TypeError, match="CrossLayerDNR relays through its carry"):
        dnr_jax.nnx.without_carry(dnr_jax.nnx.CrossLayerDNR)
    bidirectional = build("CrossTemporalDNR", direction="bidirectional", streaming=True)
    with pytest.raises(ValueError, match="a bidirectional relay cannot be streamed"):
        bidirectional(None, x)
    cell = dnr_jax.nnx.RelayCell(C, relay="none", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="relay_distance: is 2, which needs a cell that relays"):
        build("CrossLayerDNR", cell=cell, relay_distance=2)


def test_cells_of_the_other_framework_are_refused():
    """Their parameters would be constants of the layer, which nobody trains or saves."""
    ours, linen = dnr_jax.nnx.RelayCell(C, rngs=nnx.Rngs(0)), dnr_jax.RelayCell(C)
    with pytest.raises(ValueError, match="cell: is a RelayCell of dnr_jax.nnx.relay, .* expected a module of Linen"):
        dnr_jax.CrossLayerDNR(cell=ours)
    with pytest.raises(ValueError, match="cell: is a RelayCell of dnr_jax.dnr.relay, .* expected a module of NNX"):
        build("CrossLayerDNR", cell=linen)


def test_the_mode_is_that_of_the_network():
    layer = build("StaticNorm")
    assert not layer.use_running_average
    layer.eval()
    x = clips(2, 4, 3)
    _, y = layer(None, x)
    assert not layer.mean[...].any()
    np.testing.assert_allclose(y, x / np.sqrt(1 + 1e-5), rtol=1e-6)
    layer(None, x, use_running_average=False)
    assert layer.mean[...].all()
    layer.train()
    before = layer.mean[...]
    layer(None, x)
    assert (layer.mean[...] != before).all()


def test_it_stands_where_batch_norm_stood():
    layer = dnr_jax.nnx.without_carry(dnr_jax.nnx.StaticNorm)(C, momentum=0.8, rngs=nnx.Rngs(0))
    theirs, x = nnx.BatchNorm(num_features=C, momentum=0.8, rngs=nnx.Rngs(0)), clips(2, 4, 3)
    np.testing.assert_allclose(layer(x), theirs(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.mean[...], theirs.mean[...], rtol=1e-5)
    assert type(layer.mean) is nnx.BatchStat and type(layer.scale) is nnx.Param
    with pytest.raises(TypeError, match="StaticNorm takes no mask"):
        layer(x, mask=x > 0)


def output(layer, x):
    return layer(None, x)[1]


def squares(layer, x):
    return jnp.sum(jnp.square(output(layer, x)))


def test_jit_grad_and_remat_update_statistics_and_agree():
    x, plain = clips(2, 4, 3), build("CrossTemporalDNR", relay_distance=2)
    again, found = nnx.clone(plain), []
    for layer, function in ((plain, squares), (again, nnx.remat(squares))):
        gradients = nnx.jit(nnx.grad(function))(layer, x)
        found.append((jax.tree.leaves(gradients), layer.mean[...]))
    assert all((leaf != 0).any() for leaf in found[0][0]) and found[0][1].all()
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), *found)


def test_split_and_merge_and_state():
    layer = build("CrossTemporalDNR")
    graph, params, stats = nnx.split(layer, nnx.Param, nnx.BatchStat)
    assert set(stats) == {"mean", "var"}
    assert set(params) == {"relay_cell"}
    merged, x = nnx.merge(graph, params, stats), clips(2, 4, 3)
    np.testing.assert_array_equal(output(merged, x), output(layer, x))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm = dnr_jax.nnx.CrossLayerDNR(C, rngs=rngs)

    def __call__(self, carry, x):
        carry, y = self.norm(carry, x)
        return carry, jnp.tanh(y) + x


@pytest.mark.slow
def test_a_scan_over_blocks_is_a_loop():
    """Three blocks with a norm each, whose arrays are stacked."""
    make = nnx.vmap(Block, in_axes=0, out_axes=0)
    blocks = nnx.split_rngs(splits=3)(make)(nnx.Rngs(0))
    x, zeros = clips(2, 2, 3), jnp.zeros((2, C))
    carry = (((zeros, zeros),),)
    graph, state = nnx.split(nnx.clone(blocks))

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def scan(state, block):
        return block(*state)

    _, found = scan((carry, x), blocks)
    means = []
    for i in range(3):
        block = nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], state))
        carry, x = block(carry, x)
        means.append(block.norm.mean[...])
    np.testing.assert_allclose(found, x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(blocks.norm.mean[...], jnp.stack(means), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["group", "frame"])
def test_pieces_of_a_video_are_the_whole(granularity):
    layer, video = build("CrossTemporalDNR", relay_distance=2, granularity=granularity, depth=2), clips(2, 8, 3)
    layer.eval()
    whole = output(layer, video)
    layer.set_attributes(streaming=True)
    for _ in range(2):
        pieces = [output(layer, piece) for piece in (video[:, :4], video[:, 4:6], video[:, 6:])]
        np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), whole, rtol=1e-5, atol=1e-5)
        nnx.pop(layer, dnr_jax.nnx.RelayStream)  # and once more from the beginning


class Network(nnx.Module):
    def __init__(self, rngs):
        self.before = dnr_jax.nnx.CrossLayerDNR(C, initial_state="learned", rngs=rngs)
        self.cell = dnr_jax.nnx.RelayCell(C, rngs=rngs)
        self.a, self.b = (dnr_jax.nnx.CrossLayerDNR(C, cell=self.cell, rngs=rngs) for _ in range(2))

    def __call__(self, x):
        _, x = self.before(None, x)
        carry, x = self.a(None, x)
        return self.b(carry, jnp.tanh(x))[1]


class LinenNetwork(nn.Module):
    @nn.compact
    def __call__(self, x):
        _, x = dnr_jax.CrossLayerDNR(initial_state="learned", name="before")(None, x, use_running_average=True)
        cell = dnr_jax.RelayCell(C, name="cell")
        carry, x = dnr_jax.CrossLayerDNR(cell=cell, name="a")(None, x, use_running_average=True)
        return dnr_jax.CrossLayerDNR(cell=cell, name="b")(carry, jnp.tanh(x), use_running_average=True)[1]


def test_weights_of_a_network_go_both_ways():
    network, x = Network(nnx.Rngs(0)), clips(2, 4, 3)
    network.eval()
    variables = dnr_jax.nnx.to_linen(network)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, jax.eval_shape(LinenNetwork().init, jax.random.key(0), x)
    )
    other = dnr_jax.nnx.from_linen(Network(nnx.Rngs(1)), variables)
    jax.tree.map(np.testing.assert_array_equal, dnr_jax.nnx.to_linen(other), variables)
    ours, linen = jit(lambda v, x: AsLinen(evaluated).apply(v, x)), jit(LinenNetwork().apply)
    np.testing.assert_array_equal(ours(variables, x), linen(variables, x))


def evaluated(rngs):
    network = Network(rngs)
    network.eval()
    return network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["params"].update(other=jnp.ones(3)), "params/other: is not in the module"),
        (lambda v: v["batch_stats"].pop("mean"), "batch_stats/mean: is missing"),
        (lambda v: v["params"].update(bias=jnp.ones(4)), r"params/bias: is float32 \(4,\); expected float32 \(8,\)"),
        (lambda v: v["params"].update(bias=np.ones(C)), r"params/bias: is float64 \(8,\); expected float32 \(8,\)"),
    ],
)
def test_weights_of_another_network_are_refused_and_replace_nothing(change, message):
    layer = build("StaticNorm")
    given = jax.tree.map(lambda leaf: leaf + 1, dnr_jax.nnx.to_linen(layer))
    change(given)
    with pytest.raises(ValueError, match=message):
        dnr_jax.nnx.from_linen(layer, given)
    np.testing.assert_array_equal(layer.scale[...], np.ones(C))


@pytest.mark.skipif(not hasattr(nnx, "capture"), reason="flax 0.11 has no nnx.capture")
def test_scale_shift_and_gates_are_captured():
    layer, x = build("CrossTemporalDNR", relay_distance=2), clips(2, 4, 3)
    _, found = nnx.capture(layer, nnx.Intermediate)(None, x)
    found = nnx.to_pure_dict(found)
    assert found["scale"][0].shape == found["shift"][0].shape == (2, 2, C)
    (gates,) = found["relay_cell"]["layer_0"]["gates"]
    assert {name: gate.shape for name, gate in gates.items()} == dict.fromkeys(
        ("input", "forget", "candidate", "output"), (2, 2, 1, C)
    )


@pytest.mark.slow
def test_parameters_of_a_cell_start_as_those_of_the_linen_cell():
    """Each within the bound of ``torch.nn.Linear``, and as near to it as a uniform draw comes."""
    for relay in ("lstm", "se", "fc", "none"):
        ours = dnr_jax.nnx.to_linen(dnr_jax.nnx.RelayCell(64, relay=relay, rngs=nnx.Rngs(0)))
        cell = dnr_jax.RelayCell(64, relay=relay)
        linen = cell.init(jax.random.key(0), cell.initialize_carry((1,)), jnp.zeros((1, 64)))
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(linen), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(jnp.abs(a).max(), jnp.abs(b).max(), rtol=0.3 if a.ndim == 1 else 0.05)


class Mixed(nnx.Module):
    """Norms of both packages, and a dropout."""

    def __init__(self, rngs):
        self.theirs = nnx.BatchNorm(C, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.relayed = dnr_jax.nnx.CrossTemporalDNR(C, rngs=rngs)
        self.static = dnr_jax.nnx.without_carry(dnr_jax.nnx.StaticNorm)(C, rngs=rngs)

    def __call__(self, x):
        return self.static(self.relayed(None, self.dropout(self.theirs(x)))[1])


@pytest.mark.compat
@pytest.mark.skipif(not hasattr(nnx, "view"), reason="flax 0.11 has no nnx.view")
def test_a_view_has_the_mode_that_it_is_given():
    network, x = Mixed(nnx.Rngs(0)), clips(2, 4, 3)
    viewed = nnx.view(network, deterministic=True, use_running_average=True)
    evaluated = nnx.clone(network)
    evaluated.eval()
    np.testing.assert_array_equal(viewed(x), evaluated(x))
    assert not viewed.relayed.mean[...].any() and not viewed.static.mean[...].any()  # nothing was updated
    assert not network.relayed.use_running_average  # what is viewed stays as it was
    trained = nnx.view(viewed, deterministic=True, use_running_average=False)
    trained(x)
    assert trained.relayed.mean[...].all() and trained.static.mean[...].all()


@pytest.mark.compat
@pytest.mark.skipif(not hasattr(nnx, "view"), reason="flax 0.11 has no nnx.view")
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_alone_can_be_viewed(kind):
    layer = build(kind)
    assert nnx.view(layer, use_running_average=True).use_running_average
    if kind == "CrossTemporalDNR":
        streaming = nnx.view(layer, streaming=True)
        assert streaming.streaming and not streaming.use_running_average and not layer.streaming
    with pytest.raises(ValueError, match="Unused keys"):
        nnx.view(layer, use_running_averages=True)


@pytest.mark.compat
def test_a_mode_that_is_not_given_stays():
    layer = build("CrossTemporalDNR", streaming=True)
    layer.eval()
    layer.set_view()
    assert layer.use_running_average and layer.streaming


@pytest.mark.compat
@pytest.mark.parametrize("kind", KINDS)
def test_running_statistics_are_wide_beside_narrow_parameters(kind):
    layer, x = build(kind, param_dtype=jnp.bfloat16), clips(2, 4, 3)
    with jax.numpy_dtype_promotion("standard"):
        layer(None, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(layer, nnx.BatchStat))} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param))} == {jnp.dtype("bfloat16")}


@pytest.mark.compat
def test_layers_without_a_carry_can_be_pickled():
    layer = dnr_jax.nnx.without_carry(dnr_jax.nnx.CrossTemporalDNR)(C, rngs=nnx.Rngs(0))
    again, x = pickle.loads(pickle.dumps(layer)), clips(2, 4, 3)
    assert type(again) is type(layer)
    np.testing.assert_array_equal(again(x), layer(x))
