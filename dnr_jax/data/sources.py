"""Which videos there are, and what each one shows."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from etils import epath

from dnr_jax.config import DataConfig
from dnr_jax.data import annotations, demo, records
from dnr_jax.data.annotations import VIDEO_SUFFIXES, Entry
from dnr_jax.data.datasets import DATASETS, is_frame_folder, match

_logger = logging.getLogger(__name__)

# How one's own lists may be called in a folder, in order of preference: plainly, as MMAction2 calls them (for example
# kinetics400_train_list_videos.txt), as PySlowFast calls them (train.csv).
_LIST_PATTERNS = (
    "{split}_list.txt",
    "*{split}_list_videos.txt",
    "*{split}_list_rawframes.txt",
    "{split}.txt",
    "{split}.csv",
)


@dataclasses.dataclass(frozen=True, eq=False)
class VideoSource:
    """A labelled list of videos.

    Attributes:
      paths: Where the files, or folders of JPEG frames, are; of prepared records, what they are called.
      labels: int32 ``[len(paths)]``, positions in ``classes``.
      names: Short names for messages, relative to the data set's root.
      classes: Names of the classes.
      records: The videos' bytes, where they are records of a prepared data set.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...]
    records: Sequence[bytes] | None = None

    def __len__(self) -> int:
        """The number of videos."""
        return len(self.paths)

    def media(self, index: int) -> str | bytes:
        """What the decoder reads for video ``index``: its path, or the bytes of its record."""
        return self.paths[index] if self.records is None else self.records[index]

    def fingerprint(self) -> str:
        """Return a hash of which videos these are, in which order, and what they show, wherever they lie.

        It depends on names, labels and classes. Absolute names count from the folder that they share, so that it stays
        where the data was moved and its lists were written anew. Two sources with the same fingerprint train alike, as
        far as the contents of the files are the same.
        """
        content = [_unrooted(self.names), self.labels.tolist(), self.classes]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Catalogue:
    """A data set: what is there of it, and what is not.

    Attributes:
      name: What the data set is called.
      classes: Names of the classes.
      splits: The videos of each split.
      missing: Annotated videos that are not on the disk, by split: name and label.
      unknown: Videos whose class is none of ``classes``, by split: their names.
      frame_rate: Frames per second of videos that are folders of frames; 0 if not known.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, VideoSource]
    missing: Mapping[str, Sequence[tuple[str, int]]] = dataclasses.field(default_factory=dict)
    unknown: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    frame_rate: float = 0.0


def read_list(path: str, root: str, label_map: str = "", classes: Sequence[str] = ()) -> VideoSource:
    """Reads an annotation file of one's own: see :func:`dnr_jax.data.annotations.video_list` for the formats.

    Videos that are not on the disk are left out with a warning that counts them: nobody's copy of Kinetics is complete.
    They are not looked for in remote storage, where a look-up a video would take longer than it is worth.

    Args:
      path: The annotation file.
      root: Folder that its paths are relative to; absolute paths are taken as they are.
      label_map: Text file with one class name a line, in the order of the labels.
      classes: The names themselves. Without either, classes are called by their numbers, up to the largest in the list,
        or are the names in the list, sorted.

    Returns:
      The videos, in the order of the list.

    Raises:
      FileNotFoundError: A list is missing, or all of the videos are.
      ValueError: A line is malformed, a label is outside the label map, or the list is empty.
    """
    source, missing, unknown = _read_list(path, root, label_map, classes)
    for place, label in unknown:
        known = f"{label_map or 'the training list'} names {len(source.classes)} classes"
        if isinstance(label, int):
            raise ValueError(
                f"{place}: label {label} is out of range; {known}, so labels are 0 to {len(source.classes) - 1}"
            )
        raise ValueError(f"{place}: '{label}' is none of the classes; {known}: {_first(source.classes)}")
    if missing:
        message = "%s: %d of %d videos are missing in '%s' and left out, for example %s"
        examples = _first([name for name, _ in missing])
        _logger.warning(message, path, len(missing), len(missing) + len(source), root, examples)
    return source


def scan_folder(root: str, classes: Sequence[str] = ()) -> VideoSource:
    """Lists the videos of a folder that holds one folder a class.

    Args:
      root: The folder; ``root/<class>/<video>``, where a video is a file or a folder of JPEG frames.
      classes: The classes, in the order of their labels; empty: the names of the folders, sorted.

    Returns:
      The videos, sorted by class and name.

    Raises:
      FileNotFoundError: The folder is missing, or holds no video.
      ValueError: A folder is none of ``classes``.
    """
    source, unknown = _scan_folder(root, classes)
    if unknown:
        folders = sorted({name.split("/")[0] for name in unknown})
        raise ValueError(f"{root}: folders {_first(folders)} are none of the training classes {_first(classes)}")
    return source


def open_dataset(
    name: str, root: str, folder: str = "", fold: int = 1, splits: Sequence[str] = ("train", "val")
) -> Catalogue:
    """Looks for the videos of a data set, public or one's own.

    Args:
      name: A name in :data:`dnr_jax.data.datasets.DATASETS`; ``folder`` for ``root/<split>/<class>/<video>``; ``list``
        for lists of one's own, called ``<split>_list.txt``, ``*<split>_list_videos.txt``,
        ``*<split>_list_rawframes.txt``, ``<split>.txt`` or ``<split>.csv``, with an optional ``label_map.txt``.
      root: Folder of the videos.
      folder: Folder of the annotations; empty: ``root``, or where the data set's own archives put them.
      fold: Number of the official division, for data sets with several.
      splits: Which splits.

    Returns:
      What is there, and what is missing.

    Raises:
      FileNotFoundError: A folder or an annotation file is missing, or all videos of a split are.
      ValueError: There is no such data set, fold or split, an annotation file is malformed, or a split has no labels.
    """
    if name == "folder":
        return _open_folders(root, splits)
    if name == "list":
        return _open_lists(root, folder or root, splits)
    if name not in DATASETS:
        raise ValueError(f"there is no data set '{name}'; expected one of {', '.join([*DATASETS, 'folder', 'list'])}")
    dataset = DATASETS[name]
    classes, matches = match(dataset, root, folder, fold, splits)
    sources = {}
    for split, listed in matches.items():
        there = [(found.path, found.label) for found in listed if found.path and found.label is not None]
        if all(found.label is None for found in listed):
            raise ValueError(f"{dataset.title}: the annotations of the split '{split}' tell no class of any video")
        if not there:
            raise FileNotFoundError(
                f"{root}: none of the {len(listed)} videos of {dataset.title}, split '{split}', is there, for example "
                f"{_first([found.name for found in listed])}"
            )
        sources[split] = _source(root, [path for path, _ in there], [label for _, label in there], classes)
    return Catalogue(
        name=name if dataset.folds == 1 else f"{name}_split{fold}",
        classes=classes,
        splits=sources,
        missing={
            split: [(found.name, found.label) for found in listed if found.label is not None and not found.path]
            for split, listed in matches.items()
        },
        unknown={split: [found.name for found in listed if found.label is None] for split, listed in matches.items()},
        frame_rate=dataset.frame_rate,
    )


def open_records(folder: str, splits: Sequence[str] = ("train", "val")) -> Catalogue:
    """Opens what ``dnr prepare`` wrote; nothing is read but the index until a video is asked for.

    Args:
      folder: The prepared data set, or a folder that holds it alone.
      splits: Which splits.

    Returns:
      The videos of the splits.

    Raises:
      FileNotFoundError: There is no prepared data set, or not this split of it.
    """
    prepared = records.find(folder)
    return Catalogue(
        name=prepared.name,
        classes=prepared.classes,
        splits={split: _record_source(prepared, split) for split in splits},
    )


def has_lists(folder: str) -> bool:
    """Whether a folder holds a list of training videos, as :func:`open_dataset` looks for it."""
    return bool(_lists_of(folder, "train"))


def load_sources(data: DataConfig) -> tuple[VideoSource, VideoSource]:
    """Returns the training and the validation videos that a configuration names; both have the same ``classes``.

    Raises:
      FileNotFoundError: A file or folder is missing; the message says which, and what is expected there.
      ValueError: ``data.source`` is unknown, or a list or folder is malformed.
    """
    loaders: dict[str, Callable[[DataConfig], tuple[VideoSource, VideoSource]]] = {
        "list": _load_lists,
        "folder": lambda data: _load_folders(data.root),
        "dataset": _load_dataset,
        "records": lambda data: _pair(open_records(data.root)),
        "demo": lambda data: _load_folders(
            demo.make_demo(data.cache_dir, data.demo_train_videos, data.demo_val_videos)
        ),
    }
    if data.source not in loaders:
        raise ValueError(f"data.source is '{data.source}'; expected one of {', '.join(loaders)}")
    return loaders[data.source](data)


def _unrooted(names: Sequence[str]) -> list[str]:
    """Return the names, absolute ones relative to the folder that holds them all."""
    absolute = [os.path.dirname(name) for name in names if os.path.isabs(name)]
    shared = os.path.commonpath(absolute) if absolute else ""
    return [os.path.relpath(name, shared) if os.path.isabs(name) else name for name in names]


def _source(root: str, names: Sequence[str], labels: Sequence[int | None], classes: Sequence[str]) -> VideoSource:
    return VideoSource(
        paths=tuple(str(epath.Path(root) / name) for name in names),
        labels=np.array(labels, np.int32),
        names=tuple(names),
        classes=tuple(classes),
    )


def _pair(catalogue: Catalogue) -> tuple[VideoSource, VideoSource]:
    return catalogue.splits["train"], catalogue.splits["val"]


def _load_lists(data: DataConfig) -> tuple[VideoSource, VideoSource]:
    for field in ("train_list", "val_list"):
        if not getattr(data, field):
            raise ValueError(f"data.{field} is empty; data.source 'list' needs an annotation file there")
    train = read_list(data.train_list, data.root, data.label_map)
    return train, _read_with(train, data.val_list, data.root, data.label_map)


def _read_with(train: VideoSource, path: str, root: str, label_map: str) -> VideoSource:
    """Reads a list with the classes of the training list."""
    try:
        return read_list(path, root, label_map, train.classes)
    except ValueError as error:
        advice = "" if label_map else ". If classes without training videos are meant, name all in data.label_map"
        raise ValueError(f"{error}{advice}") from None


def _load_folders(root: str) -> tuple[VideoSource, VideoSource]:
    if not root:
        raise ValueError("data.root is empty; data.source 'folder' needs a folder with train/<class> and val/<class>")
    train = scan_folder(str(epath.Path(root) / "train"))
    return train, scan_folder(str(epath.Path(root) / "val"), train.classes)


def _load_dataset(data: DataConfig) -> tuple[VideoSource, VideoSource]:
    catalogue = open_dataset(data.dataset, data.root, data.annotations, data.fold)
    for split, missing in catalogue.missing.items():
        if missing:
            message = "%s: %d of %d videos of the split '%s' are missing in '%s' and left out"
            total = len(missing) + len(catalogue.splits[split])
            _logger.warning(message, data.dataset, len(missing), total, split, data.root)
    return _pair(catalogue)


def _scan_folder(root: str, classes: Sequence[str]) -> tuple[VideoSource, list[str]]:
    """The videos in folders of ``classes``, or of all there are, and the names of those in other folders."""
    folder = epath.Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected one with a folder for each class")
    found = sorted(child.name for child in folder.iterdir() if child.is_dir())
    names = {name: [f"{name}/{file.name}" for file in _videos(folder / name)] for name in found}
    if not any(names.values()):
        raise FileNotFoundError(f"{root}: no video found; expected files like {root}/<class>/<name>.mp4")
    classes = tuple(classes or found)
    listed = [(name, label) for label, of_class in enumerate(classes) for name in names.pop(of_class, ())]
    unknown = [name for others in names.values() for name in others]
    return _source(root, [name for name, _ in listed], [label for _, label in listed], classes), unknown


def _videos(folder: epath.Path) -> list[epath.Path]:
    """The videos in a folder, which are files or folders of frames, sorted."""
    children = sorted(folder.iterdir())
    return [
        child
        for child in children
        if child.suffix.lower() in VIDEO_SUFFIXES or (not child.suffix and is_frame_folder(child))
    ]


def _open_folders(root: str, splits: Sequence[str]) -> Catalogue:
    train = scan_folder(str(epath.Path(root) / "train"))
    scanned = {split: _scan_folder(str(epath.Path(root) / split), train.classes) for split in splits}
    return Catalogue(
        name="folder",
        classes=train.classes,
        splits={split: source for split, (source, _) in scanned.items()},
        unknown={split: unknown for split, (_, unknown) in scanned.items()},
    )


def _open_lists(root: str, folder: str, splits: Sequence[str]) -> Catalogue:
    map_file = epath.Path(folder) / "label_map.txt"
    label_map = str(map_file) if map_file.is_file() else ""
    lists = {split: _find_list(folder, split) for split in dict.fromkeys(["train", *splits])}
    classes = _read_list(lists["train"], root, label_map, ())[0].classes
    read = {split: _read_list(lists[split], root, label_map, classes) for split in splits}
    return Catalogue(
        name="list",
        classes=classes,
        splits={split: source for split, (source, _, _) in read.items()},
        missing={split: missing for split, (_, missing, _) in read.items()},
        unknown={split: [f"{place}: {label}" for place, label in unknown] for split, (_, _, unknown) in read.items()},
    )


def _find_list(folder: str, split: str) -> str:
    found = _lists_of(folder, split)
    if not found:
        names = ", ".join(pattern.format(split=split) for pattern in _LIST_PATTERNS)
        raise FileNotFoundError(f"{folder}: no list of the split '{split}'; expected one of {names}")
    if len(found) > 1:
        raise ValueError(f"{folder}: several lists of the split '{split}': {_first([file.name for file in found])}")
    return str(found[0])


def _lists_of(folder: str, split: str) -> list[epath.Path]:
    """The lists called by the first pattern that fits any."""
    found = (sorted(epath.Path(folder).glob(pattern.format(split=split))) for pattern in _LIST_PATTERNS)
    return next(filter(None, found), [])


def _record_source(prepared: records.Prepared, split: str) -> VideoSource:
    index = prepared.index(split)
    return VideoSource(
        paths=tuple(f"{prepared.folder}/{split}/{name}" for name in index.names),
        labels=index.labels,
        names=index.names,
        classes=prepared.classes,
        records=records.RecordReader(prepared.folder, split),
    )


def _read_list(
    path: str, root: str, label_map: str, classes: Sequence[str]
) -> tuple[VideoSource, list[tuple[str, int]], list[tuple[str, str | int | None]]]:
    """The videos there are, those missing (name, label) and those of unknown classes (place, label)."""
    entries = annotations.video_list(_file(path, "annotation file"))
    if not entries:
        raise ValueError(f"{path}: the annotation file is empty; expected one 'path label' a line")
    classes = tuple(annotations.class_lines(_file(label_map, "label map")) if label_map else classes)
    classes = classes or _classes_of(entries)
    known = {name: number for number, name in enumerate(classes)} | {n: n for n in range(len(classes))}
    labelled = [(entry, known[entry.label]) for entry in entries if entry.label in known]
    there = [_is_there(root, entry.name) for entry, _ in labelled]
    if labelled and not any(there):
        raise FileNotFoundError(
            f"{path}: none of the {len(entries)} videos is in '{root}', for example "
            f"{_first([entry.name for entry in entries])}; set data.root to the folder that the list's paths are "
            "relative to"
        )
    kept = [pair for pair, is_there in zip(labelled, there, strict=True) if is_there]
    return (
        _source(root, [entry.name for entry, _ in kept], [label for _, label in kept], classes),
        [(entry.name, label) for (entry, label), is_there in zip(labelled, there, strict=True) if not is_there],
        [(entry.place, entry.label) for entry in entries if entry.label not in known],
    )


def _classes_of(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The classes of a list without a label map: sorted names, or as many numbers as the largest label needs."""
    labels = {entry.label for entry in entries if entry.label is not None}
    numbers = [label for label in labels if isinstance(label, int)]
    return tuple(map(str, range(max(numbers) + 1))) if numbers else tuple(sorted(map(str, labels)))


def _file(path: str, what: str) -> epath.Path:
    file = epath.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such {what}")
    return file


def _is_there(root: str, name: str) -> bool:
    return "://" in root or (epath.Path(root) / name).exists()


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
