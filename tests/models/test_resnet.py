"""ResNets: torchvision's layers, and norms wired where the paper has them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.dnr import DNRSpec
from dnr_jax.models import Recognizer, ResNet, TSNHead
from dnr_jax.models.residual import BasicBlock, BottleneckBlock, ResidualBlock, Stage
from tests.dnr import reference
from tests.dnr.reference import assert_close, jit
from tests.models import literal
from tests.models.test_layers import convolution

CLIP = jax.ShapeDtypeStruct((1, 4, 32, 32, 3), jnp.float32)


def shapes_of(model: nn.Module, x=CLIP):
    """Return the shapes of the variables, without allocating them."""
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)


def count(params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)],
)
def test_parameter_counts_are_torchvisions(depth, parameters):
    model = Recognizer(ResNet(depth, DNRSpec.static()), TSNHead(1000))
    assert count(shapes_of(model)["params"]) == parameters


def test_parameter_count_with_dnr_is_the_authors():
    assert count(shapes_of(ResNet(50))["params"]) == 27_547_264


@pytest.mark.parametrize(
    ("depth", "names"),
    [
        (18, {"conv1", "norm1", "conv2", "norm2"}),
        (50, {"conv1", "norm1", "conv2", "norm2", "conv3", "norm3"}),
    ],
)
def test_layers_are_named(depth, names):
    params = shapes_of(ResNet(depth, width=4))["params"]
    assert set(params) == {"conv1", "norm1", "layer1", "layer2", "layer3", "layer4"}
    blocks = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
    for i, num_blocks in enumerate(blocks, 1):
        stage = params[f"layer{i}"]
        assert set(stage) == {"relay1", *(f"block{b}" for b in range(num_blocks))}
        shortcut = {"shortcut_conv", "shortcut_norm"} if i > 1 or depth == 50 else set()
        # The first norm's parameters are those of the stage's cell.
        assert set(stage["block0"]) == (names | shortcut) - {"norm1"}
        assert set(stage["block1"]) == names - {"norm1"}
        assert set(stage["block1"]["norm2"]) == {"relay"}


def test_small_stem_keeps_the_resolution():
    model = ResNet(18, width=4, stem="small")
    features, variables = jax.eval_shape(
        functools.partial(model.init_with_output, train=False), jax.random.key(0), CLIP
    )
    assert variables["params"]["conv1"]["kernel"].shape == (3, 3, 3, 4)
    assert features.shape == (1, 4, 4, 4, 32)


@pytest.mark.parametrize(("depth", "size"), [(18, (33, 47)), (50, (64, 95)), (18, (1, 1))])
def test_output_shapes_are_torchs(depth, size):
    model = ResNet(depth, width=4)
    x = jax.ShapeDtypeStruct((2, 4, *size, 3), jnp.float32)
    features, _ = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), x)

    def torch_size(pixels: int) -> int:
        for kernel, padding in ((7, 3), (3, 1), (3, 1), (3, 1), (3, 1)):  # stem, pooling, three strided stages
            pixels = (pixels + 2 * padding - kernel) // 2 + 1
        return pixels

    assert features.shape == (2, 4, torch_size(size[0]), torch_size(size[1]), {18: 32, 50: 128}[depth])


def test_activations_have_their_dtype_and_variables_theirs():
    model = ResNet(18, width=4, dtype=jnp.bfloat16)
    features, variables = jax.eval_shape(
        functools.partial(model.init_with_output, train=False), jax.random.key(0), CLIP
    )
    assert features.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


# Kernel size and stride of each convolution of a block's residual branch.
BRANCHES = {
    BasicBlock: lambda strides: ((3, strides), (3, 1)),
    BottleneckBlock: lambda strides: ((1, 1), (3, strides), (1, 1)),
}
FRACTION = 0.25


def grouped_convolution(x, kernel, strides, padding):
    """Each group of channels convolved by itself; the kernel's own channels say how many groups there are."""
    groups = x.shape[-1] // kernel.shape[2]
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([convolution(part, weights, strides, padding) for part, weights in parts], axis=-1)


