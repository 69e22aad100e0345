"""Stepping: the state of a run moves through its steps, and hooks are told of each event.

A :class:`Trainer` knows of no folder, no lock, no checkpoint and no screen; those are hooks. It takes whatever model,
mesh, batches and evaluation it is given.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from dnr_jax.config import EvaluationConfig, ExperimentConfig, RunError, single_view
from dnr_jax.convert.source import Start
from dnr_jax.dnr.statistics import Variables
from dnr_jax.evaluation.evaluate import Report, views
from dnr_jax.runs.devices import Batch, ClosableIterator, Prefetcher, copied
from dnr_jax.runs.state import TrainState
from dnr_jax.training.clock import Clock
from dnr_jax.training.hooks import Hook, Row
from dnr_jax.training.metrics import MetricWindow
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import abstract_state, create_state, with_variables
from dnr_jax.training.step import Metrics, make_train_step
from dnr_jax.training.stop import StopRequest

Batches: TypeAlias = Callable[[int], ClosableIterator]
"""Maps a step to this process's batches from that step on."""
Evaluate: TypeAlias = Callable[[Variables, EvaluationConfig], Report]
"""Scores the validation videos with variables, over as many views as the second argument says."""
Course: TypeAlias = Generator[Batch, tuple[TrainState, Metrics] | None, Report]
"""Yields the batch of each step, is sent the state after it and its metrics, and returns the evaluation."""


def length_of(config: ExperimentConfig, videos: int) -> tuple[int, int]:
    """Return the steps of an epoch and those of a run with so many training videos."""
    steps_per_epoch = videos // config.train.batch_size
    return steps_per_epoch, config.train.steps or max(round(config.train.epochs * steps_per_epoch), 1)


