"""The folder of a run: what is in it, and the trained network that is loaded from it."""

import contextlib
import copy
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh

from dnr_jax.config import ConfigError, ExperimentConfig, RunError, from_json, make_paths_absolute, to_json
from dnr_jax.dnr.statistics import Variables
from dnr_jax.models import create_model
from dnr_jax.models.complexity import abstract_variables
from dnr_jax.runs.checkpoint import CHECKPOINTS_FOLDER, Checkpoints, of_latest_videos
from dnr_jax.runs.devices import replicated

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.txt"
METRICS_FILE = "metrics.jsonl"
INIT_REPORT_FILE = "init_report.txt"
_GIVEN = "weights_of"
"""Entry of the progress of a checkpoint whose network was not trained in its folder: where the weights are from."""


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
    variables: Variables
    step: int
    workdir: pathlib.Path


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
    if not file.is_file():
        raise ConfigError(f"'{workdir}' holds no {CONFIG_FILE}, so it is not the work directory of a training run")
    try:
        return from_json(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ConfigError(
            f"'{file}' is damaged ({error}); a run is of use only with the configuration that it was trained with: put "
            "back a copy of that file"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def read_metrics(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics file; a last line that a killed run left half-written is ignored."""
    path = pathlib.Path(path)
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def comparable_validations(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the validations among the rows of a run that can be compared: those of the videos of the latest one."""
    validations = [row for row in rows if row["kind"] == "validation"]
    return of_latest_videos(validations, lambda row: row.get("fingerprint"))


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
    config = read_config(workdir)
    while True:
        step = _find_step(workdir, checkpoint)
        try:
            return _load_step(workdir, config, mesh, step)
        except ConfigError:
            if (workdir / CHECKPOINTS_FOLDER / str(step)).is_dir():
                raise
            # Training goes on, and has put a newer checkpoint in the place of this one.


def check_new(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Return the folder of a run that is to be made; raises ConfigError where it cannot be, or holds something."""
    folder = run_folder(workdir)
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"--workdir: '{folder}' holds something already; expected a folder that is not there yet")
    return folder


def write_run(
    workdir: str | os.PathLike[str],
    config: ExperimentConfig,
    classes: Sequence[str],
    variables: Variables,
    source: str,
    report: str,
) -> pathlib.Path:
    """Make the folder of a run of no steps, whose network is a given one: what takes a run takes it.

    Args:
      workdir: the folder, which is made; it may be there already, empty.
      config: the experiment; paths in it are made absolute in what is written.
      classes: names of the classes, one for each output of the network.
      variables: ``params`` and ``batch_stats``.
      source: where they are from.
      report: what became of every array of the source.

    Raises:
      ConfigError: where the folder holds something already.
      RunError: where it cannot be written.
    """
    folder, config = check_new(workdir), copy.deepcopy(config)
    make_paths_absolute(config)
    whole = folder.resolve()
    partial = whole.with_name(f".{whole.name}.partial")  # so that nothing half-written is in the way later
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with contextlib.closing(Checkpoints(partial)) as checkpoints:
            checkpoints.save_variables(variables, {"classes": list(classes), _GIVEN: source})
        (partial / CLASSES_FILE).write_text("".join(f"{name}\n" for name in classes))
        (partial / INIT_REPORT_FILE).write_text(f"{report}\n")
        (partial / CONFIG_FILE).write_text(to_json(config) + "\n")
        folder.mkdir(exist_ok=True)  # it may be the one that somebody works in
        for path in partial.iterdir():
            path.rename(folder / path.name)
    except OSError as error:
        raise RunError(f"'{folder}' cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def check_trained(workdir: pathlib.Path, progress: Mapping[str, Any]) -> None:
    """Raise ConfigError where a folder holds a given network, so that there is no training to go on with.

    Args:
      workdir: folder of the run.
      progress: what its checkpoint holds beside the state.
    """
    if source := progress.get(_GIVEN):
        raise ConfigError(
            f"'{workdir}' holds the network of {source}, and no state of a training to go on with. What starts from it "
            f"is a run of its own: --workdir=OTHER --config.init_from={workdir}"
        )


def _find_step(workdir: pathlib.Path, checkpoint: str) -> int:
    step = None
    if (workdir / CHECKPOINTS_FOLDER).is_dir():
        with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
            step = checkpoints.best_step if checkpoint == "best" else checkpoints.latest_step
    if step is None:
        raise ConfigError(f"'{workdir}' holds no checkpoint yet: the run stopped before it wrote its first one")
    return step


def _load_step(workdir: pathlib.Path, config: ExperimentConfig, mesh: Mesh, step: int) -> Run:
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        classes = saved_classes(workdir, checkpoints.progress(step), config.model.num_classes)
        model = create_model(config.model)
        shapes, place = abstract_variables(model, config.data.clip_shape), replicated(mesh)
        abstract = {
            collection: jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes.get(collection, {})
            )
            for collection in ("params", "batch_stats")
        }
        variables = checkpoints.restore_variables(abstract, step)
    return Run(config, classes, model, variables, step, workdir)
