"""Normalisation layers against the literal reference, and the invariants that every one of them keeps."""

import copy
import dataclasses
import functools
import math
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr
from jax.sharding import NamedSharding, PartitionSpec

from dnr_jax.dnr import CrossLayerDNR, CrossTemporalDNR, RelayCell, StaticNorm, without_carry
from tests.dnr import reference
from tests.dnr.reference import jit
from tests.dnr.settings import C, features

pytestmark = pytest.mark.compat


def variables_of(layer: nn.Module, x: jax.Array, seed: int = 1):
    """Return random variables of a layer, as double as the features."""
    init = functools.partial(layer.init, use_running_average=True)
    return reference.variables_like(jax.eval_shape(init, jax.random.key(0), None, x), seed)


def train(layer: nn.Module, variables, x: jax.Array, carry=None):
    """Return ``((carry, y), running statistics)``."""
    out, updates = layer.apply(variables, carry, x, use_running_average=False, mutable=["batch_stats"])
    return out, updates["batch_stats"]


def evaluate(layer: nn.Module, variables, x: jax.Array, carry=None):
    """Return ``(carry, y)``."""
    return layer.apply(variables, carry, x, use_running_average=True)


jit_train = jit(train, static_argnums=0)
jit_evaluate = jit(evaluate, static_argnums=0)


def test_cross_layer_without_a_carry_starts_from_zeros(x64):
    layer = make("cl", param_dtype=jnp.float64)
    x = features(2, 1, 3, 2)
    variables = variables_of(layer, x)
    zeros = (layer.cell.initialize_carry((2,), jnp.float64),)
    reference.assert_close(jit_evaluate(layer, variables, x), jit_evaluate(layer, variables, x, zeros))


@pytest.mark.parametrize("relay_distance", [1, 2])
@pytest.mark.parametrize("initial_state", ["zeros", "learned"])
def test_cross_layer_relays_the_channels_that_both_layers_have(x64, relay_distance, initial_state):
    """Layers of 4, 6, 2 and 5 channels, each with a cell of its own."""
    layer = CrossLayerDNR(relay_distance=relay_distance, initial_state=initial_state, param_dtype=jnp.float64)
    clips = [features(2, 1, 2, seed=c)[..., :1] * jnp.linspace(0.5, 2.0, c)[None, None, None] for c in (4, 6, 2, 5)]
    variables = [variables_of(layer, x, seed=i) for i, x in enumerate(clips)]

    def ours(variables):
        carry, found = None, []
        for own, x in zip(variables, clips, strict=True):
            carry, y = evaluate(layer, own, x, carry)
            found.append(y)
        return found

    def literal(variables):
        states, found = [], []
        for own, x in zip(variables, clips, strict=True):
            states, scale, shift = reference.cross_layer(
                own["params"]["relay"], states, x, relay_distance=relay_distance
            )
            standardized, _ = reference.standardize({}, own["batch_stats"], x, train=False)
            found.append(reference.transform(standardized, [scale] * x.shape[1], [shift] * x.shape[1]))
        return found

    reference.assert_close(jit(ours)(variables), jit(literal)(variables))


@pytest.mark.parametrize("kind", ["bn", "ct-group"])
def test_carry_of_other_layers_is_handed_on_untouched(x64, kind):
    layer = make(kind, param_dtype=jnp.float64)
    carry, x = object(), features(1, 4, 2)

    def check(variables):
        assert evaluate(layer, variables, x, carry)[0] is carry
        assert train(layer, variables, x, carry)[0][0] is carry

    jax.eval_shape(check, variables_of(layer, x))


class TestGroups:
    """How many groups a clip is cut into."""

    @pytest.mark.parametrize(
        ("fields", "num_frames", "groups"),
        [
            ({}, 8, 2),
            ({}, 4, 1),
            ({}, 3, 1),
            ({}, 1, 1),
            ({"relay_distance": 1}, 5, 5),
            ({"num_groups": 4}, 8, 4),
        ],
    )
    def test_count(self, fields, num_frames, groups):
        assert CrossTemporalDNR(**fields).groups(num_frames) == groups

    @pytest.mark.parametrize(
        ("fields", "num_frames", "message"),
        [
            ({}, 6, "relay_distance=4 does not divide the clip of 6 frames: choose a divisor"),
            ({"num_groups": 4}, 6, "6 frames cannot be cut into 4 equal groups: choose"),
            ({"num_groups": 2}, 1, "1 frames cannot be cut into 2 equal groups: choose"),
        ],
    )
    def test_frames_that_do_not_divide_are_named(self, fields, num_frames, message):
        layer = CrossTemporalDNR(**fields)
        with pytest.raises(ValueError, match=message):
            layer.init(jax.random.key(0), None, features(1, num_frames, 2), use_running_average=True)


