"""What happens beside the steps of a run, each an object of its own: the events, and the hooks that every run has."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from dnr_jax.config import ExperimentConfig, RunError
from dnr_jax.data.clips.failures import FailureLog
from dnr_jax.dnr import precise_statistics
from dnr_jax.runs.checkpoint import Checkpoints, what_is_left
from dnr_jax.runs.devices import Batch, Prefetcher, copied
from dnr_jax.training.metrics import NonFiniteError
from dnr_jax.training.step import all_finite, make_observe_step

if TYPE_CHECKING:
    from dnr_jax.evaluation.evaluate import Report
    from dnr_jax.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Row:
    """Numbers of one moment of a run.

    Attributes:
      kind: ``train`` or ``validation``.
      step: steps taken.
      metrics: what does not depend on the clock.
      times: what does: seconds, clips a second.
    """

    kind: str
    step: int
    metrics: Mapping[str, float]
    times: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return the row as ``metrics.jsonl`` holds it: what depends on the clock is under ``time``."""
        return {"kind": self.kind, "step": self.step, **self.metrics, "time": dict(self.times)}


class Hook:
    """The events of a run. A hook overrides those that it is about; hooks are told in the order of their list.

    All processes of a run step together: what a hook does with arrays of the state, it does in all of them.
    """

    def start(self, trainer: Trainer) -> None:
        """Before anything is read; steps may be left or none."""

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        """A batch was read, of this process and on the host: ``video`` uint8 ``[B, T, H, W, 3]`` and more.

        Raises:
          RunError: where the run is not to go on with such input.
        """

    def after_step(self, trainer: Trainer) -> None:
        """A step was taken; ``trainer.step`` is its number."""

    def after_row(self, trainer: Trainer, row: Row) -> None:
        """Numbers are there to be recorded."""

    def before_evaluation(self, trainer: Trainer) -> None:
        """The state is about to be evaluated, amid training."""

    def after_evaluation(self, trainer: Trainer, report: Report) -> None:
        """The state was evaluated, amid training; its row was recorded."""

    def trained(self, trainer: Trainer) -> None:
        """No step is left; what comes is the final evaluation."""

    def end(self, trainer: Trainer, report: Report) -> None:
        """The final evaluation was made."""

    def stopped(self, trainer: Trainer) -> None:
        """The run ends after this step, because it was asked to."""

    def failed(self, trainer: Trainer, error: RunError) -> None:
        """The run ends before the next step, because of its input. A hook may raise an error that says more."""

    def close(self) -> None:
        """The run has ended, however."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold of this hook, as JSON can; names are shared with the other hooks."""
        return {}

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Go on from what all hooks' :meth:`state` returned."""


class CountFailures(Hook):
    """Counts the videos that cannot be decoded, and ends the run where they are too many.

    Attributes:
      failures: the counts.
    """

    def __init__(self, failures: FailureLog):
        """Count into ``failures``."""
        self.failures = failures

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        """Take note of a batch."""
        self.failures.update(batch)

    def state(self) -> dict[str, Any]:
        """Return the counts."""
        return {"failures": self.failures.state()}

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.failures.restore(progress["failures"])


class Log(Hook):
    """Makes a row of the means of the steps since the last one, every ``train.log_every`` steps and at the end."""

    def __init__(self, failures: FailureLog):
        """Put the number of ``failures`` into each row."""
        self._failures = failures
        self._step = 0

    def start(self, trainer: Trainer) -> None:
        """Count the steps of the first row from here on."""
        self._step = trainer.step

    def after_step(self, trainer: Trainer) -> None:
        """Make a row where it is due."""
        if trainer.step % trainer.config.train.log_every and trainer.step < trainer.total_steps:
            return
        with trainer.clock.during("step"):  # the devices finish here what they were given
            means = trainer.window.take()
        times = trainer.clock.read()
        clips = (trainer.step - self._step) * trainer.config.train.batch_size
        self._step = trainer.step
        rate = clips / (times["seconds"] - times["evaluation"] - times["checkpoint"])
        metrics = {"epoch": trainer.step / trainer.steps_per_epoch, **means, "undecoded": self._failures.count}
        trainer.record("train", metrics, {**times, "clips_per_second": rate})


