"""Parts as sections of an experiment: their leaves by dotted names, their docstrings.

What a part is, and the register of those among which one can be chosen, is in :mod:`dnr_jax.dnr.parts`: bases of norms
are parts too.
"""

import ast
import dataclasses
import inspect
import textwrap
from typing import Any

from dnr_jax.dnr.fields import field_types, has_type, nearest, plain
from dnr_jax.dnr.parts import (
    PARTS_VARIABLE,
    ConfigError,
    KnownFields,
    Part,
    exchanged,
    is_choice,
    kind_of,
    named,
    register,
    registered,
    with_fields,
)

__all__ = [
    "PARTS_VARIABLE",
    "ConfigError",
    "KnownFields",
    "Part",
    "RunError",
    "exchanged",
    "field_docs",
    "flatten",
    "is_choice",
    "kind_of",
    "named",
    "nearest",
    "register",
    "registered",
    "with_fields",
]


class RunError(RuntimeError):
    """A run cannot go on, whatever its settings; the message says why, and what is left of it to go on from."""


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

    A part that was chosen has a leaf of its own, the name of its class, and so has a section that might be None.
    Numbers are Python's own, as they are when they have been read from JSON.
    """
    leaves = {prefix[:-1]: type(part).__name__} if is_choice(part) else {}
    for name, kind in field_types(type(part)).items():
        value, full = getattr(part, name), f"{prefix}{name}"
        is_section = dataclasses.is_dataclass(value)
        if not is_section or has_type(None, kind):
            leaves[full] = type(value).__name__ if is_section else plain(value)
        if is_section:
            leaves.update(flatten(value, f"{full}."))
    return leaves
