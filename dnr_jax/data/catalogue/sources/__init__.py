"""Which videos there are, and what each one shows: one file for each source of videos."""

import logging
import os
from typing import Any

from etils import epath

from dnr_jax.config import Catalogue, ConfigError, DataConfig, Problem, Source, VideoSource, registered
from dnr_jax.config.parts import nearest
from dnr_jax.data.catalogue.datasets import DATASETS

# In the order in which a folder is asked what it is.
from dnr_jax.data.catalogue.sources.records import Records  # isort: skip
from dnr_jax.data.catalogue.sources.folder import Folder, scan_folder  # isort: skip
from dnr_jax.data.catalogue.sources.lists import Lists, read_list  # isort: skip
from dnr_jax.data.catalogue.sources.dataset import Dataset  # isort: skip
from dnr_jax.data.catalogue.sources.demo import Demo  # isort: skip
from dnr_jax.data.catalogue.sources.making import video_source  # isort: skip
from dnr_jax.data.catalogue.sources.recognition import sources_in  # isort: skip
from dnr_jax.data.catalogue.textfiles import first_of  # isort: skip

__all__ = [
    "Catalogue",
    "Dataset",
    "Demo",
    "Folder",
    "Lists",
    "Problem",
    "Records",
    "VideoSource",
    "load_sources",
    "read_list",
    "scan_folder",
    "source_at",
    "video_source",
]

_logger = logging.getLogger(__name__)


def load_sources(data: DataConfig) -> tuple[VideoSource, VideoSource]:
    """Return the training and the validation videos that a configuration names; both have the same ``classes``.

    Classes without a video are named in a warning.

    Raises:
      ConfigError: A path is empty, or there is no such file or folder.
      FileNotFoundError: A file or folder is missing in what is there; the message says which.
      ValueError: A list or folder is malformed, or a video has several labels.
    """
    if problems := [f"data.source.{problem}" for problem in data.source.path_problems()]:
        raise ConfigError("\n".join(problems))
    train, val = data.source.load()
    for split, source in (("training", train), ("validation", val)):
        if empty := source.classes_without_videos():
            message = "%d of %d classes have no %s video: %s"
            _logger.warning(message, len(empty), len(source.classes), split, first_of(empty, 10))
    return train, val


def source_at(target: str, root: str = "", annotations: str = "", fold: int = 1) -> Source:
    """Return the source that a person named: the one place that tells what kind of data a path is.

    Args:
      target: The name of a public data set; ``folder``, ``list``, or the name of another registered source; or a path:
        a prepared data set, a folder with ``train/<class>``, with lists of videos, or with a folder for each class, or
        a list.
      root: Folder of the videos, where ``target`` does not say it.
      annotations: Folder of the annotations of a data set, or of the lists.
      fold: Number of the official division of a data set.

    Raises:
      ConfigError: A name comes without ``root``, or something is given that the source does not have.
      FileNotFoundError: There is nothing of the kind.
      ValueError: What is there is ambiguous.
    """
    root, annotations = os.path.expanduser(root), os.path.expanduser(annotations)
    if target in _names():
        if not root:
            raise ConfigError(f"{target} is a data set; --root has to name the folder of its videos")
        if target in ("list", "Lists"):
            _refuse(target, fold=fold)
            return Lists.of_folder(annotations or root, root)
        return _named(target, root, annotations, fold)
    path = os.path.expanduser(target)
    _refuse(f"'{target}'", annotations=annotations, fold=fold)
    if epath.Path(path).is_file():
        return Lists(root=root or os.path.dirname(path), val_list=path)
    if not epath.Path(path).is_dir():
        names = _names()
        meant = nearest(target, names)
        raise FileNotFoundError(
            f"'{target}' is no folder, no list, and no data set{meant}; those are {', '.join(names)}"
        )
    found = next(sources_in(path), None) or Folder(path)
    if not isinstance(found, Lists):
        _refuse(f"'{target}'", root=root)
    elif root:
        found.root = root
    return found


def _names() -> list[str]:
    own = [name for name in registered(Source) if name not in ("Dataset", "Demo")]
    return [*DATASETS, "folder", "list", *own]


def _named(name: str, root: str, annotations: str, fold: int) -> Source:
    if name in DATASETS:
        return Dataset(name, root, annotations, fold)
    cls: Any = Folder if name == "folder" else registered(Source)[name]
    given: dict[str, Any] = {"root": root, "annotations": annotations, "fold": fold}
    fields = {field: value for field, value in given.items() if field in cls.__dataclass_fields__}
    _refuse(name, **{field: value for field, value in given.items() if field not in fields})
    return cls(**fields)


def _refuse(what: str, **given: str | int) -> None:
    """Raise ConfigError where something is given that a source does not have."""
    for name, value in given.items():
        if value not in ("", 1):
            raise ConfigError(f"--{name}: {what} has no such setting")
