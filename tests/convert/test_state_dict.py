"""State dicts: the names and layouts of the other code bases, there and back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.convert import AUTHORS, MMACTION2, TORCHVISION, ConversionError, from_state_dict, to_state_dict
from dnr_jax.dnr import DNRSpec, RelayCell
from dnr_jax.models import TSN, ResNet, TSNHead

NAMINGS = {"authors": AUTHORS, "mmaction2": MMACTION2, "torchvision": TORCHVISION}
CLIP = jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32)
PAPER = DNRSpec()
EVERYWHERE = DNRSpec("ct", "cl", "cl", depth=2)


def template_of(model):
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), CLIP)


def recognizer(depth: int, spec: DNRSpec) -> TSN:
    return TSN(ResNet(depth, spec, width=4), TSNHead(3))


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
        "the state dict does not fit the network:",
        "  missing: bn1.weight",
        "  missing: layer1.0.bn2.running_var",
        "  shape: bn1.bias is (5,); here backbone/norm1/bias is (4,)",
        "  shape: fc.weight is (1000, 32); here head/fc/kernel is (32, 3)",
        "  unexpected: classifier.weight",
    ]