def literal_block(layers, strides, kinds, params, cell, stats, state, x, train):
    """A residual block: interlacing, convolutions and norms on the branch; a projection where the shape changes."""
    new_stats = {}
    y = reference.interlace(x, FRACTION)
    for i, (kernel_size, stride) in enumerate(layers, 1):
        norm = f"norm{i}"
        y = grouped_convolution(y, params[f"conv{i}"]["kernel"], stride, kernel_size // 2)
        state, y, new_stats[norm] = literal.norm(
            kinds[i - 1], params.get(norm), cell, stats[norm], state, y, train, groups=2
        )
        if i < len(layers):
            y = jnp.maximum(y, 0)
    if "shortcut_conv" in params:
        x = convolution(x, params["shortcut_conv"]["kernel"], strides, 0)
        x, new_stats["shortcut_norm"] = literal.static_norm(params["shortcut_norm"], stats["shortcut_norm"], x, train)
    return state, jnp.maximum(x + y, 0), new_stats


@pytest.mark.parametrize(
    ("block", "strides", "kinds", "fields"),
    [
        (BasicBlock, 2, ("cl", "ct", "static"), {}),
        (BottleneckBlock, 1, ("cl", "ct", "static"), {}),
        (BottleneckBlock, 2, ("static", "static", "cl"), {}),
        (BottleneckBlock, 2, ("cl", "ct", "static"), {"cardinality": 2, "base_width": 48}),
    ],
)
def test_stages_are_literal_blocks_one_after_another(x64, block, strides, kinds, fields):
    spec = DNRSpec(*kinds, num_groups=2 if "ct" in kinds else 0, reduction=2)
    stage = Stage(block, 4, 2, spec, strides, FRACTION, jnp.float64, jnp.float64, **fields)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 5, 6, 4)))
    template = jax.eval_shape(functools.partial(stage.init, train=False), jax.random.key(0), x)
    variables = reference.variables_like(template, 1)
    params, stats = variables["params"], variables["batch_stats"]
    cell = params[f"relay{kinds.index('cl') + 1}"]

    def blocks(x, train):
        state, new_stats = [], {}
        for i in range(2):
            name, stride = f"block{i}", strides if i == 0 else 1
            state, x, new_stats[name] = literal_block(
                BRANCHES[block](stride), stride, kinds, params[name], cell, stats[name], state, x, train
            )
        return x, new_stats

    def ours(x):
        y, updates = stage.apply(variables, x, train=True, mutable=["batch_stats"])
        return stage.apply(variables, x, train=False), y, updates["batch_stats"]

    assert_close(jit(ours)(x), jit(lambda x: (blocks(x, False)[0], *blocks(x, True)))(x))


@pytest.mark.parametrize(
    ("cardinality", "base_width", "inner"), [(1, 64, 128), (32, 4, 256), (32, 8, 512), (1, 128, 256), (64, 4, 512)]
)
def test_bottlenecks_have_torchvisions_widths(cardinality, base_width, inner):
    """torchvision: resnet50, resnext50_32x4d, resnext101_32x8d, wide_resnet50_2, resnext101_64x4d; second stage."""
    first, second, third = BottleneckBlock.layers(128, 2, cardinality, base_width)
    assert first == (inner, (1, 1, 1), (1, 1, 1), 1)
    assert second == (inner, (1, 3, 3), (1, 2, 2), cardinality)
    assert third == (512, (1, 1, 1), (1, 1, 1), 1)


def test_basic_blocks_have_no_groups():
    with pytest.raises(ValueError, match="basic blocks have cardinality 1 and base_width 64; got 32 and 4"):
        shapes_of(ResNet(18, cardinality=32, base_width=4))


def test_basic_blocks_relay_across_layers_first_and_across_time_second():
    stage = Stage(BasicBlock, 8, 2, DNRSpec())
    x = jax.ShapeDtypeStruct((1, 8, 4, 4, 8), jnp.float32)
    params = shapes_of(stage, x)["params"]
    assert set(params) == {"relay1", "block0", "block1"}
    assert set(params["block1"]) == {"conv1", "conv2", "norm2"}
    assert set(params["block1"]["norm2"]) == {"relay"}


def test_only_the_branch_is_interlaced(x64):
    block = BasicBlock(4, DNRSpec.static(), (None, None), interlace_fraction=FRACTION, dtype=jnp.float64)
    x = jnp.abs(jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 2, 2, 4))))
    variables = jax.tree.map(jnp.zeros_like, block.init(jax.random.key(0), (None, None), x, False))
    _, y = block.apply(variables, (None, None), x, False)  # kernels of zero: what is left is the shortcut
    np.testing.assert_array_equal(y, x)


def test_remat_over_blocks_changes_nothing(x64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3, 3, 4)))

    def stage(block):
        return Stage(block, 4, 2, DNRSpec(num_groups=2), param_dtype=jnp.float64, dtype=jnp.float64)

    variables = reference.variables_like(shapes_of(stage(BasicBlock), x), 1)

    def values(block):
        def loss(params):
            y, updates = stage(block).apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])
            return jnp.mean(jnp.sin(y)), updates["batch_stats"]

        return jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

    assert_close(values(nn.remat(BasicBlock, static_argnums=(3,))), values(BasicBlock))


def test_the_abstract_block_says_what_to_use():
    block = ResidualBlock(4, DNRSpec.static(), (None, None))
    with pytest.raises(TypeError, match="use BasicBlock or BottleneckBlock"):
        block.init(jax.random.key(0), (None, None), jnp.zeros((1, 1, 2, 2, 4)), False)
    with pytest.raises(TypeError, match="use BasicBlock or BottleneckBlock"):
        ResidualBlock.layers(4)
