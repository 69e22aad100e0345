"""Which array goes where: recognition, what may differ, inflation, and the report."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util

from dnr_jax.convert import (
    AUTHORS,
    MMACTION2,
    OWN,
    TORCHVISION,
    ConversionError,
    from_state_dict,
    match,
    namings,
    recognize,
    to_state_dict,
)
from dnr_jax.convert.matching import inflate, parse_allow
from dnr_jax.models import TDN, TSM, TSN, BNInception, R2Plus1D, SlowFast, TANet, create_model
from dnr_jax.models.blocks import stack_blocks, unstack_blocks
from dnr_jax.models.complexity import abstract_variables
from dnr_jax.models.layers import Conv3D
from tests import golden
from tests.golden_networks import NETWORKS

CONFIGS = {
    "r18": TSN(depth=18, width=4, num_classes=3),
    "r50": TSN(depth=50, width=4, num_classes=3),
    "r2plus1d": R2Plus1D(depth=18, width=8, num_classes=3),
    "slowfast": SlowFast(depth=50, width=8, num_classes=3),
    "slowfast_fb": SlowFast.pyslowfast(width=8, num_classes=3),
    "resnext": TSN(depth=50, width=8, cardinality=2, num_classes=3),
    "bninception": BNInception(width=8, num_classes=3),
    "tsm": TSM(depth=50, width=4, num_classes=3),
    "tsm_r101": TSM(depth=101, width=4, num_classes=3),
    "tanet": TANet(depth=50, width=4, num_classes=3),
    "tdn": TDN(depth=50, width=4, num_classes=3),
}


@functools.cache
def template(name: str, variant: str = "bn"):
    config = CONFIGS[name].arms()[variant]
    return abstract_variables(create_model(config), (40 if name == "tdn" else 32, 64, 64, 3))


def noise(tree):
    fill = functools.partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    return jax.tree.map(lambda leaf: fill(leaf.shape), tree)


@functools.cache
def state_of(name: str, naming: str, variant: str = "bn"):
    return to_state_dict(noise(template(name, variant)), namings()[naming])


CODE_BASES = [
    ("r18", "bn", "torchvision"),
    ("r50", "bn", "mmaction2"),
    ("r50", "dnr", "authors"),
    ("r50", "dnr", "own"),
    ("r2plus1d", "bn", "mmaction2"),
    ("slowfast", "dnr", "mmaction2"),
    ("slowfast_fb", "bn", "pyslowfast"),
    ("resnext", "bn", "mmaction2_torchvision"),
    ("bninception", "bn", "cadene"),
    ("tsm", "bn", "mmaction2_tsm"),
    ("tsm_r101", "bn", "mmaction2_tsm_r101"),
    ("tanet", "bn", "mmaction2_tanet"),
    ("tdn", "bn", "tdn"),
]


def test_every_code_base_is_tested():
    assert {naming for _, _, naming in CODE_BASES} == set(namings())


@pytest.mark.parametrize(("name", "variant", "naming"), CODE_BASES)
def test_a_state_dict_goes_there_and_back_bit_for_bit(name, variant, naming):
    state = state_of(name, naming, variant)
    assert len(state) == len(jax.tree.leaves(template(name, variant)))
    returned = to_state_dict(from_state_dict(state, template(name, variant), namings()[naming]), namings()[naming])
    assert returned.keys() == state.keys()
    for key, array in state.items():
        np.testing.assert_array_equal(returned[key], array, strict=True)


@pytest.mark.parametrize(("name", "variant", "naming"), CODE_BASES)
@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "base_model.", "_orig_mod.model.net."])
def test_the_code_base_is_told_by_its_names(name, variant, naming, prefix):
    state = {prefix + key: array for key, array in state_of(name, naming, variant).items()}
    recognition = recognize(state, template(name, variant))
    assert recognition.name == naming
    found = match(state, template(name, variant), namings()[naming], rename=recognition.rename)
    assert not found.report.problems
    assert len(found.arrays) == len(state)


@pytest.mark.parametrize("naming", ["torchvision", "mmaction2"])
@pytest.mark.parametrize("part", ["layer1.", "layer1.0.", "conv1."])
@pytest.mark.parametrize("wrapper", ["_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module._orig_mod."])
def test_wrappers_around_parts_are_taken_off(naming, part, wrapper):
    """As where stages or blocks are compiled, recomputed or sharded one by one."""
    state = {key.replace(part, part + wrapper): array for key, array in state_of("r18", naming).items()}
    assert any(wrapper in key for key in state)
    recognition = recognize(state, template("r18"))
    found = match(state, template("r18"), namings()[naming], rename=recognition.rename)
    assert not found.report.problems
    assert len(found.arrays) == len(state)


def test_an_average_of_weights_is_read_without_its_counter():
    """PyTorch's ``AveragedModel`` counts in ``n_averaged``, beside the network that it wraps."""
    state = {"module." + key: array for key, array in state_of("r18", "torchvision").items()}
    state["n_averaged"] = np.asarray(3)
    found = match(state, template("r18"), TORCHVISION, rename=recognize(state, template("r18")).rename)
    assert not found.report.problems
    assert found.report.ignored == ("1 n_averaged",)


