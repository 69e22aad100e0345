"""The reference, from what the program itself says: commands, fields of a configuration, networks, and docstrings.

The pages are written into ``docs/reference/`` before Sphinx reads the sources; they are no part of the repository.
"""

import argparse
import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

import dnr_jax
from dnr_jax import cli, train_command
from dnr_jax.config import ExperimentConfig, Part, field_docs, flatten, list_configs, registered
from dnr_jax.config.listing import expected
from dnr_jax.config.overrides import part_type
from dnr_jax.dnr.fields import field_types
from dnr_jax.models.zoo import zoo

_MARKS = "=-~^"


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages at the start of a build."""
    app.connect("builder-inited", lambda app: write_pages(pathlib.Path(app.srcdir) / "reference"))
    return {"parallel_read_safe": True}


def write_pages(folder: pathlib.Path) -> None:
    """Write the pages of the reference; those that are as they were are left alone, those of before go."""
    pages = {"commands": commands(), "configuration": configuration(), "networks": networks(), **modules()}
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        file = folder / f"{name}.rst"
        if not file.is_file() or file.read_text() != text:
            file.write_text(text)


def heading(text: str, level: int) -> str:
    """Return a title, of the whole page at level 0."""
    return f"{text}\n{_MARKS[level] * len(text)}\n\n"


def plain(text: str) -> str:
    """Return a text in which nothing is markup."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def indented(text: str) -> str:
    """Return what stands below a directive."""
    return textwrap.indent(text, "   ")


def code(text: str, language: str = "text") -> str:
    """Return a block of code."""
    return f".. code-block:: {language}\n\n{indented(text.rstrip())}\n\n"


# Commands


def commands() -> str:
    """Return the page of all commands and their flags, as ``argparse`` knows them."""
    parser = cli._parser()
    (choices,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    summaries = {choice.dest: choice.help for choice in choices._choices_actions}
    page = heading("Commands", 0) + plain(parser.description or "") + "\n\n" + code(parser.epilog or "")
    for name, command in choices.choices.items():
        page += heading(f"dnr {name}", 1) + plain((summaries[name] or "").capitalize()) + ".\n\n"
        page += f".. program:: dnr {name}\n\n"
        page += _training_flags() if name == "train" else _flags(command)
    return page


def _flags(command: argparse.ArgumentParser) -> str:
    text = code(command.format_usage().removeprefix("usage: "))
    for group in command._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if group.description:
            text += f"**{group.title}**: {plain(group.description)}\n\n"
        for action in actions:
            text += f".. option:: {_spelling(action)}\n\n{indented(plain(_help(command, action)))}\n\n"
    return text


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar or action.dest)
    takes = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    return ", ".join(name if action.nargs == 0 else f"{name} {takes}" for name in action.option_strings)


