"""State dicts: the names and layouts of the other code bases, there and back."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.convert import (
    AUTHORS,
    CADENE,
    MCG_NJU,
    MMACTION2,
    MMACTION2_TORCHVISION,
    OWN,
    PYSLOWFAST,
    TORCHVISION,
    ConversionError,
    from_state_dict,
    mmaction2_tsm,
    to_state_dict,
)
from dnr_jax.dnr import DNRSpec, RelayCell
from dnr_jax.models import (
    TDN,
    TSM,
    TSN,
    BNInception,
    R2Plus1D,
    Recognizer,
    ResNet,
    SlowFast,
    TSNHead,
    create_model,
)
from dnr_jax.models.blocks import stack_blocks
from dnr_jax.models.complexity import abstract_variables
from dnr_jax.models.zoo import zoo
from tests.golden_networks import NETWORKS

NAMINGS = {"authors": AUTHORS, "mmaction2": MMACTION2, "torchvision": TORCHVISION}
NAMINGS_3D = {"mmaction2": MMACTION2, "pyslowfast": PYSLOWFAST}
CLIP = jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32)
PAPER = DNRSpec()
RESNEXT = TSN(depth=50, cardinality=2, base_width=64)
BASELINE = DNRSpec("static", "static", "static")
EVERYWHERE = DNRSpec("ct", "cl", "cl", depth=2)


def template_of(model):
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), CLIP)


def recognizer(depth: int, spec: DNRSpec) -> Recognizer:
    return Recognizer(ResNet(depth, spec, width=4), TSNHead(3))


@functools.cache
def tree(depth: int, spec: DNRSpec = PAPER):
    """Random variables of a small recogniser."""
    rng = np.random.default_rng(0)
    fill = functools.partial(rng.standard_normal, dtype=np.float32)
    return jax.tree.map(lambda leaf: fill(leaf.shape), template_of(recognizer(depth, spec)))


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("depth", [18, 50])
def test_there_and_back_is_exact(naming, depth):
    variables = tree(depth)
    state = to_state_dict(variables, NAMINGS[naming])
    assert len(state) == len(jax.tree.leaves(variables))
    returned = from_state_dict(state, variables, NAMINGS[naming])
    jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), returned, variables)


@pytest.mark.parametrize("naming", ["own", *NAMINGS])
def test_stacked_blocks_have_the_names_of_single_ones(naming):
    naming = NAMINGS.get(naming, OWN)
    variables = tree(50)
    expected, found = to_state_dict(variables, naming), to_state_dict(stack_blocks(variables), naming)
    assert found.keys() == expected.keys()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("spec", [DNRSpec.static(), EVERYWHERE])
def test_every_norm_has_names_of_its_own(naming, spec):
    variables = tree(50, spec)
    state = to_state_dict(variables, NAMINGS[naming])
    returned = from_state_dict(state, variables, NAMINGS[naming])
    jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), returned, variables)


@pytest.mark.parametrize(
    ("naming", "path", "key"),
    [
        ("authors", "conv1/kernel", "conv1.weight"),
        ("authors", "norm1/mean", "bn1.running_mean"),
        ("authors", "layer1/block0/conv2/kernel", "layer1.ModuleList.0.conv2.weight"),
        (
            "authors",
            "layer1/block0/norm2/relay/layer_0/input/squeeze/kernel",
            "layer1.ModuleList.0.bn2.lstm.w_ih.0.seq.0.weight",
        ),
        (
            "authors",
            "layer4/block2/norm2/relay/layer_1/hidden/expand/bias",
            "layer4.ModuleList.2.bn2.lstm.w_hh.1.seq.2.bias",
        ),
        ("authors", "layer1/relay1/layer_0/input/expand/kernel", "layer1.lstm.w_ih.0.seq.2.weight"),
        ("authors", "layer1/block0/norm1/var", "layer1.ModuleList.0.bn1.running_var"),
        ("authors", "layer2/block0/shortcut_conv/kernel", "layer2.ModuleList.0.downsample.0.weight"),
        ("authors", "layer2/block0/shortcut_norm/scale", "layer2.ModuleList.0.downsample.1.weight"),
        ("authors", "backbone/layer3/block5/norm3/bias", "backbone.layer3.ModuleList.5.bn3.bias"),
        ("authors", "head/fc/kernel", "cls_head.fc_cls.weight"),
        ("authors", "layer_0/hidden/squeeze/bias", "w_hh.0.seq.0.bias"),
        ("mmaction2", "backbone/conv1/kernel", "backbone.conv1.conv.weight"),
        ("mmaction2", "backbone/norm1/bias", "backbone.conv1.bn.bias"),
        ("mmaction2", "backbone/layer2/block0/shortcut_conv/kernel", "backbone.layer2.0.downsample.conv.weight"),
        ("mmaction2", "backbone/layer2/block0/shortcut_norm/var", "backbone.layer2.0.downsample.bn.running_var"),
        ("mmaction2", "backbone/layer4/block2/conv3/kernel", "backbone.layer4.2.conv3.conv.weight"),
        ("mmaction2", "backbone/layer4/block2/norm3/mean", "backbone.layer4.2.conv3.bn.running_mean"),
        ("mmaction2", "head/fc/bias", "cls_head.fc_cls.bias"),
        ("torchvision", "backbone/conv1/kernel", "conv1.weight"),
        ("torchvision", "backbone/norm1/scale", "bn1.weight"),
        ("torchvision", "backbone/layer1/block0/shortcut_norm/mean", "layer1.0.downsample.1.running_mean"),
        ("torchvision", "backbone/layer3/block22/conv2/kernel", "layer3.22.conv2.weight"),
        ("torchvision", "head/fc/kernel", "fc.weight"),
        ("torchvision", "layer1/block0/norm1/scale", "layer1.0.bn1.weight"),
    ],
)
def test_names(naming, path, key):
    assert NAMINGS[naming].key(path) == key


@pytest.mark.parametrize(
    ("naming", "path", "key"),
    [
        ("mmaction2", "backbone/conv1/spatial/kernel", "backbone.conv1.conv.conv_s.weight"),
        ("mmaction2", "backbone/conv1/norm/mean", "backbone.conv1.conv.bn_s.running_mean"),
        ("mmaction2", "backbone/layer1/block0/conv2/temporal/kernel", "backbone.layer1.0.conv2.conv.conv_t.weight"),
        ("mmaction2", "backbone/layer1/block0/norm2/scale", "backbone.layer1.0.conv2.bn.weight"),
        (
            "mmaction2",
            "backbone/layer2/block0/shortcut_conv/spatial/kernel",
            "backbone.layer2.0.downsample.conv.conv_s.weight",
        ),
        ("mmaction2", "backbone/layer2/block0/shortcut_norm/bias", "backbone.layer2.0.downsample.bn.bias"),
        ("mmaction2", "backbone/slow_conv1/kernel", "backbone.slow_path.conv1.conv.weight"),
        ("mmaction2", "backbone/fast_norm1/var", "backbone.fast_path.conv1.bn.running_var"),
        ("mmaction2", "backbone/lateral0_conv/kernel", "backbone.slow_path.conv1_lateral.conv.weight"),
        ("mmaction2", "backbone/lateral3_norm/scale", "backbone.slow_path.layer3_lateral.bn.weight"),
        ("mmaction2", "backbone/fast_layer4/block2/conv3/kernel", "backbone.fast_path.layer4.2.conv3.conv.weight"),
        ("pyslowfast", "backbone/slow_conv1/kernel", "s1.pathway0_stem.conv.weight"),
        ("pyslowfast", "backbone/fast_norm1/scale", "s1.pathway1_stem.bn.weight"),
        ("pyslowfast", "backbone/lateral0_conv/kernel", "s1_fuse.conv_f2s.weight"),
        ("pyslowfast", "backbone/lateral3_norm/mean", "s4_fuse.bn.running_mean"),
        ("pyslowfast", "backbone/slow_layer1/block0/shortcut_conv/kernel", "s2.pathway0_res0.branch1.weight"),
        ("pyslowfast", "backbone/slow_layer1/block0/shortcut_norm/bias", "s2.pathway0_res0.branch1_bn.bias"),
        ("pyslowfast", "backbone/fast_layer4/block2/conv1/kernel", "s5.pathway1_res2.branch2.a.weight"),
        ("pyslowfast", "backbone/fast_layer3/block11/norm2/var", "s4.pathway1_res11.branch2.b_bn.running_var"),
        ("pyslowfast", "backbone/slow_layer2/block3/norm3/mean", "s3.pathway0_res3.branch2.c_bn.running_mean"),
        ("pyslowfast", "head/fc/bias", "head.projection.bias"),
    ],
)
def test_names_of_3d_networks(naming, path, key):
    assert NAMINGS_3D[naming].key(path) == key


@pytest.mark.parametrize("dnr", [True, False])
@pytest.mark.parametrize(
    ("naming", "network"),
    [
        ("mmaction2", R2Plus1D()),
        ("mmaction2", SlowFast(lateral_norm=True)),
        ("pyslowfast", SlowFast.pyslowfast()),
    ],
)
def test_3d_networks_go_there_and_back(naming, network, dnr):
    config = dataclasses.replace(network, depth=18, width=8, num_classes=3).arms()["dnr" if dnr else "bn"]
    clip = jax.ShapeDtypeStruct((1, 32, 32, 32, 3), jnp.float32)
    template = jax.eval_shape(functools.partial(create_model(config).init, train=False), jax.random.key(0), clip)
    fill = functools.partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    variables = jax.tree.map(lambda leaf: fill(leaf.shape), template)
    state = to_state_dict(variables, NAMINGS_3D[naming])
    assert len(state) == len(jax.tree.leaves(variables))
    returned = from_state_dict(state, template, NAMINGS_3D[naming])
    jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), returned, variables)


@pytest.mark.parametrize(
    ("naming", "path", "key"),
    [
        (mmaction2_tsm(50), "backbone/layer1/block0/conv1/kernel", "backbone.layer1.0.conv1.conv.net.weight"),
        (mmaction2_tsm(50), "backbone/layer3/block5/conv1/kernel", "backbone.layer3.5.conv1.conv.net.weight"),
        (mmaction2_tsm(50), "backbone/layer3/block5/norm1/mean", "backbone.layer3.5.conv1.bn.running_mean"),
        (mmaction2_tsm(50), "backbone/layer1/block0/conv2/kernel", "backbone.layer1.0.conv2.conv.weight"),
        (mmaction2_tsm(50), "backbone/conv1/kernel", "backbone.conv1.conv.weight"),
        (mmaction2_tsm(101), "backbone/layer3/block22/conv1/kernel", "backbone.layer3.22.conv1.conv.net.weight"),
        (mmaction2_tsm(101), "backbone/layer3/block21/conv1/kernel", "backbone.layer3.21.conv1.conv.weight"),
    ],
)
def test_names_of_networks_on_frames(naming, path, key):
    assert naming.key(path) == key


@pytest.mark.parametrize("dnr", [True, False])
@pytest.mark.parametrize(
    ("config", "naming"),
    [(TSM(depth=18), mmaction2_tsm(18)), (RESNEXT, TORCHVISION), (RESNEXT, MMACTION2_TORCHVISION)],
)
def test_networks_on_frames_go_there_and_back(config, naming, dnr):
    config = dataclasses.replace(config, width=8, num_classes=3, norm=DNRSpec() if dnr else BASELINE)
    template = abstract_variables(create_model(config), (8, 32, 32, 3))
    fill = functools.partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    variables = jax.tree.map(lambda leaf: fill(leaf.shape), template)
    state = to_state_dict(variables, naming)
    assert len(state) == len(jax.tree.leaves(variables))
    returned = from_state_dict(state, template, naming)
    jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), returned, variables)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["r2plus1d_r34", "slowfast_r18_8x8", "slowfast_r50_8x8_lateralnorm", "tsm_r50", "tsn_resnext101_32x4d"]
)
def test_a_network_has_the_references_names_and_shapes(shared, name):
    """Those of a state dict of the reference, without its counters and the normalisation of the pixels."""
    stored = json.loads((shared / "golden" / "cases" / f"{name}.json").read_text())["state_dict"]
    expected = {
        key: tuple(shape)
        for key, shape in dict(stored).items()
        if not key.endswith("num_batches_tracked") and not key.startswith("data_preprocessor")
    }
    model = create_model(dataclasses.replace(NETWORKS[name].config, num_classes=11))
    template = abstract_variables(model, (zoo()[name].num_frames, 64, 64, 3))
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template)
    state = to_state_dict(zeros, NETWORKS[name].naming)
    assert {key: array.shape for key, array in state.items()} == expected


NETWORKS_2D = {"tsn_bninception": (BNInception, CADENE), "tdn_r50_64": (TDN, MCG_NJU)}


@pytest.mark.parametrize(
    ("name", "path", "key"),
    [
        ("tsn_bninception", "backbone/conv1/kernel", "conv1_7x7_s2.weight"),
        ("tsn_bninception", "backbone/norm2/scale", "conv2_3x3_reduce_bn.weight"),
        ("tsn_bninception", "backbone/inception3/block0/branch_1x1/conv1/bias", "inception_3a_1x1.bias"),
        ("tsn_bninception", "backbone/inception4/block4/branch_3x3/norm2/mean", "inception_4e_3x3_bn.running_mean"),
        (
            "tsn_bninception",
            "backbone/inception5/block1/branch_double_3x3/conv3/kernel",
            "inception_5b_double_3x3_2.weight",
        ),
        (
            "tsn_bninception",
            "backbone/inception5/block0/branch_pool/norm1/var",
            "inception_5a_pool_proj_bn.running_var",
        ),
        ("tsn_bninception", "head/fc/kernel", "last_linear.weight"),
        ("tdn_r50_64", "backbone/conv1/bias", "base_model.conv1.bias"),
        ("tdn_r50_64", "backbone/conv1_temp/kernel", "base_model.conv1_temp.weight"),
        ("tdn_r50_64", "backbone/difference_conv/kernel", "base_model.conv1_5.0.weight"),
        ("tdn_r50_64", "backbone/difference_norm/mean", "base_model.conv1_5.1.running_mean"),
        ("tdn_r50_64", "backbone/difference_layer1/block2/norm3/var", "base_model.resnext_layer1.2.bn3.running_var"),
        ("tdn_r50_64", "backbone/layer1/block0/shortcut_conv/bias", "base_model.layer1_bak.0.downsample.0.bias"),
        (
            "tdn_r50_64",
            "backbone/layer3/block5/temporal/attention/coarse_norm/scale",
            "base_model.layer3_bak.5.mse.bn3_smallscale2.weight",
        ),
        ("tdn_r50_64", "backbone/layer2/block1/temporal/shift/kernel", "base_model.layer2_bak.1.shift.conv.weight"),
        ("tdn_r50_64", "head/fc/bias", "new_fc.bias"),
    ],
)
def test_names_of_2d_networks(name, path, key):
    assert NETWORKS_2D[name][1].key(path) == key


@pytest.mark.parametrize("dnr", [True, False])
@pytest.mark.parametrize("name", NETWORKS_2D)
def test_2d_networks_go_there_and_back(name, dnr):
    model, naming = NETWORKS_2D[name]
    config = model(width=8, num_classes=3).arms()["dnr" if dnr else "bn"]
    template = abstract_variables(create_model(config), (40, 64, 64, 3))
    fill = functools.partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    variables = jax.tree.map(lambda leaf: fill(leaf.shape), template)
    state = to_state_dict(variables, naming)
    assert len(state) == len(jax.tree.leaves(variables))
    returned = from_state_dict(state, template, naming)
    jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), returned, variables)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS_2D)
def test_a_2d_network_has_the_references_names_and_shapes(shared, name):
    stored = json.loads((shared / "golden" / "cases" / f"{name}.json").read_text())["state_dict"]
    expected = {key: tuple(shape) for key, shape in stored.items() if not key.endswith("num_batches_tracked")}
    network = NETWORKS[name]
    template = abstract_variables(create_model(dataclasses.replace(network.config, num_classes=11)), (40, 64, 64, 3))
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template)
    state = to_state_dict(zeros, network.naming)
    assert {network.prefix + key: array.shape for key, array in state.items()} == expected


def torchvision_shapes(depth: int, width: int, num_classes: int) -> dict[str, tuple[int, ...]]:
    """What ``torchvision.models.resnet18`` and ``resnet50`` hold, for a first stage of ``width`` channels."""
    shapes = {}

    def conv_and_norm(conv: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        shapes[f"{conv}.weight"] = (outputs, inputs, kernel, kernel)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{name}"] = (outputs,)

    conv_and_norm("conv1", "bn1", width, 3, 7)
    blocks, kernels, expansion = {18: ((2, 2, 2, 2), (3, 3), 1), 50: ((3, 4, 6, 3), (1, 3, 1), 4)}[depth]
    channels = width
    for stage, num_blocks in enumerate(blocks):
        inner = width * 2**stage
        for block in range(num_blocks):
            prefix, inputs = f"layer{stage + 1}.{block}", channels
            for i, kernel in enumerate(kernels, 1):
                outputs = inner * expansion if i == len(kernels) else inner
                conv_and_norm(f"{prefix}.conv{i}", f"{prefix}.bn{i}", outputs, inputs, kernel)
                inputs = outputs
            if block == 0 and (stage > 0 or channels != inner * expansion):
                conv_and_norm(f"{prefix}.downsample.0", f"{prefix}.downsample.1", inner * expansion, channels, 1)
            channels = inner * expansion
    return shapes | {"fc.weight": (num_classes, channels), "fc.bias": (num_classes,)}


@pytest.mark.parametrize("depth", [18, 50])
def test_a_whole_network_has_torchvisions_names_and_shapes(depth):
    state = to_state_dict(tree(depth, DNRSpec.static()), TORCHVISION)
    assert {key: array.shape for key, array in state.items()} == torchvision_shapes(depth, 4, 3)


def test_layouts_are_torchs():
    rng = np.random.default_rng(0)
    image, video, linear = rng.normal(size=(3, 5, 2, 4)), rng.normal(size=(6, 3, 5, 2, 4)), rng.normal(size=(2, 4))
    kernels = {"image": image, "video": video, "linear": linear}
    state = to_state_dict({"params": {name: {"kernel": kernel} for name, kernel in kernels.items()}}, TORCHVISION)
    assert {name: array.shape for name, array in state.items()} == {
        "image.weight": (4, 2, 3, 5),
        "video.weight": (4, 2, 6, 3, 5),
        "linear.weight": (4, 2),
    }
    for index in np.ndindex(video.shape):
        t, h, w, i, o = index
        assert state["video.weight"][o, i, t, h, w] == video[index]
        assert state["image.weight"][o, i, h, w] == image[h, w, i, o]
        assert state["linear.weight"][o, i] == linear[i, o]


def test_parts_of_a_network_convert_by_the_same_names():
    cell = RelayCell(4, depth=2)
    shapes = jax.eval_shape(cell.init, jax.random.key(0), cell.initialize_carry((1,)), jnp.zeros((1, 4)))
    state = to_state_dict(jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes), AUTHORS)
    layers = [f"w_{gate}.{i}.seq.{j}" for gate in ("ih", "hh") for i in (0, 1) for j in (0, 2)]
    assert set(state) == {f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias")}


def test_import_takes_shapes_for_a_template_and_its_dtypes():
    template = template_of(recognizer(18, PAPER))
    state = {key: array.astype(np.float64) for key, array in to_state_dict(tree(18), AUTHORS).items()}
    returned = from_state_dict(state, template, AUTHORS)
    assert {leaf.dtype for leaf in jax.tree.leaves(returned)} == {jnp.dtype(jnp.float32)}
    jax.tree.map(np.testing.assert_array_equal, returned, tree(18))


def test_torchs_counters_are_ignored():
    state = to_state_dict(tree(18), MMACTION2) | {"backbone.conv1.bn.num_batches_tracked": np.array(7)}
    jax.tree.map(np.testing.assert_array_equal, from_state_dict(state, tree(18), MMACTION2), tree(18))


def test_everything_that_does_not_fit_is_listed():
    state = to_state_dict(tree(18, DNRSpec.static()), TORCHVISION)
    del state["bn1.weight"], state["layer1.0.bn2.running_var"]
    state |= {
        "fc.weight": np.zeros((1000, 32)),
        "bn1.bias": np.zeros(5),
        "classifier.weight": np.zeros(1),
    }
    with pytest.raises(ConversionError) as error:
        from_state_dict(state, tree(18, DNRSpec.static()), TORCHVISION)
    assert str(error.value).splitlines() == [
        "the state dict (by names) does not fit the network:",
        "  missing: bn1.weight; here backbone/norm1/scale",
        "  missing: layer1.0.bn2.running_var; here backbone/layer1/block0/norm2/var",
        "  shape: bn1.bias is (5,); here backbone/norm1/bias is (4,)",
        "  shape: fc.weight is (1000, 32); here head/fc/kernel is (32, 3)",
        "  unexpected: classifier.weight",
    ]


@pytest.mark.parametrize(
    ("naming", "variables", "name"),
    [
        (TORCHVISION, {"params": {"classify": {"kernel": np.ones((2, 3)), "scale": np.ones(3)}}}, "classify.weight"),
        (OWN, {"params": {"norm": {"mean": np.ones(3)}}, "batch_stats": {"norm": {"mean": np.zeros(3)}}}, "norm/mean"),
    ],
)
def test_two_variables_of_one_name_are_refused(naming, variables, name):
    """As a kernel and its scale in a layer of somebody's own: the later one would take the place of the other."""
    with pytest.raises(ConversionError, match=f"^params/.* and .*/.* would both be {name}; one of them would be lost$"):
        to_state_dict(variables, naming)