def test_an_average_beside_the_network_can_be_allowed_to_differ():
    """A checkpoint of Lightning: both have half of the names, and the counter is none of them."""
    state = state_of("r18", "torchvision")
    both = {"net." + key: array for key, array in state.items()}
    both |= {"average.module." + key: array + 1 for key, array in state.items()} | {"average.n_averaged": np.asarray(3)}
    recognition = recognize(both, template("r18"))
    found = match(both, template("r18"), TORCHVISION, rename=recognition.rename, allow=("average.*",))
    assert not found.report.problems
    np.testing.assert_array_equal(found.arrays["params", "head/fc/bias"], state["fc.bias"])


@pytest.mark.parametrize("naming", ["mmaction2", "authors"])
def test_a_backbone_alone_is_recognised(naming):
    """Saved from ``model.backbone``, whose names lack what the recogniser puts before them."""
    whole = state_of("r18", naming)
    state = {key.removeprefix("backbone."): array for key, array in whole.items() if key.startswith("backbone.")}
    recognition = recognize(state, template("r18"))
    assert (recognition.name, recognition.add) == (naming, "backbone.")
    found = match(state, template("r18"), namings()[naming], rename=recognition.rename)
    assert found.report.problems == [
        "missing: cls_head.fc_cls.bias; here head/fc/bias",
        "missing: cls_head.fc_cls.weight; here head/fc/kernel",
    ]


def test_prefixes_of_parts_are_recognised():
    """An image classifier of OpenMMLab: torchvision's names in a backbone, and a head of its own."""
    state = {
        f"{'head' if key.startswith('fc') else 'backbone'}.{key}": a
        for key, a in state_of("r18", "torchvision").items()
    }
    recognition = recognize(state, template("r18"))
    found = match(state, template("r18"), TORCHVISION, rename=recognition.rename, allow=("head", "head.fc.*"))
    assert not found.report.problems
    assert found.report.dropped == {"head.fc.weight": "head.fc.*", "head.fc.bias": "head.fc.*"}


def test_names_of_nobody_are_refused_with_examples():
    with pytest.raises(ConversionError, match=r"there: stem.weight, \.\.\.; wanted: backbone/conv1/kernel"):
        recognize({"stem.weight": np.zeros(3)}, template("r18"))
    with pytest.raises(ConversionError, match="not those that mmaction2 gives"):
        recognize(state_of("r50", "torchvision"), template("slowfast"), "mmaction2")
    with pytest.raises(ConversionError, match="'caffe' is no code base.*torchvision"):
        recognize({}, template("r18"), "caffe")


def test_a_naming_that_a_person_states_is_taken():
    assert recognize(state_of("r18", "torchvision"), template("r18"), "torchvision").name == "torchvision"


def test_counters_and_pixel_buffers_are_reported_as_ignored():
    buffers = {
        "backbone.conv1.bn.num_batches_tracked": np.array(7),
        "num_batches_tracked": np.array(7),
        "data_preprocessor.mean": np.zeros((3, 1, 1)),
    }
    found = match(state_of("r18", "mmaction2") | buffers, template("r18"), MMACTION2, ignored=("optimizer",))
    assert not found.report.problems
    assert found.report.ignored == ("2 num_batches_tracked", "1 mean", "optimizer")


