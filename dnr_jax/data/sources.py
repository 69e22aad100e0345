"""Which videos there are, and what each one shows."""

import dataclasses
import hashlib
import json
import logging
import os
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from etils import epath

from dnr_jax.config import DataConfig
from dnr_jax.data import demo, records
from dnr_jax.data.annotations import is_hidden
from dnr_jax.data.datasets import DATASETS, Match, match
from dnr_jax.data.folders import HIDDEN, Media, find_media
from dnr_jax.data.lists import VideoList, advice, read_video_list
from dnr_jax.data.textfiles import first_of, readable

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

    def classes_without_videos(self) -> list[str]:
        """Return the names of the classes that no video shows."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return [name for name, count in zip(self.classes, counts, strict=True) if not count]

    def fingerprint(self) -> str:
        """Return a hash of which videos these are, in which order, and what they show, wherever they lie.

        It depends on names, labels and classes. Absolute names count from the folder that they share, so that it stays
        where the data was moved and its lists were written anew. Two sources with the same fingerprint train alike, as
        far as the contents of the files are the same.
        """
        content = [_unrooted(self.names), self.labels.tolist(), self.classes]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is wrong with a video.

    Attributes:
      kind: ``broken`` (cannot be decoded, or not wholly), ``empty`` (no frame), ``short`` (fewer frames than asked
        for), ``slow`` (the packets do not tell the order of the frames), ``unknown class``, ``mislabelled`` (the same
        video, or the same content, has another label as well), ``repeated`` (it is listed several times in its split),
        ``ambiguous`` (official annotations with several labels find the same file) or ``duplicate`` (the same content
        is in another split).
      split: The split of the video.
      name: The video, as the list or the folder names it.
      detail: What exactly.
    """

    kind: str
    split: str
    name: str
    detail: str

    @property
    def is_fault(self) -> bool:
        """Whether training would see something wrong; of a slow video it sees the right frames, later."""
        return self.kind != "slow"

    def __str__(self) -> str:
        """One line."""
        return f"{self.kind}: {self.split}/{self.name}: {self.detail}"


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
      problems: What the annotations themselves show: videos with several labels, or listed several times.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, VideoSource]
    missing: Mapping[str, Sequence[tuple[str, int]]] = dataclasses.field(default_factory=dict)
    unknown: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    frame_rate: float = 0.0
    problems: Sequence[Problem] = ()

    def require_one_label(self) -> None:
        """Raise ValueError where a video has several labels: whatever is learnt from it is wrong."""
        _refuse_conflicts(self.name, self.problems)


def read_list(path: str, root: str, label_map: str = "", classes: Sequence[str] = ()) -> VideoSource:
    """Reads an annotation file of one's own: see :func:`dnr_jax.data.annotations.video_list` for the formats.

    Videos that are not on the disk are left out with a warning that counts them: nobody's copy of Kinetics is complete.
    They are not looked for in remote storage, where a look-up a video would take longer than it is worth. A warning
    counts those that are listed several times, too.

    Args:
      path: The annotation file.
      root: Folder that its paths are relative to; absolute paths are taken as they are.
      label_map: File of the classes, for which see :func:`dnr_jax.data.annotations.label_map`.
      classes: The names themselves. Without either, classes are called by their numbers, up to the largest in the list,
        or are the names in the list, sorted.

    Returns:
      The videos, in the order of the list.

    Raises:
      FileNotFoundError: A list is missing, or all of the videos are.
      ValueError: A line is malformed, a label is outside the label map, a video has two labels, or the list is empty.
    """
    root = os.path.expanduser(root)
    return _accept(_own_list(path, root, label_map, classes), root)


