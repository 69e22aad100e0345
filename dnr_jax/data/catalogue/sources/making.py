"""What several sources need: videos made of paths and labels, and videos that are named several times."""

import posixpath
from collections.abc import Sequence

import numpy as np
from etils import epath

from dnr_jax.config import Problem, VideoSource
from dnr_jax.data.catalogue.textfiles import readable


def video_source(root: str, paths: Sequence[str], labels: Sequence[int | None], classes: Sequence[str]) -> VideoSource:
    """Return videos with printable names.

    Args:
      root: Folder that paths are relative to; URLs and absolute paths are taken as they are.
      paths: Of the videos.
      labels: Positions of their classes.
      classes: Names of the classes.
    """
    folder = str(epath.Path(root)) if root else ""  # once: an object for each video takes as long as looking for it
    return VideoSource(
        paths=tuple(path if "://" in path else posixpath.join(folder, path) for path in paths),
        labels=np.array(labels, np.int32),
        names=tuple(map(readable, paths)),
        classes=tuple(map(readable, classes)),
    )


def same_video(split: str, videos: Sequence[tuple[str, int, str]], classes: Sequence[str]) -> list[Problem]:
    """Return what is wrong with videos, given by path, label and place, that are listed several times."""
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
