"""Weights of files and of runs' folders, for the network of an experiment."""

import copy
import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from dnr_jax.config import ConfigError, DataConfig, ExperimentConfig, InitConfig, with_variant
from dnr_jax.convert import namings, to_state_dict, write_weight_file
from dnr_jax.convert.source import classes_of, convert, fit_source, own_metadata, read_source, template_of
from dnr_jax.models import TSN, create_model
from dnr_jax.models.complexity import abstract_variables


def experiment(variant: str = "bn", **model) -> ExperimentConfig:
    config = ExperimentConfig(
        model=TSN(**{"depth": 18, "width": 4, "num_classes": 3} | model), data=DataConfig(crop_size=32)
    )
    return with_variant(config, variant)


def noise(tree):
    fill = functools.partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    return jax.tree.map(lambda leaf: jnp.asarray(fill(leaf.shape)), tree)


def write(path, config: ExperimentConfig, naming: str = "torchvision", metadata=None):
    variables = noise(template_of(config))
    write_weight_file(path, to_state_dict(variables, namings()[naming]), metadata)
    return variables


def test_a_file_fills_a_network(tmp_path):
    config = experiment()
    variables = write(tmp_path / "a.safetensors", config)
    start = fit_source(read_source(tmp_path / "a.safetensors"), config)
    assert start.complete
    zeros = jax.tree.map(jnp.zeros_like, variables)
    jax.tree.map(np.testing.assert_array_equal, start.apply(zeros), variables)


def test_weights_beside_a_configuration_of_another_version_stay_usable(tmp_path):
    """Theirs says ``"name": "tsn"`` where ours has the class."""
    config = experiment()
    metadata = own_metadata(config, (), "own")
    old = {entry: text.replace('"class": "TSN"', '"name": "tsn"') for entry, text in metadata.items()}
    write(tmp_path / "a.safetensors", config, "own", old)
    source = read_source(tmp_path / "a.safetensors")
    assert source.config is None and fit_source(source, config).complete
    with pytest.raises(ConfigError, match=r"does not say which network it is for \(model: .* of which class.*--config"):
        convert(source, tmp_path / "b.safetensors")


def test_what_does_not_fit_is_refused_with_the_name_of_the_file(tmp_path):
    config = experiment()
    write(tmp_path / "a.safetensors", config)
    other = experiment(num_classes=5)
    with pytest.raises(ConfigError, match=r"a\.safetensors \(torchvision\) does not fit.*:\n  shape: fc.bias"):
        fit_source(read_source(tmp_path / "a.safetensors"), other)
    other.init.allow = "head"
    start = fit_source(read_source(tmp_path / "a.safetensors"), other)
    assert not start.complete
    assert set(start.report.fresh) == {"head/fc/kernel", "head/fc/bias"}


def test_unknown_names_are_refused_with_the_name_of_the_file(tmp_path):
    write_weight_file(tmp_path / "a.safetensors", {"stem.weight": np.zeros(3)})
    with pytest.raises(ConfigError, match=r"a\.safetensors: the names in it are not those"):
        fit_source(read_source(tmp_path / "a.safetensors"), experiment())


def test_our_own_files_say_what_they_are(tmp_path):
    config = experiment("dnr")
    write(tmp_path / "a.safetensors", config, "authors", own_metadata(config, ("walk", "run", "sit"), "authors"))
    source = read_source(tmp_path / "a.safetensors")
    assert (source.config, source.classes, source.naming) == (config, ("walk", "run", "sit"), "authors")
    assert fit_source(source, config).complete


def test_a_new_head_has_no_names_of_classes(tmp_path):
    """Whoever starts from the file would keep a classifier that knows none of them."""
    config = experiment()
    names = tuple("abc")
    write(tmp_path / "a.safetensors", config, "own", own_metadata(config, names, "own"))
    convert(read_source(tmp_path / "a.safetensors"), tmp_path / "same.safetensors")
    assert read_source(tmp_path / "same.safetensors").classes == names
    other = experiment(num_classes=5)
    other.init = InitConfig(allow="head")
    convert(read_source(tmp_path / "a.safetensors"), tmp_path / "new.safetensors", other)
    found = read_source(tmp_path / "new.safetensors")
    assert found.config is not None and found.config.model.num_classes == 5
    assert found.classes == ()