class Trainer:
    """Takes the steps of a run.

    Attributes:
      config: the experiment, resolved.
      model: the network.
      mesh: the devices.
      batches: what is read.
      evaluate: what scores the validation videos.
      steps_per_epoch: steps in which every training video is read once.
      total_steps: length of the run.
      take_step: maps a state, which is donated, and a batch to the state after the step and its metrics.
      step: steps taken.
      state: everything that a step reads and writes; hooks may replace it.
      report: the evaluation of the state as it is now; None where there is none.
      evaluated: while hooks are told of an evaluation: the variables that it was of, as copies on every device.
      window: the metrics of the steps since the last row.
      clock: where the time goes.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        model: nn.Module,
        mesh: Mesh,
        batches: Batches,
        evaluate: Evaluate,
        names: Sequence[str],
        hooks: Sequence[Hook] = (),
    ):
        """Make the training step; :meth:`begin` or :meth:`go_on` gives it a state.

        Args:
          config: the experiment, resolved.
          model: maps ``[N, T, H, W, 3]`` to scores ``[N, classes]``.
          mesh: the devices.
          batches: maps a step to the batches from that step on.
          evaluate: scores the validation videos.
          names: of the training videos, to which a batch's ``index`` refers.
          hooks: are told of each event, in this order.
        """
        self.config, self.model, self.mesh = config, model, mesh
        self.batches, self.evaluate = batches, evaluate
        self.steps_per_epoch, self.total_steps = length_of(config, len(names))
        schedule = make_schedule(config.optimizer, config.train.batch_size, self.total_steps)
        self.tx = make_optimizer(config.optimizer, schedule)
        self.take_step = make_train_step(model, self.tx, schedule, config, mesh)
        self.window = MetricWindow(names)
        self.clock = Clock()
        self.step = 0
        self.state: TrainState
        self.report: Report | None = None
        self.evaluated: Variables = {}
        self._hooks = tuple(hooks)

    def begin(self, start: Start | None = None) -> None:
        """Set the state before the first step: as initialised, or with the variables that ``start`` brings."""
        train = self.config.train
        shape, averaged = self.config.data.clip_shape, train.averaging is not None
        self.state = create_state(self.model, self.tx, shape, self.mesh, train.seed, averaged)
        if start:
            self.state = with_variables(self.state, self.tx, start.apply(self.state.variables))

    def abstract_state(self) -> TrainState:
        """Return the shapes, dtypes and shardings of the state."""
        averaged = self.config.train.averaging is not None
        return abstract_state(self.model, self.tx, self.config.data.clip_shape, self.mesh, averaged)

    def go_on(self, state: TrainState, progress: Mapping[str, Any], step: int) -> None:
        """Set the state after ``step`` steps, and what :meth:`progress` returned then."""
        self.state, self.step = state, step
        self.window.restore(progress["window"])
        for hook in self._hooks:
            hook.restore(progress)

    def progress(self) -> dict[str, Any]:
        """Return what has to be known beside the state for going on, as JSON can hold it."""
        progress: dict[str, Any] = {"window": self.window.state()}
        for hook in self._hooks:
            progress |= hook.state()
        return progress

    def run(self) -> Report:
        """Take the steps that are left, and evaluate the network as the configuration says.

        Raises:
          NonFiniteError: when the loss is no longer finite.
          RunError: when the input cannot go on.
          SystemExit: after SIGINT or SIGTERM, with the exit status that shells expect.
        """
        taken: tuple[TrainState, Metrics] | None = None
        with contextlib.closing(self.course()) as course:
            while True:
                try:
                    batch = course.send(taken)
                except StopIteration as end:
                    return end.value
                taken = self.take_step(self.state, batch)

    def course(self, stop: StopRequest | None = None) -> Course:
        """Return what :meth:`run` does, all but the steps themselves, which whoever drives the generator takes.

        Args:
          stop: tells whether to stop after a step; None: listen for signals while steps are left.
        """
        with contextlib.ExitStack() as stack:
            for hook in self._hooks:
                stack.callback(hook.close)
            self._tell(Hook.start)
            if self.step < self.total_steps:
                yield from self._fit(stop)
            self._tell(Hook.trained)
            report = self._final_report()
            self._tell(Hook.end, report)
        return report

    def record(self, kind: str, metrics: Mapping[str, float], times: Mapping[str, float]) -> None:
        """Hand a row of this step to the hooks; ``times`` are what depends on the clock."""
        self._tell(Hook.after_row, Row(kind, self.step, metrics, times))

    def validate(self) -> None:
        """Evaluate the state as it is with a single view of each video, and tell the hooks.

        Raises:
          NonFiniteError: where a step until now had a loss that is not finite.
          RunError: where too many of the videos cannot be decoded.
        """
        self.window.check()
        started = time.monotonic()
        with self._failures_told(), self.clock.during("evaluation"):
            self._tell(Hook.before_evaluation)
            self.evaluated = copied(self.state.evaluated, self.mesh)
            self.report = self.evaluate(self.evaluated, single_view(self.config.evaluation))
        self.record("validation", self.report.summary(), {"seconds": time.monotonic() - started})
        self._tell(Hook.after_evaluation, self.report)
        self.evaluated = {}

    def _fit(self, stop: StopRequest | None) -> Generator[Batch, tuple[TrainState, Metrics] | None, None]:
        with contextlib.ExitStack() as stack:
            prefetched = stack.enter_context(contextlib.closing(Prefetcher(self.batches(self.step), self.mesh)))
            stop = stop or stack.enter_context(StopRequest())
            self.clock.read()
            while self.step < self.total_steps:
                batch, on_devices = self._next(prefetched)
                annotated = jax.profiler.StepTraceAnnotation("train", step_num=self.step + 1)
                with self.clock.during("step"), annotated:
                    taken = yield on_devices
                    assert taken, "a step is taken before the next batch is asked for"
                    self.state, metrics = taken
                    self.step, self.report = self.step + 1, None
                    self.window.add(self.step, metrics, batch["index"])
                self._tell(Hook.after_step)
                if self._should_stop(stop):
                    self._tell(Hook.stopped)
                    raise SystemExit(128 + (stop.signal or signal.SIGTERM))

    def _next(self, prefetched: Prefetcher) -> tuple[Batch, Batch]:
        """Return the next batch, on the host and on the devices."""
        with self._failures_told():
            with self.clock.during("input"):
                batch, on_devices = next(prefetched)
            self._tell(Hook.before_step, batch)
        return batch, on_devices

    @contextlib.contextmanager
    def _failures_told(self) -> Iterator[None]:
        """Tell the hooks where the input cannot go on."""
        try:
            yield
        except RunError as error:
            self._tell(Hook.failed, error)
            raise

    def _should_stop(self, stop: StopRequest) -> bool:
        """Return whether any process was asked to stop; several processes look only at steps that are logged."""
        if jax.process_count() == 1:
            return stop.signal is not None
        if self.step % self.config.train.log_every:
            return False
        return bool(np.any(multihost_utils.process_allgather(np.asarray(stop.signal is not None))))

    def _final_report(self) -> Report:
        evaluation, size = self.config.evaluation, self.config.data.crop_size
        self.evaluated = copied(self.state.evaluated, self.mesh)
        if self.report and views(evaluation, size) == views(single_view(evaluation), size):
            return self.report
        with self._failures_told():
            return self.evaluate(self.evaluated, evaluation)

    def _tell(self, event: Callable[..., None], *what: Any) -> None:
        """Call a method of :class:`Hook` of every hook."""
        for hook in self._hooks:
            getattr(hook, event.__name__)(self, *what)
