"""Videos to score with a run, labelled with its classes."""

import os
import pathlib
from collections.abc import Mapping

from dnr_jax.config import ConfigError, VideoSource
from dnr_jax.config.data import SourceKind
from dnr_jax.data.catalogue.classes import with_classes
from dnr_jax.data.catalogue.sources import load_split
from dnr_jax.runs.folder import Run

_NOWHERE: Mapping[str, str | None] = {}


def labelled(source: VideoSource, classes: tuple[str, ...], workdir: pathlib.Path) -> VideoSource:
    """Return videos with labels that count in a run's classes, found by name.

    Args:
      source: the videos, labelled as their data has it.
      classes: names of the run's classes.
      workdir: folder of the run, for the message.

    Raises:
      ConfigError: where a video shows a class that the run does not have.
    """
    try:
        return with_classes(source, classes)
    except ValueError as error:
        raise ConfigError(f"the classes of the data are not those of the run in '{workdir}': {error}") from error


def open_data(
    run: Run, split: str = "val", kind: SourceKind | None = None, paths: Mapping[str, str | None] = _NOWHERE
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
    return labelled(source, run.classes, run.workdir)
