"""Which videos there are, and what each one shows."""

import dataclasses
import logging
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath

from dnr_jax.config import DataConfig
from dnr_jax.data import demo

_logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(".3gp .asf .avi .flv .gif .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split())


@dataclasses.dataclass(frozen=True, eq=False)
class VideoSource:
    """A labelled list of videos.

    Attributes:
      paths: Where the files are.
      labels: int32 ``[len(paths)]``, positions in ``classes``.
      names: Short names for messages, relative to the data set's root.
      classes: Names of the classes.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """The number of videos."""
        return len(self.paths)


def read_list(path: str, root: str, label_map: str = "") -> VideoSource:
    """Reads an annotation file with one ``path label`` a line (MMAction2's format for videos).

    Paths may contain spaces; empty lines are ignored. Videos that are not on the disk are left out with a warning that
    counts them: nobody's copy of Kinetics is complete. They are not looked for in remote storage, where a look-up a
    video would take longer than it is worth.

    Args:
      path: The annotation file.
      root: Folder that its paths are relative to; absolute paths are taken as they are.
      label_map: Text file with one class name a line, in the order of the labels. Without it classes are called by
        their numbers, up to the largest in the list.

    Returns:
      The videos, in the order of the list.

    Raises:
      FileNotFoundError: A list is missing, or all of the videos are.
      ValueError: A line is malformed, a label is outside the label map, or the list is empty.
    """
    entries = [_parse_line(path, number, line) for number, line in _lines(path, "annotation file")]
    if not entries:
        raise ValueError(f"{path}: the annotation file is empty; expected one 'path label' a line")
    largest = max(entry.label for entry in entries)
    classes = _read_classes(label_map) if label_map else tuple(str(label) for label in range(largest + 1))
    for entry in entries:
        if entry.label >= len(classes):
            raise ValueError(
                f"{path}:{entry.number}: label {entry.label} is out of range; "
                f"{label_map} names {len(classes)} classes, so labels are 0 to {len(classes) - 1}"
            )
    entries = _keep_existing(path, root, entries)
    return VideoSource(
        paths=tuple(str(epath.Path(root) / entry.name) for entry in entries),
        labels=np.array([entry.label for entry in entries], np.int32),
        names=tuple(entry.name for entry in entries),
        classes=classes,
    )


def scan_folder(root: str, classes: Sequence[str] = ()) -> VideoSource:
    """Lists the videos of a folder that holds one folder a class.

    Args:
      root: The folder; ``root/<class>/<video>``.
      classes: The classes, in the order of their labels; empty: the names of the folders, sorted.

    Returns:
      The videos, sorted by class and name.

    Raises:
      FileNotFoundError: The folder is missing, or holds no video.
      ValueError: A folder is none of ``classes``.
    """
    folder = epath.Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected one with a folder for each class")
    found = sorted(child.name for child in folder.iterdir() if child.is_dir())
    classes = tuple(classes or found)
    if unknown := sorted(set(found) - set(classes)):
        raise ValueError(f"{root}: folders {_first(unknown)} are none of the training classes {_first(classes)}")
    files = [
        (file, label)
        for label, name in enumerate(classes)
        if name in found
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() in VIDEO_SUFFIXES
    ]
    if not files:
        raise FileNotFoundError(f"{root}: no video found; expected files like {root}/<class>/<name>.mp4")
    return VideoSource(
        paths=tuple(str(file) for file, _ in files),
        labels=np.array([label for _, label in files], np.int32),
        names=tuple(f"{file.parent.name}/{file.name}" for file, _ in files),
        classes=classes,
    )


def load_sources(data: DataConfig) -> tuple[VideoSource, VideoSource]:
    """Returns the training and the validation videos that a configuration names; both have the same ``classes``.

    Raises:
      FileNotFoundError: A file or folder is missing; the message says which, and what is expected there.
      ValueError: ``data.source`` is unknown, or a list or folder is malformed.
    """
    loaders: dict[str, Callable[[DataConfig], tuple[VideoSource, VideoSource]]] = {
        "list": _load_lists,
        "folder": lambda data: _load_folders(data.root),
        "demo": lambda data: _load_folders(
            demo.make_demo(data.cache_dir, data.demo_train_videos, data.demo_val_videos)
        ),
    }
    if data.source not in loaders:
        raise ValueError(f"data.source is '{data.source}'; expected one of {', '.join(loaders)}")
    return loaders[data.source](data)


@dataclasses.dataclass(frozen=True)
class _Entry:
    number: int
    name: str
    label: int


def _load_lists(data: DataConfig) -> tuple[VideoSource, VideoSource]:
    for field in ("train_list", "val_list"):
        if not getattr(data, field):
            raise ValueError(f"data.{field} is empty; data.source 'list' needs an annotation file there")
    train = read_list(data.train_list, data.root, data.label_map)
    val = read_list(data.val_list, data.root, data.label_map)
    if len(val.classes) > len(train.classes):
        raise ValueError(
            f"{data.val_list}: label {len(val.classes) - 1} is out of range; the labels of {data.train_list} are 0 to "
            f"{len(train.classes) - 1}. If classes without training videos are meant, name all in data.label_map"
        )
    return train, dataclasses.replace(val, classes=train.classes)


def _load_folders(root: str) -> tuple[VideoSource, VideoSource]:
    if not root:
        raise ValueError("data.root is empty; data.source 'folder' needs a folder with train/<class> and val/<class>")
    train = scan_folder(str(epath.Path(root) / "train"))
    return train, scan_folder(str(epath.Path(root) / "val"), train.classes)


def _lines(path: str, what: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1."""
    file = epath.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such {what}")
    lines = enumerate(file.read_text().splitlines(), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def _read_classes(label_map: str) -> tuple[str, ...]:
    return tuple(line for _, line in _lines(label_map, "label map"))


def _parse_line(path: str, number: int, line: str) -> _Entry:
    name, *label = line.rsplit(maxsplit=1)
    if not label or not label[0].isdecimal():
        raise ValueError(f"{path}:{number}: '{line}'; expected 'path label' with a label of 0 or more")
    return _Entry(number, name, int(label[0]))


def _keep_existing(path: str, root: str, entries: list[_Entry]) -> list[_Entry]:
    """Leaves out entries whose files are missing; raises where all are."""
    if "://" in root:
        return entries
    missing = {entry for entry in entries if not (epath.Path(root) / entry.name).exists()}
    examples = _first([entry.name for entry in entries if entry in missing])
    if len(missing) == len(entries):
        raise FileNotFoundError(
            f"{path}: none of the {len(entries)} videos is in '{root}', for example {examples}; "
            "set data.root to the folder that the list's paths are relative to"
        )
    if missing:
        message = "%s: %d of %d videos are missing in '%s' and left out, for example %s"
        _logger.warning(message, path, len(missing), len(entries), root, examples)
    return [entry for entry in entries if entry not in missing]


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
