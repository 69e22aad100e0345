"""Lists of one's own: the videos that a list names, where they are on the disk, and which class each one shows."""

import dataclasses
import functools
import os
import posixpath
import re
from collections.abc import Sequence

from etils import epath

from dnr_jax.data.catalogue import annotations
from dnr_jax.data.catalogue.annotations import Entry, LabelMap, is_hidden
from dnr_jax.data.catalogue.textfiles import first_of, readable, spellings

_MAX_CLASSES = 100_000  # labels beyond are dates, times or identifiers, and their classes would fill the memory


@dataclasses.dataclass(frozen=True)
class ListedVideo:
    """One line of a list.

    Attributes:
      entry: What stands there; names of classes as :func:`~dnr_jax.data.catalogue.textfiles.readable` writes them.
      label: Position of its class among the classes; ``None``: it is none of them.
      path: Relative to the root, or absolute outside of it; empty where the video is missing.
    """

    entry: Entry
    label: int | None
    path: str


@dataclasses.dataclass(frozen=True)
class VideoList:
    """What a list says.

    Attributes:
      file: The list.
      classes: Names of the classes.
      videos: In the order of the list.
      hidden: Names of those left out, which other software put there.
      labels: Which labels there are, for messages.
      by_number: Whether the list gives numbers, not names of classes.
    """

    file: str
    classes: tuple[str, ...]
    videos: tuple[ListedVideo, ...]
    hidden: tuple[str, ...]
    labels: str
    by_number: bool

    def require_known(self) -> None:
        """Raise ValueError for a label that is none of the classes'."""
        for video in self.videos:
            if video.label is None:
                label = video.entry.label
                what = (
                    f"label {label} is out of range" if isinstance(label, int) else f"'{label}' is none of the classes"
                )
                raise ValueError(f"{video.entry.place}: {what}; {self.labels}")


def read_video_list(path: str, root: str, label_map: str = "", classes: Sequence[str] = ()) -> VideoList:
    """Read a list, and look for its videos.

    The formats are those of :func:`dnr_jax.data.catalogue.annotations.video_list`.

    Args:
      path: The list.
      root: Folder that its paths are relative to. In remote storage videos are not looked for.
      label_map: File of the classes, for which see :func:`dnr_jax.data.catalogue.annotations.label_map`; empty:
        ``classes``.
      classes: Their names; empty: those in the list, sorted, or as many numbers as the largest label needs.

    Raises:
      FileNotFoundError: A file is missing.
      ValueError: It is empty or malformed, a line names one file and two labels, or a number may be a label as well as
        the name of another class.
    """
    read = annotations.video_list(_file(path, "annotation file"), functools.partial(_may_be_folder, root))
    entries = [_tidy(entry) for entry in read]
    if not entries:
        raise ValueError(f"{path}: the annotation file is empty; expected one 'path label' a line")
    named = annotations.label_map(_file(label_map, "label map")) if label_map else LabelMap(tuple(classes))
    names = tuple(map(readable, named.names)) or _classes_of(entries)
    hidden = {entry.name for entry in entries if _is_hidden(entry.name)}
    numbers = _labels(entries, names, named.first)
    videos = [
        ListedVideo(entry, numbers.get(entry.label), locate(root, entry.name))
        for entry in entries
        if entry.name not in hidden
    ]
    known = f"{label_map or 'the training list'} names {len(names)} classes"
    by_number = all(isinstance(entry.label, int) for entry in entries)
    if by_number:
        known += f", so labels are {named.first} to {named.first + len(names) - 1}"
    else:
        known += f": {first_of(names)}"
    return VideoList(path, names, tuple(videos), tuple(sorted(hidden)), known, by_number)


