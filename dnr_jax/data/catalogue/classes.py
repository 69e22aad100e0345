"""The classes that a network tells apart, and videos whose labels are counted in other ones: names decide.

Where a list has numbers instead of names, the numbers are the names.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dnr_jax.config import VideoSource


def with_classes(source: VideoSource, classes: Sequence[str]) -> VideoSource:
    """Return the videos with labels that are positions in other classes, found by name.

    Args:
      source: The videos. They need not show all of ``classes``.
      classes: Names of the classes, in the order of the new labels.

    Raises:
      ValueError: A video shows a class that is not among them.
    """
    classes = tuple(classes)
    if source.classes == classes:
        return source
    position = {name: number for number, name in enumerate(classes)}
    shown = dict.fromkeys(source.classes[label] for label in np.unique(source.labels))
    if unknown := [name for name in shown if name not in position]:
        raise ValueError(_difference(unknown, [name for name in classes if name not in shown], classes))
    if len(position) < len(classes) or len(set(source.classes)) < len(source.classes):
        raise ValueError("two classes have the same name, so names do not tell which is which")
    moved = np.array([position.get(name, -1) for name in source.classes], np.int32)
    return dataclasses.replace(source, labels=moved[source.labels], classes=classes)


def names_for(classes: Sequence[str], count: int) -> tuple[str, ...]:
    """Return a name for each of ``count`` outputs of a network: numbers go on by themselves.

    Raises:
      ValueError: There are more classes, or fewer, and those have names.
    """
    if len(classes) > count:
        raise ValueError(f"model.num_classes: is {count}, but the data has {len(classes)} classes")
    if len(classes) < count and not _are_numbers(classes):
        raise ValueError(
            f"model.num_classes: is {count}, but the data names {len(classes)} classes: {_some(classes)}; set "
            f"--config.model.num_classes=0 for as many as there are, or name all {count} in data.source.label_map"
        )
    return tuple(map(str, range(count))) if len(classes) < count else tuple(classes)


def _are_numbers(classes: Sequence[str]) -> bool:
    """Return whether classes are called by their positions, as those of a list without names are."""
    return list(classes) == [str(number) for number in range(len(classes))]


def _difference(unknown: Sequence[str], unseen: Sequence[str], classes: Sequence[str]) -> str:
    lines = [f"its videos show {_some(unknown)}, which is none of the {len(classes)} classes: {_some(classes)}"]
    if unseen:
        lines.append(f"no video there shows {_some(unseen)}")
    if _are_numbers(classes) or all(name.isdecimal() for name in unknown):
        lines.append("one side calls classes by number: a label map (data.source.label_map) names them")
    return "; ".join(lines)


def _some(names: Sequence[str], count: int = 10) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > count else ""
    return ", ".join(f"'{name}'" for name in names[:count]) + more
