"""What the fields of a dataclass may hold, said once: beside the field, in its type.

A field of type ``Annotated[int, Ge(1)]`` (with the markers of annotated-types) or ``Literal["cl", "ct"]`` is checked by
:func:`problems`, for a layer, for a specification and for a section of a configuration alike, in the same words. A
field that only counts beside certain values of another says so with :class:`Needs`; elsewhere it has to hold its
default, so that no setting is without effect.
"""

import collections.abc
import copy
import dataclasses
import difflib
import functools
import math
import numbers
import sys
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt

_BOUNDS: tuple[tuple[type, str, str, typing.Callable[[Any, Any], bool]], ...] = (
    (Ge, "ge", "at least", lambda value, bound: value >= bound),
    (Gt, "gt", "more than", lambda value, bound: value > bound),
    (Le, "le", "at most", lambda value, bound: value <= bound),
    (Lt, "lt", "less than", lambda value, bound: value < bound),
)
_NAMES = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a text", type(None): "None"}
# Of a Flax module, these are no settings.
_NO_SETTINGS = frozenset({"parent", "name"})


@dataclasses.dataclass(frozen=True)
class Needs:
    """Marks a field that has an effect only where another field holds certain values.

    ``Annotated[int, Ge(1), Needs("relay", "lstm", "se")]``. Owners without the other field are not concerned, so that a
    specification and a layer can share the type.
    """

    fields: str | tuple[str, ...]
    """The other field, or several of which one is enough."""
    values: tuple[Any, ...]

    def __init__(self, fields: str | tuple[str, ...], *values: Any) -> None:
        """Take the values one by one."""
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "values", values)

    @property
    def names(self) -> tuple[str, ...]:
        """The other fields, as a tuple in any case."""
        return (self.fields,) if isinstance(self.fields, str) else self.fields

    def met(self, owner: Any) -> bool:
        """Return whether the owner holds one of the values, or has no such field."""
        return any(getattr(owner, name, self.values[0]) in self.values for name in self.names)

    def sentence(self, value: Any, default: Any, owner: Any) -> str:
        """Return what is wrong with a value whose need is not met, and what would be right."""
        if self.values == (None,):
            needed, found = f"no {any_of(self.names)}", "with one"
        elif isinstance(self.fields, str):
            needed, found = f"{self.fields} {any_of(self.values)}", f"with {self.fields} {getattr(owner, self.fields)}"
        else:
            needed, found = f"{any_of(self.values)} in {any_of(self.fields)}", "where there is none"
        return f"is {value!r}, which needs {needed}; expected {default!r} {found}"


@dataclasses.dataclass(frozen=True)
class Where:
    """Marks a field whose values have to fulfil a condition that is no bound."""

    words: str
    """What is expected, as the end of a sentence."""
    holds: typing.Callable[[Any], bool]


@dataclasses.dataclass(frozen=True)
class GoesWith:
    """Marks a field that says for what the value of another field is meant, and has no meaning beside another value."""

    field: str
    """The other field."""


