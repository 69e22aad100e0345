"""Which files and folders below a folder are videos, and what is left out there."""

import collections
import dataclasses
import logging
import math
import os
import posixpath
import re
from collections.abc import Iterator, Sequence

from etils import epath

from dnr_jax.data.catalogue.annotations import is_hidden
from dnr_jax.data.catalogue.textfiles import readable
from dnr_jax.data.clips.frame_files import FRAME_SUFFIXES
from dnr_jax.data.clips.suffixes import VIDEO_SUFFIXES

_logger = logging.getLogger(__name__)

# Of files that often lie beside videos and are surely none: annotations, subtitles, notes.
_OTHER_SUFFIXES = frozenset(
    ".csv .html .json .jsonl .log .md .pdf .py .sh .srt .tsv .txt .vtt .xlsx .xml .yaml .yml".split()
)
HIDDEN = "hidden names (with '.' or '@' in front, __MACOSX)"
"""What names are called that :func:`~dnr_jax.data.catalogue.annotations.is_hidden`."""
EXPLAINED = ".explained"
"""What the names of the files that ``dnr explain`` writes beside videos end in, before their suffix."""
_FLOW_FOLDER = re.compile(r"(\w+_)?flow(_?[xyuv])?", re.IGNORECASE)


@dataclasses.dataclass
class LeftOut:
    """What below a folder is no video, by the reason: paths relative to the folder."""

    reasons: dict[str, list[str]] = dataclasses.field(default_factory=lambda: collections.defaultdict(list))

    def add(self, reason: str, *paths: str) -> None:
        """Note paths."""
        if paths:
            self.reasons[reason].extend(paths)

    def warn(self, root: str) -> None:
        """Say in one warning how many there are, with an example of each kind; nothing where there are none."""
        if self.reasons:
            _logger.warning("%s: left out: %s", readable(root), self)

    def __str__(self) -> str:
        """Return how many of each kind, with an example."""
        return "; ".join(
            f"{reason}: {len(paths)}, such as {readable(paths[0])}" for reason, paths in self.reasons.items()
        )


@dataclasses.dataclass(frozen=True)
class Media:
    """What lies below a folder.

    Attributes:
      videos: Paths relative to the folder, sorted: files, and folders of frames.
      folders: Names of the folders in it that are not hidden, sorted.
      left_out: What is neither.
    """

    videos: tuple[str, ...]
    folders: tuple[str, ...]
    left_out: LeftOut


@dataclasses.dataclass(frozen=True)
class _Child:
    name: str
    is_folder: bool
    is_link: bool = False

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1].lower()

    @property
    def is_explained(self) -> bool:
        return not self.is_folder and posixpath.splitext(self.name)[0].endswith(EXPLAINED)


def find_media(root: str) -> Media:
    """Find all videos below a folder, at any depth.

    A file is told by its suffix. A folder that holds frames is one video, whatever its name, unless there are video
    files beside or below them, or a folder of more frames below: then its pictures are covers. Names that
    :func:`~dnr_jax.data.catalogue.annotations.is_hidden` are nothing, nor are files that ``dnr explain`` wrote; links
    to folders are followed, but not in circles.

    Args:
      root: The folder, also in a bucket.
    """
    walk = _Walk(root)
    children = walk.children("")
    videos = sorted(walk.videos("", children, (os.path.realpath(root),)))
    return Media(tuple(videos), tuple(child.name for child in children if child.is_folder), walk.left_out)