def test_a_transposed_kernel_is_told_the_layout_that_is_wanted():
    state = dict(state_of("r18", "torchvision"))
    wanted = state["fc.weight"].shape
    report = match(state | {"fc.weight": state["fc.weight"].T}, template("r18"), TORCHVISION).report
    (line,) = report.mismatched.values()
    assert line.endswith(f"here head/fc/kernel is {wanted[::-1]}, which is {wanted} there")


def test_every_way_not_to_fit_is_reported():
    state = dict(state_of("r18", "torchvision"))
    del state["bn1.weight"]
    state |= {"fc.weight": np.zeros((5, 32)), "extra.weight": np.zeros(1)}
    report = match(state, template("r18"), TORCHVISION).report
    assert report.missing == {"backbone/norm1/scale": "bn1.weight"}
    assert report.unexpected == ("extra.weight",)
    assert report.mismatched == {"head/fc/kernel": "fc.weight is (5, 32); here head/fc/kernel is (32, 3)"}
    assert len(report.loaded) == len(jax.tree.leaves(template("r18"))) - 2
    with pytest.raises(ConversionError) as error:
        report.check()
    assert all(problem in str(error.value) for problem in report.problems)
    assert "allow=head" not in str(error.value)  # which would not be enough


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_values_that_are_not_finite_are_no_weights(dtype):
    wanted = template("r18")
    state = {name: array.astype(dtype) for name, array in to_state_dict(noise(wanted), TORCHVISION).items()}
    state["bn1.running_mean"][:2] = np.nan
    state["fc.bias"][0] = np.inf
    report = match(state, wanted, TORCHVISION).report
    assert report.problems == [
        "values: bn1.running_mean has 2 of 4 that are not finite; here backbone/norm1/mean",
        "values: fc.bias has 1 of 3 that are not finite; here head/fc/bias",
    ]
    with pytest.raises(ConversionError, match="values: bn1.running_mean"):
        from_state_dict(state, wanted, TORCHVISION)
    allowed = match(state, wanted, TORCHVISION, allow=("head", "bn1.running_mean"))
    allowed.report.check()
    assert ("params", "head/fc/bias") not in allowed.arrays and (
        "batch_stats",
        "backbone/norm1/mean",
    ) not in allowed.arrays


@pytest.mark.parametrize("lacking", ["fc.bias", ""])
def test_where_only_the_head_does_not_fit_a_new_one_is_proposed(lacking):
    state = dict(state_of("r18", "torchvision")) | {"fc.weight": np.zeros((5, 32)), "fc.bias": np.zeros(5)}
    state.pop(lacking, None)
    with pytest.raises(ConversionError, match=r"\n  --config.init.allow=head .* begins with a new classifier$"):
        match(state, template("r18"), TORCHVISION).report.check()
    assert not match(state, template("r18"), TORCHVISION, allow=("head",)).report.problems


def test_a_new_head_is_for_another_number_of_classes():
    state = dict(state_of("r18", "torchvision")) | {"fc.weight": np.zeros((5, 32)), "fc.bias": np.zeros(5)}
    found = match(state, template("r18"), TORCHVISION, allow=("head",))
    assert not found.report.problems
    assert found.report.fresh == {"head/fc/kernel": "head", "head/fc/bias": "head"}
    assert found.report.dropped == {"fc.weight": "head", "fc.bias": "head"}
    initial = jax.tree.map(jnp.asarray, noise(template("r18")))
    started = found.overlay(initial)
    np.testing.assert_array_equal(started["params"]["head"]["fc"]["kernel"], initial["params"]["head"]["fc"]["kernel"])
    np.testing.assert_array_equal(started["params"]["backbone"]["norm1"]["bias"], state["bn1.bias"])


def test_half_a_head_is_not_taken():
    state = dict(state_of("r18", "torchvision")) | {"fc.weight": np.zeros((3, 64))}  # the bias would fit
    found = match(state, template("r18"), TORCHVISION, allow=("head",))
    assert set(found.report.fresh) == {"head/fc/kernel", "head/fc/bias"}
    assert found.report.dropped == {"fc.weight": "head", "fc.bias": "head"}