def companions(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields with which one of type ``kind`` goes."""
    return tuple(marker.field for marker in split(kind)[1] if isinstance(marker, GoesWith))


def any_of(values: Iterable[Any]) -> str:
    """Return ``a, b or c``."""
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last


def problems(owner: Any, prefix: str = "") -> Iterator[str]:
    """Check every field of a dataclass against its type, bounds and choices.

    Args:
      owner: an instance of a dataclass, such as a Flax module. Fields whose type says nothing that can be checked, like
        ``Any``, pass; fields that are dataclasses themselves are not looked into.
      prefix: what stands before the names of the fields, such as ``model.``.

    Yields:
      A sentence for each field that holds what it may not, ``relay_distance: is -1; expected at least 1``, or what has
      no effect beside the others: ``reduction: is 2, which needs relay lstm, se or none; expected 4 with relay fc``.
    """
    cls: Any = type(owner)
    wrong = set()
    for name, kind in field_types(cls).items():
        if name in _NO_SETTINGS and isinstance(owner, nn.Module):
            continue
        if expected := unmet(getattr(owner, name), kind):
            wrong.add(name)
            yield f"{prefix}{name}: is {getattr(owner, name)!r}; expected {expected}"
    for name, need in _unmet_needs(owner, wrong):
        if not wrong.intersection(need.names):
            yield f"{prefix}{name}: {need.sentence(getattr(owner, name), _default(cls, name), owner)}"


def part_problems(part: Any, prefix: str = "") -> Iterator[str]:
    """Check a part: each field against its type, the parts in it, and where these are in order what it says itself.

    Args:
      part: a dataclass, with a method ``problems`` or without. Flax modules in it were checked when they were made.
      prefix: its full name with a dot behind it, or empty.

    Yields:
      ``name: what is wrong; what would be right``, with full names.
    """
    found = [*problems(part, prefix), *_strangers(part, prefix)]
    for name in field_types(type(part)):
        value = getattr(part, name)
        if _is_part(value):
            found += part_problems(value, f"{prefix}{name}.")
    yield from found
    if not found and hasattr(part, "problems"):
        yield from (f"{prefix}{problem}" for problem in part.problems())


def is_module(value: Any) -> bool:
    """Return whether this is a module of Linen or of NNX, which is not imported for the question."""
    nnx = sys.modules.get("flax.nnx")
    return isinstance(value, nn.Module) or (nnx is not None and isinstance(value, nnx.Module))


def _strangers(part: Any, prefix: str) -> Iterator[str]:
    """Find what was written into a part under a name that none of its fields has."""
    if is_module(part):  # which holds more than its fields
        return
    names = list(field_types(type(part)))
    parts = {name: getattr(part, name) for name in names if _is_part(getattr(part, name))}
    inside = {field: f"{name}.{field}" for name, inner in parts.items() for field in field_types(type(inner))}
    for name in vars(part).keys() - set(names):
        where = f" (did you mean {inside[name]!r}?)" if name in inside else nearest(name, names)
        yield f"{prefix}{name}: there is no such field{where}"


def _is_part(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type | nn.Module)


def refuse(owner: Any) -> None:
    """Raise ``ValueError`` with the class's name and all :func:`part_problems`, if there are any."""
    if found := list(part_problems(owner)):
        raise ValueError(f"{type(owner).__name__}: {'; '.join(found)}")


def changed(owner: Any, **changes: Any) -> Any:
    """Return a copy of a dataclass with other values, and with defaults where the old ones have no effect any more.

    ``changed(spec, relay="fc")`` has the default reduction, whatever the reduction of ``spec`` is.

    Raises:
      ValueError: for values that the class refuses, those of ``changes`` that have no effect among them.
    """
    new = copy.copy(owner)
    for name, value in changes.items():
        setattr(new, name, value)
    cls: Any = type(owner)
    while idle := {name for name, _ in _unmet_needs(new)} - set(changes):
        for name in idle:
            setattr(new, name, _default(cls, name))
    return dataclasses.replace(new)


def _unmet_needs(owner: Any, wrong: Collection[str] = ()) -> Iterator[tuple[str, Needs]]:
    """Find the fields, but those that are wrong, that are not at their default and have no effect; the first reason."""
    cls: Any = type(owner)
    for name, needs in _needs(cls).items():
        if name in wrong:
            continue
        value, default = getattr(owner, name), _default(cls, name)
        for need in needs:
            if value != default and not need.met(owner):
                yield name, need
                break


@functools.cache
def _needs(cls: Any) -> dict[str, tuple[Needs, ...]]:
    found = {}
    for name, kind in field_types(cls).items():
        if needs := tuple(marker for marker in split(kind)[1] if isinstance(marker, Needs)):
            found[name] = needs
    return found


@functools.cache
def _default(cls: Any, name: str) -> Any:
    return next(field.default for field in dataclasses.fields(cls) if field.name == name)


def field_types(owner: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields by name, with what ``Annotated`` adds to them."""
    return _field_types(owner)


@functools.cache
def _field_types(owner: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(owner, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(owner)}


def unmet(value: Any, kind: Any) -> str:
    """Return what ``kind`` expects that ``value`` does not meet, as the end of a sentence; empty where it meets all."""
    base, bounds = split(kind)
    if not has_type(value, base):
        return describe(kind) + _suggestion(value, base)
    for marker in bounds:
        if isinstance(marker, Where) and not marker.holds(value):
            return marker.words
        for kind_of_bound, attribute, words, holds in _BOUNDS:
            if isinstance(marker, kind_of_bound) and not holds(value, getattr(marker, attribute)):
                return f"{words} {getattr(marker, attribute)}"
    return ""


def split(kind: Any) -> tuple[Any, Sequence[Any]]:
    """Return a type without its bounds, and the bounds."""
    if typing.get_origin(kind) is not typing.Annotated:
        return kind, ()
    base, *markers = typing.get_args(kind)
    bounds: list[Any] = []
    for marker in markers:
        bounds.extend(marker if isinstance(marker, GroupedMetadata) else [marker])
    return base, bounds


def has_type(value: Any, kind: Any) -> bool:
    """Return whether a value fits a type; a whole number is a number, ``True`` is neither. Unknown types fit all.

    No setting is meant to be infinite or not a number: what stands for "without limit" is said beside the field.
    """
    kind, bounds = split(kind)
    if bounds and unmet(value, typing.Annotated[kind, *bounds]):
        return False
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return any(has_type(value, choice) for choice in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is ...:
            return all(has_type(entry, arguments[0]) for entry in value)
        return len(value) == len(arguments) and all(map(has_type, value, arguments))
    if origin is collections.abc.Callable:
        return callable(value)
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
    if kind is bool:
        is_scalar = getattr(value, "shape", None) == ()
        return isinstance(value, bool) or (is_scalar and str(getattr(value, "dtype", "")) == "bool")
    return kind is Any or not isinstance(kind, type) or isinstance(value, kind)


def plain(value: Any) -> Any:
    """Return a value, or a tuple of values, with Python's own numbers in the place of NumPy's and the like."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if has_type(value, bool):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def nearest(name: str, candidates: Sequence[str]) -> str:
    """Return `` (did you mean 'x'?)`` with the candidate that is spelled alike; empty where there is none."""
    lowered = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f" (did you mean {lowered[found[0]]!r}?)" if found else ""


def describe(kind: Any) -> str:
    """Return in words what a type with its bounds takes: ``a whole number, at least 1``."""
    base, bounds = split(kind)
    words = [] if base is Any and bounds else [_describe_base(base)]
    for marker in bounds:
        words += [marker.words] if isinstance(marker, Where) else []
        words += [f"{text} {getattr(marker, name)}" for bound, name, text, _ in _BOUNDS if isinstance(marker, bound)]
    return ", ".join(words)


def _describe_base(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if choices := _choices(kind):
        return f"one of {', '.join(map(str, choices))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe, arguments))
    if origin is tuple:
        if arguments[-1] is ...:
            return f"a tuple, each entry {describe(arguments[0])}"
        return f"a tuple of {len(arguments)} ({'; '.join(map(describe, arguments))})"
    if origin is collections.abc.Callable:
        return "a function"
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _choices(kind: Any) -> Sequence[Any]:
    """Return what a type lets one choose among: the values of a literal, the names of registered parts."""
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)
    return list(kind.choices()) if isinstance(kind, type) and hasattr(kind, "choices") else ()


def _suggestion(value: Any, kind: Any) -> str:
    """Return the nearest choice, for a word that is none of them."""
    words = [choice for choice in _choices(kind) if isinstance(choice, str)] if isinstance(value, str) else []
    return nearest(value, words) if words else ""
