"""R(2+1)D: the factorised convolution against MMAction2's, where the norms stand, what the strides leave."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.convert import Naming
from dnr_jax.dnr import CrossTemporalDNR, DNRSpec, StaticNorm
from dnr_jax.models import R2Plus1D, R2Plus1DBackbone, create_model
from dnr_jax.models.layers import ConvSize
from dnr_jax.models.r2plus1d import FactorizedConv, middle_features
from tests import golden
from tests.dnr.test_golden import channels_first
from tests.marks import thorough
from tests.models.inspection import norms_of

CONV2PLUS1D = Naming(((r"^spatial", "conv_s"), (r"^temporal", "conv_t"), (r"^norm", "bn_s")))


def test_the_factorised_convolution_is_mmaction2s(shared, x64):
    case = golden.load(shared, "unit_conv2plus1d")
    x = jnp.moveaxis(jnp.asarray(case.input(), jnp.float64), 1, -1)
    layer = FactorizedConv(ConvSize(24, (3, 3, 3), (2, 2, 2)), dtype=jnp.float64, param_dtype=jnp.float64)

    def apply(variables, x, train):
        return layer.apply(variables, x, train, mutable=["batch_stats", "intermediates"])

    template = jax.eval_shape(functools.partial(layer.init, train=False), jax.random.key(0), x)
    golden.check_network(case, apply, template, CONV2PLUS1D, x, lambda y, _: {"out": channels_first(y)}, channels_first)


@pytest.mark.parametrize(
    ("channels", "size", "expected"),
    [
        (3, ConvSize(64, (3, 7, 7)), 83),
        (64, ConvSize(64, (3, 3, 3)), 144),
        (64, ConvSize(128, (1, 1, 1)), 54),
        (256, ConvSize(512, (1, 1, 1)), 219),
    ],
)
def test_channels_in_the_middle(channels, size, expected):
    """The widths of MMAction2's checkpoints; those of 3x3x3 kernels have the parameters of a 3D convolution."""
    assert middle_features(channels, size) == expected
    if size.kernel_size == (3, 3, 3):
        assert expected * (9 * channels + 3 * size.features) == 27 * channels * size.features


def test_norms_of_the_blocks_have_mmaction2s_epsilon():
    norms = norms_of(R2Plus1DBackbone(18, DNRSpec(), width=4), jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32))
    for path, (norm, _) in norms.items():
        assert norm.base.epsilon == (1e-5 if path.endswith("/norm") else 1e-3), path


def test_relays_stand_in_the_blocks_and_keep_the_clips_groups():
    """Temporal strides leave 8, 4, 2 and 1 frames; two groups of four frames become two of two, two of one, one."""
    norms = norms_of(R2Plus1DBackbone(18, DNRSpec(), width=4), jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32))
    relayed = {path: norm for path, norm in norms.items() if isinstance(norm[0], CrossTemporalDNR)}
    assert {path.split("/", 1)[1] for path in relayed} == {"block0/norm2", "block1/norm2"}
    groups = {path.split("/")[0]: (frames, norm.groups(frames)) for path, (norm, frames) in relayed.items()}
    assert groups == {"layer1": (8, 2), "layer2": (4, 2), "layer3": (2, 2), "layer4": (1, 1)}
    for path in ("norm1", "conv1/norm", "layer1/block0/conv1/norm", "layer2/block0/shortcut_norm"):
        assert isinstance(norms[path][0], StaticNorm), path


@pytest.mark.parametrize("depth", [18, *thorough(50)])
@pytest.mark.parametrize("num_groups", [0, 4])
def test_any_depth_groups_and_size(depth, num_groups):
    model = R2Plus1DBackbone(depth, DNRSpec(num_groups=num_groups), width=4)
    x = jax.ShapeDtypeStruct((2, 8, 33, 47, 3), jnp.float32)
    (features,), _ = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), x)
    assert features.shape == (2, 1, 2, 2, {18: 32, 50: 128}[depth])


def test_a_config_builds_it():
    config = R2Plus1D(depth=18, width=4, stem="small", num_classes=5, dtype="bfloat16")
    model = create_model(config)
    assert (model.backbone.depth, model.backbone.spec, model.head.dropout) == (18, config.norm.spec(), 0.5)
    x = jax.ShapeDtypeStruct((2, 8, 16, 16, 3), jnp.float32)
    scores, variables = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), x)
    assert (scores.shape, scores.dtype) == ((2, 5), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert variables["params"]["backbone"]["conv1"]["spatial"]["kernel"].shape[:3] == (1, 3, 3)