def make(kind: str, **fields) -> nn.Module:
    """Return a layer of each kind in the table of invariants."""
    if kind == "bn":
        return StaticNorm(**fields)
    if kind == "cl":
        return CrossLayerDNR(cell=RelayCell(C, 1, param_dtype=fields.get("param_dtype", jnp.float32)), **fields)
    settings = {"ct-group": {}, "ct-frame": {"granularity": "frame"}, "ct-deep": {"depth": 2, "statistics": "clip"}}
    return CrossTemporalDNR(num_groups=2, reduction=1, **settings[kind], **fields)


@functools.partial(jit, static_argnums=0)
@functools.partial(jax.value_and_grad, argnums=(1, 2), has_aux=True)
def loss(layer, params, x, stats, carry=None):
    """A function of the training output that is linear with random weights, and the new statistics."""
    (_, y), stats = train(layer, {"params": params, "batch_stats": stats}, x, carry)
    return jnp.sum(y * features(*y.shape[:-1], seed=5)), stats


@pytest.mark.parametrize("kind", ["bn", "cl", "ct-group", "ct-frame", "ct-deep"])
class TestInvariants:
    """What holds for every layer."""

    @pytest.fixture
    def layer(self, kind):
        return make(kind, param_dtype=jnp.float64)

    @pytest.fixture
    def x(self, x64):
        return features(8, 4, 3, 2)

    @pytest.fixture
    def variables(self, layer, x):
        return variables_of(layer, x)

    def test_compilation_changes_nothing(self, layer, variables, x):
        reference.assert_close(jit_train(layer, variables, x), train(layer, variables, x))

    @pytest.mark.parametrize("clips", [0, 2])
    def test_eight_devices_equal_one(self, layer, variables, x, clips):
        layer = layer.copy(clips_per_statistics=clips)
        mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
        copied = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
        found = jit_train(layer, copied, spread)
        assert len(found[0][1].sharding.device_set) == 8
        reference.assert_close(jax.device_get(found), jax.device_get(jit_train(layer, variables, x)))

    def test_training_moves_the_statistics_and_evaluation_does_not(self, layer, variables, x):
        _, updates = layer.apply(variables, None, x, use_running_average=True, mutable=["batch_stats"])
        jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])
        _, stats = jit_train(layer, variables, x)
        moved = jax.tree.map(lambda new, old: (new != old).all(), stats, variables["batch_stats"])
        assert all(jax.tree.leaves(moved))

    def test_initialisation_leaves_the_statistics_at_0_and_1(self, layer, x):
        stats = jit(functools.partial(layer.init, use_running_average=False))(jax.random.key(0), None, x)["batch_stats"]
        assert (stats["mean"] == 0).all()
        assert (stats["var"] == 1).all()

    def test_a_clip_is_evaluated_alone_as_among_others(self, layer, variables, x):
        alone, among = jit_evaluate(layer, variables, x[2:3]), jit_evaluate(layer, variables, x)
        reference.assert_close(alone[1], among[1][2:3])

    def test_a_single_pixel_trains(self, layer, variables, x):
        if isinstance(layer, CrossTemporalDNR):
            layer = layer.copy(num_groups=0)
        (_, y), stats = jit_train(layer, variables, x[:1, :1, :1, :1])
        assert y.shape == (1, 1, 1, 1, C)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((y, stats)))

    def test_every_parameter_learns(self, layer, variables, x):
        relayed = features(2, 8, seed=3)  # from an earlier layer; all but CrossLayerDNR pass it by
        _, grads = loss(layer, variables["params"], x, variables["batch_stats"], (((relayed[0], relayed[1]),),))
        for path, grad in jax.tree_util.tree_leaves_with_path(grads):
            assert jnp.isfinite(grad).all() and jnp.any(grad != 0), jax.tree_util.keystr(path)

    def test_vmap_is_a_loop(self, layer, variables, x):
        xs = jnp.stack([x[:4], x[4:]])
        looped = [jit_train(layer, variables, x) for x in xs]
        found = jit(jax.vmap(functools.partial(train, layer, variables)))(xs)
        reference.assert_close(found, jax.tree.map(lambda *parts: jnp.stack(parts), *looped))

    def test_remat_changes_nothing(self, layer, variables, x):
        layer = layer.copy(use_running_average=False)
        fields = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
        again = nn.remat(type(layer))(**fields)

        def values(layer, params):
            def forward(params):
                (_, y), updates = layer.apply(variables | {"params": params}, None, x, mutable=["batch_stats"])
                return jnp.sum(y * features(*y.shape[:-1], seed=5)), updates["batch_stats"]

            return jax.value_and_grad(forward, has_aux=True)(params)

        reference.assert_close(*(jit(functools.partial(values, norm))(variables["params"]) for norm in (again, layer)))

    @pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
    def test_features_keep_their_dtype_and_state_stays_wide(self, kind, variables, x, dtype):
        layer = make(kind)
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), variables)
        x = x.astype(dtype)
        (carry, y), stats = jit_train(layer, variables, x)
        (wide_carry, wide_y), wide_stats = jit_train(layer, variables, x.astype(jnp.float32))
        assert (y.dtype, wide_y.dtype) == (dtype, jnp.float32)
        assert {leaf.dtype for leaf in jax.tree.leaves((carry, stats))} == {jnp.dtype(jnp.float32)}
        # All arithmetic is in float32, but for its order the same; the output is rounded once, by half a unit.
        order = {"rtol": 1e-5, "atol": 1e-6}
        jax.tree.map(functools.partial(np.testing.assert_allclose, **order), (carry, stats), (wide_carry, wide_stats))
        rounding = float(jnp.finfo(dtype).eps) / 2
        np.testing.assert_allclose(y.astype(jnp.float32), wide_y, rtol=rounding * 1.01, atol=order["atol"])

    def test_integer_features_are_refused(self, kind):
        with pytest.raises(TypeError, match="got uint8"):
            make(kind).init(jax.random.key(0), None, jnp.ones((1, 4, 2, 2, C), jnp.uint8), use_running_average=True)

    def test_clips_that_cannot_share_statistics_are_refused(self, layer, variables, x):
        with pytest.raises(ValueError, match="clips_per_statistics=3 does not divide the batch of 8 clips"):
            train(layer.copy(clips_per_statistics=3), variables, x)

    def test_the_mode_must_be_said_once(self, layer, variables, x):
        with pytest.raises(ValueError, match="use_running_average"):
            layer.apply(variables, None, x)


