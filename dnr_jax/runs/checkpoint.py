"""Checkpoints: the whole state of a run, so that a run stopped anywhere goes on as if it had not been stopped.

A checkpoint holds a :class:`~dnr_jax.runs.state.TrainState` as two items, the variables that are evaluated (the
network's, or their average where weights are averaged) and the rest, so that whoever scores clips reads the variables
alone; and, as JSON, what the loop keeps beside it. It is written in the background and appears under its final name
only when it is complete. The latest and the one with the best validation accuracy are kept; an old one is deleted only
after its successor is complete, so that a disk that is full costs the new one alone. Accuracies on other validation
videos than the latest are not compared with it: a run may go on with other ones.
"""

import contextlib
import logging
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from etils import epath

from dnr_jax.config import ConfigError, RunError
from dnr_jax.dnr.statistics import Variables
from dnr_jax.runs.processes import require_shared
from dnr_jax.runs.state import TrainState

CHECKPOINTS_FOLDER = "checkpoints"
_WHOLE_STATE = "state"
"""Item of older checkpoints, which held variables and optimiser as one."""
_TRAINED = "trained"
"""Entry of the optimiser's item: the variables that are trained, where an average of them is evaluated."""
_UNFINISHED = "*.orbax-checkpoint-tmp*"
_NOT_EVALUATED = -1.0
"""Stands for the top-1 of a checkpoint that was not evaluated, so that it ranks below all that were."""

_T = TypeVar("_T")


def of_latest_videos(evaluations: Sequence[_T], videos: Callable[[_T], str | None]) -> list[_T]:
    """Return the last of evaluations, as far back as they are of the same videos, so that they can be compared.

    Args:
      evaluations: in the order in which they were made.
      videos: returns the fingerprint of the videos of one; None where it is not known, which counts as the same.
    """
    alike: list[_T] = []
    latest: str | None = None
    for evaluation in reversed(evaluations):
        own = videos(evaluation)
        if None not in (latest, own) and own != latest:
            break
        latest = latest or own
        alike.append(evaluation)
    return alike[::-1]


def evaluated_videos(progress: Mapping[str, Any]) -> str | None:
    """Return the fingerprint of the validation videos of a run, from what a checkpoint holds beside the state."""
    return progress.get("validation", {}).get("fingerprint")


class _Rank(NamedTuple):
    """By what a checkpoint ranks among others: its top-1, and the fingerprint of the videos that this is of."""

    top1: float
    videos: str | None


def _top1(metrics: dict[str, float]) -> float:
    return metrics["top1"]


class _KeepLatestAndBest(ocp.checkpoint_managers.PreservationPolicy):
    """Keeps the latest checkpoint, and the one that a function finds the best of some steps."""

    def __init__(self, best: Callable[[Sequence[int]], int | None]):
        self._best = best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Return whether each checkpoint, in the order of their steps, is kept."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        return [step in (steps[-1], self._best(steps)) for step in steps]


