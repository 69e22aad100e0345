"""Experiments as JSON, which says of what classes they are made."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from dnr_jax.config.experiment import ExperimentConfig
from dnr_jax.config.former import converted
from dnr_jax.config.overrides import part_type, unknown_field
from dnr_jax.config.parts import ConfigError, Part, is_choice, named, with_fields
from dnr_jax.dnr.fields import field_types, part_problems, plain

CLASS_KEY = "class"


def to_dict(part: Any) -> dict[str, Any]:
    """Return a part as nested dictionaries; a part that was chosen has its class under ``class``."""
    values: dict[str, Any] = {CLASS_KEY: type(part).__name__} if is_choice(part) else {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        values[field.name] = to_dict(value) if dataclasses.is_dataclass(value) else plain(value)
    return values


def to_json(config: ExperimentConfig) -> str:
    """Return the config as indented JSON; :func:`from_json` reads it back."""
    return json.dumps(to_dict(config), indent=2)


def from_json(text: str) -> ExperimentConfig:
    """Read what :func:`to_json` wrote, in this version or in a former one.

    Fields that are not there keep their defaults.

    Raises:
      ConfigError: for a class or a field that does not exist or a value of the wrong type, naming all of them.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ConfigError(f"is a {type(values).__name__}; expected an object with the sections of an experiment")
    config = _read(ExperimentConfig, converted(values), "")
    if problems := list(part_problems(config)):
        raise ConfigError("\n".join(problems))
    return config


def _read(kind: Any, values: Mapping[str, Any], prefix: str) -> Any:
    if issubclass(kind, Part):
        if CLASS_KEY not in values:
            raise ConfigError(
                f"{prefix[:-1]}: does not say of which class it is: another version of dnr_jax wrote this. The weights "
                "of such a run stay usable: that version's 'dnr convert' writes them into a file, from which a run "
                "with a configuration of this version starts (init_from)"
            )
        kind = named(kind, str(values[CLASS_KEY]))
        values = {name: value for name, value in values.items() if name != CLASS_KEY}
    if hasattr(kind, "converted"):
        values = kind.converted(values)
    kinds = field_types(kind)
    if unknown := [name for name in values if name not in kinds]:
        raise ConfigError("\n".join(unknown_field(prefix + name, name, kind, prefix) for name in unknown))
    return with_fields(kind(), {name: _value(kinds[name], value, f"{prefix}{name}.") for name, value in values.items()})


def _value(kind: Any, value: Any, prefix: str) -> Any:
    part = part_type(kind)
    if isinstance(value, dict) and part is not None:
        return _read(part, value, prefix)
    return tuple(value) if isinstance(value, list) else value