class PreciseStatistics(Hook):
    """Estimates running statistics anew before each evaluation, from the run's first batches, as long as it lasts."""

    def __init__(self, model: nn.Module, config: ExperimentConfig, mesh: Mesh):
        """Use ``train.precise_statistics`` batches; 0: do nothing."""
        self._count = config.train.precise_statistics
        self._observe = make_observe_step(model, config, mesh)

    def before_evaluation(self, trainer: Trainer) -> None:
        """Replace the running statistics of what is evaluated."""
        if not self._count:
            return
        with closing(Prefetcher(trainer.batches(0), trainer.mesh)) as batches:
            on_devices = (batch for _, batch in itertools.islice(batches, self._count))
            evaluated = copied(trainer.state.evaluated, trainer.mesh)
            variables = precise_statistics(self._observe, evaluated, on_devices)
        trainer.state = trainer.state.with_statistics(variables["batch_stats"])


class Evaluate(Hook):
    """Evaluates every ``train.eval_every`` steps, or once an epoch, and after the last step."""

    def after_step(self, trainer: Trainer) -> None:
        """Evaluate where it is due."""
        every = trainer.config.train.eval_every or trainer.steps_per_epoch
        if trainer.step == trainer.total_steps or trainer.step % every == 0:
            trainer.validate()


class Save(Hook):
    """Writes checkpoints: with each evaluation, every ``train.checkpoint_every`` steps, and where a run is stopped."""

    def __init__(self, checkpoints: Checkpoints, workdir: pathlib.Path, contents: Mapping[str, Any]):
        """Write into ``checkpoints``, which are in ``workdir``; ``contents`` stand in each, see :class:`Resolved`."""
        self._checkpoints = checkpoints
        self._workdir = workdir
        self._contents = dict(contents)

    def after_step(self, trainer: Trainer) -> None:
        """Write a checkpoint where it is due, unless this step was evaluated and has one."""
        every = trainer.config.train.checkpoint_every
        if every and trainer.step % every == 0 and trainer.report is None:
            self._save(trainer)

    def after_evaluation(self, trainer: Trainer, report: Report) -> None:
        """Write a checkpoint with the top-1 that ranks it."""
        self._save(trainer, report.top1)

    def stopped(self, trainer: Trainer) -> None:
        """Write a checkpoint of this step, and say how to go on."""
        self._save_now(trainer)
        print(
            f"\nstopped after step {trainer.step} of {trainer.total_steps}; a checkpoint is in {self._workdir}. "
            "The same command again goes on from there.",
            file=sys.stderr,
        )

    def failed(self, trainer: Trainer, error: RunError) -> None:
        """Write a checkpoint of this step, and raise an error that says how to go on."""
        if trainer.step and jax.process_count() == 1:  # a checkpoint needs all processes, and the others go on
            self._save_now(trainer)
        raise RunError(f"{error}. {what_is_left(self._workdir)}") from error

    def _save_now(self, trainer: Trainer) -> None:
        """Write a checkpoint of this step, unless there is one, and wait until it is complete."""
        if self._checkpoints.latest_step != trainer.step:
            self._save(trainer)
        self._checkpoints.wait()

    def _save(self, trainer: Trainer, top1: float | None = None) -> None:
        """Start to write a checkpoint, unless the state is no longer finite."""
        with trainer.clock.during("checkpoint"):
            trainer.window.check()
            if not np.all(all_finite(trainer.state)):
                raise NonFiniteError(
                    f"after step {trainer.step} a parameter or a running statistic is not finite. No checkpoint was "
                    "written of it; a smaller optimizer.learning_rate or optimizer.clip_norm may help"
                )
            self._checkpoints.save(trainer.state, trainer.progress() | self._contents, trainer.step, top1)
