"""Blocks and stages over time and space against literal ones, the groups that a clip keeps, the head."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.dnr import DNRSpec
from dnr_jax.models.heads import PathwayHead
from dnr_jax.models.layers import CLIPS, ConvSize, clip_conv, frame_conv
from dnr_jax.models.r2plus1d import factorized
from dnr_jax.models.recognizer import Recognizer
from dnr_jax.models.residual import BasicBlock, BottleneckBlock, Stage, at_frames, frame_groups
from dnr_jax.models.resnet import Architecture, architecture_of
from tests.dnr.reference import assert_close, jit, variables_like
from tests.models import literal


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


# The groups of frames


@pytest.mark.parametrize(
    ("spec", "num_frames", "groups"),
    [
        (DNRSpec(), 8, 2),
        (DNRSpec(relay_distance=2), 8, 4),
        (DNRSpec(), 2, 1),
        (DNRSpec(num_groups=4), 8, 4),
        (DNRSpec.static(), 7, 1),
        (DNRSpec("static", "static", "ct"), 8, 2),
    ],
)
def test_a_clip_is_cut_as_the_spec_says(spec, num_frames, groups):
    assert frame_groups(spec, num_frames) == groups


def test_a_relay_distance_that_does_not_divide_the_clip_is_refused():
    with pytest.raises(ValueError, match="relay_distance=4 does not divide the clip of 6 frames"):
        frame_groups(DNRSpec(), 6)


@pytest.mark.parametrize(
    ("groups", "num_frames", "kept"), [(2, 8, 2), (2, 32, 2), (2, 2, 2), (2, 1, 1), (4, 2, 2), (2, 3, 1), (6, 4, 2)]
)
def test_groups_join_where_frames_are_too_few(groups, num_frames, kept):
    spec = at_frames(DNRSpec(), groups, num_frames)
    assert spec.num_groups == kept
    assert at_frames(DNRSpec(), 0, num_frames) == DNRSpec()
    assert spec.norm("ct").groups(num_frames) == kept


# Blocks and stages


def literal_conv(x, kernel, strides):
    padding = [(size // 2, size // 2) for size in kernel.shape[:3]]
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, None, None, ("NDHWC", "DHWIO", "NDHWC"))


def literal_factorized_conv(x, params, stats, strides, train):
    """Convolution in space, batch norm, ReLU, convolution over time; returns the norm's statistics too."""
    x = literal_conv(x, params["spatial"]["kernel"], (1, *strides[1:]))
    x, norm = literal.static_norm(params["norm"], stats["norm"], x, train)
    return literal_conv(jnp.maximum(x, 0), params["temporal"]["kernel"], (strides[0], 1, 1)), {"norm": norm}


def literal_block(convolutions, kinds, groups, params, stats, cell, state, x, train):
    """A residual block; ``stats`` also says whether its convolutions are factorised."""
    new_stats = {}

    def convolve(x, name, strides):
        if name not in stats:
            return literal_conv(x, params[name]["kernel"], strides)
        y, new_stats[name] = literal_factorized_conv(x, params[name], stats[name], strides, train)
        return y

    y = x
    for i, (_, _, strides) in enumerate(convolutions, 1):
        y, norm = convolve(y, f"conv{i}", strides), f"norm{i}"
        count = int(np.gcd(groups, y.shape[1]))
        state, y, new_stats[norm] = literal.norm(
            kinds[i - 1], params.get(norm), cell, stats[norm], state, y, train, groups=count
        )
        if i < len(convolutions):
            y = jnp.maximum(y, 0)
    if "shortcut_norm" in params:
        stride = next((strides for _, _, strides in convolutions if strides != (1, 1, 1)), (1, 1, 1))
        x = convolve(x, "shortcut_conv", stride)
        norm = "shortcut_norm"
        x, new_stats[norm] = literal.static_norm(params[norm], stats[norm], x, train)
    return state, jnp.maximum(x + y, 0), new_stats


