"""What layers are given and cannot be features, a cell or a carry: refused while the program is traced."""

import functools

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.dnr import (
    AttentiveNorm,
    CrossLayerDNR,
    CrossTemporalDNR,
    InstanceLevelMetaNorm,
    RelayCell,
    StaticNorm,
    without_carry,
)

C = 6
LAYERS = (StaticNorm, CrossTemporalDNR, CrossLayerDNR, InstanceLevelMetaNorm, AttentiveNorm)
FEATURES = jax.ShapeDtypeStruct((2, 4, 3, C), jnp.float32)


def trace(layer: nn.Module, x, carry=None):
    """Trace the initialisation: nothing is computed or compiled."""
    init = functools.partial(layer.init, use_running_average=True)
    return jax.eval_shape(init, jax.random.key(0), carry, x)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        ((8, C), "float32", ValueError, r"features must be \[N, T, \*S, C\] .*, got 2 axes: \(8, 6\); x\[:, None\]"),
        ((C,), "float32", ValueError, "got 1 axes"),
        ((), "float32", ValueError, "got 0 axes"),
        ((2, 4, 3, C), "uint8", TypeError, "features must be floating point, got uint8: normalise the pixels first"),
        ((2, 4, 3, C), "complex64", TypeError, "features must be floating point, got complex64"),
        ((2, 4, 3, C), "bool", TypeError, "features must be floating point, got bool"),
        ((0, 4, 3, C), "float32", ValueError, r"need at least one value along each axis, got the shape \(0, 4, 3, 6\)"),
        ((2, 0, 3, C), "float32", ValueError, "need at least one value along each axis"),
        ((2, 4, 0, C), "float32", ValueError, "need at least one value along each axis"),
        ((2, 4, 3, 0), "float32", ValueError, "need at least one value along each axis"),
    ],
)
def test_no_features(layer, shape, dtype, error, message):
    with pytest.raises(error, match=message):
        trace(layer(), jax.ShapeDtypeStruct(shape, dtype))


@pytest.mark.parametrize("layer", LAYERS)
def test_no_array(layer):
    with pytest.raises(TypeError, match=r"features must be an array \[N, T, \*S, C\], got list"):
        layer().init(jax.random.key(0), None, [[[1.0]]], use_running_average=True)


def test_features_of_numpy_and_without_spatial_axes_are_features():
    layer = StaticNorm()
    (_, y), _ = layer.init_with_output(
        jax.random.key(0), None, np.ones((2, 4, C), np.float32), use_running_average=True
    )
    assert y.shape == (2, 4, C)


@pytest.mark.parametrize(("layer", "base"), [(StaticNorm, "bn"), (StaticNorm, "ln"), (CrossTemporalDNR, "bn")])
def test_features_of_other_channels_than_the_variables(layer, base):
    variables = trace(layer(base=base), FEATURES)
    apply = functools.partial(layer(base=base).apply, use_running_average=True)
    with pytest.raises(ValueError, match=r"the layer has 6 channels, and what it is given has 1: \(2, 4, 3, 1\)"):
        jax.eval_shape(apply, variables, None, jax.ShapeDtypeStruct((2, 4, 3, 1), jnp.float32))
    with pytest.raises(ValueError, match=r"axis 1 has 6: where channels come first, jnp.moveaxis\(x, 1, -1\)"):
        jax.eval_shape(apply, variables, None, jax.ShapeDtypeStruct((2, C, 4, 3), jnp.float32))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4, 3, 8), r"the relay cell has 6 channels, and what it is given has 8: \(2, 4, 3, 8\)"),
        ((2, C, 4, 3), r"has 3: \(2, 6, 4, 3\); axis 1 has 6: where channels come first, jnp.moveaxis\(x, 1, -1\)"),
        ((2, 4, C, 3), r"axis 2 has 6: where channels come first, jnp.moveaxis\(x, 2, -1\)"),
    ],
)
def test_a_cell_of_another_width(shape, message):
    with pytest.raises(ValueError, match=message):
        trace(CrossLayerDNR(cell=RelayCell(C)), jax.ShapeDtypeStruct(shape, jnp.float32))


def test_a_module_that_is_no_cell():
    with pytest.raises(TypeError, match="cell: is a Dense; expected a RelayCell, or a carry that it starts from"):
        trace(CrossLayerDNR(cell=nn.Dense(C)), FEATURES)


def carry(depth: int = 1, clips: int = 2, width: int = C, distance: int = 1):
    return (RelayCell(width, depth=depth).initialize_carry((clips,)),) * distance