def _help(command: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = command._get_formatter()._expand_help(action)
    return f"{text}{' (required)' if action.required and action.option_strings else ''}"


def _training_flags() -> str:
    """Return the flags of the training command, which absl reads."""
    usage = train_command._usage("dnr train")
    before, _, rest = usage.partition("flags:\n")
    text = code(before.removeprefix("usage: "))
    for name, below in re.findall(r"^  --(\S.*)\n((?: {6}.*\n?)+)", rest, re.MULTILINE):
        text += f".. option:: --{name}\n\n{indented(plain(' '.join(below.split())))}\n\n"
    return text


# Configuration


@dataclasses.dataclass(frozen=True)
class Section:
    """A dataclass whose fields are listed, and how they are written on the command line."""

    cls: Any
    path: str
    """Of the section in an experiment, such as ``data.sampler``; empty for the experiment itself."""
    chosen: bool
    """Whether it is one of several that can stand there."""
    within_choice: bool
    """Whether it is a section of one of several, of which others may have another class in its place."""


def sections() -> Iterator[Section]:
    """Yield an experiment and the sections in it, in the order of the fields; each class once."""
    seen: set[Any] = set()

    def walk(section: Section) -> Iterator[Section]:
        if section.cls in seen:
            return
        seen.add(section.cls)
        yield section
        for field in dataclasses.fields(section.cls):
            name = f"{section.path}.{field.name}".strip(".")
            for part, is_choice in parts_of(section.cls, field):
                within = section.chosen or section.within_choice
                yield from walk(Section(part, name, is_choice, within))

    yield from walk(Section(ExperimentConfig, "", False, False))


def parts_of(cls: Any, field: dataclasses.Field[Any]) -> list[tuple[Any, bool]]:
    """Return the classes that can stand in a field, and whether they are a choice; none for a plain field."""
    part = part_type(field_types(cls)[field.name])
    if part is None:
        return []
    return [(choice, True) for choice in registered(part).values()] if issubclass(part, Part) else [(part, False)]


def default_of(field: dataclasses.Field[Any]) -> str:
    """Return the default of a field as it is written on a command line."""
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return (
        "" if value is dataclasses.MISSING else type(value).__name__ if dataclasses.is_dataclass(value) else repr(value)
    )


def configuration() -> str:
    """Return the page of all fields of an experiment: type, bounds, default and docstring."""
    page = heading("Configuration", 0) + (
        "Every field of an experiment, with what it takes, its default, and what it is for. Each is set on the\n"
        "command line as ``--config.NAME=VALUE``; a part that was chosen among several, such as a network, has the\n"
        "fields of its own class. ``dnr train --config=NAME --fields`` lists those of one experiment with its values,\n"
        "and ``dnr configs`` the experiments:\n\n"
    )
    page += "".join(f"- ``{name}``: {text}\n" for name, text in list_configs().items()) + "\n"
    for section in sections():
        page += _section(section)
    return page


def _section(section: Section) -> str:
    cls, path = section.cls, section.path
    if not path:
        title, owner = "The experiment", ""
    elif section.chosen:
        title, owner = f"config.{path}={cls.__name__}", f"{cls.__name__}."
    elif section.within_choice:
        title, owner = f"config.{path} ({cls.__name__})", f"{cls.__name__}."
    else:
        title, owner = f"config.{path}", f"{path}."
    text = heading(title, 1) + f".. py:currentmodule:: {cls.__module__}\n\n{first_line(cls)}\n"
    text += f"(:class:`{cls.__module__}.{cls.__qualname__}`)\n\n"
    if section.chosen:
        text += f"``--config.{path}={cls.__name__}`` chooses it, ``--config.{path}.FIELD=VALUE`` sets its fields.\n\n"
    docs = field_docs(cls)
    for field in dataclasses.fields(cls):
        doc = docs.get(field.name) or first_line(part_type(field_types(cls)[field.name]))
        text += f".. confval:: {owner}{field.name}\n   :type: {plain(taken(cls, field))}\n"
        text += f"   :default: ``{default_of(field)}``\n\n{indented(doc)}\n\n"
    return text


def taken(cls: Any, field: dataclasses.Field[Any]) -> str:
    """Return in words what a field takes."""
    words = expected(field_types(cls)[field.name])
    return words if default_of(field) == "None" else words.removeprefix("None, or ")


def first_line(found: Any) -> str:
    """Return the first sentence of a docstring."""
    return (inspect.getdoc(found) or "").partition("\n")[0]


# Networks


def networks() -> str:
    """Return the page of the published networks by name."""
    page = heading("Networks by name", 0) + (
        "The published networks that :func:`dnr_jax.models.zoo.zoo` returns, with DNR, and what each sets beside the\n"
        "defaults of its class. ``dnr profile`` measures what they cost.\n\n"
        ".. list-table::\n   :header-rows: 1\n\n   * - name\n     - network\n     - frames\n     - settings\n"
    )
    for name, network in zoo().items():
        defaults = flatten(type(network.config)())
        changed = {field: value for field, value in flatten(network.config).items() if value != defaults.get(field)}
        settings = ", ".join(f"``{field}={value}``" for field, value in changed.items())
        row = (f"``{name}``", f"``{type(network.config).__name__}``", str(network.num_frames), settings)
        page += "   * - " + "\n     - ".join(row) + "\n"
    return page


# Docstrings


@dataclasses.dataclass(frozen=True)
class Listing:
    """A module, and which of its names are documented with it."""

    module: str
    names: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()
    """Names that it offers as well, and that are documented where they are defined."""


def modules() -> dict[str, str]:
    """Return a page for the package and for each room in it."""
    found = listings()
    rooms: dict[str, list[Listing]] = {}
    for listing in found:
        room = ".".join(listing.module.split(".")[:2])
        is_package = hasattr(importlib.import_module(room), "__path__")
        rooms.setdefault(room if is_package else dnr_jax.__name__, []).append(listing)
    return {f"api_{room}": _room(room, entries) for room, entries in rooms.items()}


def listings() -> list[Listing]:
    """Return all public modules of the package, each public object in one of them."""
    names = [dnr_jax.__name__]
    names += [module.name for module in pkgutil.walk_packages(dnr_jax.__path__, f"{dnr_jax.__name__}.")]
    names = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
    imported = {name: importlib.import_module(name) for name in names}
    # A room's __init__ offers what is defined below it, the package what its rooms offer: the innermost offer counts.
    owners: dict[int, str] = {}
    for name in sorted(names, key=lambda name: name.count("."), reverse=True):
        for offered in _offered(imported[name]):
            owners.setdefault(id(offered), name)
    return [_listing(name, module, owners) for name, module in imported.items()]


def _offered(module: Any) -> list[Any]:
    """Return the classes and functions that a module offers; constants have their docstring where they are defined."""
    return [found for name in getattr(module, "__all__", ()) if _has_name(found := getattr(module, name))]


def _has_name(found: Any) -> bool:
    return inspect.isclass(found) or inspect.isroutine(found)


def _listing(name: str, module: Any, owners: dict[int, str]) -> Listing:
    offered = getattr(module, "__all__", ())
    here = [entry for entry in offered if owners.get(id(getattr(module, entry))) == name]
    here += [entry for entry in _defined(module) if id(getattr(module, entry)) not in owners]
    elsewhere = [entry for entry in offered if entry not in here and _has_name(getattr(module, entry))]
    return Listing(name, tuple(here), tuple(elsewhere))


def _defined(module: Any) -> Iterator[str]:
    """Yield the public names that a module defines itself, in the order of its text."""
    for name, value in vars(module).items():
        if name.startswith("_") or inspect.ismodule(value):
            continue
        if _has_name(value):
            if value.__module__ == module.__name__:
                yield name
        elif name in _documented(module):
            yield name


def _documented(module: Any) -> set[str]:
    """Return the constants of a module that have a docstring below them."""
    text = inspect.getsource(module)
    return set(re.findall(r'^(\w+)(?:: [^=\n]+)? = (?:.*\n(?:[ })\]].*\n)*)"""', text, re.MULTILINE))


def _room(room: str, entries: list[Listing]) -> str:
    page = heading(room, 0)
    for entry in entries:
        if entry.module != room:
            page += heading(entry.module, 1)
        page += f".. automodule:: {entry.module}\n\n"
        page += "".join(_directive(entry.module, name) for name in entry.names)
        if entry.elsewhere:
            page += (
                "Offered here as well:\n\n" + "".join(_pointer(entry.module, name) for name in entry.elsewhere) + "\n"
            )
    return page


def _directive(module: str, name: str) -> str:
    found = getattr(importlib.import_module(module), name)
    if inspect.isclass(found):
        kind = "exception" if issubclass(found, BaseException) else "class"
        return f".. auto{kind}:: {module}.{name}\n   :members:\n   :special-members: __call__\n\n"
    return f".. auto{'function' if inspect.isroutine(found) else 'data'}:: {module}.{name}\n\n"


def _pointer(module: str, name: str) -> str:
    found = getattr(importlib.import_module(module), name)
    role = "class" if inspect.isclass(found) else "func"
    return f"- :{role}:`~{found.__module__}.{found.__qualname__}`: {first_line(found)}\n"
