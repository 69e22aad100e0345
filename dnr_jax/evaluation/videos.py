"""Videos to score with a run, labelled with its classes."""

import pathlib
from collections.abc import Mapping

from dnr_jax.config import ConfigError, Source, VideoSource, exchanged, expand_path, make_paths_absolute, named
from dnr_jax.config.parts import with_fields
from dnr_jax.data.catalogue.classes import with_classes
from dnr_jax.data.catalogue.sources import Demo, Folder, Lists, Records, source_at
from dnr_jax.dnr.fields import field_types
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
    run: Run, split: str = "val", kind: str | None = None, paths: Mapping[str, str | None] = _NOWHERE
) -> VideoSource:
    """Return videos to score with a run, labelled with its classes.

    Args:
      run: the run, whose ``config.data.source`` is changed to say what is scored.
      split: which videos of the data.
      kind: what the data is, the name of a registered :class:`~dnr_jax.config.Source`; None: as ``paths`` tell.
      paths: where the data is, by fields of the source; None and what is left out: as in the run. ``val_list`` is the
        list to score.

    Raises:
      ConfigError: where there is no such data, or where a video shows a class that the run does not have.
    """
    given = {name: expand_path(path) for name, path in paths.items() if path is not None}
    if "val_list" in given and split != "val":
        raise ConfigError("--list says which videos to score; leave out --split")
    try:
        source = run.config.data.source = _scored(run.config.data.source, kind, given)
        make_paths_absolute(source)
        videos = source.load_split(split)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"{error}. --root, --list, --label-map and --annotations say where the data is") from error
    return labelled(videos, run.classes, run.workdir)


def _scored(trained: Source, kind: str | None, given: Mapping[str, str]) -> Source:
    """Return the source to score: that of the run, with what is given, or another one where that tells so."""
    if kind:
        cls = named(Source, kind)
    elif "val_list" in given:
        cls = Lists
    elif "root" in given and isinstance(trained, Demo | Folder | Records):  # those of others may lie in any folder
        cls = type(source_at(given["root"]))
    else:
        cls = type(trained)
    if unknown := [name for name in given if name not in field_types(cls)]:
        flag = {"val_list": "list"}.get(unknown[0], unknown[0].replace("_", "-"))
        raise ConfigError(f"--{flag}: {cls.__name__} has no such setting; --source says what else the data is")
    return with_fields(exchanged(trained, cls), given)