@pytest.mark.parametrize("granularity", ["group", "frame"])
def test_later_groups_do_not_change_earlier_ones(x64, granularity):
    layer = CrossTemporalDNR(relay_distance=2, granularity=granularity, reduction=1, param_dtype=jnp.float64)
    x = features(2, 8, 3, 2)
    variables = variables_of(layer, x)
    changed = jit_evaluate(layer, variables, x.at[:, 4:6].add(1.0))[1]
    before = jit_evaluate(layer, variables, x)[1]
    np.testing.assert_array_equal(changed[:, :4], before[:, :4])
    assert (changed[:, 6:] != before[:, 6:]).all()  # the relay reaches the last group


def test_frames_relay_along_interleaved_chains(x64):
    layer = CrossTemporalDNR(relay_distance=2, granularity="frame", reduction=1, param_dtype=jnp.float64)
    x = features(2, 8, 3, 2)
    variables = variables_of(layer, x)
    changed = jit_evaluate(layer, variables, x.at[:, 2].add(1.0))[1] != jit_evaluate(layer, variables, x)[1]
    assert changed.all((0, 2, 3, 4)).tolist() == [False, False, True, False, True, False, True, False]
    assert changed.any((0, 2, 3, 4)).tolist() == changed.all((0, 2, 3, 4)).tolist()


