"""Where an experiment's videos are: the fields that say so, absolute paths, and the videos themselves."""

import copy
import os
from typing import TypeAlias

from dnr_jax.config import ConfigError, ExperimentConfig, VideoSource
from dnr_jax.data.catalogue.sources import load_sources

Sources: TypeAlias = tuple[VideoSource, VideoSource]
"""Training and validation videos."""

LOCATIONS = frozenset({"data.root", "data.annotations", "data.train_list", "data.val_list", "data.label_map"})
"""Fields that say where the data is, which may move: what the lists hold is compared instead."""


def with_absolute_paths(config: ExperimentConfig) -> ExperimentConfig:
    """Return a copy of an experiment that does not depend on the folder in which the program was started."""
    config = copy.deepcopy(config)
    data = config.data
    for section, name in [(config, "init_from"), *((data, name.removeprefix("data.")) for name in LOCATIONS)]:
        path = getattr(section, name)
        if path and "://" not in path:
            setattr(section, name, os.path.abspath(os.path.expanduser(path)))
    if data.source == "list":
        data.root = data.root or os.getcwd()
    return config


def load_videos(config: ExperimentConfig) -> Sources:
    """Return training and validation videos, labelled as the data has it.

    Raises:
      ConfigError: where they cannot be found, or are fewer than a run needs.
    """
    try:
        training, validation = load_sources(config.data)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error
    if len(training) < config.train.batch_size:
        raise ConfigError(
            f"train.batch_size: is {config.train.batch_size}, more than the {len(training)} training videos"
        )
    if not len(validation):
        raise ConfigError("there is no validation video, which would tell the best checkpoint")
    return training, validation
