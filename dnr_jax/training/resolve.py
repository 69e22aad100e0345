"""What an experiment leaves to its data, filled in: its classes, its videos labelled with them, where it starts."""

import copy
import dataclasses
import logging
import pathlib
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np

from dnr_jax.config import (
    ConfigError,
    EvaluationConfig,
    ExperimentConfig,
    VideoSource,
    flatten,
    locations,
    make_paths_absolute,
)
from dnr_jax.convert.source import Source as WeightSource
from dnr_jax.convert.source import Start, classes_kept, fit_classes, read_source
from dnr_jax.data.catalogue.classes import names_for, with_classes
from dnr_jax.data.catalogue.sources import load_sources
from dnr_jax.data.catalogue.textfiles import first_of
from dnr_jax.data.clips.transforms import one_sided
from dnr_jax.evaluation.videos import labelled
from dnr_jax.models import create_model
from dnr_jax.models.complexity import abstract_variables
from dnr_jax.runs.folder import read_config, saved_classes
from dnr_jax.training.optimizer import rate_factors

_logger = logging.getLogger(__name__)

CHANGEABLE = frozenset(
    {
        "train.steps",
        "train.epochs",
        "train.log_every",
        "train.loggers",
        "train.eval_every",
        "train.checkpoint_every",
        "train.fsdp_devices",
        "model.remat",
        "data.num_threads",
        "data.num_workers",
        "data.max_failures",
    }
    | {f"evaluation.{field.name}" for field in dataclasses.fields(EvaluationConfig)}
)
"""Fields that may differ when a run goes on: its length, and what enters the gradient by its rounding at most, such as
what takes less memory for the same step; so may data's places."""

Sources: TypeAlias = tuple[VideoSource, VideoSource]
"""Training and validation videos."""


@dataclasses.dataclass(frozen=True, eq=False)
class Saved:
    """A run that goes on.

    Attributes:
      workdir: its folder.
      progress: what its latest checkpoint holds beside the state.
    """

    workdir: pathlib.Path
    progress: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Resolved:
    """An experiment that leaves nothing open.

    Attributes:
      config: with absolute paths and the number of classes.
      training: training videos, labelled with the classes of the run.
      validation: validation videos, likewise.
      start: the weights that a new run starts from, where they are given.
    """

    config: ExperimentConfig
    training: VideoSource
    validation: VideoSource
    start: Start | None = None

    @property
    def contents(self) -> dict[str, Any]:
        """What tells these videos from other ones, and the names of the classes, as JSON can hold it."""
        return {
            "classes": list(self.training.classes),
            "training": _content(self.training),
            "validation": _content(self.validation),
        }


def resolve(config: ExperimentConfig, saved: Saved | None = None) -> Resolved:
    """Read the lists of videos, and fill in what an experiment leaves to them. Nothing is compiled or written.

    Args:
      config: the experiment; not changed.
      saved: the run that goes on, whose classes and videos these have to be; None for a new run, whose classes are
        the data's, or those of the classifier that it starts from.

    Raises:
      ConfigError: where the data contradicts the configuration; where the weights to start from do not fit, factors of
        the learning rate are of no parameter, or there are no running statistics to be estimated anew; where the run to
        go on is one of another configuration, other classes or other training videos.
    """
    config = copy.deepcopy(config)
    make_paths_absolute(config)
    sources = load_videos(config)
    resolved = _go_on(config, sources, saved) if saved else _begin(config, sources)
    if config.optimizer.rate_factors or config.train.precise_statistics:
        shapes = abstract_variables(create_model(config.model), config.data.clip_shape)
        rate_factors(config.optimizer, shapes["params"])
        if config.train.precise_statistics and not shapes.get("batch_stats"):
            raise ConfigError(
                f"train.precise_statistics: is {config.train.precise_statistics}, but norms on "
                f"{config.model.norm.base.label()} keep no running statistics; expected 0"
            )
    _warn_of_sides(resolved)
    return resolved


