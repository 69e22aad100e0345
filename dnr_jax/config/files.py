"""Config files: Python files with a function ``get_config`` that returns an experiment."""

import difflib
import importlib.util
import inspect
import os
import pathlib
import traceback
from collections.abc import Sequence
from types import ModuleType

from dnr_jax.config.experiment import ExperimentConfig
from dnr_jax.config.parts import ConfigError
from dnr_jax.config.paths import expand_path, missing_path


def split_config_path(path: str) -> tuple[str, str | None]:
    """Return file and argument of ``file.py:argument``; the argument is None where there is no colon."""
    if ".py:" in path:
        file, _, argument = path.partition(".py:")
        return f"{file}.py", argument
    if os.path.exists(path) or ":" not in path:
        return path, None
    file, _, argument = path.partition(":")
    return file, argument


def find_config(path: str, folder: pathlib.Path = pathlib.Path()) -> str:
    """Return the path of the config file that a person means, with its argument.

    Args:
      path: ``file.py`` or ``file.py:argument``, in the working directory or in ``folder``; the suffix and the folder
        ``configs`` may be left out: ``demo``.
      folder: where a relative path is looked for when the working directory does not have it.

    Returns:
      The path, with ``:argument`` where one is given.

    Raises:
      ConfigError: where there is no such file; the message names what there is.
    """
    if not path:
        raise ConfigError("--config is empty; expected a config file, such as configs/demo.py")
    file, argument = split_config_path(expand_path(path))
    suffixes = ("",) if file.endswith(".py") else ("", ".py")
    forms = [f"{place}{file}{suffix}" for place in ("", "configs/") for suffix in suffixes]
    candidates = [base / form for base in (pathlib.Path(), folder) for form in forms]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate) if argument is None else f"{candidate}:{argument}"
    raise ConfigError(_no_config(file, candidates, folder))


def _no_config(file: str, candidates: Sequence[pathlib.Path], folder: pathlib.Path) -> str:
    """Say what is wrong with the name of a config file, and which ones there are."""
    folders = [candidate for candidate in candidates if candidate.is_dir()]
    places = folders[:1] or [*(candidate.parent for candidate in candidates), folder / "configs"]
    there = {child.stem: child for place in reversed(places) for child in sorted(place.glob("*.py"))}
    configs = f". Config files: {', '.join(sorted(map(str, there.values())))}" if there else ""
    if folders:
        return f"{file!r} is a folder; expected a config file{configs}"
    found = difflib.get_close_matches(pathlib.Path(file).stem, there, n=1)
    nearest = f" (did you mean '{there[found[0]]}'?)" if found else ""
    return f"{missing_path('config file', file)}{nearest}{configs}"


def load_config(path: str) -> ExperimentConfig:
    """Return the config of a file in the form ``file.py`` or ``file.py:argument``; see :func:`find_config`.

    Raises:
      ConfigError: where the file does not exist, cannot be run, has no ``get_config`` that returns an
        :class:`ExperimentConfig`, or refuses the argument.
    """
    file, argument = split_config_path(find_config(path))
    if file.endswith(".json"):
        raise ConfigError(
            f"{file!r} is what a run saved; expected a config file in Python. One that repeats the run holds "
            f"'get_config = lambda: dnr_jax.config.from_json(open({file!r}).read())'"
        )
    module = _load_module(file)
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(f"config file {file!r} has no function get_config, which returns an ExperimentConfig")
    try:
        takes_none = argument is None and not inspect.signature(module.get_config).parameters
        config = module.get_config() if takes_none else module.get_config(argument or "")
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(_failure(file, error)) from error
    if not isinstance(config, ExperimentConfig):
        returned = "nothing" if config is None else f"a {type(config).__name__}"
        raise ConfigError(f"config file {file!r}: get_config returned {returned}; expected an ExperimentConfig")
    return config


def _load_module(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("config_config", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file!r} is no file in Python; expected a config file, such as configs/demo.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(_failure(file, error)) from error
    return module


def _failure(file: str, error: Exception) -> str:
    """Say where in a config file an error happened."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    what = error.msg if isinstance(error, SyntaxError) else error
    return f"config file {file!r}{f', line {line}' if line else ''}: {type(error).__name__}: {what}"
