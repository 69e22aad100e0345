"""Videos that lists of one's own name."""

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Annotated, Self

from etils import epath

from dnr_jax.config import Catalogue, Location, Problem, Source, VideoSource, refuse_conflicts, register
from dnr_jax.data.catalogue.annotations import is_hidden
from dnr_jax.data.catalogue.folders import HIDDEN
from dnr_jax.data.catalogue.lists import VideoList, advice, read_video_list
from dnr_jax.data.catalogue.sources.making import same_video, video_source
from dnr_jax.data.catalogue.textfiles import first_of, readable

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
_LABEL_MAP = "label_map.txt"
_LINES = "an annotation file with 'path label' lines"


@register
@dataclasses.dataclass
class Lists(Source):
    """Annotation files of one's own, with ``path label`` lines; docs/data.md tells all formats."""

    root: Annotated[str, Location(kind="folder", holds="the folder that the lists count from", default=".")] = ""
    """The folder that paths are relative to; empty: the working folder."""
    train_list: Annotated[str, Location(kind="file", holds=_LINES, needed=True)] = ""
    """The annotation file of the training videos."""
    val_list: Annotated[str, Location(kind="file", holds=_LINES, needed=True)] = ""
    """That of the validation videos."""
    label_map: Annotated[str, Location(kind="file", holds="a file of the classes")] = ""
    """Optional file of the classes, such as one name a line in the order of the labels."""

    def load(self) -> tuple[VideoSource, VideoSource]:
        """Read both lists; they name classes alike, or give numbers alike, or a label map says which is which."""
        for split in ("train", "val"):
            if not getattr(self, f"{split}_list"):
                raise ValueError(f"data.source.{split}_list is empty; Lists needs {_LINES}")
        train = _own_list(self.train_list, self.root, self.label_map, ())
        val = _own_list(self.val_list, self.root, self.label_map, train.classes)
        if train.by_number != val.by_number and not self.label_map:
            raise ValueError(
                f"{self.train_list} and {self.val_list}: one names classes, the other gives numbers; expected the same "
                "in both, or data.source.label_map"
            )
        train.require_known()
        try:
            val.require_known()
        except ValueError as error:
            more = ". If classes without training videos are meant, name all in data.source.label_map"
            raise ValueError(f"{error}{'' if self.label_map else more}") from None
        sources = _accept(train, self.root), _accept(val, self.root)
        _compare_lists(train, val)
        return sources

    def load_split(self, split: str) -> VideoSource:
        """Read one list; the other need not be there."""
        return read_list(self._list(split), self.root, self.label_map)

    def open(self, splits: Sequence[str] | None = None) -> Catalogue:
        """Read the lists, by default those that are given; other splits have theirs beside the training list.

        Labels count in the classes of the training list where there is one.
        """
        given = [split for split in ("train", "val") if getattr(self, f"{split}_list")] or ["train"]
        lists = {split: self._list(split) for split in dict.fromkeys([*given[:1], *(splits or given)])}
        first = next(iter(lists.values()))
        classes = read_video_list(first, self.root, self.label_map).classes
        read = {split: _own_list(lists[split], self.root, self.label_map, classes) for split in splits or given}
        unknown = {
            split: [f"{video.entry.place}: {video.entry.label}" for video in listed.videos if video.label is None]
            for split, listed in read.items()
        }
        return Catalogue(
            name="list",
            classes=classes,
            splits={split: _source_of(listed, self.root) for split, listed in read.items()},
            missing={split: _missing(listed) for split, listed in read.items()},
            unknown=unknown,
            problems=[problem for split, listed in read.items() for problem in _list_problems(listed, split)],
        )

    @classmethod
    def found_in(cls, folder: str) -> Self | None:
        """Return the source of a folder with a list of training videos."""
        return cls.of_folder(folder, folder) if _lists_of(folder, "train") else None

    @classmethod
    def of_folder(cls, folder: str, root: str) -> Self:
        """Return the source of the lists in a folder, called as people call them.

        Args:
          folder: It holds ``<split>_list.txt``, ``*<split>_list_videos.txt``, ``*<split>_list_rawframes.txt``,
            ``<split>.txt`` or ``<split>.csv`` for the split ``train`` and for others, and maybe ``label_map.txt``.
          root: The folder that their paths are relative to.

        Raises:
          FileNotFoundError: There is no list of training videos.
          ValueError: There are several lists of a split.
        """
        label_map = epath.Path(folder) / _LABEL_MAP
        return cls(
            root=root,
            train_list=_find_list(folder, "train"),
            val_list=_find_list(folder, "val") if _lists_of(folder, "val") else "",
            label_map=str(label_map) if label_map.is_file() else "",
        )

    def _list(self, split: str) -> str:
        """Return the list of a split."""
        if given := getattr(self, f"{split}_list", ""):
            return given
        if self.train_list:
            return _find_list(os.path.dirname(self.train_list), split)
        if split in ("train", "val"):
            raise ValueError(f"data.source.{split}_list is empty; Lists needs {_LINES}")
        raise ValueError(f"Lists has no split '{split}'; expected train or val, or the list itself as val_list")


