"""Paths as people write them, and what is wrong with those of an experiment."""

import os
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from etils import epath

if TYPE_CHECKING:
    from dnr_jax.config.data import DataConfig


def expand_path(path: str | os.PathLike[str]) -> str:
    """Return a path that a person wrote, as all of this package takes it.

    ``~`` and ``~user`` become home folders, ``file://`` URLs local paths, and slashes at the end are dropped, so that
    one folder has one name. Environment variables are left alone: the shell has replaced them already, and a file name
    may hold a dollar sign; :func:`missing_path` says so.
    """
    text = os.fspath(path)
    if match := re.fullmatch(r"file://(?:localhost)?(/.*)", text, re.DOTALL):
        text = urllib.parse.unquote(match[1])
    text = os.path.expanduser(text)
    return text.rstrip("/") or text[:1]


def missing_path(kind: str, path: str) -> str:
    """Return the sentence that a ``file`` or a ``folder`` is not there, and why that may be."""
    variables = [name for name in re.findall(r"\$\{?(\w+)", path) if name in os.environ]
    hint = f" (the shell puts in the value of ${variables[0]}, but not within single quotes)" if variables else ""
    return f"there is no {kind} {path!r}{hint}"


class ExpandsPaths:
    """Passes the fields that ``PATHS`` names through :func:`expand_path`, whoever sets them."""

    PATHS: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field."""
        is_path = name in self.PATHS and isinstance(value, str | os.PathLike)
        super().__setattr__(name, expand_path(value) if is_path else value)


def path_problems(data: "DataConfig") -> Iterator[str]:
    """Find files and folders of the data that are not there."""
    if data.source == "list":
        for name in ("train_list", "val_list"):
            path = getattr(data, name)
            if not path:
                yield f"data.{name}: is empty; data.source 'list' needs an annotation file with 'path label' lines"
            elif not epath.Path(path).is_file():
                yield f"data.{name}: {missing_path('file', path)}"
        if data.root and not epath.Path(data.root).is_dir():
            yield f"data.root: {missing_path('folder', data.root)}; the lists' paths are relative to it"
        if data.label_map and not epath.Path(data.label_map).is_file():
            yield f"data.label_map: {missing_path('file', data.label_map)}"
    if data.source in ("dataset", "records"):
        if not data.root:
            yield f"data.root: is empty; data.source '{data.source}' needs the folder of the data set"
        elif not epath.Path(data.root).is_dir():
            yield f"data.root: {missing_path('folder', data.root)}"
        if data.annotations and not epath.Path(data.annotations).is_dir():
            yield f"data.annotations: {missing_path('folder', data.annotations)}"
    if data.source == "dataset" and not data.dataset:
        yield "data.dataset: is empty; data.source 'dataset' needs a name, such as 'kinetics400'"
    if data.source == "folder":
        if problem := folder_problem(data.root):
            yield f"data.root: {problem}"


def folder_problem(root: str) -> str:
    """Return what a folder of videos lacks, and what can be done with what it holds; empty where it lacks nothing."""
    if not root:
        return "is empty; data.source 'folder' needs a folder with train/<class> and val/<class>"
    if not epath.Path(root).is_dir():
        return f"{missing_path('folder', root)}; expected one with train/<class> and val/<class>"
    missing = [split for split in ("train", "val") if not (epath.Path(root) / split).is_dir()]
    if not missing:
        return ""
    folders = " and ".join(f"'{root}/{split}'" for split in missing)
    return f"there is no folder {folders}; expected <class>/<video> in it. {_offer(root, missing)}"


_SPLIT_NAMES = {"train": ("training", "trainset"), "val": ("valid", "validation", "test", "testing", "eval")}


def _offer(root: str, missing: Sequence[str]) -> str:
    """Say what a folder without ``train/`` or ``val/`` holds, and how to train on that."""
    children = sorted(child for child in epath.Path(root).iterdir() if not child.name.startswith((".", "@", "__")))
    folders = [child.name for child in children if child.is_dir()]
    lists = [child.name for child in children if child.suffix in (".txt", ".csv") and not child.is_dir()]
    for split in missing:
        if alike := [name for name in folders if name.lower() in (split, *_SPLIT_NAMES[split])]:
            return f"It holds '{alike[0]}': rename that to '{split}'"
    if found := [f"{root}/{name}" for split in ("train", "val") for name in lists if split in name]:
        flags_of = " ".join(f"--config.data.{'train' if 'train' in f else 'val'}_list={f}" for f in found[:2])
        return f"It holds lists: --config.data.source=list {flags_of} trains on them"
    if any(
        next(epath.Path(root).glob(f"{depth}dataset_info.json"), None)
        for depth in ("", "*/", "*/*/")[: 4 - len(folders)]
    ):
        return "It holds records of 'dnr prepare': --config=configs/prepared.py trains on them"
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
