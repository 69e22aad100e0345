"""Relay cells: one step, many steps, and what a new cell looks like."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dnr_jax.dnr import RelayCell
from dnr_jax.dnr.relay import RELAYS, Bottleneck
from tests.dnr import reference

pytestmark = pytest.mark.compat

FEATURES = 6


def build(depth: int = 1, reduction: int = 2, seed: int = 0, **fields):
    """Return a float64 cell and its variables."""
    if fields.get("relay") == "fc":  # which has no bottleneck
        reduction = RelayCell.reduction
    cell = RelayCell(FEATURES, reduction, depth, jnp.float64, **fields)
    zeros = RelayCell(FEATURES, depth=depth).initialize_carry((2,), jnp.float64)
    template = jax.eval_shape(cell.init, jax.random.key(0), zeros, jnp.zeros((2, FEATURES)))
    return cell, reference.variables_like(template, seed)


def zeros(*shape: int):
    """The state of a cell of one layer."""
    return ((jnp.zeros(shape), jnp.zeros(shape)),)


def descriptors(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(*shape, FEATURES)))


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(
    ("relay", "reduction"),
    [(relay, reduction) for relay in RELAYS for reduction in (1, 4) if relay != "fc"] + [("fc", 4)],
)
def test_steps_are_the_equations(x64, depth, reduction, relay):
    cell, variables = build(depth, reduction, relay=relay)
    carry, state = cell.initialize_carry((2,), jnp.float64), reference.start(variables["params"], 2, FEATURES)
    for x in descriptors(3, 2):
        carry, (scale, shift) = cell.apply(variables, carry, x)
        state, expected_scale, expected_shift = reference.cell(variables["params"], state, x, relay)
        reference.assert_close((carry, scale, shift), (tuple(state), expected_scale, expected_shift))


@pytest.mark.parametrize("relay", RELAYS)
@pytest.mark.parametrize(("depth", "inner", "reverse"), [(1, (), False), (2, (3,), False), (2, (), True)])
def test_unrolling_is_a_loop_of_calls(x64, relay, depth, inner, reverse):
    cell, variables = build(depth, relay=relay)
    xs = descriptors(2, 4, *inner)
    carry = start = jax.tree.map(lambda zero: zero + 0.3, cell.initialize_carry((2, *inner), jnp.float64))
    outputs = {}
    for g in (3, 2, 1, 0) if reverse else range(4):
        carry, outputs[g] = cell.apply(variables, carry, xs[:, g])
    scale, shift = (jnp.stack([outputs[g][i] for g in range(4)], 1) for i in range(2))
    found = cell.apply(variables, start, xs, method="unroll", reverse=reverse)
    reference.assert_close(found, (carry, (scale, shift)))


def test_without_a_relay_there_is_no_loop_and_no_memory(x64):
    cell, variables = build(2, relay="none")
    xs, start = descriptors(2, 4), cell.initialize_carry((2,), jnp.float64)
    unroll = functools.partial(cell.apply, method="unroll")
    assert "scan" not in str(jax.make_jaxpr(unroll)(variables, start, xs))
    outputs = [unroll(variables, jax.tree.map(lambda v, s=s: v + s, start), xs) for s in (0.0, 1.0)]
    reference.assert_close(*outputs)
    assert "hidden" not in variables["params"]["layer_0"]


def test_a_learned_start_begins_at_zero_and_learns(x64):
    cell, variables = build(2, initial_state="learned")
    zeros = RelayCell(FEATURES, depth=2).initialize_carry((2,), jnp.float64)
    fresh = cell.init(jax.random.key(0), zeros, jnp.zeros((2, FEATURES)))
    assert fresh["params"]["initial_state"].shape == (2, 2, FEATURES)
    assert not fresh["params"]["initial_state"].any()

    def shift(variables):
        carry = cell.apply(variables, (2,), jnp.float64, method="initialize_carry")
        assert [[leaf.shape for leaf in state] for state in carry] == [[(2, FEATURES)] * 2] * 2
        return jnp.sum(cell.apply(variables, carry, descriptors(2))[1][1])

    assert (jax.grad(shift)(variables)["params"]["initial_state"] != 0).any((1, 2)).all()


def test_a_gain_multiplies_the_scale_and_nothing_that_is_relayed(x64):
    plain, variables = build(2)
    cell, _ = build(2, gain=4.0)
    xs, start = descriptors(2, 3), cell.initialize_carry((2,), jnp.float64)
    carry, (scale, shift) = plain.apply(variables, start, xs, method="unroll")
    found = cell.apply(variables, start, xs, method="unroll")
    reference.assert_close(found, (carry, (4.0 * scale, shift)))
    carry, (scale, shift) = plain.apply(variables, start, xs[:, 0])
    reference.assert_close(cell.apply(variables, start, xs[:, 0]), (carry, (4.0 * scale, shift)))


@pytest.mark.parametrize(("relay", "gain"), [("lstm", 4.0), ("none", 4.0), ("se", 2.0), ("fc", 2.0)])
def test_a_gain_lets_the_scales_of_a_new_cell_start_near_1(relay, gain):
    cell = RelayCell(64, relay=relay, gain=gain)
    xs = jax.random.normal(jax.random.key(1), (16, 64))
    start = cell.initialize_carry((16,))
    (_, (scale, _)), _ = cell.init_with_output(jax.random.key(0), start, xs)
    assert abs(float(scale.mean()) - 1) < 0.1


def test_gates_are_handed_out_after_their_activations(x64):
    cell, variables = build()
    xs, start = descriptors(2, 3), cell.initialize_carry((2,), jnp.float64)
    (_, (scale, shift)), found = cell.apply(variables, start, xs, method="unroll", mutable=["intermediates"])
    (gates,) = found["intermediates"]["layer_0"]["gates"]
    before = jnp.concatenate([jnp.zeros_like(shift[:, :1]), shift[:, :-1]], axis=1)
    np.testing.assert_allclose(shift, gates["forget"] * before + gates["input"] * gates["candidate"], rtol=1e-12)
    np.testing.assert_allclose(scale, gates["output"] * jax.nn.sigmoid(shift), rtol=1e-12)


def test_unrolling_and_call_share_their_parameters():
    cell = RelayCell(FEATURES, depth=2)
    start, key = cell.initialize_carry((2,)), jax.random.key(0)
    called = jax.eval_shape(cell.init, key, start, jnp.zeros((2, FEATURES)))
    relayed = jax.eval_shape(functools.partial(cell.init, method="unroll"), key, start, jnp.zeros((2, 3, FEATURES)))
    assert called == relayed


def test_carry_is_one_zero_state_for_each_layer():
    carry = RelayCell(FEATURES, depth=2).initialize_carry((4, 3), jnp.bfloat16)
    assert [(h.shape, c.shape, h.dtype, c.dtype) for h, c in carry] == [
        ((4, 3, FEATURES), (4, 3, FEATURES), jnp.float32, jnp.float32)
    ] * 2
    assert not any(leaf.any() for leaf in jax.tree.leaves(carry))


@pytest.mark.parametrize("relay", RELAYS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float64], ids=lambda dtype: dtype.__name__)
def test_a_scan_hands_on_the_states_of_narrow_descriptors(x64, dtype, relay):
    """States have one dtype from the start on, float32 or that of wider parameters, and unrolling has the same."""
    start = RelayCell.initial_state if relay == "none" else "learned"
    cell = RelayCell(FEATURES, relay=relay, param_dtype=dtype, initial_state=start)

    def states(key, xs):
        variables = cell.init(key, zeros(2, FEATURES), xs[0])
        first = cell.apply(variables, (2,), xs.dtype, method="initialize_carry")
        scanned = jax.lax.scan(functools.partial(cell.apply, variables), first, xs)
        return first, scanned, cell.apply(variables, first, jnp.moveaxis(xs, 0, 1), method="unroll")

    with jax.numpy_dtype_promotion("standard"):
        found = jax.eval_shape(states, jax.random.key(0), descriptors(3, 2).astype(jnp.bfloat16))
    expected = jnp.float64 if dtype == jnp.float64 else jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(expected)}


@pytest.mark.parametrize("relay", ["lstm", "none"])
@pytest.mark.parametrize("shape", [(2, 0, FEATURES), (2, FEATURES), (FEATURES,)])
def test_descriptors_without_a_step_are_refused(relay, shape):
    cell = RelayCell(FEATURES, relay=relay)
    with pytest.raises(ValueError, match=r"a step for each entry of the second axis .*, of which there is none in \("):
        jax.eval_shape(
            functools.partial(cell.init, method="unroll"), jax.random.key(0), zeros(2, FEATURES), jnp.ones(shape)
        )


def test_descriptors_of_whole_numbers_are_refused():
    with pytest.raises(TypeError, match="must be floating point, got int32"):
        jax.eval_shape(
            RelayCell(FEATURES).init, jax.random.key(0), zeros(2, FEATURES), jnp.ones((2, FEATURES), "int32")
        )


@pytest.mark.parametrize(
    ("carry", "descriptor", "message"),
    [
        (zeros(1, FEATURES), (1, FEATURES), r"expected a pair \(h, c\) of \[1, 6\] for the 2 layers of the cell, got"),
        (zeros(3, FEATURES) * 2, (1, FEATURES), r"of \[1, 6\] .*, got \(\(\(3, 6\), \(3, 6\)\), "),
        (zeros(1, 4) * 2, (1, FEATURES), r"of \[1, 6\] .*, got \(\(\(1, 4\)"),
        (jnp.zeros((1, FEATURES)), (1, FEATURES), r"got \(1, 6\)"),
        (None, (1, FEATURES), "got None"),
        (zeros(1, FEATURES) * 2, (1, 4), r"the relay cell has 6 channels, and what it is given has 4: \(1, "),
    ],
)
def test_what_is_no_carry_or_descriptor_of_the_cell_is_refused(carry, descriptor, message):
    cell = RelayCell(FEATURES, depth=2)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(cell.init, jax.random.key(0), carry, jnp.zeros(descriptor))
    with pytest.raises(ValueError, match=message):
        unroll = functools.partial(cell.init, method="unroll")
        jax.eval_shape(unroll, jax.random.key(0), carry, jnp.zeros((descriptor[0], 5, *descriptor[1:])))


def test_scale_lies_between_0_and_1_and_shift_grows_by_at_most_1_a_step(x64):
    cell, variables = build()
    large = jax.tree.map(lambda leaf: 3 * leaf, variables)
    start = cell.initialize_carry((2,), jnp.float64)
    _, (scale, shift) = cell.apply(large, start, 5 * descriptors(2, 6), method="unroll")
    assert ((scale > 0) & (scale < 1)).all()
    assert (jnp.abs(shift) <= jnp.arange(1.0, 7.0)[None, :, None]).all()
    assert jnp.abs(shift).max() > 1  # the bound above is not idle


def test_each_layer_has_two_bottlenecks_with_biases():
    cell = RelayCell(8, reduction=4)
    variables = jax.eval_shape(cell.init, jax.random.key(0), cell.initialize_carry((1,)), jnp.zeros((1, 8)))
    linear = {
        "squeeze": {"kernel": (8, 2), "bias": (2,)},
        "expand": {"kernel": (2, 32), "bias": (32,)},
    }
    found = jax.tree.map(lambda leaf: leaf.shape, variables["params"])
    assert found == {"layer_0": {"input": linear, "hidden": linear}}


def test_bottleneck_is_at_least_one_wide():
    variables = jax.eval_shape(Bottleneck(2, reduction=4).init, jax.random.key(0), jnp.zeros((1, 2)))
    assert variables["params"]["squeeze"]["kernel"].shape == (2, 1)


def test_parameters_start_as_torchs_linear_layers_do():
    params = Bottleneck(256, reduction=4).init(jax.random.key(0), jnp.zeros((1, 256)))["params"]
    for layer, fan_in in (("squeeze", 256), ("expand", 64)):
        for name in ("kernel", "bias"):
            drawn = np.asarray(params[layer][name]).ravel() * np.sqrt(fan_in)
            assert stats.kstest(drawn, "uniform", args=(-1, 2)).pvalue > 1e-3, (layer, name)


def test_parameters_wider_than_the_descriptors(x64):
    cell = RelayCell(4, param_dtype=jnp.float64)
    descriptors = jnp.ones((2, 3, 4), jnp.float32)
    with jax.numpy_dtype_promotion("standard"):
        carry = cell.initialize_carry((2,), descriptors.dtype)
        variables = cell.init(jax.random.key(0), carry, descriptors, method=cell.unroll)
        _, (scale, shift) = cell.apply(variables, carry, descriptors, method=cell.unroll)
    assert scale.dtype == shift.dtype == jnp.float64
