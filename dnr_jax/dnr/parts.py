"""What can be chosen among several by name: the bases of norms here, networks and others in the rooms above.

A part is a dataclass: its fields, each with its bounds or choices in its type (:mod:`dnr_jax.dnr.fields`) and its
docstring below it, and a method ``problems()`` that yields what its fields exclude in each other. Parts nest. Where one
can be chosen among several, these derive from one base class and are registered.
"""

import collections
import copy
import dataclasses
import importlib
import os
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from dnr_jax.dnr.fields import companions, field_types, nearest, unmet

PARTS_VARIABLE = "DNR_JAX_PARTS"
"""Environment variable with the names, separated by commas, of further modules whose import registers parts."""

T = TypeVar("T")
_registry: dict[type, dict[str, type]] = collections.defaultdict(dict)


class ConfigError(ValueError):
    """Something that a person set is wrong; the message says what, where, and what would be right."""


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
      room: of a kind, the module or package whose import registers the parts of this package.
      alias: of a part, a short name beside that of its class; empty where it has none.
    """

    room: ClassVar[str]
    alias: ClassVar[str] = ""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with fields that fit their types one by one, as ``field: what; what would be right``."""
        yield from ()

    @classmethod
    def label(cls) -> str:
        """Return the shortest name by which the part can be chosen."""
        return cls.alias or cls.__name__


def register(cls: type[T]) -> type[T]:
    """Let a part be chosen by the name of its class, and by its alias; the decorator of every network, sampler, base.

    Raises:
      ValueError: where another class of that kind has the name.
    """
    parts = _registry[kind_of(cls)]
    for name, other in parts.items():
        same = (other.__module__, other.__qualname__) == (cls.__module__, cls.__qualname__)
        if taken := {cls.__name__, _alias(cls)} & {name, _alias(other)} - {""} if not same else None:
            raise ValueError(f"{min(taken)} is the name of a class in {other.__module__} already; choose another one")
    parts[cls.__name__] = cls
    return cls


def _alias(cls: Any) -> str:
    return str(cls.alias)


def kind_of(cls: type) -> type[Part]:
    """Return the base class directly below :class:`Part`."""
    return next(base for base in cls.__mro__ if Part in base.__bases__)


def registered(kind: type[Part]) -> dict[str, Any]:
    """Return the registered parts of a kind by the names of their classes.

    Those of every module of the kind's room are found, and those of the modules that :data:`PARTS_VARIABLE` names.
    """
    room = importlib.import_module(kind.room)
    inside = [f"{room.__name__}.{module.name}" for module in pkgutil.iter_modules(getattr(room, "__path__", ()))]
    for name in (*inside, *filter(None, os.environ.get(PARTS_VARIABLE, "").split(","))):
        importlib.import_module(name)
    return dict(_registry[kind])


def find(kind: type[Part], name: str) -> Any:
    """Return the registered part with that name or alias, or None."""
    parts = registered(kind)
    return parts.get(name) or next((part for part in parts.values() if part.alias and part.alias == name), None)


def named(kind: type[Part], name: str) -> Any:
    """Return the registered part with that name or alias.

    Raises:
      ConfigError: where there is none, with the nearest and with all that there are.
    """
    part = find(kind, name)
    if part is None:
        parts = registered(kind)
        candidates = [*parts, *(part.alias for part in parts.values() if part.alias)]
        raise ConfigError(
            f"no {kind.__name__} is called {name!r}{nearest(name, candidates)}; there are {', '.join(parts)}. "
            f"One of your own is found where {PARTS_VARIABLE} names the module that defines it"
        )
    return part


def is_choice(part: Any) -> bool:
    """Return whether a part was chosen among several."""
    return isinstance(part, Part) and type(part).__name__ in _registry[kind_of(type(part))]


def with_fields(part: T, values: Mapping[str, Any]) -> T:
    """Return a copy of a part with other values, which are not checked; the validation tells all that is wrong."""
    part = copy.copy(part)
    for name, value in values.items():
        setattr(part, name, value)
    return part


def exchanged(part: Any, cls: Any) -> Any:
    """Return a part of class ``cls`` with what was set in the fields that it has in common with ``part``.

    A field for which ``cls`` has another default means something else there, as the learning rate of another optimizer
    does: it begins at that default, and so do the fields that go with it (:class:`~dnr_jax.dnr.fields.GoesWith`).
    """
    new, kinds = cls(), field_types(cls)
    kept = {
        name: value
        for name, value in set_fields(part).items()
        if name in kinds and not unmet(value, kinds[name]) and _same_defaults(type(part)(), new, name)
    }
    return with_fields(new, kept)


def _same_defaults(old: Any, new: Any, name: str) -> bool:
    """Return whether two parts, as their classes make them, agree in a field and in those that it goes with.

    Sections do: each has fields with defaults of their own, and one that is switched off stays so.
    """
    names = (name, *companions(field_types(type(new))[name]))
    pairs = [(getattr(old, other, None), getattr(new, other, None)) for other in names]
    return all(a == b or (dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b)) for a, b in pairs)


def set_fields(part: Any) -> dict[str, Any]:
    """Return the fields of a part that differ from its class's defaults; none of no part."""
    if part is None:
        return {}
    default = type(part)()
    values = {name: getattr(part, name) for name in field_types(type(part))}
    return {name: value for name, value in values.items() if value != getattr(default, name)}
