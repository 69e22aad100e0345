"""Search for the settings of an experiment with Optuna: what is tried next follows from what came of those before."""

import contextlib
import dataclasses
import importlib.util
import pathlib
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dnr_jax.config import ConfigError
from dnr_jax.dnr.fields import describe, split

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?P<log>:log)?")
_DIGITS = 6
"""Significant digits of the numbers that are tried: they can be typed, and are those of the folder's name."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
      low: the lowest; a whole number where whole numbers alone are tried.
      high: the highest, likewise.
      log: whether equal factors are equally likely, rather than equal differences.
    """

    low: float
    high: float
    log: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        """The ends, as they are written on a command line."""
        return self.written(self.low), self.written(self.high)

    def written(self, value: float) -> str:
        """Return a number within the range as it is written on a command line, with at most six digits."""
        if isinstance(value, int):
            return str(value)
        rounded = float(f"{value:.{_DIGITS}g}")
        return repr(rounded if self.low <= rounded <= self.high else value)


@dataclasses.dataclass(frozen=True)
class Tried:
    """A setting of a search.

    Attributes:
      values: fields to values, as they are written on a command line.
      score: what came of it; None where it failed.
    """

    values: Mapping[str, str]
    score: float | None


def looks_like_range(text: str) -> bool:
    """Return whether a text is ``LOW..HIGH`` or ``LOW..HIGH:log``."""
    return _RANGE.fullmatch(text) is not None


def read_range(text: str, kind: Any) -> Range | None:
    """Read ``LOW..HIGH`` or ``LOW..HIGH:log`` for a field.

    Args:
      text: what stands behind the field's name.
      kind: the field's type. Fields of whole numbers have ranges of whole numbers.

    Returns:
      The range; None for a text without ``..``, and for a field that holds no number: these are values.

    Raises:
      ConfigError: for a range that there cannot be, with what would be right.
    """
    number = _number(kind)
    if ".." not in text or number is None:
        return None
    match = _RANGE.fullmatch(text)
    if not match:
        raise ConfigError(f"{text!r} is no range; expected LOW..HIGH or LOW..HIGH:log alone, such as 0.001..0.1:log")
    try:
        low, high = number(match["low"]), number(match["high"])
    except ValueError:
        raise ConfigError(f"{text!r} does not fit; expected ends that are {describe(kind)}") from None
    if low >= high:
        raise ConfigError(f"{text!r} is empty; expected the lower number first")
    if match["log"] and low <= 0:
        raise ConfigError(f"{text!r} has no logarithm; expected a lower end above 0, or no ':log'")
    return Range(low, high, bool(match["log"]))


def _number(kind: Any) -> type[int] | type[float] | None:
    """Return which numbers a field holds; None where it holds none."""
    base, _ = split(kind)
    union = typing.get_origin(base) in (typing.Union, types.UnionType)
    choices = [split(choice)[0] for choice in (typing.get_args(base) if union else (base,))]
    return float if float in choices else int if int in choices else None


def check_installed() -> None:
    """Raise ConfigError where Optuna is missing."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("dnr sweep --search needs Optuna, which is not installed: pip install 'dnr-jax[search]'")


def search(
    file: pathlib.Path,
    name: str,
    space: Mapping[str, Range | Sequence[str]],
    seed: int,
    number: int,
    measure: Callable[[int, Mapping[str, str]], float | None],
) -> list[Tried]:
    """Try settings until there are as many as asked for, the ones of former calls included.

    Settings are proposed by the tree-structured Parzen estimator. A proposal follows from the seed and from what came
    of all settings before it, so that a search which was interrupted goes on as if it had not been; the setting that
    it was at comes first, again. A setting that failed is not counted and not tried again: the next call tries
    another one in its place.

    Args:
      file: where the search is kept, an SQLite database; made where it is missing.
      name: of the search in it; one for each space and whatever else makes scores comparable.
      space: fields to what they may hold.
      seed: of the proposals.
      number: how many settings to try.
      measure: tries a setting: its place among them, from 1 on, and its fields with their values as on a command line;
        returns its score, of which more is better, or None where it failed.

    Returns:
      All settings of the search, in the order in which they were tried.
    """
    with _opened(file, name) as study:
        done = sum(one.score is not None for one in _tried(study, space))
        for place in range(done + 1, number + 1):
            trial = _next(study, space, seed)
            _tell(study, trial.number, measure(place, _written(trial.params, space)))
        return _tried(study, space)


@contextlib.contextmanager
def _opened(file: pathlib.Path, name: str) -> Iterator[Any]:
    """Open a study. It is kept by SQLite: a journal file cannot be read any more after half a line."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{file.absolute().as_uri()}?uri=true")
    try:
        yield optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _next(study: Any, space: Mapping[str, Range | Sequence[str]], seed: int) -> Any:
    """Return the trial that was interrupted, or a new one."""
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if trial.params.keys() == space.keys():
            return trial
        _tell(study, trial.number, None)  # killed while it was being proposed
    # One sampler for all would propose the same again, from its first number on, whenever a search goes on.
    number = len(study.get_trials(deepcopy=False))
    study.sampler = TPESampler(seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
    return study.ask({field: _distribution(values) for field, values in space.items()})


def _distribution(values: Range | Sequence[str]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(values, Range):
        return CategoricalDistribution(tuple(values))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _tell(study: Any, number: int, score: float | None) -> None:
    from optuna.trial import TrialState

    if score is None:
        study.tell(number, state=TrialState.FAIL)
    else:
        study.tell(number, score)


def _tried(study: Any, space: Mapping[str, Range | Sequence[str]]) -> list[Tried]:
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return [Tried(_written(trial.params, space), trial.value) for trial in ended]


def _written(params: Mapping[str, Any], space: Mapping[str, Range | Sequence[str]]) -> dict[str, str]:
    """Return values as they are written on a command line, in the order of the space."""
    found = {field: (params[field], values) for field, values in space.items() if field in params}
    return {
        field: values.written(value) if isinstance(values, Range) else value for field, (value, values) in found.items()
    }