def scan_folder(root: str, classes: Sequence[str] = ()) -> VideoSource:
    """Lists the videos of a folder that holds one folder a class.

    Args:
      root: The folder; ``root/<class>/<video>``, where a video is a file or a folder of JPEG frames. Videos may lie
        deeper, in groups: their class is the first folder. For what is left out, which a warning counts, see
        :func:`dnr_jax.data.folders.find_media`.
      classes: The classes, in the order of their labels; empty: the names of the folders, sorted.

    Returns:
      The videos, sorted by class and name.

    Raises:
      FileNotFoundError: The folder is missing, or holds no video.
      ValueError: A folder is none of ``classes``, or holds frames itself.
    """
    source, unknown = _scan_folder(root, classes)
    if unknown:
        folders = sorted({name.split("/")[0] for name in unknown})
        alike = [name for name in classes if name.casefold() in {folder.casefold() for folder in folders}]
        meant = f"; {first_of(alike)} is written in other letters there" if alike else ""
        raise ValueError(
            f"{root}: folders {first_of(folders)} are none of the training classes {first_of(classes)}{meant}"
        )
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
    root, folder = os.path.expanduser(root), os.path.expanduser(folder)
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
                f"{first_of([found.name for found in listed])}"
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
        problems=[
            problem for split, listed in matches.items() for problem in _annotation_problems(split, listed, classes)
        ],
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
    prepared = records.find(os.path.expanduser(folder))
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

    Classes without a video are named in a warning.

    Raises:
      FileNotFoundError: A file or folder is missing; the message says which, and what is expected there.
      ValueError: ``data.source`` is unknown, a list or folder is malformed, or a video has several labels.
    """
    loaders: dict[str, Callable[[DataConfig], tuple[VideoSource, VideoSource]]] = {
        "list": _load_lists,
        "folder": lambda data: _load_folders(data.root),
        "dataset": lambda data: _pair(_open_public(data)),
        "records": lambda data: _pair(open_records(data.root)),
        "demo": lambda data: _load_folders(
            demo.make_demo(data.cache_dir, data.demo_train_videos, data.demo_val_videos)
        ),
    }
    if data.source not in loaders:
        raise ValueError(f"data.source is '{data.source}'; expected one of {', '.join(loaders)}")
    train, val = loaders[data.source](data)
    for split, source in (("training", train), ("validation", val)):
        if empty := source.classes_without_videos():
            message = "%d of %d classes have no %s video: %s"
            _logger.warning(message, len(empty), len(source.classes), split, first_of(empty, 10))
    return train, val


def load_split(data: DataConfig, split: str = "val") -> VideoSource:
    """Return the videos of one split that a configuration names; the others need not be there.

    Without the training videos, classes are those that the split itself names: whoever compares them with others goes
    by name (:func:`dnr_jax.data.classes.with_classes`).

    Raises:
      FileNotFoundError: A file or folder is missing.
      ValueError: ``data.source`` is unknown, it has no such split, or a list or folder is malformed.
    """
    if data.source == "list":
        if split not in ("train", "val"):
            raise ValueError(f"data.source 'list' has no split '{split}'; expected train or val, or the list itself")
        path = getattr(data, f"{split}_list")
        if not path:
            raise ValueError(f"data.{split}_list is empty; expected an annotation file")
        return read_list(path, data.root, data.label_map)
    if data.source == "folder":
        return scan_folder(str(epath.Path(data.root) / split))
    if data.source == "dataset":
        return _open_public(data, (split,)).splits[split]
    if data.source == "records":
        return open_records(data.root, (split,)).splits[split]
    if data.source == "demo":
        root = demo.make_demo(data.cache_dir, data.demo_train_videos, data.demo_val_videos)
        return scan_folder(str(epath.Path(root) / split))
    raise ValueError(f"data.source is '{data.source}'; expected list, folder, dataset, records or demo")


def _unrooted(names: Sequence[str]) -> list[str]:
    """Return the names, absolute ones relative to the folder that holds them all."""
    absolute = [os.path.dirname(name) for name in names if os.path.isabs(name)]
    shared = os.path.commonpath(absolute) if absolute else ""
    return [os.path.relpath(name, shared) if os.path.isabs(name) else name for name in names]


def _source(root: str, paths: Sequence[str], labels: Sequence[int | None], classes: Sequence[str]) -> VideoSource:
    folder = str(epath.Path(root)) if root else ""  # once: an object for each video takes as long as looking for it
    return VideoSource(
        paths=tuple(path if "://" in path else posixpath.join(folder, path) for path in paths),
        labels=np.array(labels, np.int32),
        names=tuple(map(readable, paths)),
        classes=tuple(map(readable, classes)),
    )


def _pair(catalogue: Catalogue) -> tuple[VideoSource, VideoSource]:
    return catalogue.splits["train"], catalogue.splits["val"]


def _load_lists(data: DataConfig) -> tuple[VideoSource, VideoSource]:
    for field in ("train_list", "val_list"):
        if not getattr(data, field):
            raise ValueError(f"data.{field} is empty; data.source 'list' needs an annotation file there")
    root = os.path.expanduser(data.root)
    train = _own_list(data.train_list, root, data.label_map, ())
    val = _own_list(data.val_list, root, data.label_map, train.classes)
    if train.by_number != val.by_number and not data.label_map:
        raise ValueError(
            f"{data.train_list} and {data.val_list}: one names classes, the other gives numbers; expected the same in "
            "both, or data.label_map"
        )
    train.require_known()
    try:
        val.require_known()
    except ValueError as error:
        advice = "" if data.label_map else ". If classes without training videos are meant, name all in data.label_map"
        raise ValueError(f"{error}{advice}") from None
    sources = _accept(train, root), _accept(val, root)
    _compare_lists(train, val)
    return sources


def _load_folders(root: str) -> tuple[VideoSource, VideoSource]:
    if not root:
        raise ValueError("data.root is empty; data.source 'folder' needs a folder with train/<class> and val/<class>")
    train = scan_folder(str(epath.Path(root) / "train"))
    return train, scan_folder(str(epath.Path(root) / "val"), train.classes)


def _open_public(data: DataConfig, splits: Sequence[str] = ("train", "val")) -> Catalogue:
    catalogue = open_dataset(data.dataset, data.root, data.annotations, data.fold, splits)
    for split, missing in catalogue.missing.items():
        if missing:
            message = "%s: %d of %d videos of the split '%s' are missing in '%s' and left out"
            total = len(missing) + len(catalogue.splits[split])
            _logger.warning(message, data.dataset, len(missing), total, split, data.root)
    if catalogue.problems:
        message = "%s: %d videos have several labels or are annotated several times, for example %s"
        _logger.warning(message, data.dataset, len(catalogue.problems), catalogue.problems[0])
    return catalogue


def _scan_folder(root: str, classes: Sequence[str]) -> tuple[VideoSource, list[str]]:
    """The videos in folders of ``classes``, or of all there are, and the names of those in other folders."""
    root = os.path.expanduser(root)
    if not epath.Path(root).is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected one with a folder for each class")
    found = find_media(root)
    by_class = _by_class(root, found)
    if not any(by_class.values()):
        found.left_out.warn(root)
        raise FileNotFoundError(f"{root}: no video found; expected files like {root}/<class>/<name>.mp4")
    found.left_out.warn(root)
    _warn_of_depth(root, by_class)
    _warn_of_case(root, by_class)
    classes = tuple(classes or sorted(by_class))
    listed = [(path, label) for label, of_class in enumerate(classes) for path in by_class.pop(of_class, ())]
    unknown = [readable(path) for others in by_class.values() for path in others]
    return _source(root, [path for path, _ in listed], [label for _, label in listed], classes), unknown


def _by_class(root: str, found: Media) -> dict[str, list[str]]:
    """The videos in each folder of a class, by the readable name of the class."""
    by_class: dict[str, list[str]] = {readable(folder): [] for folder in found.folders}
    for path in found.videos:
        folder, slash, _ = path.partition("/")
        if not slash and path in found.folders:
            raise ValueError(
                f"{root}/{readable(path)} holds frames itself; expected a folder for each video in the folder of its "
                f"class: {root}/<class>/<video>/00001.jpg"
            )
        if slash:
            by_class[readable(folder)].append(path)
        else:
            found.left_out.add("videos in no folder of a class", path)
    return by_class


def _warn_of_depth(root: str, by_class: Mapping[str, Sequence[str]]) -> None:
    deep = [path for paths in by_class.values() for path in paths if path.count("/") > 1]
    if deep:
        message = "%s: videos deeper than <class>/<video>, whose class is taken to be the first folder: %d, such as %s"
        _logger.warning(message, readable(root), len(deep), readable(deep[0]))


def _warn_of_case(root: str, classes: Iterable[str]) -> None:
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(name.casefold(), []).append(name)
    if several := [", ".join(names) for names in alike.values() if len(names) > 1]:
        _logger.warning("%s: classes that differ in letter case only: %s", readable(root), first_of(several))


def _open_folders(root: str, splits: Sequence[str]) -> Catalogue:
    train = _scan_folder(str(epath.Path(root) / "train"), ())
    classes = train[0].classes
    scanned = {
        split: train if split == "train" else _scan_folder(str(epath.Path(root) / split), classes) for split in splits
    }
    return Catalogue(
        name="folder",
        classes=classes,
        splits={split: source for split, (source, _) in scanned.items()},
        unknown={split: unknown for split, (_, unknown) in scanned.items()},
    )


def _open_lists(root: str, folder: str, splits: Sequence[str]) -> Catalogue:
    map_file = epath.Path(folder) / "label_map.txt"
    label_map = str(map_file) if map_file.is_file() else ""
    lists = {split: _find_list(folder, split) for split in dict.fromkeys(["train", *splits])}
    classes = read_video_list(lists["train"], root, label_map).classes
    read = {split: _own_list(lists[split], root, label_map, classes) for split in splits}
    unknown = {split: [video.entry for video in listed.videos if video.label is None] for split, listed in read.items()}
    return Catalogue(
        name="list",
        classes=classes,
        splits={split: _source_of(listed, root) for split, listed in read.items()},
        missing={split: _missing(listed) for split, listed in read.items()},
        unknown={split: [f"{entry.place}: {entry.label}" for entry in entries] for split, entries in unknown.items()},
        problems=[problem for split, listed in read.items() for problem in _list_problems(listed, split)],
    )


def _find_list(folder: str, split: str) -> str:
    found = _lists_of(folder, split)
    if not found:
        names = ", ".join(pattern.format(split=split) for pattern in _LIST_PATTERNS)
        raise FileNotFoundError(f"{folder}: no list of the split '{split}'; expected one of {names}")
    if len(found) > 1:
        raise ValueError(f"{folder}: several lists of the split '{split}': {first_of([file.name for file in found])}")
    return str(found[0])


def _lists_of(folder: str, split: str) -> list[epath.Path]:
    """The lists called by the first pattern that fits any."""
    globs = (epath.Path(folder).glob(pattern.format(split=split)) for pattern in _LIST_PATTERNS)
    found = (sorted(file for file in files if not is_hidden(file.name)) for files in globs)
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


def _own_list(path: str, root: str, label_map: str, classes: Sequence[str]) -> VideoList:
    """Reads a list of which at least one video is there."""
    label_map = os.path.expanduser(label_map)
    listed = read_video_list(os.path.expanduser(path), root, label_map, classes)
    labelled = [video for video in listed.videos if video.label is not None]
    if labelled and not any(video.path for video in labelled):
        names = [video.entry.name for video in labelled]
        examples = first_of(list(map(readable, names)))
        raise FileNotFoundError(
            f"{path}: none of the {len(names)} videos is in '{root}', for example {examples}; {advice(names, root)}"
        )
    if listed.hidden:
        _logger.warning(
            "%s: left out: %s: %d, such as %s", path, HIDDEN, len(listed.hidden), readable(listed.hidden[0])
        )
    return listed


def _accept(listed: VideoList, root: str) -> VideoSource:
    """The videos of a list that can be trained on; warns of those that are missing or listed several times."""
    listed.require_known()
    problems = _list_problems(listed, "")
    _refuse_conflicts(listed.file, problems)
    if problems:
        message = "%s: lines that name the video of another line with the same label, and count as well: %d, such as %s"
        _logger.warning(message, listed.file, len(problems), problems[0].detail)
    if missing := [readable(name) for name, _ in _missing(listed)]:
        message = "%s: %d of %d videos are missing in '%s' and left out, for example %s"
        _logger.warning(message, listed.file, len(missing), len(listed.videos), root, first_of(missing))
    return _source_of(listed, root)


def _source_of(listed: VideoList, root: str) -> VideoSource:
    there = [(video.path, video.label) for video in listed.videos if video.path and video.label is not None]
    return _source(root, [path for path, _ in there], [label for _, label in there], listed.classes)


def _missing(listed: VideoList) -> list[tuple[str, int]]:
    return [(video.entry.name, video.label) for video in listed.videos if video.label is not None and not video.path]


def _list_problems(listed: VideoList, split: str) -> list[Problem]:
    videos = [
        (video.path or video.entry.name, video.label, video.entry.place)
        for video in listed.videos
        if video.label is not None
    ]
    return _same_video(split, videos, listed.classes)


def _annotation_problems(split: str, matches: Sequence[Match], classes: Sequence[str]) -> list[Problem]:
    """Two annotations find the same file where its name does not tell which part of a video it is.

    That is not for the user to correct, and no reason to refuse the others.
    """
    found = [(match.path, match.label, match.name) for match in matches if match.path and match.label is not None]
    problems = _same_video(split, found, classes)
    return [dataclasses.replace(p, kind="ambiguous") if p.kind == "mislabelled" else p for p in problems]


def _same_video(split: str, videos: Sequence[tuple[str, int, str]], classes: Sequence[str]) -> list[Problem]:
    """What is wrong with videos, given by path, label and place, that are listed several times."""
    first: dict[str, tuple[int, str]] = {}
    problems = []
    for path, label, place in videos:
        if path not in first:
            first[path] = label, place
            continue
        other, where = first[path]
        is_same = label == other
        detail = (
            f"at {where} and {place}" if is_same else f"'{classes[other]}' at {where}, '{classes[label]}' at {place}"
        )
        problems.append(Problem("repeated" if is_same else "mislabelled", split, readable(path), detail))
    return problems


def _refuse_conflicts(name: str, problems: Sequence[Problem]) -> None:
    if conflicts := [problem for problem in problems if problem.kind == "mislabelled"]:
        raise ValueError(
            f"{name}: videos with two labels, where one is expected: {len(conflicts)}: "
            f"{first_of([f'{problem.name} is {problem.detail}' for problem in conflicts])}"
        )


def _compare_lists(train: VideoList, val: VideoList) -> None:
    """Warns of videos in both lists, which make validation look better than it is."""
    trained = {video.path: video for video in train.videos if video.path}
    both = [(trained[video.path], video) for video in val.videos if video.path in trained]
    if both:
        message = (
            "%d of the %d validation videos are training videos as well, %d of them with another label: %s at %s and %s"
        )
        different = sum(one.label != other.label for one, other in both)
        places = [readable(both[0][0].path), *(video.entry.place for video in both[0])]
        _logger.warning(message, len(both), len(val.videos), different, *places)
