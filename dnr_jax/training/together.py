"""Runs that differ in their seeds alone, trained at once: a step of all of them is one step under ``jax.vmap``.

Each run has its own folder, order of the videos, state and records, as if it were alone, and the same numbers but for
rounding. Small networks leave an accelerator idle; several of them at once do not.
"""

import contextlib
import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dnr_jax.config import ConfigError, ExperimentConfig, RunError
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.runs.devices import Batch, compiler_options
from dnr_jax.runs.state import TrainState
from dnr_jax.training.loop import opened
from dnr_jax.training.metrics import NonFiniteError
from dnr_jax.training.step import Metrics, TrainStep
from dnr_jax.training.stop import StopRequest
from dnr_jax.training.trainer import Course, Trainer

Taken: TypeAlias = tuple[TrainState, Metrics]
"""The state after a step, and its metrics."""
Ended: TypeAlias = Callable[[int, Report | Exception], None]
"""Is told of each run, by its number, when it has ended: its evaluation, or why there is none."""


def train_together(
    configs: Sequence[ExperimentConfig],
    workdirs: Sequence[str | os.PathLike[str]],
    ended: Ended,
    *,
    mesh: Mesh | None = None,
) -> None:
    """Train networks whose configurations differ in ``train.seed`` alone, or go on training them.

    A run that fails, or cannot begin, leaves the others to go on. Those that have taken fewer steps catch up first.

    Args:
      configs: the experiments.
      workdirs: folder of each run.
      ended: is told what became of each run, as soon as it has ended.
      mesh: the devices; default: all of all processes.

    Raises:
      RunError: where a file cannot be written.
      SystemExit: after SIGINT or SIGTERM, when each run has written a checkpoint.
    """
    with contextlib.ExitStack() as stack:
        trainers: dict[int, Trainer] = {}
        for number, (config, workdir) in enumerate(zip(configs, workdirs, strict=True)):
            try:
                trainers[number] = stack.enter_context(opened(config, workdir, mesh=mesh, quiet=bool(trainers)))
            except (ConfigError, RunError) as error:
                ended(number, error)
        if trainers:
            step_together(trainers, ended)


def step_together(trainers: Mapping[int, Trainer], ended: Ended) -> None:
    """Take the steps that are left of trainers of one network, which have a state; see :func:`train_together`."""
    step = make_joint_step(next(iter(trainers.values())).take_step)
    with contextlib.ExitStack() as stack, StopRequest() as request:
        seen = StopRequest()  # of which all runs are told at the same step
        members = []
        for number, trainer in trainers.items():
            course = stack.enter_context(contextlib.closing(trainer.course(seen)))
            members.append(_Member(number, trainer, course, ended))
            members[-1].go_on(None)
        while waiting := [(member, batch) for member in members if (batch := member.batch) is not None]:
            seen.signal = request.signal
            least = min(member.trainer.step for member, _ in waiting)
            behind = [(member, batch) for member, batch in waiting if member.trainer.step == least]
            taken = step([member.trainer.state for member, _ in behind], [batch for _, batch in behind])
            for (member, _), its in zip(behind, taken, strict=True):
                member.go_on(its)
    if request.signal is not None:
        raise SystemExit(128 + request.signal)


def make_joint_step(step: TrainStep) -> Callable[[Sequence[TrainState], Sequence[Batch]], Sequence[Taken]]:
    """Return the function that takes a step of several runs of one network; the old states are donated.

    Args:
      step: of one run, from :func:`dnr_jax.training.step.make_train_step`.
    """

    def joint(states: Sequence[TrainState], batches: Sequence[Batch]) -> Sequence[Taken]:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(states, batches, strict=True))
        taken = jax.vmap(inspect.unwrap(step))(*stacked)  # JAX takes the outermost one's options alone
        return [jax.tree.map(lambda leaf, at=number: leaf[at], taken) for number in range(len(states))]

    jitted = jax.jit(joint, donate_argnums=0, compiler_options=compiler_options(jax.default_backend()))

    def take(states: Sequence[TrainState], batches: Sequence[Batch]) -> Sequence[Taken]:
        return [step(states[0], batches[0])] if len(states) == 1 else jitted(states, batches)

    return take


@dataclasses.dataclass
class _Member:
    """A run among those that are trained at once.

    Attributes:
      number: of the run.
      trainer: of the run.
      course: of its steps.
      ended: is told what became of it.
      batch: of the step that it waits for; None before the first, and when the run has ended.
    """

    number: int
    trainer: Trainer
    course: Course
    ended: Ended
    batch: Batch | None = None

    def go_on(self, taken: Taken | None) -> None:
        """Hand on what a step came to, None before the first, and ask for the next batch."""
        self.batch = None
        try:
            self.batch = self.course.send(taken)
        except StopIteration as end:
            self.ended(self.number, end.value)
        except (RunError, NonFiniteError) as error:
            self.ended(self.number, error)
        except SystemExit:  # its checkpoint is written; the others write theirs before all of them leave
            return
