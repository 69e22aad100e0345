"""What the fields of a dataclass may hold, said once: beside the field, in its type.

A field of type ``Annotated[int, Ge(1)]`` (with the markers of annotated-types) or ``Literal["bn", "gn"]`` is checked by
:func:`problems`, for a layer, for a specification and for a section of a configuration alike, in the same words.
"""

import dataclasses
import difflib
import functools
import numbers
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt

_BOUNDS: tuple[tuple[type, str, str, typing.Callable[[Any, Any], bool]], ...] = (
    (Ge, "ge", "at least", lambda value, bound: value >= bound),
    (Gt, "gt", "more than", lambda value, bound: value > bound),
    (Le, "le", "at most", lambda value, bound: value <= bound),
    (Lt, "lt", "less than", lambda value, bound: value < bound),
)
_NAMES = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", type(None): "None"}
# Of a Flax module, these are no settings.
_NO_SETTINGS = frozenset({"parent", "name"})


def problems(owner: Any, prefix: str = "") -> Iterator[str]:
    """Check every field of a dataclass against its type, bounds and choices.

    Args:
      owner: an instance of a dataclass, such as a Flax module. Fields whose type says nothing that can be checked, like
        ``Any``, pass; fields that are dataclasses themselves are not looked into.
      prefix: what stands before the names of the fields, such as ``model.``.

    Yields:
      A sentence for each field that holds what it may not: ``relay_distance: is -1; expected at least 1``.
    """
    for name, kind in field_types(type(owner)).items():
        if not (name in _NO_SETTINGS and isinstance(owner, nn.Module)) and (
            expected := unmet(getattr(owner, name), kind)
        ):
            yield f"{prefix}{name}: is {getattr(owner, name)!r}; expected {expected}"


def refuse(owner: Any) -> None:
    """Raise ``ValueError`` with the class's name and all :func:`problems`, if there are any."""
    if found := list(problems(owner)):
        raise ValueError(f"{type(owner).__name__}: {'; '.join(found)}")


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
    """Return whether a value fits a type; a whole number is a number, ``True`` is neither. Unknown types fit all."""
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
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    return kind is Any or not isinstance(kind, type) or isinstance(value, kind)


def describe(kind: Any) -> str:
    """Return in words what a type with its bounds takes: ``a whole number, at least 1``."""
    base, bounds = split(kind)
    words = [_describe_base(base)]
    for marker in bounds:
        words += [f"{text} {getattr(marker, name)}" for bound, name, text, _ in _BOUNDS if isinstance(marker, bound)]
    return ", ".join(words)


def _describe_base(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe, arguments))
    if origin is tuple:
        if arguments[-1] is ...:
            return f"a tuple, each entry {describe(arguments[0])}"
        return f"a tuple of {len(arguments)} ({'; '.join(map(describe, arguments))})"
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _suggestion(value: Any, kind: Any) -> str:
    """Return the nearest choice, for a word that is none of them."""
    if typing.get_origin(kind) is not typing.Literal or not isinstance(value, str):
        return ""
    choices = [choice for choice in typing.get_args(kind) if isinstance(choice, str)]
    lowered = {choice.lower(): choice for choice in choices}
    nearest = difflib.get_close_matches(value.lower(), lowered, n=1)
    return f" (did you mean {lowered[nearest[0]]!r}?)" if nearest else ""
