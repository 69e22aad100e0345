"""All fields of an experiment as a text: value, what they take, and what they are for."""

import dataclasses
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from dnr_jax.config.overrides import part_type
from dnr_jax.config.parts import Part, field_docs, is_choice, kind_of, registered
from dnr_jax.dnr.fields import describe, field_types

WIDTH = 100


def list_fields(part: Any, prefix: str = "config.") -> str:
    """Return every field of a part and of the parts in it, as ``--config.name=value`` with bounds and docstring.

    Args:
      part: the experiment, or a section of it.
      prefix: what stands before the names of its fields.
    """
    return "\n".join(_lines(part, prefix))


def _lines(part: Any, prefix: str) -> Iterator[str]:
    kinds, docs = field_types(type(part)), field_docs(type(part))
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield f"--{name}={type(value).__name__}{_others(value)}"
            yield from _wrapped(docs.get(field.name) or (type(value).__doc__ or "").partition("\n")[0])
            yield from _lines(value, f"{name}.")
        else:
            yield f"--{name}={value}  ({expected(kinds[field.name])})"
            yield from _wrapped(docs.get(field.name, ""))


def _others(part: Any) -> str:
    """Return the parts that could stand in a part's place."""
    return f"  (one of {', '.join(registered(kind_of(type(part))))})" if is_choice(part) else ""


def expected(kind: Any) -> str:
    """Return in words what a field of that type takes; of a part, the names of those that can stand there."""
    part = part_type(kind)
    if part is None:
        return describe(kind)
    names = list(registered(part)) if issubclass(part, Part) else [part.__name__]
    return f"None, or {' or '.join(names)}"


def _wrapped(text: str) -> list[str]:
    plain = re.sub(r"(?::\w+:)?`+~?([^`]*)`+", r"\1", text)
    return textwrap.wrap(plain, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4)
