"""Paths as people write them, and which fields of an experiment are paths."""

import dataclasses
import functools
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from etils import epath

from dnr_jax.dnr.fields import field_types, split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Path:
    """Marks a field as a path: ``Annotated[str, Path()]``. It is expanded, and absolute once a run has begun."""

    default: str = ""
    """Where an empty path leads to, such as ``.``; empty: nowhere."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Location(Path):
    """Marks a field as the path of data, which may be moved: a run goes on where the same content lies elsewhere.

    ``Annotated[str, Location(kind="folder", holds="the folder of the data set", needed=True)]``.
    """

    kind: Literal["file", "folder", "cache"]
    """A ``cache`` need not be there."""
    holds: str = ""
    """What is expected there, for messages."""
    needed: bool = False
    """Whether the path may not be empty."""


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
    """Passes the fields that are marked as paths through :func:`expand_path`, whoever sets them."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field."""
        is_path = isinstance(value, str | os.PathLike) and name in path_fields(type(self))
        super().__setattr__(name, expand_path(value) if is_path else value)


def path_fields(cls: Any) -> Mapping[str, Path]:
    """Return the fields of a dataclass that are marked as paths, with their marks."""
    return _path_fields(cls)


@functools.cache
def _path_fields(cls: Any) -> Mapping[str, Path]:
    marks = {name: split(kind)[1] for name, kind in field_types(cls).items()}
    return {name: mark for name, of_field in marks.items() for mark in of_field if isinstance(mark, Path)}


def locations(part: Any, prefix: str = "") -> Iterator[str]:
    """Yield the full names of the fields that say where data lies, in a part and in the parts within it."""
    yield from (f"{prefix}{name}" for name, mark in path_fields(type(part)).items() if isinstance(mark, Location))
    for field in dataclasses.fields(part):
        if dataclasses.is_dataclass(value := getattr(part, field.name)):
            yield from locations(value, f"{prefix}{field.name}.")


def make_paths_absolute(part: Any) -> None:
    """Make a part, and the parts within it, independent of the working folder; they are changed in place."""
    for name, mark in path_fields(type(part)).items():
        path = getattr(part, name) or mark.default
        if path and "://" not in path:
            setattr(part, name, os.path.abspath(path))
    for field in dataclasses.fields(part):
        if dataclasses.is_dataclass(value := getattr(part, field.name)):
            make_paths_absolute(value)


def missing_locations(part: Any) -> Iterator[str]:
    """Find the files and folders of a part that are not there, as ``field: what; what would be right``."""
    for name, mark in path_fields(type(part)).items():
        path = getattr(part, name)
        if not isinstance(mark, Location) or mark.kind == "cache":
            continue
        if not path:
            if mark.needed:
                yield f"{name}: is empty; {type(part).__name__} needs {mark.holds}"
        elif not (epath.Path(path).is_file() if mark.kind == "file" else epath.Path(path).is_dir()):
            yield f"{name}: {missing_path(mark.kind, path)}; expected {mark.holds}"