def test_a_head_that_fits_is_taken_even_where_it_may_differ():
    found = match(state_of("r18", "torchvision"), template("r18"), TORCHVISION, allow=("head", "relays"))
    assert not found.report.fresh and not found.report.dropped


def test_cells_are_new_where_the_source_has_batch_normalisation():
    state, wanted = state_of("r50", "torchvision"), template("r50", "dnr")
    problems = match(state, wanted, TORCHVISION).report.problems
    assert any("relay" in line for line in problems)
    assert "unexpected: layer1.0.bn1.weight" in problems
    found = match(state, wanted, TORCHVISION, allow=("relays",))
    assert not found.report.problems
    assert all("/relay" in path for path in found.report.fresh)
    blocks = 3 + 4 + 6 + 3
    assert len(found.report.dropped) == len(found.replaced) == 2 * 2 * blocks  # scale and shift at two norms
    for path, array in found.replaced.items():
        *_, block, norm, leaf = path.split("/")
        stage = path.split("/")[1]
        key = f"{stage}.{block.removeprefix('block')}.bn{norm[-1]}.{'weight' if leaf == 'scale' else 'bias'}"
        np.testing.assert_array_equal(array, state[key])
    statistics = {path for collection, path in found.arrays if collection == "batch_stats"}
    assert "backbone/layer1/block0/norm1/mean" in statistics  # carried over to the standardisation


def test_patterns_allow_paths_and_names():
    state = {key: array for key, array in state_of("r18", "torchvision").items() if not key.startswith("layer4.")}
    state["aux.weight"] = np.zeros(1)
    found = match(state, template("r18"), TORCHVISION, allow=parse_allow("backbone/layer4/*, aux.*"))
    assert not found.report.problems
    assert {path.split("/")[1] for path in found.report.fresh} == {"layer4"}
    assert found.report.dropped == {"aux.weight": "aux.*"}


def test_what_may_differ_is_checked():
    assert parse_allow("") == ()
    assert parse_allow("head, relays ,fc.*") == ("head", "relays", "fc.*")
    with pytest.raises(ConversionError, match="'haed' is not known.*head, relays, fast_pathway"):
        parse_allow("head,haed")


def test_the_report_as_text():
    state = dict(state_of("r50", "torchvision")) | {"bn1.num_batches_tracked": np.array(7)}
    found = match(
        state,
        template("r50", "dnr"),
        TORCHVISION,
        allow=("relays",),
        labels=("r50.pth", "torchvision"),
        ignored=("epoch",),
    )
    lines = found.report.summary().splitlines()
    assert lines == [
        "weights of r50.pth (torchvision): 203 of 363 arrays loaded",
        "left as initialised: 160 (relays)",
        "not used: 64 (relays)",
        "ignored: 1 num_batches_tracked, epoch",
    ]
    text = str(found.report)
    assert text.startswith(found.report.summary())
    assert "  backbone/conv1/kernel <- conv1.weight" in text
    assert "  layer4.2.bn2.bias" in text


