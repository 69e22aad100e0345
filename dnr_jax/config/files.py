"""Config files: Python files with a function ``get_config`` that returns an experiment."""

import ast
import difflib
import importlib.util
import inspect
import os
import pathlib
import traceback
from collections.abc import Iterable, Sequence
from types import ModuleType

from dnr_jax.config.experiment import ExperimentConfig
from dnr_jax.config.parts import ConfigError
from dnr_jax.config.paths import expand_path, missing_path

_PACKAGE = pathlib.Path(__file__).parents[1]
SHIPPED = _PACKAGE / "_shipped" if (_PACKAGE / "_shipped").is_dir() else _PACKAGE.parent
"""The folder that holds this project's ``configs/``: in the wheel it is within the package, in a checkout around it."""


def split_config_path(path: str) -> tuple[str, str | None]:
    """Return file and argument of ``file.py:argument``; the argument is None where there is no colon."""
    if ".py:" in path:
        file, _, argument = path.partition(".py:")
        return f"{file}.py", argument
    if os.path.exists(path) or ":" not in path:
        return path, None
    file, _, argument = path.partition(":")
    return file, argument


def run_name(path: str) -> str:
    """Return the default name of a run's folder: ``demo`` for ``demo.py``, ``demo_bn`` for ``demo.py:bn``."""
    file, argument = split_config_path(path)
    return f"{pathlib.Path(file).stem}{f'_{argument}' if argument else ''}"


def find_config(path: str, folder: pathlib.Path = SHIPPED) -> str:
    """Return the path of the config file that a person means, with its argument.

    Args:
      path: ``file.py`` or ``file.py:argument``, in the working directory or in ``folder``; the suffix and the folder
        ``configs`` may be left out: ``demo``.
      folder: where a relative path is looked for when the working directory does not have it; default: where this
        project's own files are, whether it is a checkout or installed.

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
    files = _config_files(reversed(places))
    # A person writes a file of this project from any folder as if it were in the working directory.
    there = {name: file.relative_to(folder) if file.is_relative_to(folder) else file for name, file in files.items()}
    configs = f". Config files: {', '.join(sorted(map(str, there.values())))}" if there else ""
    if folders:
        return f"{file!r} is a folder; expected a config file{configs}"
    found = difflib.get_close_matches(pathlib.Path(file).stem, there, n=1)
    nearest = f" (did you mean '{there[found[0]]}'?)" if found else ""
    return f"{missing_path('config file', file)}{nearest}{configs}"


def list_configs(folder: pathlib.Path = SHIPPED) -> dict[str, str]:
    """Return the names that :func:`find_config` knows, in order, with the first line of each file's docstring.

    A file in ``configs/`` of the working directory comes before one of the same name in ``folder``; a file that does
    not speak of ``get_config`` is no config file.
    """
    files = _config_files(base / "configs" for base in (folder, pathlib.Path()))
    return {name: _first_line(file) for name, file in sorted(files.items())}


def _config_files(folders: Iterable[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Return the config files of folders by name, of equal names that of the later folder."""
    files = (file for folder in folders for file in folder.glob("*.py") if file.is_file())
    return {file.stem: file for file in files if b"get_config" in file.read_bytes()}


def _first_line(file: pathlib.Path) -> str:
    try:
        return (ast.get_docstring(ast.parse(file.read_bytes())) or "").partition("\n")[0]
    except (SyntaxError, ValueError) as error:
        return f"cannot be read: {type(error).__name__}: {error}"


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