@pytest.mark.parametrize(
    ("block", "convolution", "strides", "groups"),
    [
        (BasicBlock, CLIPS, (1, 2, 2), 2),
        (BottleneckBlock, CLIPS, (1, 1, 1), 2),
        (BottleneckBlock, CLIPS, (2, 2, 2), 4),
        (BasicBlock, factorized(DNRSpec()), (2, 2, 2), 4),
    ],
)
def test_stages_are_literal_blocks_one_after_another(x64, block, convolution, strides, groups):
    spec, dtypes = DNRSpec(reduction=2), {"dtype": jnp.float64, "param_dtype": jnp.float64}
    fields = {"kernel_frames": 3, "convolution": convolution, "num_groups": groups} | dtypes
    stage = Stage(block, 4, 2, spec, strides, **fields)
    x = normal(2, 4, 5, 6, 4)
    template = jax.eval_shape(functools.partial(stage.init, train=False), jax.random.key(0), x)
    variables = variables_like(template, 1)
    params, stats = variables["params"], variables["batch_stats"]

    def blocks(x, train):
        state, new_stats = [], {}
        for i in range(2):
            sizes = block.layers(4, strides if i == 0 else 1, kernel_frames=3)
            convolutions = [size[:3] for size in sizes]
            name = f"block{i}"
            state, x, new_stats[name] = literal_block(
                convolutions, spec.kinds, groups, params[name], stats[name], params["relay1"], state, x, train
            )
        return x, new_stats

    def ours(x):
        y, updates = stage.apply(variables, x, train=True, mutable=["batch_stats"])
        return stage.apply(variables, x, train=False), y, updates["batch_stats"]

    assert_close(jit(ours)(x), jit(lambda x: (blocks(x, False)[0], *blocks(x, True)))(x))


def test_only_the_first_blocks_convolve_over_time():
    fields = {"kernel_frames": 3, "temporal_blocks": 2, "convolution": CLIPS}
    stage = Stage(BottleneckBlock, 4, 3, DNRSpec.static(), **fields)
    init = functools.partial(stage.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 4, 2, 2, 4)))["params"]
    assert [shapes[f"block{i}"]["conv1"]["kernel"].shape[0] for i in range(3)] == [3, 3, 1]


def test_depths_have_their_blocks():
    assert architecture_of(34) == Architecture(BasicBlock, (3, 4, 6, 3))
    assert architecture_of(50) == Architecture(BottleneckBlock, (3, 4, 6, 3))
    assert architecture_of(18, "bottleneck") == Architecture(BottleneckBlock, (2, 2, 2, 2))


@pytest.mark.parametrize(
    ("convolve", "size", "message"),
    [
        (frame_conv, ConvSize(4, (3, 3, 3)), "frames one by one has a square kernel over one frame"),
        (frame_conv, ConvSize(4, (1, 1, 3)), "frames one by one has a square kernel over one frame"),
        (clip_conv, ConvSize(4, (3, 3, 3), groups=2), "over time and space has one group of channels"),
    ],
)
def test_sizes_that_a_kind_of_convolution_does_not_have_are_refused(convolve, size, message):
    with pytest.raises(ValueError, match=message):
        convolve(jnp.zeros((1, 4, 2, 2, 4)), size, train=False, name="conv")


# The head and the recogniser


def test_head_pools_each_pathway_and_concatenates_in_order(x64):
    slow, fast = normal(2, 2, 3, 4, 6), normal(2, 8, 3, 4, 5, seed=1)
    head = PathwayHead(3, order=(1, 0), param_dtype=jnp.float64)
    template = jax.eval_shape(functools.partial(head.init, train=False), jax.random.key(0), (slow, fast))
    fc = variables_like(template, 2)["params"]["fc"]
    pooled = np.array([[*np.mean(fast[n], axis=(0, 1, 2)), *np.mean(slow[n], axis=(0, 1, 2))] for n in range(2)])
    expected = pooled @ fc["kernel"] + fc["bias"][None]
    assert_close(head.apply({"params": {"fc": fc}}, (slow, fast), train=False), jnp.asarray(expected))


def test_dropout_is_for_training():
    head = PathwayHead(400, dropout=0.5)
    identity = {"params": {"fc": {"kernel": jnp.eye(400), "bias": jnp.zeros(400)}}}
    x = (jnp.ones((1, 2, 2, 2, 400)),)
    np.testing.assert_array_equal(head.apply(identity, x, train=False), jnp.ones((1, 400)))
    trained = head.apply(identity, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(trained)) == {0, 2}


def test_clips_of_another_shape_are_refused():
    model = Recognizer(lambda x, train: (x,), PathwayHead(3))
    with pytest.raises(AssertionError, match=r"clips must be \[N, T, H, W, 3\]"):
        model.init(jax.random.key(0), jnp.zeros((2, 30, 8, 16, 16, 3)), train=False)
