"""The command line: ``--config=file.py:argument`` and ``--config.section.field=value``."""

import ast
import dataclasses
import difflib
import pathlib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from absl import flags

from dnr_jax.config.experiment import ExperimentConfig
from dnr_jax.config.files import SHIPPED, find_config, load_config
from dnr_jax.config.former import moved
from dnr_jax.config.parts import ConfigError, Part, exchanged, flatten, named, nearest, registered, with_fields
from dnr_jax.dnr.fields import describe, field_types, has_type, split

_OVERRIDE = re.compile(r"--?(?P<negated>no)?config\.(?P<name>[^=]+)(=(?P<value>.*))?", re.DOTALL)
_PARSERS: dict[Any, flags.ArgumentParser] = {
    int: flags.IntegerParser(),
    float: flags.FloatParser(),
    bool: flags.BooleanParser(),
    str: flags.ArgumentParser(),
}


def override(config: ExperimentConfig, arguments: Sequence[str]) -> tuple[ExperimentConfig, list[str]]:
    """Set fields from arguments ``--config.section.field=value``, ``--config.flag`` and ``--noconfig.flag``.

    The value of a field that holds a part is the name of another class (``--config.model=TSM``), which keeps what was
    set in the fields that both have with the same default. It stands before the fields that it would not keep. A
    section that may be None is switched on by the name of its class, and stays as it is where it is on.

    Args:
      config: the experiment; not changed.
      arguments: command line without the program; in its order.

    Returns:
      The experiment as overridden, and the arguments that are about something else.

    Raises:
      ConfigError: for a field that does not exist, with the nearest name and the section's fields, for a value that
        its field cannot take, for a class that stands behind a field that it does not keep or has not got, or for a
        length in epochs beside one in steps; a line for each.
    """
    problems, rest, remaining, given = [], [], list(arguments), dict[str, Any]()
    while remaining:
        argument = remaining.pop(0)
        match = _OVERRIDE.fullmatch(argument)
        if not match:
            rest.append(argument)
            continue
        try:
            kind, old = find_field(config, match["name"])
            value = _parse(_text(match, kind, remaining), kind, old)
            config = _replaced(config, match["name"].split("."), value)
            _refuse_lost(match["name"], value, config, given)
            given[match["name"]] = value
        except ConfigError as error:
            problems.append(f"{argument.partition('=')[0]}: {error}")
    if "train.epochs" in given and config.train.steps:
        problems.append(
            f"--config.train.epochs: has no effect, because train.steps is {config.train.steps}; set "
            "--config.train.steps=0 for a length in epochs"
        )
    if problems:
        raise ConfigError("\n".join(problems))
    return config, rest


def find_field(config: Any, name: str) -> tuple[Any, Any]:
    """Return type and value of the field with a dotted name.

    Raises:
      ConfigError: where there is none, with the nearest name and the section's fields.
    """
    part, prefix = config, ""
    *parents, last = name.split(".")
    for parent in parents:
        value = getattr(part, parent, None)
        if not dataclasses.is_dataclass(value):
            kind = part_type(field_types(type(part)).get(parent))
            if kind is not None:
                names = " or ".join(registered(kind) if issubclass(kind, Part) else [kind.__name__])
                raise ConfigError(f"{prefix}{parent} is None; set --config.{prefix}{parent}={names} before it")
            raise ConfigError(unknown_field(name, parent, type(part), prefix, config))
        part, prefix = value, f"{prefix}{parent}."
    kinds = field_types(type(part))
    if last not in kinds:
        raise ConfigError(unknown_field(name, last, type(part), prefix, config))
    return kinds[last], getattr(part, last)


def _refuse_lost(name: str, value: Any, config: ExperimentConfig, given: Mapping[str, Any]) -> None:
    """Raise ConfigError where a part that was just chosen has not got what was given before it."""
    if not isinstance(value, Part):
        return
    now, chosen = flatten(config), type(value).__name__
    for field, asked in given.items():
        if not field.startswith(f"{name}."):
            continue
        if field not in now and asked is not None:  # what was switched off is, where there is none
            raise ConfigError(
                f"{field}={asked} stands before it, and {chosen} has no such field; leave one of them out"
            )
        if field in now and now[field] != _leaf(asked):
            raise ConfigError(
                f"{field}={asked} stands before it, and {chosen} begins with {now[field]}; set the field "
                f"behind --config.{name}={value.label()}"
            )


def _leaf(value: Any) -> Any:
    """Return what stands for a value in :func:`~dnr_jax.config.parts.flatten`."""
    return type(value).__name__ if dataclasses.is_dataclass(value) else value


def _text(match: re.Match[str], kind: Any, following: list[str]) -> str:
    """Return the value of an override, which may stand in the argument behind it."""
    text = match["value"]
    if text is None and kind is bool:
        return "false" if match["negated"] else "true"
    if text is None and following and not match["negated"]:
        text = following.pop(0)
    if match["negated"] or text is None:
        raise ConfigError(f"has no value; expected {describe(kind)}")
    return text


def _parse(text: str, kind: Any, old: Any) -> Any:
    part = part_type(kind)
    if part is not None:
        return _parse_part(text, kind, part, old)
    base, _ = split(kind)
    if _is_words(base):
        return tuple(word.strip() for word in text.strip("()[]").replace("'", "").split(",") if word.strip())
    if typing.get_origin(base) is Literal:
        base = type(typing.get_args(base)[0])
    try:
        value = _PARSERS[base].parse(text) if base in _PARSERS else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ConfigError(f"{text!r} does not fit; expected {describe(kind)}") from None
    # Bounds and choices are left to the validation, which tells all that is wrong at once.
    if not has_type(value, base):
        raise ConfigError(f"{text!r} does not fit; expected {describe(kind)}")
    return value


