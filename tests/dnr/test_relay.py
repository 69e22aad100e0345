"""Relay cells: one step, many steps, and what a new cell looks like."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dnr_jax.dnr import RelayCell
from dnr_jax.dnr.relay import Bottleneck
from tests.dnr import reference

FEATURES = 6


def build(depth: int = 1, reduction: int = 2, seed: int = 0):
    """Return a float64 cell and its parameters."""
    cell = RelayCell(FEATURES, reduction, depth, jnp.float64)
    start = cell.initialize_carry((2,), jnp.float64)
    template = jax.eval_shape(cell.init, jax.random.key(0), start, jnp.zeros((2, FEATURES)))
    return cell, reference.variables_like(template, seed)


def descriptors(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(*shape, FEATURES)))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("reduction", [1, 4])
def test_steps_are_the_equations(x64, depth, reduction):
    cell, variables = build(depth, reduction)
    carry, state = cell.initialize_carry((2,), jnp.float64), reference.zero_state(variables["params"], 2, FEATURES)
    for x in descriptors(3, 2):
        carry, (scale, shift) = cell.apply(variables, carry, x)
        state, expected_scale, expected_shift = reference.cell(variables["params"], state, x)
        reference.assert_close((carry, scale, shift), (tuple(state), expected_scale, expected_shift))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("inner", [(), (3,)])
def test_relay_is_a_loop_of_calls(x64, depth, inner):
    cell, variables = build(depth)
    xs = descriptors(2, 4, *inner)
    start = jax.tree.map(lambda zero: zero + 0.3, cell.initialize_carry((2, *inner), jnp.float64))
    carry, scales, shifts = start, [], []
    for g in range(4):
        carry, (scale, shift) = cell.apply(variables, carry, xs[:, g])
        scales.append(scale)
        shifts.append(shift)
    found = cell.apply(variables, start, xs, method="relay")
    reference.assert_close(found, (carry, (jnp.stack(scales, 1), jnp.stack(shifts, 1))))


def test_relay_and_call_share_their_parameters():
    cell = RelayCell(FEATURES, depth=2)
    start, key = cell.initialize_carry((2,)), jax.random.key(0)
    called = jax.eval_shape(cell.init, key, start, jnp.zeros((2, FEATURES)))
    relayed = jax.eval_shape(functools.partial(cell.init, method="relay"), key, start, jnp.zeros((2, 3, FEATURES)))
    assert called == relayed


def test_carry_is_one_zero_state_for_each_layer():
    carry = RelayCell(FEATURES, depth=2).initialize_carry((4, 3), jnp.bfloat16)
    assert [(h.shape, c.shape, h.dtype, c.dtype) for h, c in carry] == [
        ((4, 3, FEATURES), (4, 3, FEATURES), jnp.bfloat16, jnp.bfloat16)
    ] * 2
    assert not any(leaf.any() for leaf in jax.tree.leaves(carry))


def test_a_carry_of_another_depth_is_refused():
    cell = RelayCell(FEATURES, depth=2)
    with pytest.raises(ValueError, match="shorter"):
        cell.init(jax.random.key(0), cell.initialize_carry((1,))[:1], jnp.zeros((1, FEATURES)))


def test_scale_lies_between_0_and_1_and_shift_grows_by_at_most_1_a_step(x64):
    cell, variables = build()
    large = jax.tree.map(lambda leaf: 3 * leaf, variables)
    start = cell.initialize_carry((2,), jnp.float64)
    _, (scale, shift) = cell.apply(large, start, 5 * descriptors(2, 6), method="relay")
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


def test_relay_with_parameters_wider_than_the_descriptors(x64):
    cell = RelayCell(4, param_dtype=jnp.float64)
    descriptors = jnp.ones((2, 3, 4), jnp.float32)
    with jax.numpy_dtype_promotion("standard"):
        carry = cell.initialize_carry((2,), descriptors.dtype)
        variables = cell.init(jax.random.key(0), carry, descriptors, method=cell.relay)
        _, (scale, shift) = cell.apply(variables, carry, descriptors, method=cell.relay)
    assert scale.dtype == shift.dtype == jnp.float64