def test_inflation_keeps_the_features_of_a_still_video():
    """Away from the ends of the clip, where zeros are seen."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 4, 6)).astype(np.float32)
    image = rng.normal(size=(1, 1, 8, 8, 4)).astype(np.float32)
    flat = Conv3D(6, (1, 3, 3)).apply({"params": {"kernel": kernel[None]}}, jnp.asarray(image))
    padded = np.concatenate([image, rng.normal(size=(1, 1, 8, 8, 2)).astype(np.float32)], axis=-1)
    still = jnp.asarray(np.repeat(padded, 5, axis=1))
    inflated = inflate(kernel, 3, 6)
    video = Conv3D(6, (3, 3, 3)).apply({"params": {"kernel": inflated}}, still)
    for frame in (1, 2, 3):
        np.testing.assert_allclose(video[:, frame], flat[:, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(inflated[:, :, :, 4:], 0)
    np.testing.assert_allclose(inflated.sum(axis=0)[:, :, :4], kernel, rtol=1e-6)
    assert inflate(kernel, 3, 3) is None


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_what_is_computed_from_weights_of_few_bits_is_not_rounded_to_them(dtype):
    """The frames of an inflated kernel add up to the kernel, and channels of differences to the colours."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 6)).astype(dtype)
    exact = kernel.astype(np.float64)
    np.testing.assert_allclose(inflate(kernel, 3, 3).sum(axis=0), exact, rtol=1e-6)
    paths = {"conv1/kernel": kernel, "difference_conv/kernel": kernel[:, :, :1].repeat(12, axis=2)}
    template = traverse_util.unflatten_dict({f"params/backbone/{path}": leaf for path, leaf in paths.items()}, sep="/")
    template = jax.tree.map(lambda leaf: leaf.astype(np.float32), template)
    found = match({"backbone/conv1/kernel": kernel}, template, OWN, allow=("temporal",))
    differences = found.arrays["params", "backbone/difference_conv/kernel"]
    np.testing.assert_allclose(differences.sum(axis=2) / 4, exact.sum(axis=2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["slowfast", "slowfast_fb"])
def test_an_image_network_becomes_the_slow_pathway(name):
    state = state_of("r50", "torchvision")
    config = dataclasses.replace(CONFIGS[name], width=4, beta_inv=4).arms()["bn"]
    wanted = abstract_variables(create_model(config), (32, 32, 32, 3))
    recognition = recognize(state, wanted)
    assert recognition.name == "torchvision"
    found = match(state, wanted, TORCHVISION, allow=("fast_pathway", "head"), rename=recognition.rename)
    assert not found.report.problems
    for path in found.report.loaded:
        assert path.startswith("backbone/slow_")
    slow = [path for _, path in found.arrays]
    assert len(slow) == len(state) - 2  # all but the head
    assert len(found.report.inflated) == 53  # every convolution
    kernel = found.arrays["params", "backbone/slow_layer3/block0/conv1/kernel"]
    assert kernel.shape == (3, 1, 1, 4 * 4 * 2 + 2 * 4 * 2, 16)


def test_an_image_network_becomes_tanet():
    state = state_of("r50", "torchvision")
    found = match(state, template("tanet"), TORCHVISION, allow=("temporal", "head"))
    assert not found.report.problems
    assert {path.split("/")[3] for path, entry in found.report.fresh.items() if entry == "temporal"} == {"temporal"}
    assert len(found.report.loaded) == len(state)  # the head of as many classes fits


@pytest.mark.parametrize("variant", ["bn", "dnr"])
def test_an_image_network_becomes_tdn(variant):
    """As in the repository: its second stem and stage start from the first ones, its long-term module is new."""
    state, wanted = state_of("r50", "torchvision"), template("tdn", variant)
    recognition = recognize(state, wanted)
    found = match(state, wanted, TORCHVISION, allow=("temporal", "relays", "head"), rename=recognition.rename)
    assert not found.report.problems
    assert set(found.report.loaded.values()) | set(found.report.dropped) == set(state)
    for path in found.report.fresh:
        assert re.search(r"/temporal/|/relay|conv\w*/bias$|difference_norm", path), path
    np.testing.assert_array_equal(
        found.arrays["params", "backbone/difference_layer1/block2/norm1/scale"], state["layer1.2.bn1.weight"]
    )
    np.testing.assert_array_equal(
        found.arrays["batch_stats", "backbone/difference_layer1/block0/shortcut_norm/var"],
        state["layer1.0.downsample.1.running_var"],
    )
    kernel = found.arrays["params", "backbone/conv1/kernel"]
    np.testing.assert_array_equal(found.arrays["params", "backbone/conv1_temp/kernel"], kernel)
    differences = found.arrays["params", "backbone/difference_conv/kernel"]
    assert differences.shape == (7, 7, 12, 4)
    for channel in range(12):
        np.testing.assert_allclose(differences[:, :, channel], kernel.mean(axis=2), rtol=1e-6)


def test_tdn_does_not_start_from_a_network_without_leave():
    problems = match(state_of("r50", "torchvision"), template("tdn"), TORCHVISION, allow=("head",)).report.problems
    for path in (
        "difference_conv/kernel",
        "difference_layer1/block0/conv1/kernel",
        "conv1/bias",
        "temporal/shift/kernel",
    ):
        assert any(path in line for line in problems)


def test_an_image_network_is_refused_by_factorised_convolutions():
    state = state_of("r18", "torchvision")
    report = match(state, template("r2plus1d"), TORCHVISION, allow=("head",)).report
    assert any("conv1/spatial" in line for line in report.problems)


FAMILIES = [
    *("tsn_r18", "tsn_r50", "dnr_r50_g2", "dnr_r50_g4", "r2plus1d_r34"),
    *("slowfast_r18_8x8", "slowfast_r50_8x8", "slowfast_r50_8x8_lateralnorm"),
    *("tsn_resnext101_32x4d", "tsn_bninception", "tsm_r50", "tanet_r50", "tdn_r50_64"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_state_dict_of_the_reference_goes_there_and_back_bit_for_bit(shared, name):
    """Names and shapes are those of the reference implementation, values those of the recipe."""
    case, network = golden.load(shared, name), NETWORKS[name]
    state = {key.removeprefix(network.prefix): array for key, array in case.weights().items()}
    frames = {"SlowFast": 32, "TDN": 40}.get(type(network.config).__name__, 8)
    config = dataclasses.replace(network.config, num_classes=case.meta["num_classes"] or 1)
    model = create_model(config)
    wanted = abstract_variables(model, (frames, 64, 64, 3))
    if not network.head:
        wanted = {collection: tree["backbone"] for collection, tree in wanted.items()}
    returned = to_state_dict(from_state_dict(state, wanted, network.naming), network.naming)
    kept = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked") and "data_preprocessor" not in k}
    assert returned.keys() == kept.keys()
    for key, array in kept.items():
        np.testing.assert_array_equal(returned[key], array, strict=True)


def test_what_torch_has_no_name_for_is_refused():
    with pytest.raises(ConversionError, match="relay1/initial_state has no name"):
        AUTHORS.key("layer1/relay1/initial_state")


def test_arrays_that_become_one_name_are_named():
    """As where a checkpoint holds a network alone and in its wrapper: one of the two would be lost."""
    state, wanted = state_of("r18", "torchvision"), template("r18")
    both = {**state, "module.conv1.weight": np.zeros_like(state["conv1.weight"])}
    recognition = recognize(both, wanted)
    found = match(both, wanted, TORCHVISION, rename=recognition.rename)
    assert found.report.problems == ["ambiguous: conv1.weight, module.conv1.weight; expected one conv1.weight"]
    with pytest.raises(ConversionError, match="ambiguous: conv1.weight, module.conv1.weight"):
        found.report.check()


def test_one_of_two_arrays_can_be_allowed_to_differ():
    state, wanted = state_of("r18", "torchvision"), template("r18")
    both = {**state, "module.conv1.weight": np.zeros_like(state["conv1.weight"])}
    for unused in ("module.*", "conv1.weight"):
        found = match(both, wanted, TORCHVISION, rename=recognize(both, wanted).rename, allow=(unused,))
        assert not found.report.problems and list(found.report.dropped.values()) == [unused]
        kernel = found.arrays["params", "backbone/conv1/kernel"]
        assert kernel.any() == (unused == "module.*")
    assert unused in str(found.report)


def test_a_name_without_its_prefix_does_not_replace_one_with_it():
    state, wanted = state_of("r18", "torchvision"), template("r18")
    both = {f"model.{key}": array for key, array in state.items()} | {"conv1.weight": np.zeros((4, 3, 7, 7), "f4")}
    report = match(both, wanted, TORCHVISION, rename=recognize(both, wanted).rename).report
    assert report.problems == ["ambiguous: model.conv1.weight, conv1.weight; expected one conv1.weight"]


def test_stacked_blocks_are_told_from_missing_names():
    variables = noise(template("r18"))
    state, stacked = to_state_dict(variables, TORCHVISION), stack_blocks(variables)
    with pytest.raises(ConversionError, match=r"blocks/block/.*: the blocks of the network are stacked"):
        from_state_dict(state, stacked, TORCHVISION)
    returned = stack_blocks(from_state_dict(state, unstack_blocks(stacked), TORCHVISION))
    jax.tree.map(np.testing.assert_array_equal, returned, stacked)
