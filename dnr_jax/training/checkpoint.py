"""Checkpoints: the whole state of a run, so that a run stopped anywhere goes on as if it had not been stopped.

A checkpoint holds the :class:`~dnr_jax.training.state.TrainState` and, as JSON, what the loop keeps beside it. It is
written in the background and appears under its final name only when it is complete. The latest and the one with the
best validation accuracy are kept; an old one is deleted only after its successor is complete.
"""

import pathlib
from typing import Any

import orbax.checkpoint as ocp

from dnr_jax.training.state import TrainState

CHECKPOINTS_FOLDER = "checkpoints"


def _top1(metrics: dict[str, float]) -> float:
    return metrics["top1"]


_NOT_EVALUATED = -1.0
"""Stands for the top-1 of a checkpoint that was not evaluated, so that it ranks below all that were."""


class Checkpoints:
    """The checkpoints in a run's folder."""

    def __init__(self, workdir: str | pathlib.Path, read_only: bool = False):
        """Open the folder ``checkpoints`` in ``workdir``; it is made unless ``read_only``."""
        policies = ocp.checkpoint_managers
        keep = policies.AnyPreservationPolicy([policies.LatestN(1), policies.BestN(get_metric_fn=_top1, n=1)])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=_top1,
            create=not read_only,
            cleanup_tmp_directories=not read_only,  # what a killed run left half-written
        )
        self._manager = ocp.CheckpointManager(pathlib.Path(workdir).resolve() / CHECKPOINTS_FOLDER, options=options)

    @property
    def latest_step(self) -> int | None:
        """Step of the latest checkpoint, or None."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the best validation top-1 (the later of equals), or the latest without one."""
        return self._manager.best_step()

    def save(self, state: TrainState, progress: dict[str, Any], step: int, top1: float | None = None) -> None:
        """Start to write a checkpoint; the state may be donated to the next step at once.

        Args:
          state: the state after ``step`` steps.
          progress: the loop's own state, which JSON can hold.
          step: number of steps taken.
          top1: validation top-1 in [0, 1], where it was evaluated at this step.
        """
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress))
        metrics = {"top1": _NOT_EVALUATED if top1 is None else top1}
        self._manager.save(step, args=items, metrics=metrics, force=True)

    def restore(self, abstract: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
        """Return the state and the loop's own state.

        Args:
          abstract: shapes, dtypes and shardings, from :func:`dnr_jax.training.state.abstract_state`.
          step: which checkpoint.
        """
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        return restored.state, restored.progress

    def wait(self) -> None:
        """Wait until everything is written."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait until everything is written, and end the threads that write."""
        self._manager.close()
