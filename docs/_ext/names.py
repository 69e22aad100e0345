"""References to Python names in docstrings: a name that does not exist is an error, wherever it is written.

Sphinx knows a name only as it is documented. Here a name of this package stands for its object, which may be documented
under another one, and a name of another library has to exist there.
"""

import builtins
import importlib
import pkgutil
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

_TYPES = ("typing", "collections.abc", "types", "pathlib", "etils.epath", "jax", "numpy", "flax.linen", "optax", "chex")
"""Modules whose types stand in signatures by their short names."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Look up the names that Sphinx does not find, after all other extensions have looked."""
    app.connect("missing-reference", _resolve, priority=900)
    app.connect("autodoc-process-docstring", _hide_colon, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", _show_colon, priority=600)
    return {"parallel_read_safe": True}


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    for name in [f"{scope}.{target}" for scope in [*_rooms(node.get("py:module") or ""), *_owners(node)]] + [target]:
        try:
            found = pkgutil.resolve_name(name)
        except (ImportError, AttributeError, ValueError):
            continue
        full = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
        return _link(app, env, node, content, full) or content
    if link := _link(app, env, node, content, target, anywhere=True):
        return link
    if hasattr(builtins, target) or _is_variable(target) or _is_type(target):
        return content
    return None


_COLON = "\uf03a"
"""Stands for a colon, in the range that Unicode leaves to programs."""


def _hide_colon(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from taking for a type what stands in front of a colon, of a field or of what is returned."""
    returned = False
    for i, line in enumerate(lines):
        if line and not line.startswith(" "):
            returned = line in ("Returns:", "Yields:")
        if returned and line.startswith(" ") or not i and what in ("attribute", "data", "property"):
            lines[i] = line.replace(":", _COLON)


def _show_colon(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def _rooms(module: str) -> list[str]:
    """Return a module and the packages that it is in."""
    parts = module.split(".") if module else []
    return [".".join(parts[:i]) for i in range(len(parts), 0, -1)]


def _owners(node: pending_xref) -> list[str]:
    """Return where a short name may be from: the class that is documented, and the modules of its bases."""
    module, name = node.get("py:module") or "", node.get("py:class") or ""
    if not name:
        return []
    try:
        cls = pkgutil.resolve_name(f"{module}.{name}")
    except (ImportError, AttributeError, ValueError):
        return []
    return [f"{module}.{name}", *dict.fromkeys(base.__module__ for base in getattr(cls, "__mro__", ()))]


def _link(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node, name: str, anywhere: bool = False
) -> nodes.Node | None:
    """Return a link to what is documented under a name, which may be the end of a longer one; None without any."""
    found = env.domains.python_domain.find_obj(env, None, None, name, None, int(anywhere))
    found = [(full, entry) for full, entry in found if not (anywhere and entry.aliased)]
    if len(found) > 1:  # the nearest one counts
        room = ".".join((node.get("py:module") or "").split(".")[:2])
        found = [(full, entry) for full, entry in found if full.startswith(f"{room}.")]
    if len(found) != 1:
        return None
    _, entry = found[0]
    uri = f"{app.builder.get_relative_uri(node['refdoc'], entry.docname)}#{entry.node_id}"
    return nodes.reference("", "", content, internal=True, refuri=uri, reftitle=name)


def _is_variable(target: str) -> bool:
    """Return whether a name is a type variable's."""
    return len(target) == 1


def _is_type(target: str) -> bool:
    modules = (
        "typing",
        "collections.abc",
        "types",
        "jax",
        "numpy",
        "flax.linen",
        "optax",
        "chex",
        "pathlib",
        "etils.epath",
    )
    return any(hasattr(importlib.import_module(module), target) for module in modules)
