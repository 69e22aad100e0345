"""Experiments as JSON."""

import dataclasses
import fractions
import json
import re

import numpy as np
import pytest

from dnr_jax.config import ConfigError, ExperimentConfig, flatten, from_json, to_json, validate
from dnr_jax.data.catalogue.sources import Dataset, Demo, Folder, Lists, Records
from dnr_jax.dnr import BatchNorm, BatchRenorm, GroupNorm
from dnr_jax.models import TSN, SlowFast
from tests.config.experiments import valid_config

pytestmark = pytest.mark.compat


def test_json_there_and_back():
    config = valid_config()
    config.data.mean = (1.0, 2.0, 3.0)
    config.model.norm.depth = 3
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("train", "steps", np.int64(5)),
        ("train", "seed", np.uint32(7)),
        ("optimizer", "learning_rate", np.float32(0.1)),
        ("optimizer", "learning_rate", fractions.Fraction(1, 3)),
        ("optimizer", "nesterov", np.bool_(True)),
        ("data", "std", tuple(np.array([58.4, 57.1, 57.4], np.float32))),
    ],
)
def test_numbers_that_a_config_file_computed_are_those_of_python_in_json(section, field, value):
    config = valid_config()
    setattr(getattr(config, section), field, value)
    validate(config, with_data=False)
    assert flatten(from_json(to_json(config))) == flatten(config)
    leaves = [one for leaf in flatten(config).values() for one in (leaf if isinstance(leaf, tuple) else (leaf,))]
    assert {type(leaf) for leaf in leaves} <= {int, float, bool, str, type(None)}


def test_an_unknown_field_in_json_is_refused():
    text = to_json(valid_config()).replace('"momentum": 0.9,\n    "nesterov"', '"momentun": 0.9,\n    "nesterov"')
    with pytest.raises(ConfigError, match=r"no field 'optimizer.momentun' \(did you mean 'momentum'\?\)"):
        from_json(text)


def test_a_value_of_the_wrong_type_in_json_is_refused():
    with pytest.raises(ConfigError, match="model.width: is '64'; expected a whole number"):
        from_json(to_json(valid_config()).replace('"width": 64', '"width": "64"'))


def test_flatten_names_every_leaf():
    leaves = flatten(ExperimentConfig())
    assert leaves["model.norm.relay_distance"] == 4
    assert leaves["optimizer.learning_rate"] == 0.1
    assert not any(dataclasses.is_dataclass(value) for value in leaves.values())


def test_the_classes_of_an_experiment_are_in_its_json():
    config = dataclasses.replace(valid_config(), model=SlowFast.pyslowfast())
    assert json.loads(to_json(config))["model"]["class"] == "SlowFast"
    assert from_json(to_json(config)) == config
    with pytest.raises(ConfigError, match=r"no Network is called 'SlowFats' \(did you mean 'SlowFast'\?\)"):
        from_json(to_json(config).replace('"SlowFast"', '"SlowFats"'))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"class": "TSN"', '"class": ["TSN"]', "no Network is called"),
        ('"seed": 0', '"seed": {"class": "TSN"}', "train.seed: is {'class': 'TSN'}; expected a whole number"),
        ('"sampler": {', '"sampler": 5, "x": {', "no field 'data.x'"),
        ("", "", "is a list; expected an object"),
    ],
)
def test_json_that_is_no_experiment_is_refused(old, new, message):
    text = to_json(valid_config()).replace(old, new) if old else "[1]"
    with pytest.raises(ConfigError, match=re.escape(message)):
        from_json(text)


def test_a_section_that_is_none_stays_none():
    config = dataclasses.replace(valid_config(), model=TSN(interlace=None))
    assert from_json(to_json(config)).model.interlace is None


@pytest.mark.parametrize(
    ("former", "base"),
    [
        ({"base": "bn", "momentum": 0.8, "clips_per_statistics": 8}, BatchNorm(momentum=0.8, clips_per_statistics=8)),
        ({"base": "gn", "channel_groups": 8, "statistics": "frame"}, GroupNorm(groups=8, statistics="frame")),
        ({"base": "brn", "renorm_limits": [2.0, 3.0], "epsilon": 1e-3}, BatchRenorm(limits=(2.0, 3.0), epsilon=1e-3)),
    ],
)
def test_json_in_which_the_settings_of_the_base_stood_beside_it_is_read(former, base):
    others = {"channel_groups": 32, "channels_per_group": 0, "statistics": "group", "clips_per_statistics": 0}
    others |= {"momentum": 0.9, "epsilon": 1e-5, "renorm_limits": [3.0, 5.0], "renorm_steps": [5000, 40000, 25000]}
    old = json.loads(to_json(valid_config()))
    old["model"]["norm"] |= others | former
    assert from_json(json.dumps(old)).model.norm == dataclasses.replace(valid_config().model.norm, base=base)
    old["model"]["norm"]["momentun"] = 0.9
    with pytest.raises(ConfigError, match=r"no field 'model.norm.momentun'"):
        from_json(json.dumps(old))


def test_json_with_a_base_that_does_not_exist_is_refused():
    old = json.loads(to_json(valid_config()))
    old["model"]["norm"]["base"] = "BN"
    with pytest.raises(ConfigError, match=r"no Base is called 'BN' \(did you mean 'bn'\?\)"):
        from_json(json.dumps(old))


def test_json_of_the_form_before_classes_is_refused_with_what_to_do():
    old = json.loads(to_json(valid_config()))
    del old["model"]["class"]
    with pytest.raises(ConfigError, match="model: does not say of which class it is: another version.*init_from"):
        from_json(json.dumps(old))


@pytest.mark.parametrize(
    ("former", "source"),
    [
        ({"source": "list", "root": "/r", "train_list": "/t", "val_list": "/v"}, Lists("/r", "/t", "/v")),
        ({"source": "folder", "root": "/r", "label_map": "/none"}, Folder("/r")),
        ({"source": "dataset", "dataset": "ucf101", "root": "/r", "fold": 3}, Dataset("ucf101", "/r", fold=3)),
        ({"source": "records", "root": "/r"}, Records("/r")),
        ({"source": "demo", "demo_train_videos": 16, "demo_val_videos": 8, "cache_dir": "/c"}, Demo(16, 8, "/c")),
    ],
)
def test_json_of_the_form_before_sources_is_converted(former, source):
    """With all fields that the section had then, of which a source read some."""
    unused = {
        "root": "",
        "dataset": "",
        "annotations": "",
        "fold": 1,
        "train_list": "",
        "val_list": "",
        "label_map": "",
    }
    unused |= {"cache_dir": "", "demo_train_videos": 480, "demo_val_videos": 120}
    config = valid_config()
    values = json.loads(to_json(config))
    del values["data"]["source"]
    config.data.source = source
    assert from_json(json.dumps(values | {"data": unused | former | values["data"]})) == config


def test_a_word_that_was_no_source_is_refused():
    with pytest.raises(ConfigError, match=r"data.source: is 'films'; expected Source"):
        from_json('{"data": {"source": "films"}}')
