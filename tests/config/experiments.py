"""Experiments for the tests of their configuration."""

import pytest

from dnr_jax.config import ConfigError, ExperimentConfig, validate
from dnr_jax.data.catalogue.sources import Demo


def valid_config() -> ExperimentConfig:
    config = ExperimentConfig()
    config.data.source = Demo()
    return config


def problems(config: ExperimentConfig, **devices: int) -> str:
    with pytest.raises(ConfigError) as refused:
        validate(config, **devices)
    return str(refused.value)
