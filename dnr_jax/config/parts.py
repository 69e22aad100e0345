"""What a part of an experiment is, and how parts are found by name.

A part is a dataclass: its fields, each with its bounds or choices in its type (:mod:`dnr_jax.dnr.fields`) and its
docstring below it, and a method ``problems()`` that yields what its fields exclude in each other. Parts nest. Where one
can be chosen among several (a network, a sampler, an optimizer), these derive from one base class and are registered.
"""

import ast
import collections
import copy
import dataclasses
import difflib
import importlib
import inspect
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from dnr_jax.dnr.fields import field_types

PARTS_VARIABLE = "DNR_JAX_PARTS"
"""Environment variable with the names, separated by commas, of further modules whose import registers parts."""

T = TypeVar("T")
_registry: dict[type, dict[str, type]] = collections.defaultdict(dict)


class ConfigError(ValueError):
    """Something that a person set is wrong; the message says what, where, and what would be right."""


class RunError(RuntimeError):
    """A run cannot go on, whatever its settings; the message says why, and what is left of it to go on from."""


class KnownFields:
    """Refuses to be given what is no field of it, which nobody would read."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field."""
        fields = list(field_types(type(self)))
        if name not in fields:
            owner = type(self).__name__
            raise ConfigError(f"{owner} has no field {name!r}{nearest(name, fields)}; it has {', '.join(fields)}")
        super().__setattr__(name, value)


class Part(KnownFields):
    """Base class of the parts among which one can be chosen; the classes directly below it are the kinds of parts.

    Attributes:
      room: of a kind, the module whose import registers the parts of this package.
    """

    room: ClassVar[str]

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with fields that fit their types one by one, as ``field: what; what would be right``."""
        yield from ()


def register(cls: type[T]) -> type[T]:
    """Let a part be chosen by the name of its class; the decorator of every network, sampler, optimizer.

    Raises:
      ValueError: where another class of that kind has the name.
    """
    parts = _registry[kind_of(cls)]
    other = parts.setdefault(cls.__name__, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"{cls.__name__} is the name of a class in {other.__module__} already; choose another one")
    parts[cls.__name__] = cls
    return cls


def kind_of(cls: type) -> type[Part]:
    """Return the base class directly below :class:`Part`."""
    return next(base for base in cls.__mro__ if Part in base.__bases__)


def registered(kind: type[Part]) -> dict[str, Any]:
    """Return the registered parts of a kind by name."""
    for room in (kind.room, *filter(None, os.environ.get(PARTS_VARIABLE, "").split(","))):
        importlib.import_module(room)
    return dict(_registry[kind])


def named(kind: type[Part], name: str) -> Any:
    """Return the registered part of that name.

    Raises:
      ConfigError: where there is none, with the nearest and with all that there are.
    """
    parts = registered(kind)
    if name not in parts:
        raise ConfigError(
            f"no {kind.__name__} is called {name!r}{nearest(name, list(parts))}; there are {', '.join(parts)}. "
            f"One of your own is found where {PARTS_VARIABLE} names the module that defines it"
        )
    return parts[name]


def is_choice(part: Any) -> bool:
    """Return whether a part was chosen among several."""
    return isinstance(part, Part) and type(part).__name__ in _registry[kind_of(type(part))]


def with_fields(part: T, values: Mapping[str, Any]) -> T:
    """Return a copy of a part with other values, which are not checked; the validation tells all that is wrong."""
    part = copy.copy(part)
    for name, value in values.items():
        setattr(part, name, value)
    return part


def field_docs(cls: Any) -> dict[str, str]:
    """Return the docstrings that stand below the fields of a dataclass, in one line each; inherited ones too."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if "__dataclass_fields__" in vars(base):
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(tree, ast.ClassDef)
            for field, below in zip(tree.body, tree.body[1:], strict=False):
                text = below.value if isinstance(below, ast.Expr) else None
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Constant):
                    docs[ast.unparse(field.target)] = " ".join(str(text.value).split())
    return docs


def flatten(part: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a part by their dotted names, in the order of the fields.

    A part that was chosen has a leaf of its own, the name of its class.
    """
    leaves = {prefix[:-1]: type(part).__name__} if is_choice(part) else {}
    for field in dataclasses.fields(part):
        value, name = getattr(part, field.name), f"{prefix}{field.name}"
        leaves.update(flatten(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value})
    return leaves


def nearest(name: str, candidates: Sequence[str]) -> str:
    """Return `` (did you mean 'x'?)`` with the candidate that is spelled alike; empty where there is none."""
    lowered = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f" (did you mean {lowered[found[0]]!r}?)" if found else ""
