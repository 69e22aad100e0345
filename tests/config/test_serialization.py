"""Experiments as JSON."""

import dataclasses
import json
import re

import pytest

from dnr_jax.config import ConfigError, ExperimentConfig, flatten, from_json, to_json
from dnr_jax.models import TSN, SlowFast
from tests.config.experiments import valid_config

pytestmark = pytest.mark.compat


def test_json_there_and_back():
    config = valid_config()
    config.data.mean = (1.0, 2.0, 3.0)
    config.model.norm.depth = 3
    assert from_json(to_json(config)) == config


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


def test_json_of_the_form_before_classes_is_refused_with_what_to_do():
    old = json.loads(to_json(valid_config()))
    del old["model"]["class"]
    with pytest.raises(ConfigError, match="model: does not say of which class it is: another version.*init_from"):
        from_json(json.dumps(old))