def _is_words(kind: Any) -> bool:
    """Return whether a type is a tuple of any number of words, which a command line has without quotes."""
    if typing.get_origin(kind) is not tuple or typing.get_args(kind)[-1] is not ...:
        return False
    entry = typing.get_args(kind)[0]
    choices = typing.get_args(entry) if typing.get_origin(entry) is Literal else ()
    return entry is str or (bool(choices) and all(isinstance(choice, str) for choice in choices))


def _parse_part(text: str, kind: Any, part: type, old: Any) -> Any:
    if text.lower() == "none" and has_type(None, kind):
        return None
    if not issubclass(part, Part):
        if text == part.__name__:
            return part() if old is None else old
        fields = ", ".join(flatten(old)) if old is not None else ", ".join(field_types(part))
        raise ConfigError(f"is a section; set one of its fields: {fields}")
    return exchanged(old, named(part, text))


def _replaced(part: Any, names: Sequence[str], value: Any) -> Any:
    name, *inner = names
    return with_fields(part, {name: _replaced(getattr(part, name), inner, value) if inner else value})


def part_type(kind: Any) -> Any:
    """Return the dataclass among the types of a field, which may be optional; None where there is none."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    for choice in typing.get_args(kind) if union else (kind,):
        if isinstance(choice, type) and (dataclasses.is_dataclass(choice) or issubclass(choice, Part)):
            return choice
    return None


def unknown_field(name: str, part: str, owner: type, prefix: str, config: Any = None) -> str:
    """Return what to answer to a field that does not exist.

    Args:
      name: full name that was asked for.
      part: the part of it that does not exist.
      owner: class of the section that has no such field.
      prefix: the section's name, with a dot behind it.
      config: whose fields are looked through for one of that name elsewhere.
    """
    if elsewhere := moved(name):
        return f"no field {name!r}: {elsewhere}"
    names = list(field_types(owner))
    where = f"{prefix[:-1]!r}, which is {owner.__name__}" if prefix else "the config"
    suggestion = nearest(part, names) or _nearest_leaf(name, config)
    return f"no field {name!r}{suggestion}. Fields of {where}: {', '.join(names)}"


def _nearest_leaf(name: str, config: Any) -> str:
    """Suggest a field of another section, for a name without its section or in the wrong one."""
    leaves = {leaf.rpartition(".")[2]: leaf for leaf in flatten(config)} if config else {}
    found = nearest(name.rpartition(".")[2], list(leaves))
    return re.sub(r"'(.*)'", lambda match: repr(leaves[match[1]]), found)


def unknown_flag(name: str, known: Sequence[str]) -> str:
    """Say that there is no flag ``--name``, and which of those ``known``, or which field, may have been meant."""
    plain = name.replace("-", "_")
    config = ExperimentConfig()
    leaves = [leaf for leaf in flatten(config) if f".{leaf}".endswith(f".{plain}")]
    found = [f"config.{leaves[0]}"] if leaves else difflib.get_close_matches(plain, known, n=1)
    if found:
        suggestion = f" (did you mean --{found[0]}?)"
    else:
        suggestion = _nearest_leaf(plain, config).replace("'", "").replace("mean ", "mean --config.")
    flags_there = ", ".join(f"--{flag}" for flag in known)
    return f"there is no flag --{name}{suggestion}. Flags: {flags_there}, and --config.FIELD of the configuration"


def read_command_line(
    argv: Sequence[str], default: str, folder: pathlib.Path = SHIPPED
) -> tuple[ExperimentConfig, str, list[str]]:
    """Read the config flags of a command line.

    Args:
      argv: the command line, the program's name first.
      default: config file where no ``--config`` is given.
      folder: where a relative config file is looked for when the working directory does not have it; default: this
        project's.

    Returns:
      The experiment with its overrides; the file it is from, as ``file.py:argument``; the command line without them.

    Raises:
      ConfigError: for a word that belongs to no flag, for a config file that cannot be loaded, and as
        :func:`override` does.
    """
    program, *arguments = argv
    paths, rest = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if re.fullmatch(r"--?config", argument):
            paths.append(next(remaining, ""))
        elif match := re.fullmatch(r"--?config=(.*)", argument, re.DOTALL):
            paths.append(match[1])
        else:
            rest.append(argument)
    if len(paths) > 1:
        raise ConfigError(f"--config is given {len(paths)} times; expected one config file: {', '.join(paths)}")
    path = find_config(paths[0] if paths else default, folder)
    config, rest = override(load_config(path), rest)
    for word in _loose_words(rest):
        raise ConfigError(_loose_word(word, folder))
    return config, path, [program, *rest]


def _loose_words(argv: Sequence[str]) -> Iterator[str]:
    """Find the words that are no flags, and no values of flags either."""
    for before, word in zip(["", *argv], argv, strict=False):
        if not word.startswith("-") and not _takes_value(before):
            yield word


def _takes_value(argument: str) -> bool:
    """Return whether the word behind an argument is its value."""
    name = argument.lstrip("-")
    if not argument.startswith("-") or "=" in argument:
        return False
    return name not in flags.FLAGS or not flags.FLAGS[name].boolean


def _loose_word(word: str, folder: pathlib.Path) -> str:
    """Say what a word on the command line may have been meant for."""
    if word.lower() in ("true", "false"):
        return f"{word!r} belongs to no flag; write it behind the flag's name: --config.data.flip={word}"
    try:
        find_config(word, folder)
        return f"{word!r} belongs to no flag; did you mean --config={word}?"
    except ConfigError:
        return f"{word!r} belongs to no flag; expected --config=FILE.py[:ARGUMENT], --workdir=FOLDER, --help"