def locate(root: str, name: str) -> str:
    r"""Return where a video of a list is: relative to the root, or absolute outside of it; empty where it is missing.

    What a list calls it and what the disk does may differ in ``./`` and ``//``, in the ``\`` of Windows, in ``~`` for
    the home folder, and in the encoding of letters with accents.

    Args:
      root: The folder; videos in remote storage are not looked for.
      name: As the list has it.
    """
    if "://" in root or "://" in name:
        return name
    for spelling in spellings(name):
        plain = _plain(spelling)
        for path in dict.fromkeys((plain, os.path.expanduser(plain))):
            if os.path.exists(os.path.join(root, path)):
                return _inside(path, root)
    return ""


def advice(names: Sequence[str], root: str) -> str:
    """Return what would be right where no video of a list is there."""
    if any(re.match(r"[A-Za-z]:[\\/]", name) for name in names):
        return "the list has paths of a Windows drive; write them relative to data.source.root"
    if any(name.startswith("/") for name in names):
        return "the list has absolute paths, perhaps of another machine; write them relative to data.source.root"
    above = os.path.dirname(os.path.abspath(root)) if "://" not in root else ""
    if above and any(locate(above, name) for name in names[:3]):
        return f"set data.source.root to '{above}', where they are"
    return "set data.source.root to the folder that the list's paths are relative to"


def _tidy(entry: Entry) -> Entry:
    label = readable(entry.label) if isinstance(entry.label, str) else entry.label
    return dataclasses.replace(entry, label=label)


def _file(path: str, what: str) -> epath.Path:
    file = epath.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such {what}")
    return file


def _is_hidden(name: str) -> bool:
    """Return whether a name is in a list only because a program listed all files there are."""
    parts = name.replace("\\", "/").split("/")
    return not name.startswith(("/", "~")) and any(is_hidden(part) for part in parts if part not in (".", ".."))


def _classes_of(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the classes of a list without a label map: sorted names, or as many numbers as the largest label needs."""
    numbers = [entry for entry in entries if isinstance(entry.label, int)]
    if not numbers:
        return tuple(sorted({str(entry.label) for entry in entries if entry.label is not None}))
    largest = max(numbers, key=lambda entry: int(entry.label or 0))
    count = int(largest.label or 0) + 1
    if count > _MAX_CLASSES:
        raise ValueError(
            f"{largest.place}: label {largest.label} would mean {count} classes; expected the number of a class"
        )
    return tuple(map(str, range(count)))


def _labels(entries: Sequence[Entry], classes: Sequence[str], first: int) -> dict[str | int | None, int]:
    """Return positions of the classes by their names and by their labels, which begin at ``first``."""
    by_name: dict[str | int | None, int] = {name: position for position, name in enumerate(classes)}
    by_number: dict[str | int | None, int] = {first + position: position for position in range(len(classes))}
    for entry in entries:
        position = by_name.get(str(entry.label))
        if isinstance(entry.label, int) and position is not None and by_number.get(entry.label) != position:
            raise ValueError(
                f"{entry.place}: label {entry.label} may be a position, or the class called '{entry.label}', which is "
                f"label {first + position}; expected names of classes that are no numbers"
            )
    return by_name | by_number


def _may_be_folder(root: str, name: str) -> bool:
    """Return whether a video called like a file may be a folder of frames: it is no file."""
    path = locate(root, name)
    return not path or not (epath.Path(root) / path).is_file()


def _plain(name: str) -> str:
    """Return a path without ``.`` and ``//``; ``..`` stays, for what it means depends on links."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return ("/" if name.startswith("/") else "") + "/".join(parts)


def _inside(path: str, root: str) -> str:
    """Return a path relative to the root where it is inside; a way that leaves the root and comes back is none."""
    if not os.path.isabs(path) and ".." not in path.split("/"):
        return path
    folder, name = os.path.split(path)
    if os.path.isabs(path) and path.startswith(above := posixpath.join(os.path.abspath(root), "")):
        return path.removeprefix(above)
    real = os.path.join(os.path.realpath(os.path.join(root, folder)), name)
    above = posixpath.join(os.path.realpath(root), "")
    return real.removeprefix(above) if real.startswith(above) else path
