"""The folder of a run: what is in it, and the trained network that is loaded from it."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jax.sharding import Mesh

from dnr_jax.config import ConfigError, ExperimentConfig, from_json
from dnr_jax.data.classes import with_classes
from dnr_jax.data.sources import VideoSource, load_split
from dnr_jax.models import create_model
from dnr_jax.training.checkpoint import CHECKPOINTS_FOLDER, Checkpoints
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import abstract_state

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.txt"
_NOWHERE: Mapping[str, str | None] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained network, as it was found in a run's folder.

    Attributes:
      config: the run's configuration.
      classes: names of the classes, one for each output of the network.
      model: the network.
      variables: ``params`` and ``batch_stats``.
      step: steps after which the checkpoint was written.
      workdir: the folder.
    """

    config: ExperimentConfig
    classes: tuple[str, ...]
    model: nn.Module
    variables: dict[str, Any]
    step: int
    workdir: pathlib.Path

    def labelled(self, source: VideoSource) -> VideoSource:
        """Return videos with labels that count in the run's classes, found by name.

        Raises:
          ConfigError: where a video shows a class that the run does not have.
        """
        return labelled(source, self.classes, self.workdir)


def run_folder(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Return the folder of a run, which need not be there yet.

    Raises:
      ConfigError: where it is a file, or in remote storage.
    """
    if "://" in os.fspath(workdir):
        raise ConfigError(
            f"--workdir: {os.fspath(workdir)!r} is in remote storage, where a run cannot append to its records nor "
            "lock its folder; choose a local folder, and copy that"
        )
    folder = pathlib.Path(workdir).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--workdir: '{folder}' is a file; expected the folder of a run")
    return folder


def read_config(workdir: pathlib.Path) -> ExperimentConfig:
    """Return the configuration of the run in a folder; raises ConfigError where its file cannot be read."""
    file = workdir / CONFIG_FILE
    try:
        return from_json(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ConfigError(
            f"'{file}' is damaged ({error}); a run is of use only with the configuration that it was trained with: put "
            "back a copy of that file"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def saved_classes(workdir: pathlib.Path, progress: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return the names of a run's classes, which belong to its checkpoint: ``classes.txt`` is a copy for people.

    Args:
      workdir: folder of the run.
      progress: what a checkpoint of the run holds beside the state.
      count: classes of its network.

    Raises:
      ConfigError: where there are not as many names as classes.
    """
    file = workdir / CLASSES_FILE
    if "classes" in progress:
        names, where = tuple(progress["classes"]), f"the checkpoint in '{workdir}'"
    elif file.is_file():  # runs of the time when checkpoints did not hold the names
        names, where = tuple(file.read_text().splitlines()), f"'{file}'"
    else:
        raise ConfigError(f"'{workdir}' holds no {CLASSES_FILE}, and its checkpoint no names of classes")
    if len(names) != count:
        raise ConfigError(f"{where} names {len(names)} classes, but the network tells {count} apart")
    return names


def labelled(source: VideoSource, classes: tuple[str, ...], workdir: pathlib.Path) -> VideoSource:
    """Return videos with labels that count in the classes of the run in ``workdir``; raises as :meth:`Run.labelled`."""
    try:
        return with_classes(source, classes)
    except ValueError as error:
        raise ConfigError(f"the classes of the data are not those of the run in '{workdir}': {error}") from error


def open_data(
    run: Run, split: str = "val", kind: str | None = None, paths: Mapping[str, str | None] = _NOWHERE
) -> VideoSource:
    """Return videos to score with a run, labelled with its classes.

    Args:
      run: the run, whose ``config.data`` is changed to say what is scored.
      split: which videos of the data.
      kind: what the data is, as ``data.source``; None: a list where ``paths`` has one, otherwise as in the run.
      paths: where the data is, by fields of :class:`~dnr_jax.config.DataConfig`; None and what is left out: as in the
        run. ``val_list`` is the list to score.

    Raises:
      ConfigError: where there is no such data, or where a video shows a class that the run does not have.
    """
    data, given = run.config.data, {name: path for name, path in paths.items() if path is not None}
    if "val_list" in given and split != "val":
        raise ConfigError("--list says which videos to score; leave out --split")
    for name, path in given.items():
        setattr(data, name, os.path.abspath(os.path.expanduser(path)) if "://" not in path else path)
    generated = data.source == "demo" and "root" in given
    data.source = kind or ("list" if "val_list" in given else "folder" if generated else data.source)
    try:
        source = load_split(data, split)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"{error}. --root, --list, --label-map and --annotations say where the data is") from error
    return run.labelled(source)


def load_run(workdir: str | pathlib.Path, mesh: Mesh, checkpoint: str = "latest") -> Run:
    """Load what training left in a folder; nothing is written there.

    Args:
      workdir: folder of the run.
      mesh: devices that the variables are copied to.
      checkpoint: ``latest``, or ``best``: the one with the best validation top-1.

    Raises:
      ConfigError: where the folder holds no run or no checkpoint yet, or what it holds is damaged.
    """
    workdir = run_folder(workdir)
    if not workdir.is_dir():
        raise ConfigError(f"there is no folder '{workdir}'; expected the work directory of a training run")
    if not (workdir / CONFIG_FILE).is_file():
        raise ConfigError(f"'{workdir}' holds no {CONFIG_FILE}, so it is not the work directory of a training run")
    config = read_config(workdir)
    no_checkpoint = ConfigError(f"'{workdir}' holds no checkpoint yet: the run stopped before it wrote its first one")
    if not (workdir / CHECKPOINTS_FOLDER).is_dir():
        raise no_checkpoint
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        step = checkpoints.best_step if checkpoint == "best" else checkpoints.latest_step
        if step is None:
            raise no_checkpoint
        classes = saved_classes(workdir, checkpoints.progress(step), config.model.num_classes)
        model = create_model(config.model)
        # The length of the schedule does not matter: only the structure of the optimiser's state does.
        tx = make_optimizer(config.optimizer, make_schedule(config.optimizer, config.train.batch_size, 1))
        state, _ = checkpoints.restore(abstract_state(model, tx, config.data.clip_shape, mesh), step)
    return Run(config, classes, model, state.variables, step, workdir)
