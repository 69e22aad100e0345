"""The public data sets, each described by data: its annotation files, their formats, and how its videos are called.

:func:`match` reads the official annotations and looks for each video on the disk. It does not matter in which folders
the videos are, nor whether class folders are written with spaces or underscores: a video is found by its name, and
where several files have that name, by the folder of its class and of its split.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from dnr_jax.data.catalogue import annotations
from dnr_jax.data.catalogue.annotations import ClassParser, Entry, EntryParser, is_hidden
from dnr_jax.data.catalogue.folders import find_media
from dnr_jax.data.catalogue.textfiles import readable


@dataclasses.dataclass(frozen=True)
class AnnotationFiles:
    """Where the annotations of one split are.

    Attributes:
      patterns: Names (or globs) of files, the first that exists is taken; ``{fold}`` stands for the number of the fold.
      parse: Reads one of them.
    """

    patterns: tuple[str, ...]
    parse: EntryParser


@dataclasses.dataclass(frozen=True)
class ClassFile:
    """Where the names of the classes are, for a data set whose labels are not simply the sorted names."""

    patterns: tuple[str, ...]
    parse: ClassParser


@dataclasses.dataclass(frozen=True)
class VideoDataset:
    """A public data set.

    Attributes:
      name: What the command line calls it.
      title: What the world calls it.
      homepage: Where annotations and videos come from.
      num_classes: How many there are in the complete data set.
      splits: Annotation files by split; ``train`` and ``val`` are always there.
      stems: Names that a video's file or folder may have, without suffix, in order of preference; formatted with the
        fields of :class:`~dnr_jax.data.catalogue.annotations.Entry`.
      classes: The file that orders the classes; ``None``: their names, sorted.
      folders: Where below the root annotation files are looked for, unless a folder is given.
      folds: Number of official divisions into training and testing; 1 where there is only one.
      labels_of: Data set whose annotations tell the labels and times of entries that have none.
      frame_rate: Frames per second of videos that come as folders of frames.
      replacements: Folder of videos that stand for those of the same name elsewhere.
    """

    name: str
    title: str
    homepage: str
    num_classes: int
    splits: Mapping[str, AnnotationFiles]
    stems: tuple[str, ...] = ("{name}",)
    classes: ClassFile | None = None
    folders: tuple[str, ...] = ("", "annotations")
    folds: int = 1
    labels_of: str = ""
    frame_rate: float = 0.0
    replacements: str = ""


@dataclasses.dataclass(frozen=True)
class Match:
    """An annotated video, and where it is on the disk.

    Attributes:
      name: What the annotation calls it.
      label: Position of its class among the classes; ``None`` where the annotation names no class, or an unknown one.
      path: Relative to the root; empty where the video is missing.
    """

    name: str
    label: int | None
    path: str


# About 1,400 of the videos in the archives of Kinetics-400 are broken; whole ones come in an archive of their own.
_REPLACEMENTS = "replacement_for_corrupted_k400"


def _kinetics(name: str, title: str, num_classes: int, aliases: Sequence[str], replacements: str = "") -> VideoDataset:
    def files(*splits: str) -> AnnotationFiles:
        named = [f"{alias}_{split}.csv" for alias in aliases for split in splits]
        return AnnotationFiles((*named, *(f"{split}.csv" for split in splits)), annotations.kinetics)

    return VideoDataset(
        name=name,
        title=title,
        homepage="https://github.com/cvdfoundation/kinetics-dataset",
        num_classes=num_classes,
        splits={"train": files("train"), "val": files("val", "validate"), "test": files("test")},
        stems=("{name}_{start:06d}_{end:06d}", "{name}"),
        folders=("", "annotations", name, f"{name}_2020"),
        replacements=replacements,
    )


def _something(name: str, prefix: str, suffix: str, parse: EntryParser, **fields: object) -> VideoDataset:
    splits = {"train": "train", "val": "validation", "test": "test"}
    return VideoDataset(
        name=name,
        splits={
            split: AnnotationFiles((f"{prefix}-{word}.{suffix}", f"{word}.{suffix}", f"{word.title()}.{suffix}"), parse)
            for split, word in splits.items()
        },
        folders=("", "annotations", "labels"),
        **fields,  # type: ignore[arg-type]
    )


_SOMETHING_PAGE = "https://www.qualcomm.com/developer/artificial-intelligence/datasets"

DATASETS: Mapping[str, VideoDataset] = {
    dataset.name: dataset
    for dataset in (
        _kinetics(
            "kinetics400", "Kinetics-400", 400, ("kinetics-400", "kinetics400", "kinetics"), replacements=_REPLACEMENTS
        ),
        VideoDataset(
            name="mini_kinetics200",
            title="Mini-Kinetics-200, the paper's Kinetics-200",
            homepage="https://github.com/s9xie/Mini-Kinetics-200",
            num_classes=200,
            splits={
                split: AnnotationFiles((f"{split}_ytid_list.txt",), annotations.identifiers)
                for split in ("train", "val")
            },
            stems=("{name}_{start:06d}_{end:06d}", "{name}"),
            folders=("", "annotations", "kinetics400"),
            labels_of="kinetics400",
            replacements=_REPLACEMENTS,
        ),
        _kinetics("kinetics600", "Kinetics-600", 600, ("kinetics-600", "kinetics600", "kinetics")),
        _kinetics(
            "kinetics700",
            "Kinetics-700 (2020)",
            700,
            ("kinetics-700-2020", "kinetics700_2020", "kinetics700", "kinetics"),
        ),
        _something(
            "sthv1",
            "something-something-v1",
            "csv",
            annotations.semicolons,
            title="Something-Something V1",
            homepage=_SOMETHING_PAGE,
            num_classes=174,
            classes=ClassFile(("something-something-v1-labels.csv", "labels.csv"), annotations.class_lines),
            frame_rate=12.0,
        ),
        _something(
            "sthv2",
            "something-something-v2",
            "json",
            annotations.something_v2,
            title="Something-Something V2",
            homepage=_SOMETHING_PAGE,
            num_classes=174,
            classes=ClassFile(("something-something-v2-labels.json", "labels.json"), annotations.class_object),
            frame_rate=12.0,
        ),
        VideoDataset(
            name="ucf101",
            title="UCF101",
            homepage="https://www.crcv.ucf.edu/research/data-sets/ucf101/",
            num_classes=101,
            splits={
                "train": AnnotationFiles(("trainlist{fold:02d}.txt",), annotations.ucf101),
                "val": AnnotationFiles(("testlist{fold:02d}.txt",), annotations.ucf101),
            },
            classes=ClassFile(("classInd.txt",), annotations.numbered_classes),
            folders=("", "annotations", "ucfTrainTestlist"),
            folds=3,
        ),
        VideoDataset(
            name="hmdb51",
            title="HMDB51",
            homepage="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
            num_classes=51,
            splits={
                split: AnnotationFiles(("*_test_split{fold}.txt",), functools.partial(annotations.hmdb51, use=use))
                for split, use in (("train", "1"), ("val", "2"))
            },
            folders=("", "annotations", "testTrainMulti_7030_splits"),
            folds=3,
        ),
        _something(
            "jester",
            "jester-v1",
            "csv",
            annotations.jester,
            title="Jester",
            homepage=_SOMETHING_PAGE,
            num_classes=27,
            classes=ClassFile(("jester-v1-labels.csv", "labels.csv", "Train.csv"), annotations.jester_classes),
            frame_rate=12.0,
        ),
        VideoDataset(
            name="diving48",
            title="Diving48 (V2)",
            homepage="http://www.svcl.ucsd.edu/projects/resound/dataset.html",
            num_classes=48,
            splits={
                "train": AnnotationFiles(("Diving48_V2_train.json",), annotations.diving48),
                "val": AnnotationFiles(("Diving48_V2_test.json",), annotations.diving48),
            },
            classes=ClassFile(("Diving48_vocab.json",), annotations.class_parts),
        ),
    )
}
"""The data sets by name."""


def match(
    dataset: VideoDataset, root: str, folder: str = "", fold: int = 1, splits: Iterable[str] = ("train", "val")
) -> tuple[tuple[str, ...], dict[str, list[Match]]]:
    """Read a data set's annotations, and look for its videos.

    Args:
      dataset: The data set.
      root: Folder of the videos, at any depth.
      folder: Folder of the annotations; empty: the places where the data set's own archives put them.
      fold: Number of the official division, from 1.
      splits: Which splits.

    Returns:
      The names of the classes, and the annotated videos of each split in the order of the annotations.

    Raises:
      FileNotFoundError: The root or an annotation file is missing; the message says which file is expected and where it
        comes from.
      ValueError: There is no such fold or split, or an annotation file is malformed.
    """
    if not 1 <= fold <= dataset.folds:
        raise ValueError(f"{dataset.name} has no fold {fold}; expected 1 to {dataset.folds}")
    if unknown := [split for split in splits if split not in dataset.splits]:
        raise ValueError(f"{dataset.name} has no split {', '.join(unknown)}; it has {', '.join(dataset.splits)}")
    if not epath.Path(root).is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected the videos of {dataset.title}")
    folders = [epath.Path(folder)] if folder else [epath.Path(root) / name for name in dataset.folders]
    entries = _read_entries(dataset, folders, fold, splits)
    classes = _read_classes(dataset, folders, entries)
    numbers = {name: number for number, name in enumerate(classes)}
    media = index_media(root)
    return classes, {
        split: [
            Match(entry.name, _label(entry, numbers, classes), _find(dataset, entry, split, media))
            for entry in entries[split]
        ]
        for split in splits
    }


def index_media(root: str) -> dict[str, list[str]]:
    """Find all videos below a folder.

    Args:
      root: The folder; for what is a video, see :func:`~dnr_jax.data.catalogue.folders.find_media`. What is left out is
        said in one warning.

    Returns:
      Their paths relative to ``root``, sorted, by the name of the file without suffix, or of the folder.
    """
    found = find_media(root)
    found.left_out.warn(root)
    media: dict[str, list[str]] = {}
    for path in found.videos:
        media.setdefault(annotations.strip_suffix(readable(path.rpartition("/")[2])), []).append(path)
    return media


def _read_entries(
    dataset: VideoDataset, folders: Sequence[epath.Path], fold: int, splits: Iterable[str]
) -> dict[str, list[Entry]]:
    """Return the entries of all splits whose files are there; those of ``splits`` must be."""
    entries = {}
    for split, files in dataset.splits.items():
        found = _find_files(files.patterns, folders, fold)
        if not found and split in splits:
            raise _missing(dataset, f"annotations of the split '{split}'", files.patterns, folders, fold)
        entries[split] = [entry for file in found for entry in files.parse(file)]
    return _join(dataset, entries, folders) if dataset.labels_of else entries


def _join(
    dataset: VideoDataset, entries: dict[str, list[Entry]], folders: Sequence[epath.Path]
) -> dict[str, list[Entry]]:
    """Take labels and times from the data set that this one is a part of."""
    whole = DATASETS[dataset.labels_of]
    found = {split: _find_files(files.patterns, folders, 1) for split, files in whole.splits.items()}
    if not any(found.values()):
        raise _missing(dataset, f"annotations of {whole.title}", whole.splits["train"].patterns, folders, 1)
    known = {
        entry.name: entry for split, files in found.items() for f in files for entry in whole.splits[split].parse(f)
    }
    return {
        split: [dataclasses.replace(known.get(entry.name, entry), place=entry.place) for entry in listed]
        for split, listed in entries.items()
    }


def _read_classes(
    dataset: VideoDataset, folders: Sequence[epath.Path], entries: Mapping[str, Sequence[Entry]]
) -> tuple[str, ...]:
    if dataset.classes is None:
        return tuple(sorted({str(entry.label) for listed in entries.values() for entry in listed if entry.label}))
    found = _find_files(dataset.classes.patterns, folders, 1)
    if not found:
        raise _missing(dataset, "names of the classes", dataset.classes.patterns, folders, 1)
    return tuple(dataset.classes.parse(found[0]))


def _find_files(patterns: Iterable[str], folders: Sequence[epath.Path], fold: int) -> list[epath.Path]:
    for pattern in patterns:
        for folder in folders:
            found = sorted(folder.glob(pattern.format(fold=fold))) if folder.is_dir() else []
            if found := [file for file in found if not is_hidden(file.name)]:
                return found
    return []


def _missing(
    dataset: VideoDataset, what: str, patterns: Sequence[str], folders: Sequence[epath.Path], fold: int
) -> FileNotFoundError:
    names = " or ".join(pattern.format(fold=fold) for pattern in patterns)
    return FileNotFoundError(
        f"{dataset.title}: the {what} are missing; expected {names} in {', '.join(map(str, folders))}. "
        f"They come from {dataset.homepage}; --annotations (data.source.annotations) names another folder"
    )


def _label(entry: Entry, numbers: Mapping[str, int], classes: Sequence[str]) -> int | None:
    if isinstance(entry.label, int):
        return entry.label if 0 <= entry.label < len(classes) else None
    return numbers.get(entry.label or "")


def _find(dataset: VideoDataset, entry: Entry, split: str, media: Mapping[str, Sequence[str]]) -> str:
    """Return the path of a video, empty if it is missing; of several, a replacement, or one in its class and split."""

    def fitness(path: str) -> tuple[bool, bool, bool]:
        names = path.split("/")[:-1]
        folders = [_plain(name) for name in names]
        of_class, of_split = _plain(str(entry.label)) in folders, any(split in folder for folder in folders)
        return dataset.replacements in names, of_class, of_split

    for stem in dataset.stems:
        if found := media.get(stem.format(name=entry.name, start=entry.start, end=entry.end)):
            return max(found, key=fitness)
    return ""


def _plain(name: str) -> str:
    return readable(name).replace("_", " ").lower()
