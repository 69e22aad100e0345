"""What a source of videos answers: labelled videos, and what is missing or wrong among them."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


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
        """Return the number of videos."""
        return len(self.paths)

    def media(self, index: int) -> str | bytes:
        """Return what the decoder reads for video ``index``: its path, or the bytes of its record."""
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
        """Return whether training would see something wrong; of a slow video it sees the right frames, later."""
        return self.kind != "slow"

    def __str__(self) -> str:
        """Return one line."""
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
        refuse_conflicts(self.name, self.problems)


def refuse_conflicts(name: str, problems: Iterable[Problem]) -> None:
    """Raise ValueError where a video of what is called ``name`` has several labels."""
    conflicts = [f"{problem.name} is {problem.detail}" for problem in problems if problem.kind == "mislabelled"]
    if conflicts:
        examples = ", ".join(conflicts[:3]) + (", ..." if len(conflicts) > 3 else "")
        raise ValueError(f"{name}: videos with two labels, where one is expected: {len(conflicts)}: {examples}")


def _unrooted(names: Sequence[str]) -> list[str]:
    """Return the names, absolute ones relative to the folder that holds them all."""
    absolute = [os.path.dirname(name) for name in names if os.path.isabs(name)]
    shared = os.path.commonpath(absolute) if absolute else ""
    return [os.path.relpath(name, shared) if os.path.isabs(name) else name for name in names]