def load_videos(config: ExperimentConfig) -> Sources:
    """Return training and validation videos, labelled as the data of an experiment has it.

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


_PIXELS = ("mean", "std", "channel_order")


def _warn_of_pixels(weights: WeightSource, config: ExperimentConfig) -> None:
    """Warn where weights were trained on pixels that were normalised otherwise, as far as their source says how."""
    if not weights.config:
        return
    for name in _PIXELS:
        there, here = getattr(weights.config.data, name), getattr(config.data, name)
        if there != here:
            _logger.warning(
                "data.%s is %s, and was %s where the weights of %s were trained", name, here, there, weights.name
            )


def _begin(config: ExperimentConfig, sources: Sources) -> Resolved:
    """Resolve a new run; ``config`` is changed.

    Where weights of another run bring a classifier along, its classes, in their order, are those of this run.
    """
    start: Start | None = None
    classes: tuple[str, ...] = ()
    if config.init_from:
        weights = read_source(config.init_from, config.init.checkpoint)
        shown = sorted({source.classes[label] for source in sources for label in np.unique(source.labels)})
        kept = 0 if config.model.num_classes else classes_kept(weights, config, shown)
        config.model.num_classes = config.model.num_classes or kept or len(sources[0].classes)
        start, classes = fit_classes(weights, config, shown)
        _warn_of_pixels(weights, config)
    config.model.num_classes = config.model.num_classes or len(sources[0].classes)
    try:
        classes = classes or names_for(sources[0].classes, config.model.num_classes)
        training, validation = (with_classes(source, classes) for source in sources)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return Resolved(config, training, validation, start)


def _go_on(config: ExperimentConfig, sources: Sources, saved: Saved) -> Resolved:
    """Resolve a run that goes on; ``config`` is changed."""
    workdir, progress = saved.workdir, saved.progress
    before = read_config(workdir)
    make_paths_absolute(before)
    config.model.num_classes = config.model.num_classes or before.model.num_classes
    moved = {*locations(before), *locations(config)} if "training" in progress else set()
    _compare(flatten(before), flatten(config), CHANGEABLE | moved, workdir)
    classes = saved_classes(workdir, progress, config.model.num_classes)
    training, validation = (labelled(source, classes, workdir) for source in sources)
    if (began := progress.get("training")) not in (None, _content(training)):
        raise ConfigError(
            f"the training videos are not those of the run in '{workdir}': it began with {began['videos']}, and now "
            f"there are {len(training)}{', in another order or other ones' * (began['videos'] == len(training))}. A "
            "run goes on with the videos that it began with; for other ones, begin another run from its weights: "
            f"--workdir=OTHER --config.init_from={workdir}"
        )
    if progress.get("validation") not in (None, _content(validation)):
        _logger.warning(
            "the validation videos are not those of the run before: its validations until now are of other ones, and "
            "do not count for the best checkpoint once these are evaluated"
        )
    return Resolved(config, training, validation)


def _compare(
    old: Mapping[str, Any], new: Mapping[str, Any], unimportant: Collection[str], workdir: pathlib.Path
) -> None:
    """Raise ConfigError where a folder holds a run of another experiment."""
    absent = "nothing"  # a field of a part that only one of them has
    pairs = {name: (old.get(name, absent), new.get(name, absent)) for name in {**old, **new} if name not in unimportant}
    different = {name: (there, now) for name, (there, now) in pairs.items() if there != now}
    if different:
        parts = tuple(f"{name}." for name in different)  # of another class, so that its fields tell nothing more
        lines = [
            f"  {name}: {there!r} there, {now!r} now"
            for name, (there, now) in different.items()
            if not name.startswith(parts)
        ]
        raise ConfigError(
            f"'{workdir}' holds a run with another configuration; choose another --workdir, or the same values:\n"
            + "\n".join(lines)
        )


def _warn_of_sides(resolved: Resolved) -> None:
    """Warn of classes whose mirrored clips are labelled as what they no longer show."""
    sides = one_sided(resolved.training.classes) if resolved.config.data.flip else []
    if sides:
        _logger.warning(
            "data.flip mirrors half of the clips, and no class is the mirror image of %s: mirrored clips keep that "
            "label. Where it names a side of the picture, set data.flip=False",
            first_of(sides, 3),
        )


def _content(source: VideoSource) -> dict[str, Any]:
    """Return what tells a list of videos from another, wherever they lie."""
    return {"videos": len(source), "fingerprint": source.fingerprint()}