def test_blocks_under_a_scan_are_filled(tmp_path):
    config = experiment("dnr", depth=34)
    variables = write(tmp_path / "a.safetensors", config, "own")
    scanned = copy.deepcopy(config)
    scanned.model.scan_blocks = True
    model = create_model(scanned.model)
    start = fit_source(read_source(tmp_path / "a.safetensors"), scanned)
    template = abstract_variables(model, scanned.data.clip_shape)
    started = start.apply(noise(template))
    stage = started["params"]["backbone"]["layer2"]
    for i in (1, 2, 3):
        np.testing.assert_array_equal(
            stage["blocks"]["block"]["conv2"]["kernel"][i - 1],
            variables["params"]["backbone"]["layer2"][f"block{i}"]["conv2"]["kernel"],
        )
    assert jax.tree.map(jnp.shape, started) == jax.tree.map(jnp.shape, template)


def test_placements_and_dtypes_are_those_of_the_network(tmp_path):
    config = experiment()
    variables = write(tmp_path / "a.safetensors", config)
    device = jax.devices()[3]
    initial = jax.device_put(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables), device)
    started = fit_source(read_source(tmp_path / "a.safetensors"), config).apply(initial)
    assert {leaf.dtype for leaf in jax.tree.leaves(started)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.device for leaf in jax.tree.leaves(started)} == {device}


@pytest.mark.parametrize("naming", ["torchvision", "mmaction2", "own"])
def test_the_number_of_classes_is_read_from_the_head(naming, tmp_path):
    write(tmp_path / "a.safetensors", experiment(num_classes=7), naming)
    assert classes_of(read_source(tmp_path / "a.safetensors"), experiment(num_classes=0)) == 7


def test_a_source_without_a_head_has_no_number_of_classes(tmp_path):
    config = experiment()
    state = to_state_dict(noise(template_of(config)), namings()["torchvision"])
    write_weight_file(tmp_path / "a.safetensors", {k: v for k, v in state.items() if not k.startswith("fc")})
    assert classes_of(read_source(tmp_path / "a.safetensors"), config) == 0


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is a folder without a file of weights .*, and no run"):
        read_source(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no checkpoint yet"):
        read_source(tmp_path)


def test_the_folder_of_an_export_is_a_source(tmp_path):
    config = experiment("dnr")
    write(tmp_path / "weights.safetensors", config, "own", own_metadata(config, ("walk", "run", "sit"), "own"))
    (tmp_path / "config.json").write_text("{}")
    assert read_source(tmp_path).config == config


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.complex64])
def test_numbers_of_another_kind_do_not_fit(dtype, tmp_path):
    config = experiment()
    state = to_state_dict(noise(template_of(config)), namings()["torchvision"])
    write_weight_file(tmp_path / "a.safetensors", state | {"conv1.weight": np.ones((4, 3, 7, 7), dtype)})
    with pytest.raises(
        ConfigError, match=rf"shape: conv1.weight is {np.dtype(dtype)} \(4, 3, 7, 7\); here .* is float32"
    ):
        fit_source(read_source(tmp_path / "a.safetensors"), config)


def test_numbers_of_8_bits_fit(tmp_path):
    config = experiment()
    state = to_state_dict(noise(template_of(config)), namings()["torchvision"])
    weight = np.full((4, 3, 7, 7), 1.5, ml_dtypes.float8_e4m3fn)
    write_weight_file(tmp_path / "a.safetensors", state | {"conv1.weight": weight})
    start = fit_source(read_source(tmp_path / "a.safetensors"), config)
    kernel = start.apply(noise(template_of(config)))["params"]["backbone"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, np.full((7, 7, 3, 4), 1.5, np.float32))


def test_the_defaults_are_strict():
    assert InitConfig() == InitConfig(naming="", checkpoint="latest", allow="")