def read_list(path: str, root: str, label_map: str = "", classes: Sequence[str] = ()) -> VideoSource:
    """Read an annotation file of one's own: see :func:`dnr_jax.data.catalogue.annotations.video_list` for the formats.

    Videos that are not on the disk are left out with a warning that counts them: nobody's copy of Kinetics is complete.
    They are not looked for in remote storage, where a look-up a video would take longer than it is worth. A warning
    counts those that are listed several times, too.

    Args:
      path: The annotation file.
      root: Folder that its paths are relative to; absolute paths are taken as they are.
      label_map: File of the classes, for which see :func:`dnr_jax.data.catalogue.annotations.label_map`.
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


def _find_list(folder: str, split: str) -> str:
    found = _lists_of(folder, split)
    if not found:
        names = ", ".join(pattern.format(split=split) for pattern in _LIST_PATTERNS)
        raise FileNotFoundError(f"{folder}: no list of the split '{split}'; expected one of {names}")
    if len(found) > 1:
        raise ValueError(f"{folder}: several lists of the split '{split}': {first_of([file.name for file in found])}")
    return str(found[0])


def _lists_of(folder: str, split: str) -> list[epath.Path]:
    """Return the lists called by the first pattern that fits any."""
    globs = (epath.Path(folder).glob(pattern.format(split=split)) for pattern in _LIST_PATTERNS)
    found = (sorted(file for file in files if not is_hidden(file.name)) for files in globs)
    return next(filter(None, found), [])


def _own_list(path: str, root: str, label_map: str, classes: Sequence[str]) -> VideoList:
    """Read a list of which at least one video is there."""
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
        left_out = f"{path}: left out: {HIDDEN}: {len(listed.hidden)}, such as {readable(listed.hidden[0])}"
        if not listed.videos:
            raise FileNotFoundError(f"{left_out}; there is no other video. Rename what is meant")
        _logger.warning("%s", left_out)
    return listed


def _accept(listed: VideoList, root: str) -> VideoSource:
    """Return the videos of a list that can be trained on; warn of those that are missing or listed several times."""
    listed.require_known()
    problems = _list_problems(listed, "")
    refuse_conflicts(listed.file, problems)
    if problems:
        message = "%s: lines that name the video of another line with the same label, and count as well: %d, such as %s"
        _logger.warning(message, listed.file, len(problems), problems[0].detail)
    if missing := [readable(name) for name, _ in _missing(listed)]:
        message = "%s: %d of %d videos are missing in '%s' and left out, for example %s"
        _logger.warning(message, listed.file, len(missing), len(listed.videos), root, first_of(missing))
    return _source_of(listed, root)


def _source_of(listed: VideoList, root: str) -> VideoSource:
    there = [(video.path, video.label) for video in listed.videos if video.path and video.label is not None]
    return video_source(root, [path for path, _ in there], [label for _, label in there], listed.classes)


def _missing(listed: VideoList) -> list[tuple[str, int]]:
    return [(video.entry.name, video.label) for video in listed.videos if video.label is not None and not video.path]


def _list_problems(listed: VideoList, split: str) -> list[Problem]:
    videos = [
        (video.path or video.entry.name, video.label, video.entry.place)
        for video in listed.videos
        if video.label is not None
    ]
    return same_video(split, videos, listed.classes)


def _compare_lists(train: VideoList, val: VideoList) -> None:
    """Warn of videos in both lists, which make validation look better than it is."""
    trained = {video.path: video for video in train.videos if video.path}
    both = [(trained[video.path], video) for video in val.videos if video.path in trained]
    if both:
        message = (
            "%d of the %d validation videos are training videos as well, %d of them with another label: %s at %s and %s"
        )
        different = sum(one.label != other.label for one, other in both)
        places = [readable(both[0][0].path), *(video.entry.place for video in both[0])]
        _logger.warning(message, len(both), len(val.videos), different, *places)
