"""Signatures of classes that can be read: a class of many settings shows their names and defaults.

Their types, with the bounds that stand in them, are shown where each field is explained.
"""

import dataclasses
import inspect
from typing import Any

import flax.linen as nn
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the signatures of classes."""
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True}


def _signature(app: Sphinx, what: str, name: str, found: Any, options: Any, text: str, returned: str) -> Any:
    return (signature(found), None) if what == "class" and dataclasses.is_dataclass(found) else None


def signature(cls: Any) -> str:
    """Return the arguments of a dataclass with their defaults, without types."""
    hidden = {"parent", "name"} if issubclass(cls, nn.Module) else set()  # of every Linen module
    fields = [field for field in dataclasses.fields(cls) if field.init and field.name not in hidden]
    return f"({', '.join(f'{field.name}{default(field)}' for field in fields)})"


def default(field: dataclasses.Field[Any]) -> str:
    """Return ``=`` and the default of a field as one would write it; empty where it has to be given."""
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if value is dataclasses.MISSING:
        return ""
    if dataclasses.is_dataclass(value) and not inspect.isclass(value):
        return f"={type(value).__name__}()"
    return f"={getattr(value, '__name__', None) or repr(value)}"