def equations(jaxpr):
    """All equations of a program that compute something, those of inner programs included."""
    for equation in jaxpr.eqns:
        if equation.outvars:
            yield equation
        for parameter in jax.tree.leaves(equation.params):
            if isinstance(parameter, ClosedJaxpr):
                yield from equations(parameter.jaxpr)


def named(jaxpr, name: str) -> list:
    return [equation for equation in equations(jaxpr) if equation.primitive.name == name]


class TestProgram:
    """The traced program does no more than the recurrence asks for."""

    SPATIAL = (7, 11)  # sizes that no other dimension has

    def trace(self, layer: nn.Module):
        x = jax.ShapeDtypeStruct((2, 8, *self.SPATIAL, C), jnp.float32)
        init = functools.partial(layer.init, use_running_average=True)
        variables = jax.eval_shape(init, jax.random.key(0), None, x)
        return jax.make_jaxpr(functools.partial(train, layer))(variables, x).jaxpr

    @pytest.mark.parametrize("granularity", ["group", "frame"])
    @pytest.mark.parametrize("depth", [1, 2])
    def test_one_loop_for_each_layer_of_the_cell(self, granularity, depth):
        jaxpr = self.trace(CrossTemporalDNR(num_groups=4, granularity=granularity, depth=depth))
        loops = named(jaxpr, "scan")
        assert [loop.params["length"] for loop in loops] == [4] * depth
        assert not named(jaxpr, "while")
        for loop in loops:
            body = loop.params["jaxpr"].jaxpr
            assert len(named(body, "dot_general")) == 2  # the hidden half of the gates; the input half is outside
            sizes = {size for e in equations(body) for v in (*e.invars, *e.outvars) for size in v.aval.shape}
            assert sizes.isdisjoint((*self.SPATIAL, math.prod(self.SPATIAL)))

    @pytest.mark.parametrize("kind", ["bn", "cl"])
    def test_no_loop_without_a_recurrence_in_time(self, kind):
        jaxpr = self.trace(make(kind))
        assert not named(jaxpr, "scan")
        assert not named(jaxpr, "while")

    @pytest.mark.parametrize("kind", ["bn", "cl", "ct-group", "ct-frame"])
    def test_features_are_summed_twice_and_written_once(self, kind):
        jaxpr = self.trace(make(kind))
        sums = [e for e in named(jaxpr, "reduce_sum") if self.SPATIAL[0] in e.invars[0].aval.shape]
        assert len(sums) == 2  # x for statistics and descriptors alike, and its square
        arithmetic = ("add", "sub", "mul", "div", "square", "integer_pow", "max", "exp", "logistic", "tanh")
        full = [e.primitive.name for e in equations(jaxpr) if self.SPATIAL == e.outvars[0].aval.shape[2:4]]
        assert sorted(set(arithmetic) & set(full)) == ["add", "mul", "square"]
        assert [full.count(name) for name in ("add", "mul", "square")] == [1, 1, 1]


