"""What a run was made with: the fields that differ from their defaults, and the commands that repeat it."""

import dataclasses
import importlib.metadata
import platform
import shlex
from collections.abc import Iterator
from typing import Any

import dnr_jax
from dnr_jax.config import ExperimentConfig, flatten


@dataclasses.dataclass(frozen=True)
class Change:
    """A field that differs from its default.

    Attributes:
      field: its dotted name.
      value: what it is.
      default: what it would be.
    """

    field: str
    value: Any
    default: Any


def changes(config: ExperimentConfig) -> list[Change]:
    """Return the fields of an experiment that differ from the defaults of the classes that it is made of."""
    return list(_changes(config, ExperimentConfig(), ""))


def _changes(part: Any, default: Any, prefix: str) -> Iterator[Change]:
    for field in dataclasses.fields(part):
        value, usual, name = getattr(part, field.name), getattr(default, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            if type(value) is not type(usual):
                yield Change(name, type(value).__name__, usual and type(usual).__name__)
                usual = type(value)()
            yield from _changes(value, usual, f"{name}.")
        elif value != usual:
            yield Change(name, value, type(usual).__name__ if dataclasses.is_dataclass(usual) else usual)


def differing(configs: list[ExperimentConfig]) -> list[str]:
    """Return the fields, by their dotted names, in which experiments differ; one that some lack differs."""
    leaves = [flatten(config) for config in configs]
    names = dict.fromkeys(name for config in leaves for name in config)
    missing = object()
    return [name for name in names if len({repr(config.get(name, missing)) for config in leaves}) > 1]


def versions() -> dict[str, str]:
    """Return the versions of what decides about an outcome, by name."""
    libraries = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "grain", "av")}
    return {"dnr_jax": dnr_jax.__version__, **libraries, "python": platform.python_version()}


def commands(workdir: str, views: str) -> list[tuple[str, str]]:
    """Return what repeats a run and its evaluation: what each command does, and the command.

    Args:
      workdir: folder of the run.
      views: of the evaluation, such as ``10x3 of 224``.
    """
    folder, again = shlex.quote(workdir), shlex.quote(f"{workdir}_again")
    program = f"""\
cat > again.py << 'END'
import pathlib
from dnr_jax.config import from_json

def get_config():
    return from_json(pathlib.Path({workdir + "/config.json"!r}).read_text())
END
dnr train --config=again.py --workdir={again}"""
    return [
        ("train it again, from the configuration in its folder", program),
        ("score the validation videos again", f"dnr evaluate --workdir {folder} --views {views.split(' ')[0]}"),
        ("write this page again", f"dnr report {folder}"),
    ]