@pytest.mark.parametrize("cell", [None, RelayCell(C)])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (carry(distance=2), r"carry: expected a tuple of 1 \(relay_distance\), the states of the cell with the oldest"),
        ((), r"carry: expected a tuple of 1 \(relay_distance\).*, got \(\)"),
        (jnp.ones((2, C)), r"carry: expected a tuple of 1 \(relay_distance\).*, got \(2, 6\)"),
        (carry()[0][0], "carry: expected a tuple of 1"),
        (carry(depth=2), r"carry: expected a pair \(h, c\) of \[2, C\] for the 1 layer of the cell, got "),
        (carry(clips=3), r"carry: expected a pair \(h, c\) of \[2, C\] for the 1 layer of the cell, got \(\(\(3, 6\)"),
        (({"h": jnp.ones((2, C))},), r"carry: expected a pair \(h, c\) of \[2, C\]"),
        ((carry()[0][0],), r"carry: expected a pair \(h, c\) of \[2, C\]"),
    ],
)
def test_no_carry_of_the_cell(cell, given, message):
    with pytest.raises(ValueError, match=message):
        trace(CrossLayerDNR(cell=cell), FEATURES, given)


def test_a_carry_of_other_channels_is_one():
    (_, y), _ = jax.eval_shape(
        functools.partial(CrossLayerDNR().init_with_output, use_running_average=True),
        jax.random.key(0),
        carry(width=4),
        FEATURES,
    )
    assert y.shape == FEATURES.shape


def test_a_streamed_state_of_another_batch():
    layer = CrossTemporalDNR()
    variables = trace(layer, FEATURES)
    state = {"relay_state": {"state": RelayCell(C).initialize_carry((3, 1))}}
    with pytest.raises(
        ValueError, match=r"relay_state: expected a pair \(h, c\) of \[2, 1, 6\] .*, got \(\(\(3, 1, 6\)"
    ):
        jax.eval_shape(functools.partial(layer.apply, use_running_average=True), variables | state, None, FEATURES)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"scale_init": nn.initializers.zeros_init()}, "no scale_init: .* zeros would leave relays without a gradient"),
        ({"bias_init": nn.initializers.zeros_init()}, "no bias_init: scale and shift are predicted"),
        ({"use_scale": False}, "no use_scale: scale and shift are predicted"),
        ({"use_bias": False}, "no use_bias: scale and shift are predicted"),
        ({"axis": -1}, "no axis: channels are the last axis"),
        ({"axis_index_groups": [[0], [1]]}, "no axis_index_groups: clips_per_statistics says"),
        ({"use_fast_variance": False}, "no use_fast_variance: "),
        ({"force_float32_reductions": True}, "no force_float32_reductions: "),
        ({"num_groups": 8, "base": "gn"}, r"no num_groups: base=GroupNorm\(groups=...\) says"),
        ({"group_size": 8, "base": "gn"}, "no group_size: channels_per_group says"),
        ({"channel_groups": 8, "base": "gn"}, "no channel_groups: it is the field 'groups' of the base now"),
    ],
)
def test_arguments_of_flax_layers_are_answered(argument, message):
    (name, *_) = argument
    layers = (AttentiveNorm, CrossLayerDNR, without_carry(AttentiveNorm))
    for layer in layers if name != "num_groups" else (StaticNorm,):
        with pytest.raises(TypeError, match=f"^{layer.__name__} takes {message}"):
            layer(**argument)


def test_other_arguments_are_answered_by_python():
    with pytest.raises(TypeError, match="unexpected keyword argument 'momentun'"):
        StaticNorm(momentun=0.9)


def test_masks_are_refused():
    layer = without_carry(StaticNorm)(use_running_average=True)
    with pytest.raises(TypeError, match="StaticNorm takes no mask: statistics are those of all clips and positions"):
        layer.init(jax.random.key(0), jnp.ones((2, 4, C)), mask=jnp.ones((2, 4, 1), bool))


@pytest.mark.parametrize("layer", [CrossTemporalDNR(), CrossLayerDNR(cell=RelayCell(C)), StaticNorm(base="ln")])
def test_a_program_for_any_number_of_clips(layer):
    variables = trace(layer, FEATURES)
    (clips,) = jax.export.symbolic_shape("clips")
    x = jax.ShapeDtypeStruct((clips, *FEATURES.shape[1:]), jnp.float32)
    _, y = jax.eval_shape(functools.partial(layer.apply, use_running_average=True), variables, None, x)
    assert y.shape == x.shape