class Checkpoints:
    """The checkpoints in a run's folder."""

    def __init__(self, workdir: str | pathlib.Path, read_only: bool = False):
        """Open the folder ``checkpoints`` in ``workdir``; it is made unless ``read_only``.

        Raises:
          ConfigError: where a checkpoint in it is damaged, or where several processes do not share the folder.
          RunError: where another process has ended.
        """
        if not read_only:
            require_shared(pathlib.Path(workdir))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_KeepLatestAndBest(self._best_of),
            best_fn=_top1,
            create=not read_only,
            cleanup_tmp_directories=not read_only,  # what a killed run left half-written
        )
        absl_logging.get_absl_logger().addFilter(_is_news)
        if not isinstance(sys.unraisablehook, _WithoutLateWriters):
            sys.unraisablehook = _WithoutLateWriters(sys.unraisablehook)
        self._folder = pathlib.Path(workdir).resolve() / CHECKPOINTS_FOLDER
        with self._reading():
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._ranks = {step: self._read_rank(step) for step in self._manager.all_steps()}

    @property
    def latest_step(self) -> int | None:
        """Step of the latest checkpoint, or None."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the best validation top-1 (the later of equals), or the latest without one.

        Top-1 of other videos than those of the latest evaluation does not count.
        """
        return self._best_of(self._manager.all_steps())

    def _best_of(self, steps: Sequence[int]) -> int | None:
        ranks = {step: self._ranks[step] for step in sorted(steps)}
        evaluated = [step for step, rank in ranks.items() if rank.top1 != _NOT_EVALUATED]
        alike = of_latest_videos(evaluated, lambda step: ranks[step].videos)
        return max(alike, key=lambda step: (ranks[step].top1, step), default=max(ranks, default=None))

    def _read_rank(self, step: int) -> _Rank:
        with self._reading(step):
            metrics = self._manager.metrics(step)
        try:
            progress = ocp.JsonCheckpointHandler().restore(epath.Path(self._folder) / str(step) / "progress")
        except (OSError, ValueError):  # whoever goes on from this checkpoint is told
            progress = {}
        return _Rank(metrics["top1"] if metrics else _NOT_EVALUATED, evaluated_videos(progress))

    def save(self, state: TrainState, progress: dict[str, Any], step: int, top1: float | None = None) -> None:
        """Start to write a checkpoint; the state may be donated to the next step at once.

        Args:
          state: the state after ``step`` steps.
          progress: the loop's own state, which JSON can hold.
          step: number of steps taken.
          top1: validation top-1 in [0, 1], where it was evaluated at this step.

        Raises:
          RunError: where this checkpoint, or the one before it, cannot be written.
        """
        items = ocp.args.Composite(
            variables=ocp.args.StandardSave(state.evaluated),
            optimizer=ocp.args.StandardSave(_optimizer(state)),
            progress=ocp.args.JsonSave(progress),
        )
        metrics = {"top1": _NOT_EVALUATED if top1 is None else top1}
        self._ranks[step] = _Rank(metrics["top1"], evaluated_videos(progress))
        with self._writing():
            self._manager.save(step, args=items, metrics=metrics, force=True)

    def save_variables(self, variables: Variables, progress: dict[str, Any]) -> None:
        """Write a checkpoint of step 0 that holds a network alone, from which no training goes on.

        Args:
          variables: ``params`` and ``batch_stats``.
          progress: what is to be known beside them, which JSON can hold.

        Raises:
          RunError: where it cannot be written.
        """
        items = ocp.args.Composite(variables=ocp.args.StandardSave(variables), progress=ocp.args.JsonSave(progress))
        self._ranks[0] = _Rank(_NOT_EVALUATED, None)
        with self._writing():
            self._manager.save(0, args=items, metrics={"top1": _NOT_EVALUATED}, force=True)
            self._manager.wait_until_finished()

    def restore(self, abstract: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
        """Return the state and the loop's own state.

        Args:
          abstract: shapes, dtypes and shardings, from :func:`dnr_jax.training.state.abstract_state`.
          step: which checkpoint.

        Raises:
          ConfigError: where the checkpoint is damaged, or of another network.
        """
        with self._reading(step):
            self._compare_shapes(abstract.evaluated, step)
            if self._is_whole(step):
                items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore())
                restored = self._manager.restore(step, args=items)
                return restored.state, restored.progress
            items = ocp.args.Composite(
                variables=ocp.args.StandardRestore(abstract.evaluated),
                optimizer=ocp.args.StandardRestore(_optimizer(abstract)),
                progress=ocp.args.JsonRestore(),
            )
            restored = self._manager.restore(step, args=items)
        trained = restored.optimizer.pop(_TRAINED, None)
        average = None if trained is None else restored.variables
        state = abstract.replace(**(trained or restored.variables), **restored.optimizer, average=average)
        return state, restored.progress

    def restore_variables(self, abstract: dict[str, Any], step: int) -> dict[str, Any]:
        """Return the network's variables alone, for which no optimiser is needed.

        Args:
          abstract: shapes, dtypes and shardings of ``params`` and ``batch_stats``.
          step: which checkpoint.

        Raises:
          ConfigError: where they are damaged, or of another network.
        """
        with self._reading(step):
            self._compare_shapes(abstract, step)
            items = ocp.args.PyTreeRestore(
                abstract, ocp.checkpoint_utils.construct_restore_args(abstract), partial_restore=True
            )
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                return reader.restore(self._variables_folder(step), args=items)

    def _is_whole(self, step: int) -> bool:
        return (self._folder / str(step) / _WHOLE_STATE).is_dir()

    def _variables_folder(self, step: int) -> epath.Path:
        return epath.Path(self._folder) / str(step) / (_WHOLE_STATE if self._is_whole(step) else "variables")

    def _compare_shapes(self, abstract: dict[str, Any], step: int) -> None:
        """Raise ValueError where a checkpoint has other variables, which orbax finds out amid reading, in threads."""
        saved = ocp.StandardCheckpointHandler().metadata(self._variables_folder(step)).tree
        there, here = _shapes({name: saved[name] for name in abstract}), _shapes(abstract)
        if different := [name for name in here.keys() | there.keys() if here.get(name) != there.get(name)]:
            name = min(different)
            raise ValueError(f"{name} is {there.get(name, 'not there')}; expected {here.get(name, 'nothing')}")

    def progress(self, step: int) -> dict[str, Any]:
        """Return the loop's own state alone, which needs no network; raises as :meth:`restore`."""
        with self._reading(step):
            return self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())).progress

    def wait(self) -> None:
        """Wait until everything is written; raises RunError where that fails."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait until everything is written, and end the threads that write; raises RunError where writing fails."""
        with self._writing():
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what fails in the background, and comes to light at any later call, into a sentence."""
        try:
            yield
        except Exception as error:
            self._give_room()
            left = what_is_left(self._folder.parent)
            raise RunError(f"no checkpoint can be written to '{self._folder}': {_reason(error)}. {left}") from error

    def _give_room(self) -> None:
        """Delete what is half-written: on a full disk nothing else could be written."""
        for unfinished in self._folder.glob(_UNFINISHED):
            shutil.rmtree(unfinished, ignore_errors=True)

    @contextlib.contextmanager
    def _reading(self, step: int | None = None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            which = self._folder if step is None else self._folder / str(step)
            others = [other for other in complete_steps(self._folder.parent) if other != step]
            advice = (
                f"; without the folder of the damaged one, the checkpoint of step {others[-1]} is taken"
                if others
                else ""
            )
            raise ConfigError(
                f"the checkpoint in '{which}' cannot be read: it is damaged, or not of the network in the run's "
                f"configuration ({_reason(error)}){advice}"
            ) from error


class _WithoutLateWriters:
    """Shows what cannot be raised, except for writers that come late: the first that fails ends the loop of all.

    The others then find it closed, a traceback each; the error of the first is raised.
    """

    def __init__(self, show: Callable[[Any], object]):
        self._show = show

    def __call__(self, unraisable: Any) -> None:
        """Take what Python hands to ``sys.unraisablehook``."""
        if str(unraisable.exc_value) != "Event loop is closed":
            self._show(unraisable)


def _optimizer(state: TrainState) -> dict[str, Any]:
    """Return what a state holds beside the variables that are evaluated."""
    trained = {} if state.average is None else {_TRAINED: state.variables}
    return {"step": state.step, "opt_state": state.opt_state, "key": state.key} | trained


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array of nested dictionaries, by its path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}


def complete_steps(workdir: pathlib.Path) -> list[int]:
    """Return the steps of the complete checkpoints in a run's folder, in order."""
    return sorted(int(path.name) for path in (workdir / CHECKPOINTS_FOLDER).glob("*") if path.name.isdecimal())


def what_is_left(workdir: pathlib.Path) -> str:
    """Return the sentence that says from where a run that ended goes on."""
    steps = complete_steps(workdir)
    if not steps:
        return "There is no checkpoint yet: the same command starts again"
    return f"The checkpoint of step {steps[-1]} is complete: the same command goes on from there"


def _reason(error: Exception) -> str:
    """Return the part of a message that says what happened, without the path of every file on the way."""
    message = re.sub(r"\s+", " ", str(error)).strip()
    if "No space left" in message or "quota" in message.lower():
        return "no space left on the device"
    return f"{message[:200]} ..." if len(message) > 200 else message or type(error).__name__


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a line of the log is wanted: each of orbax's threads logs the error that is raised later on."""
    return record.levelno < logging.ERROR or "orbax" not in record.pathname