@pytest.mark.parametrize(("clips", "communicates"), [(0, True), (1, False)])
def test_clips_that_share_statistics_on_one_device_need_no_communication(x64, clips, communicates):
    layer = CrossTemporalDNR(num_groups=2, clips_per_statistics=clips, param_dtype=jnp.float64)
    x = features(8, 4, 3, 2)
    variables = variables_of(layer, x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    output = jit(lambda variables, x: train(layer, variables, x)[0][1])
    program = output.lower(variables, spread).compile().as_text()
    assert any(word in program for word in ("all-reduce", "all-gather", "all-to-all")) == communicates


class TestStreaming:
    """A long video, a piece at a time."""

    @pytest.mark.parametrize("granularity", ["group", pytest.param("frame", marks=pytest.mark.slow)])
    @pytest.mark.parametrize(("relay", "depth"), [("lstm", 2), ("se", 1), ("fc", 1)])
    def test_pieces_are_the_whole(self, x64, granularity, relay, depth):
        layer = CrossTemporalDNR(
            relay_distance=2, granularity=granularity, relay=relay, depth=depth, param_dtype=jnp.float64
        )
        video = features(2, 8, 3)
        variables = variables_of(layer, video)
        state, pieces = {}, []
        for piece in (video[:, :4], video[:, 4:6], video[:, 6:]):
            given = variables | state
            (_, y), state = layer.apply(given, None, piece, use_running_average=True, mutable=["relay_state"])
            pieces.append(y)
        assert set(state) == {"relay_state"}
        reference.assert_close(jnp.concatenate(pieces, axis=1), evaluate(layer, variables, video)[1])

    def test_a_state_may_be_given_without_being_replaced(self, x64):
        layer = CrossTemporalDNR(relay_distance=2, param_dtype=jnp.float64)
        video = features(2, 4, 3)
        variables = variables_of(layer, video)
        _, state = layer.apply(variables, None, video[:, :2], use_running_average=True, mutable=["relay_state"])
        rest = evaluate(layer, variables | state, video[:, 2:])[1]
        reference.assert_close(rest, evaluate(layer, variables, video)[1][:, 2:])

    def test_a_backward_relay_cannot_be_streamed(self):
        layer = CrossTemporalDNR(direction="bidirectional")
        x = jnp.ones((1, 4, 3, C), jnp.float32)
        variables = layer.init(jax.random.key(0), None, x, use_running_average=True)
        with pytest.raises(ValueError, match="a bidirectional relay cannot be streamed"):
            layer.apply(variables, None, x, use_running_average=True, mutable=["relay_state"])


@pytest.mark.parametrize(
    "layer", [StaticNorm(), CrossTemporalDNR(), CrossLayerDNR(), CrossTemporalDNR(direction="bidirectional")]
)
def test_initialisation_creates_parameters_and_statistics_only(layer):
    x = jnp.ones((1, 4, 3, C), jnp.float32)
    variables = layer.init(jax.random.key(0), None, x, use_running_average=False)
    assert set(variables) == {"params", "batch_stats"}


@pytest.mark.parametrize("kind", ["cl", "ct-group", "ct-frame"])
def test_scale_and_shift_are_handed_out(x64, kind):
    layer = make(kind, param_dtype=jnp.float64)
    x = features(2, 4, 3)
    variables = variables_of(layer, x)
    (_, y), found = layer.apply(variables, None, x, use_running_average=True, mutable=["intermediates"])
    (scale,), (shift,) = found["intermediates"]["scale"], found["intermediates"]["shift"]
    assert scale.shape == shift.shape == (2, {"cl": 1, "ct-group": 2, "ct-frame": 4}[kind], C)
    stats = variables["batch_stats"]
    standardized = (x - stats["mean"][None, None, None]) / jnp.sqrt(stats["var"] + 1e-5)[None, None, None]
    scale, shift = (jnp.repeat(v, 4 // v.shape[1], axis=1)[:, :, None] for v in (scale, shift))
    reference.assert_close(y, standardized * scale + shift)


class TestChannelGroups:
    """How many channels group normalisation puts together."""

    @pytest.mark.parametrize(
        ("fields", "channels", "size"),
        [
            ({}, 64, 2),
            ({}, 8, 1),
            ({}, 208, 13),  # 16 groups: the greatest common divisor of 32 and 208
            ({"channels_per_group": 16}, 64, 16),
            ({"channels_per_group": 16}, 8, 8),
            ({"groups": 2}, 6, 3),
        ],
    )
    def test_size(self, x64, fields, channels, size):
        layer = StaticNorm(base="gn", param_dtype=jnp.float64, epsilon=1e-12, **fields)
        x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 50, channels)))
        y = layer.init_with_output(jax.random.key(0), None, x, use_running_average=False)[0][1]
        groups = np.asarray(y).reshape(50, channels // size, size)
        np.testing.assert_allclose(groups.mean((0, 2)), 0, atol=1e-9)
        np.testing.assert_allclose(groups.std((0, 2)), 1, rtol=1e-9)
        if size > 1:
            assert np.abs(groups.mean(0)).max() > 1e-3  # a smaller group would have its own mean


class TestWithoutCarry:
    """Layers for networks that hand on features alone."""

    @pytest.mark.parametrize("layer", [CrossTemporalDNR, StaticNorm])
    def test_it_is_the_layer(self, x64, layer):
        x = features(2, 4, 3)
        plain, carried = without_carry(layer)(param_dtype=jnp.float64), layer(param_dtype=jnp.float64)
        variables = variables_of(carried, x)
        y, updates = plain.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
        (_, expected), stats = train(carried, variables, x)
        reference.assert_close((y, updates["batch_stats"]), (expected, stats))
        assert type(plain).__name__ == layer.__name__

    def test_a_layer_that_needs_its_carry_is_refused(self):
        with pytest.raises(TypeError, match="CrossLayerDNR relays through its carry"):
            without_carry(CrossLayerDNR)

    @pytest.mark.parametrize("layer", [CrossTemporalDNR, StaticNorm])
    def test_it_can_be_pickled_and_copied(self, layer):
        norm = without_carry(layer)(momentum=0.8)
        for again in (pickle.loads(pickle.dumps(norm)), copy.deepcopy(norm)):
            assert type(again) is type(norm) and again == norm
            assert again.base.momentum == 0.8
        assert pickle.loads(pickle.dumps(layer())) == layer()


class ScannedBlock(nn.Module):
    """A block under ``nn.scan`` that is handed the stage's cell."""

    @nn.compact
    def __call__(self, state, cell):
        carry, x = state
        carry, y = CrossLayerDNR(cell=cell, param_dtype=jnp.float64, name="norm")(carry, x, use_running_average=True)
        return (carry, jnp.tanh(y) + x), None


class Depth(nn.Module):
    """Three blocks that share a cell, under a scan or in a loop."""

    scanned: bool
    initial_state: str = "zeros"
    remat: bool = False

    @nn.compact
    def __call__(self, x):
        cell = RelayCell(C, param_dtype=jnp.float64, initial_state=self.initial_state, name="cell")
        state = (cell.initialize_carry((len(x),), x.dtype),), x
        if not self.scanned:
            for i in range(3):
                state, _ = ScannedBlock(name=f"block{i}")(state, cell)
            return state[1]
        axes = {"params": 0, "batch_stats": 0}
        block = nn.remat(ScannedBlock) if self.remat else ScannedBlock
        scan = nn.scan(block, axes, split_rngs={"params": True}, in_axes=nn.broadcast, length=3)
        return scan(name="blocks")(state, cell.shared())[0][1]


@pytest.mark.parametrize(
    ("initial_state", "remat"),
    [
        pytest.param("zeros", False, marks=pytest.mark.slow),
        pytest.param("learned", False, marks=pytest.mark.slow),
        ("learned", True),
    ],
)
def test_blocks_under_a_scan_share_a_cell_that_is_handed_to_them(x64, initial_state, remat):
    x = features(2, 4, 3)
    loop, scan = Depth(False, initial_state), Depth(True, initial_state, remat)
    variables = reference.variables_like(jax.eval_shape(loop.init, jax.random.key(0), x), 1)
    cell = variables["params"]["cell"]
    stats = [variables["batch_stats"][f"block{i}"] for i in range(3)]
    stacked = {
        "params": {"cell": cell},
        "batch_stats": {"blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *stats)},
    }
    made = jax.eval_shape(scan.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, stacked)  # the cell has no axis of blocks

    def run(model, variables, params):
        return jnp.sum(jnp.sin(model.apply(variables | {"params": {"cell": params}}, x)))

    expected, gradients = jax.value_and_grad(functools.partial(run, loop, variables))(cell)
    found = jax.value_and_grad(functools.partial(run, scan, stacked))(cell)
    reference.assert_close(found, (expected, gradients))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(gradients))


class WideCell(nn.Module):
    """A cell with a state of its own: more units than the features have channels, and a count of its steps."""

    units: int = 2 * C

    @nn.compact
    def __call__(self, state, descriptor):
        hidden, count = state
        hidden = jnp.tanh(nn.Dense(self.units)(jnp.concatenate([hidden, descriptor], -1)))
        scale, shift = jnp.split(nn.Dense(2 * C)(hidden), 2, -1)
        return (hidden, count + 1), (scale, shift)


class CountedCell(WideCell):
    """The same, which says how its state starts."""

    def initialize_carry(self, batch_shape, dtype):
        return jnp.zeros((*batch_shape, self.units), dtype), jnp.zeros((), dtype)


class TestForeignCells:
    """Cells that are not this package's say which signature is expected."""

    @pytest.mark.parametrize("cell", [WideCell(), CountedCell()], ids=lambda cell: type(cell).__name__)
    def test_a_state_that_has_not_the_width_of_the_features(self, cell):
        layer, x = CrossLayerDNR(cell=cell), jax.ShapeDtypeStruct((2, 4, C), jnp.float32)
        start = CountedCell().initialize_carry((2,), jnp.float32)
        init = functools.partial(layer.init_with_output, use_running_average=True)
        ((state,), y), _ = jax.eval_shape(init, jax.random.key(0), (start,), x)
        assert y.shape == x.shape
        assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, start)

    def test_a_state_that_is_made_in_another_way(self):
        layer, x = CrossLayerDNR(cell=nn.GRUCell(C)), jnp.ones((2, 4, C), jnp.float32)
        with pytest.raises(TypeError, match="initialize_carry of GRUCell .* expected a RelayCell, or what maps"):
            layer.init(jax.random.key(0), None, x, use_running_average=True)

    def test_a_step_that_returns_no_scale_and_shift(self):
        """As many clips as a pair has entries: the array of hidden states could be taken for scale and shift."""
        layer, x = CrossLayerDNR(cell=nn.GRUCell(C)), jnp.ones((2, 4, C), jnp.float32)
        carry = (jnp.ones((2, C), jnp.float32),)
        with pytest.raises(TypeError, match=r"a GRUCell returns .*; expected a RelayCell, or what maps"):
            layer.init(jax.random.key(0), carry, x, use_running_average=True)


