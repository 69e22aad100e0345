"""A trace of some steps, for Perfetto and XProf."""

from __future__ import annotations

import pathlib
import sys
from typing import TYPE_CHECKING

import jax

from dnr_jax.config import ConfigError
from dnr_jax.runs.devices import Batch
from dnr_jax.training.hooks import Hook

if TYPE_CHECKING:
    from dnr_jax.training.trainer import Trainer

PROFILE_FOLDER = "profile"


class ProfileSteps(Hook):
    """Traces what the host and the devices do in the steps from ``first`` to ``last``, into ``profile/``.

    It holds ``perfetto_trace.json.gz``, which ui.perfetto.dev opens, beside what ``xprof --logdir`` reads. The first
    step of a run is compiled, which is most of its trace. A run that goes on behind ``first`` is not traced, so that
    the same command goes on wherever it stopped.
    """

    def __init__(self, workdir: pathlib.Path, first: int, last: int):
        """Trace into the folder of the run; steps are counted from 1."""
        self._folder = pathlib.Path(workdir) / PROFILE_FOLDER
        self._first, self._last = first, last
        self._tracing = False

    def start(self, trainer: Trainer) -> None:
        """Raise ConfigError where the steps are none of the run's; say so where the first of them is behind it."""
        asked = f"--profile_steps={self._first}:{self._last}"
        if not 1 <= self._first <= self._last <= trainer.total_steps:
            raise ConfigError(f"{asked}: the steps of the run are 1:{trainer.total_steps}")
        if trainer.step >= self._first and jax.process_index() == 0:
            print(
                f"{asked}: nothing is traced, since {trainer.step} steps are taken already", file=sys.stderr, flush=True
            )

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        """Begin the trace where the next step is the first of them, and the devices have done what they had to."""
        if trainer.step == self._first - 1:
            jax.block_until_ready(trainer.state)
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._tracing = True

    def after_step(self, trainer: Trainer) -> None:
        """End the trace where this step was the last of them."""
        if trainer.step == self._last:
            jax.block_until_ready(trainer.state)
            self.close()

    def close(self) -> None:
        """End the trace where a run ends within it."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            print(f"a trace of steps {self._first} to {self._last} is in {self._folder}", file=sys.stderr, flush=True)