class _Walk:
    """Goes through a folder, and notes what is left out."""

    def __init__(self, root: str):
        self.root = root
        self.left_out = LeftOut()
        self._frames: dict[str, int] = {}  # in each folder that was taken for a video

    def children(self, path: str) -> list[_Child]:
        """Return what is in a folder, sorted, without what is hidden or explains videos, or cannot be read."""
        folder = posixpath.join(self.root, path) if path else self.root
        try:
            children = sorted(_remote(folder) if "://" in folder else _local(folder), key=lambda child: child.name)
        except PermissionError:
            self.left_out.add("folders that may not be read", path or ".")
            return []
        for child in children:
            if is_hidden(child.name):
                self.left_out.add(HIDDEN, posixpath.join(path, child.name))
            elif child.is_explained:
                self.left_out.add("files that dnr explain wrote", posixpath.join(path, child.name))
        return [child for child in children if not (is_hidden(child.name) or child.is_explained)]

    def videos(self, path: str, children: Sequence[_Child], above: tuple[str, ...]) -> Iterator[str]:
        """Yield the videos in a folder at ``path``; ``above`` are the real paths of the folders that led here."""
        files = [child for child in children if not child.is_folder]
        frames = [child for child in files if child.suffix in FRAME_SUFFIXES]
        has_videos = any(child.suffix in VIDEO_SUFFIXES for child in files)
        if path and frames and not has_videos:
            if _FLOW_FOLDER.fullmatch(posixpath.basename(path)):
                self.left_out.add("folders of optical flow", path)
                return
            yield from self._frames_or_covers(path, children, len(frames), above)
            return
        for child in children:
            inner = posixpath.join(path, child.name)
            if child.is_folder:
                yield from self._in_folder(inner, child, above)
            elif child.suffix in VIDEO_SUFFIXES and not self._is_broken(inner, child):
                yield inner
            elif child.suffix not in VIDEO_SUFFIXES:
                self._note(inner, child)

    def _frames_or_covers(
        self, path: str, children: Sequence[_Child], frames: int, above: tuple[str, ...]
    ) -> Iterator[str]:
        """Yield a folder with so many frames, or the videos below it where these frames are but their covers."""
        noted, self.left_out = self.left_out, LeftOut()
        inner = [(posixpath.join(path, child.name), child) for child in children]
        below = [name for name, child in inner if child.is_folder for name in self._in_folder(name, child, above)]
        noted_below, self.left_out = self.left_out, noted
        if all(self._frames.get(name, math.inf) <= frames for name in below):
            self._frames[path] = frames
            self.left_out.add("folders of frames in a folder of as many", *below)
            yield path
            return
        for name, child in inner:
            if not child.is_folder:
                self._note(name, child)
        for reason, paths in noted_below.reasons.items():
            self.left_out.add(reason, *paths)
        yield from below

    def _in_folder(self, path: str, child: _Child, above: tuple[str, ...]) -> Iterator[str]:
        if child.is_link:
            here, there = (
                os.path.realpath(posixpath.join(self.root, name)) for name in (posixpath.dirname(path), path)
            )
            above = (*above, here)
            if any(posixpath.join(folder, "").startswith(posixpath.join(there, "")) for folder in above):
                self.left_out.add("links that lead back to a folder they lie in", path)
                return
            above = (*above, there)
        yield from self.videos(path, self.children(path), above)

    def _is_broken(self, path: str, child: _Child) -> bool:
        is_broken = child.is_link and not os.path.exists(posixpath.join(self.root, path))
        if is_broken:
            self.left_out.add("links to files that are not there", path)
        return is_broken

    def _note(self, path: str, child: _Child) -> None:
        if child.suffix in FRAME_SUFFIXES:
            self.left_out.add("pictures that lie beside videos", path)
        elif child.suffix not in _OTHER_SUFFIXES:
            named = f"with the suffix {child.suffix}, which is no video's" if child.suffix else "without a suffix"
            self.left_out.add(f"files {named}", path)


def _local(folder: str) -> list[_Child]:
    with os.scandir(folder) as entries:
        return [_Child(entry.name, entry.is_dir(), entry.is_symlink()) for entry in entries]


def _remote(folder: str) -> list[_Child]:
    """List a folder of a bucket, where a look at each would take long: a suffix of a video or a frame makes a file."""
    known = VIDEO_SUFFIXES | FRAME_SUFFIXES
    return [
        _Child(path.name, path.suffix.lower() not in known and path.is_dir()) for path in epath.Path(folder).iterdir()
    ]