def test_a_scan_over_blocks_threads_the_relay(x64):
    """Three norms with a cell each, in a loop and as one scanned layer."""
    layer = CrossLayerDNR(param_dtype=jnp.float64, relay_distance=2)
    x = features(2, 4, 3)
    cell = RelayCell(C, param_dtype=jnp.float64)
    carry = (cell.initialize_carry((2,), jnp.float64),) * 2

    class Block(nn.Module):
        @nn.compact
        def __call__(self, state, _):
            norm = CrossLayerDNR(param_dtype=jnp.float64, relay_distance=2, name="norm")
            return norm(*state, use_running_average=True), None

    depth = nn.scan(Block, variable_axes={"params": 0, "batch_stats": 0}, split_rngs={"params": True}, length=3)()
    shapes = jax.eval_shape(depth.init, jax.random.key(0), (carry, x), None)
    variables = reference.variables_like(shapes, 1)
    found, _ = depth.apply(variables, (carry, x), None)
    for i in range(3):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], {name: tree["norm"] for name, tree in variables.items()})
        carry, x = layer.apply(own, carry, x, use_running_average=True)
    reference.assert_close(found, (carry, x))


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("mutable", [True, nn.DenyList("params")], ids=["True", "DenyList"])
def test_only_a_caller_that_names_the_state_streams(x64, mutable, direction):
    """A training loop with ``mutable=True`` hands on all that it is given, and its clips have nothing in common."""
    layer, x = CrossTemporalDNR(num_groups=2, direction=direction, param_dtype=jnp.float64), features(2, 4, 3)
    variables = variables_of(layer, x)
    (_, first), updates = layer.apply(variables, None, x, use_running_average=False, mutable=mutable)
    assert "relay_state" not in updates
    (_, second), _ = layer.apply(variables | updates, None, x, use_running_average=False, mutable=mutable)
    np.testing.assert_array_equal(first, second)


def test_a_state_that_is_given_is_used_and_left_whatever_is_mutable(x64):
    layer, x = CrossTemporalDNR(num_groups=2, param_dtype=jnp.float64), features(2, 4, 3)
    variables = variables_of(layer, x)
    _, state = layer.apply(variables, None, x, use_running_average=True, mutable=["relay_state"])
    expected = layer.apply(variables | state, None, x, use_running_average=True, mutable=["relay_state"])
    (_, y), updates = layer.apply(variables | state, None, x, use_running_average=True, mutable=True)
    reference.assert_close((y, updates["relay_state"]), (expected[0][1], expected[1]["relay_state"]))
