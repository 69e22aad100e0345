"""Videos in folders of classes."""

import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Self

from etils import epath

from dnr_jax.config import Catalogue, Location, Source, VideoSource, register
from dnr_jax.data.catalogue.folders import Media, find_media
from dnr_jax.data.catalogue.sources.making import video_source
from dnr_jax.data.catalogue.sources.recognition import sources_in
from dnr_jax.data.catalogue.textfiles import first_of, readable

_logger = logging.getLogger(__name__)

_SPLIT_NAMES = {"train": ("training", "trainset"), "val": ("valid", "validation", "test", "testing", "eval")}
_EXPECTED = "a folder with train/<class> and val/<class>"


@register
@dataclasses.dataclass
class Folder(Source):
    """A folder with ``train/<class>/<video>`` and ``val/<class>/<video>``."""

    root: Annotated[str, Location(kind="folder", holds=_EXPECTED, needed=True)] = ""
    """The folder that holds ``train/`` and ``val/``."""

    def load(self) -> tuple[VideoSource, VideoSource]:
        """Find the training and the validation videos; a class that only the latter have is refused."""
        train = self.load_split("train")
        return train, scan_folder(self._split("val"), train.classes)

    def load_split(self, split: str) -> VideoSource:
        """Find the videos of one split; the others need not be there."""
        return scan_folder(self._split(split))

    def open(self, splits: Sequence[str] | None = None) -> Catalogue:
        """Find the videos, and those whose class has no training video.

        A folder of classes without ``train/`` has all its videos in one split, ``all``, unless splits are asked for.
        """
        if splits is None and not epath.Path(self._split("train")).is_dir():
            source = scan_folder(self.root)
            return Catalogue(epath.Path(self.root).name, source.classes, {"all": source})
        train = _scan_folder(self._split("train"), ())
        classes = train[0].classes
        scanned = {
            split: train if split == "train" else _scan_folder(self._split(split), classes)
            for split in splits or ("train", "val")
        }
        return Catalogue(
            name="folder",
            classes=classes,
            splits={split: source for split, (source, _) in scanned.items()},
            unknown={split: unknown for split, (_, unknown) in scanned.items()},
        )

    @classmethod
    def found_in(cls, folder: str) -> Self | None:
        """Return the source of a folder with ``train/``."""
        return cls(folder) if (epath.Path(folder) / "train").is_dir() else None

    def path_problems(self) -> Iterator[str]:
        """Find what the folder lacks, and say what can be done with what it holds."""
        if not self.root or not epath.Path(self.root).is_dir():
            yield from super().path_problems()
            return
        if missing := [split for split in ("train", "val") if not epath.Path(self._split(split)).is_dir()]:
            folders = " and ".join(f"'{self._split(split)}'" for split in missing)
            yield f"root: there is no folder {folders}; expected <class>/<video> in it. {_offer(self.root, missing)}"

    def _split(self, split: str) -> str:
        return str(epath.Path(self.root) / split)


def scan_folder(root: str, classes: Sequence[str] = ()) -> VideoSource:
    """List the videos of a folder that holds one folder a class.

    Args:
      root: The folder; ``root/<class>/<video>``, where a video is a file or a folder of JPEG frames. Videos may lie
        deeper, in groups: their class is the first folder. For what is left out, which a warning counts, see
        :func:`dnr_jax.data.catalogue.folders.find_media`.
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
        alike = [name for name in classes if _plain(name) in map(_plain, folders)]
        meant = f"; {first_of(_quoted(alike))} is written with other letters or spaces there" if alike else ""
        raise ValueError(
            f"{root}: folders {first_of(_quoted(folders))} are none of the training classes "
            f"{first_of(_quoted(classes))}{meant}"
        )
    return source


def _offer(root: str, missing: Sequence[str]) -> str:
    """Say what a folder without ``train/`` or ``val/`` holds, and how to train on that."""
    children = sorted(child for child in epath.Path(root).iterdir() if not child.name.startswith((".", "@", "__")))
    folders = [child.name for child in children if child.is_dir()]
    for split in missing:
        if alike := [name for name in folders if name.lower() in (split, *_SPLIT_NAMES[split])]:
            return f"It holds '{alike[0]}': rename that to '{split}'"
    if other := _other_source(root):
        flags = {"": type(other).__name__} | {f".{name}": value for name, value in vars(other).items() if value}
        shown = " ".join(f"--config.data.source{name}={value}" for name, value in flags.items())
        return f"It holds what {type(other).__name__} reads: {shown} trains on it"
    if missing == ["val"]:
        return f"Move about a fifth of the videos of each class from {root}/train/<class> to {root}/val/<class>"
    if folders:
        shown = f"{', '.join(folders[:3])}{', ...' if len(folders) > 3 else ''}"
        return (
            f"It holds {len(folders)} folders ({shown}): if these are classes, move about a fifth of the videos of "
            f"each to {root}/val/<class> and the others to {root}/train/<class>; keep videos of one scene together"
        )
    what = f"{len(children)} files and no folder" if children else "nothing"
    return f"It holds {what}; 'dnr prepare' reads public data sets as they were unpacked"


def _other_source(root: str) -> Source | None:
    """Return the source that a folder without splits holds; None where there is none, or where it is ambiguous."""
    try:
        return next((source for source in sources_in(root) if not isinstance(source, Folder)), None)
    except ValueError:
        return None


def _scan_folder(root: str, classes: Sequence[str]) -> tuple[VideoSource, list[str]]:
    """Return the videos in folders of ``classes``, or of all there are, and the names of those in other folders."""
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
    _warn_of_spelling(root, by_class)
    classes = tuple(classes or sorted(by_class))
    listed = [(path, label) for label, of_class in enumerate(classes) for path in by_class.pop(of_class, ())]
    unknown = [readable(path) for others in by_class.values() for path in others]
    return video_source(root, [path for path, _ in listed], [label for _, label in listed], classes), unknown


def _by_class(root: str, found: Media) -> dict[str, list[str]]:
    """Return the videos in each folder of a class, by the readable name of the class."""
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


def _warn_of_spelling(root: str, classes: Iterable[str]) -> None:
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(_plain(name), []).append(name)
    if several := [", ".join(_quoted(names)) for names in alike.values() if len(names) > 1]:
        _logger.warning("%s: classes that differ in letter case or spaces only: %s", readable(root), first_of(several))


def _plain(name: str) -> str:
    """Return a name without what is easily mistyped: letter case, and spaces."""
    return " ".join(name.casefold().split())


def _quoted(names: Iterable[str]) -> list[str]:
    """Return names such that spaces at their ends are seen."""
    return [f"'{name}'" for name in names]
