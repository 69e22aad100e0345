"""The training loop: from a configuration to a trained network in a folder.

The folder of a run holds ``config.json``, ``classes.txt``, ``checkpoints/``, ``metrics.jsonl``, TensorBoard's events,
``training_curve.png``, ``init_report.txt`` where it started from given weights, ``run.lock``, and at the end the files
of :mod:`dnr_jax.evaluation.outputs`. The same call again goes on from the latest checkpoint; the outcome is the same,
bit for bit, as if the run had never stopped.
"""

import contextlib
import dataclasses
import itertools
import logging
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Collection, Mapping
from types import FrameType
from typing import Any, TypeAlias

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from dnr_jax.config import (
    ConfigError,
    EvaluationConfig,
    ExperimentConfig,
    RunError,
    VideoSource,
    expand_path,
    flatten,
    locations,
    make_paths_absolute,
    single_view,
    to_json,
    validate,
)
from dnr_jax.convert.source import Start, fit_classes, read_source
from dnr_jax.data.catalogue import records
from dnr_jax.data.catalogue.classes import names_for, with_classes
from dnr_jax.data.catalogue.sources import load_sources
from dnr_jax.data.clips.failures import FailureLog
from dnr_jax.data.clips.pipeline import train_iterator
from dnr_jax.dnr import precise_statistics
from dnr_jax.evaluation.evaluate import Report, score_videos, undecoded_note, views
from dnr_jax.evaluation.videos import labelled
from dnr_jax.models import create_model
from dnr_jax.progress import Progress, stage
from dnr_jax.runs.checkpoint import Checkpoints, what_is_left
from dnr_jax.runs.devices import Prefetcher, make_mesh
from dnr_jax.runs.folder import (
    CLASSES_FILE,
    CONFIG_FILE,
    read_config,
    run_folder,
    saved_classes,
)
from dnr_jax.runs.inference import make_eval_step
from dnr_jax.runs.lock import locked
from dnr_jax.training.accelerators import unused_accelerator
from dnr_jax.training.metrics import MetricWindow, NonFiniteError
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.report import Recorder, describe
from dnr_jax.training.state import abstract_state, create_state, with_variables
from dnr_jax.training.step import all_finite, make_observe_step, make_train_step

_logger = logging.getLogger(__name__)

Sources: TypeAlias = tuple[VideoSource, VideoSource]
"""Training and validation videos."""

INIT_REPORT_FILE = "init_report.txt"
CHANGEABLE = frozenset(
    {
        "train.steps",
        "train.epochs",
        "train.log_every",
        "train.eval_every",
        "train.checkpoint_every",
        "data.num_threads",
        "data.num_workers",
        "data.max_failures",
    }
    | {f"evaluation.{field.name}" for field in dataclasses.fields(EvaluationConfig)}
)
"""Fields that may differ when a run goes on: its length, and what does not enter the gradient; so may data's places."""


def train(config: ExperimentConfig, workdir: str | os.PathLike[str]) -> Report:
    """Train a network, or go on training it, and evaluate it.

    Args:
      config: the experiment. Prepared by this function: what it leaves to the data is filled in, and paths are made
        absolute, so that the run can be evaluated from any folder.
      workdir: folder of the run.

    Returns:
      The evaluation of the network after the last step.

    Raises:
      ConfigError: for a configuration that cannot work, or that is not the one of the run in ``workdir``; for data with
        other classes or other training videos than that run's; where another process trains there.
      NonFiniteError: when the loss is no longer finite, naming the step and its clips.
      RunError: when too many videos cannot be decoded, or a file cannot be written.
      SystemExit: after SIGINT or SIGTERM, when a checkpoint has been written.
    """
    workdir = run_folder(expand_path(workdir))
    with stage("looking for devices"):
        advice = unused_accelerator()
        validate(config, jax.device_count(), jax.process_count())
    if advice:
        print(f"WARNING: {advice}", file=sys.stderr, flush=True)
    make_paths_absolute(config)
    with stage("reading the data"):
        sources = _load_sources(config)
    begun = None if workdir.is_dir() else _begin(config, sources)  # what is refused here leaves no folder behind
    try:
        with contextlib.ExitStack() as stack:
            if jax.process_index() == 0:
                if problem := records.why_not_writable(workdir):
                    raise ConfigError(f"--workdir: {problem}")
                stack.enter_context(locked(workdir))
            checkpoints = stack.enter_context(contextlib.closing(Checkpoints(workdir)))
            if checkpoints.latest_step is None:
                sources, start = begun or _begin(config, sources)
            else:
                progress = checkpoints.progress(checkpoints.latest_step)
                sources, start = _go_on(config, workdir, sources, progress), None
            trainer = Trainer(config, workdir, sources, checkpoints, start)
            stack.callback(trainer.recorder.close)
            trainer.fit()
            return trainer.finish()
    except OSError as error:
        raise RunError(f"{error}. {what_is_left(workdir)}") from error


def _load_sources(config: ExperimentConfig) -> Sources:
    """Return training and validation videos, labelled as the data has it."""
    try:
        training, validation = load_sources(config.data)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error
    if len(training) < config.train.batch_size:
        raise ConfigError(
            f"train.batch_size: is {config.train.batch_size}, more than the {len(training)} training videos"
        )
    if not len(validation):
        raise ConfigError("there is no validation video, which would tell the best checkpoint")
    return training, validation


def _begin(config: ExperimentConfig, sources: Sources) -> tuple[Sources, Start | None]:
    """Fill in the classes of a new run, and find the weights that it starts from; nothing is compiled.

    Where weights of another run bring a classifier along, its classes, in their order, are those of this run.
    """
    config.model.num_classes = config.model.num_classes or len(sources[0].classes)
    start: Start | None = None
    classes: tuple[str, ...] = ()
    if config.init_from:
        shown = {source.classes[label] for source in sources for label in np.unique(source.labels)}
        start, classes = fit_classes(read_source(config.init_from, config.init.checkpoint), config, sorted(shown))
    try:
        classes = classes or names_for(sources[0].classes, config.model.num_classes)
        return (with_classes(sources[0], classes), with_classes(sources[1], classes)), start
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _go_on(config: ExperimentConfig, workdir: pathlib.Path, sources: Sources, progress: Mapping[str, Any]) -> Sources:
    """Return the videos, labelled with the classes of the run in a folder.

    Raises:
      ConfigError: where that is a run of another configuration, other classes or other training videos.
    """
    saved = read_config(workdir)
    make_paths_absolute(saved)
    config.model.num_classes = config.model.num_classes or saved.model.num_classes
    moved = {*locations(saved), *locations(config)} if "training" in progress else set()
    _compare(flatten(saved), flatten(config), CHANGEABLE | moved, workdir)
    classes = saved_classes(workdir, progress, config.model.num_classes)
    training, validation = (labelled(source, classes, workdir) for source in sources)
    if (before := progress.get("training")) not in (None, _content(training)):
        raise ConfigError(
            f"the training videos are not those of the run in '{workdir}': it began with {before['videos']}, and now "
            f"there are {len(training)}{', in another order or other ones' * (before['videos'] == len(training))}. A "
            "run goes on with the videos that it began with; for other ones, begin another run from its weights: "
            f"--workdir=OTHER --config.init_from={workdir}"
        )
    if progress.get("validation") not in (None, _content(validation)):
        _logger.warning("the validation videos are not those of the run before: its rows until now are of other ones")
    return training, validation


def _compare(
    old: Mapping[str, Any], new: Mapping[str, Any], unimportant: Collection[str], workdir: pathlib.Path
) -> None:
    """Raise ConfigError where a folder holds a run of another experiment."""
    absent = "nothing"  # a field of a part that only one of them has
    pairs = {name: (old.get(name, absent), new.get(name, absent)) for name in {**old, **new} if name not in unimportant}
    different = {name: (there, now) for name, (there, now) in pairs.items() if there != now}
    if different:
        parts = tuple(f"{name}." for name in different)  # of another class, so that its fields tell nothing more
        lines = [
            f"  {name}: {there!r} there, {now!r} now"
            for name, (there, now) in different.items()
            if not name.startswith(parts)
        ]
        raise ConfigError(
            f"'{workdir}' holds a run with another configuration; choose another --workdir, or the same values:\n"
            + "\n".join(lines)
        )


def _content(source: VideoSource) -> dict[str, Any]:
    """Return what tells a list of videos from another, wherever they lie."""
    return {"videos": len(source), "fingerprint": source.fingerprint()}


def _undecoded_file() -> str:
    """The file that names this process's training videos which could not be decoded."""
    process = jax.process_index()
    return f"undecoded_{process}.jsonl" if process else "undecoded.jsonl"


class Trainer:
    """The parts of a run, and the state that moves through them."""

    def __init__(
        self,
        config: ExperimentConfig,
        workdir: pathlib.Path,
        sources: tuple[VideoSource, VideoSource],
        checkpoints: Checkpoints,
        start: Start | None,
    ):
        """Build the network and its steps, and restore the latest checkpoint, or start from given weights."""
        self.config = config
        self.workdir = workdir
        self.training, self.validation = sources
        self.checkpoints = checkpoints
        self.steps_per_epoch = len(self.training) // config.train.batch_size
        self.total_steps = config.train.steps or max(round(config.train.epochs * self.steps_per_epoch), 1)
        self.mesh = make_mesh()
        self.model = create_model(config.model)
        schedule = make_schedule(config.optimizer, config.train.batch_size, self.total_steps)
        self.tx = make_optimizer(config.optimizer, schedule)
        self.train_step = make_train_step(self.model, self.tx, schedule, config, self.mesh)
        self.eval_step = make_eval_step(self.model, config, self.mesh)
        self.observe_step = make_observe_step(self.model, config, self.mesh)
        self.failures = FailureLog(self.training, config.data.max_failures, workdir / _undecoded_file())
        self.window = MetricWindow(self.training.names)
        self.report: Report | None = None  # of the last evaluation of the state as it is now
        self.is_first_process = jax.process_index() == 0
        self.contents = {"training": _content(self.training), "validation": _content(self.validation)}
        with stage("building the network, or reading its checkpoint", self.is_first_process):
            self.step = self._restore(start)
        self._write_settings()
        self.recorder = Recorder(workdir, self.step, self.is_first_process)

    def _restore(self, start: Start | None) -> int:
        """Set the state to the latest checkpoint, or to the start; return the number of steps taken."""
        clip = self.config.data.clip_shape
        step = self.checkpoints.latest_step
        if step is None:
            if start and self.is_first_process:
                print(start.report.summary())
                (self.workdir / INIT_REPORT_FILE).write_text(f"{start.report}\n")
            self.state = create_state(self.model, self.tx, clip, self.mesh, self.config.train.seed)
            if start:
                self.state = with_variables(self.state, self.tx, start.apply(self.state.variables))
            return 0
        if step > self.total_steps:
            raise ConfigError(f"'{self.workdir}' holds {step} steps, more than the {self.total_steps} asked for")
        abstract = abstract_state(self.model, self.tx, clip, self.mesh)
        self.state, progress = self.checkpoints.restore(abstract, step)
        self.failures.restore(progress["failures"])
        self.window.restore(progress["window"])
        return step

    def _write_settings(self) -> None:
        """Save the resolved configuration and the names of the classes, and print what matters of the run."""
        if not self.is_first_process:
            return
        records.write_text(epath.Path(self.workdir) / CONFIG_FILE, to_json(self.config) + "\n")
        self._write_classes()
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        videos, classes = (len(self.training), len(self.validation)), self.training.classes
        print(describe(self.config, videos, classes, parameters, self.total_steps, self.mesh))
        start = f"{'continuing' if self.step else 'starting'} at step {self.step}"
        print(f"{'folder':<14} {self.workdir}, with the whole configuration in {CONFIG_FILE}\n{start}", flush=True)

    def _write_classes(self) -> None:
        """Write ``classes.txt`` once; one that somebody changed stays, and does not count."""
        file, text = epath.Path(self.workdir) / CLASSES_FILE, "\n".join(self.training.classes) + "\n"
        if not self.step or not file.is_file():
            records.write_text(file, text)
        elif file.read_text() != text:
            _logger.warning("%s does not name the classes as the checkpoints do, whose names count", file)

    def fit(self) -> None:
        """Take the steps that are left."""
        if self.step == self.total_steps:
            return
        batches = Prefetcher(self._batches(self.step), self.mesh)
        with contextlib.closing(batches), self._progress_bar() as bar, StopRequest() as stop:
            self._logged = self.step, time.monotonic()
            while self.step < self.total_steps:
                self._take_step(*self._next(batches))
                bar.update(self.config.train.batch_size)
                self._after_step(bar)
                if self._should_stop(stop):
                    self._leave(stop)

    def _next(self, batches: Prefetcher) -> tuple[dict[str, np.ndarray], dict[str, jax.Array]]:
        """Return the next batch, on the host and on the devices; what was learnt is kept where there is none."""
        try:
            host_batch, device_batch = next(batches)
            self.failures.update(host_batch)
        except RunError as error:
            if self.step and jax.process_count() == 1:  # a checkpoint needs all processes, and the others go on
                self._save_now()
            raise RunError(f"{error}. {what_is_left(self.workdir)}") from error
        return host_batch, device_batch

    def _batches(self, start_step: int) -> Any:
        processes = jax.process_count()
        return train_iterator(
            self.training,
            self.config.data,
            self.config.train.batch_size // processes,
            self.config.train.seed,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=processes,
        )

    def _progress_bar(self) -> Progress:
        clips = self.config.train.batch_size
        return Progress(
            self.total_steps * clips,
            "training",
            "clip",
            initial=self.step * clips,
            first="compiling the first step, which takes about a minute the first time",
            show=self.is_first_process,
        )

    def _take_step(self, host_batch: dict[str, np.ndarray], device_batch: dict[str, jax.Array]) -> None:
        self.state, metrics = self.train_step(self.state, device_batch)
        self.step += 1
        self.report = None
        self.window.add(self.step, metrics, host_batch["index"])

    def _after_step(self, bar: Progress) -> None:
        """Do what is due after this step, in the order that a resumed run relies on: rows first, then checkpoint."""
        train, last = self.config.train, self.step == self.total_steps
        if self.step % train.log_every == 0 or last:
            self._log(bar)
        if last or self.step % (train.eval_every or self.steps_per_epoch) == 0:
            self._validate(bar)
            self._save(self.report)
        elif train.checkpoint_every and self.step % train.checkpoint_every == 0:
            self._save()

    def _log(self, bar: Progress) -> None:
        """Write the means since the last time."""
        means = self.window.take()
        (step, then), now = self._logged, time.monotonic()
        self._logged = self.step, now
        bar.note(step=str(self.step), loss=f"{means['loss']:.3f}", accuracy=f"{means['accuracy']:.1%}")
        metrics = {"epoch": self.step / self.steps_per_epoch, **means, "undecoded": self.failures.count}
        rate = (self.step - step) * self.config.train.batch_size / (now - then)
        self.recorder.write("train", self.step, metrics, {"seconds": now - then, "clips_per_second": rate})

    def _estimate_statistics(self) -> None:
        """Estimate the running statistics anew from the run's first batches, so that resuming changes nothing."""
        count = self.config.train.precise_statistics
        with contextlib.closing(Prefetcher(self._batches(0), self.mesh)) as batches:
            on_devices = (batch for _, batch in itertools.islice(batches, count))
            variables = precise_statistics(self.observe_step, self.state.variables, on_devices)
        self.state = self.state.replace(batch_stats=variables["batch_stats"])

    def _validate(self, bar: Progress) -> None:
        """Evaluate with a single view, record the outcome and print it with the best so far."""
        self.window.check()
        started = time.monotonic()
        if self.config.train.precise_statistics:
            self._estimate_statistics()
        self.report = self._evaluate(single_view(self.config.evaluation))
        self.recorder.write("validation", self.step, self.report.summary(), {"seconds": time.monotonic() - started})
        self.recorder.plot()
        if self.recorder.best:
            best = "the best so far" if self.recorder.best.step == self.step else f"best: {self.recorder.best}"
            bar.print(f"step {self.step}: {self.report}, loss {self.report.loss:.3f}; {best}")

    def _evaluate(self, evaluation: EvaluationConfig) -> Report:
        variables, show = self.state.variables, self.is_first_process
        return score_videos(self.eval_step, variables, self.validation, self.config, self.mesh, evaluation, show)

    def _save(self, report: Report | None = None) -> None:
        """Start to write a checkpoint, unless the state is no longer finite."""
        self.window.check()
        if not all_finite(self.state):
            raise NonFiniteError(
                f"after step {self.step} a parameter or a running statistic is not finite. No checkpoint was written "
                f"of it; a smaller optimizer.learning_rate or optimizer.clip_norm may help"
            )
        progress = {
            "failures": self.failures.state(),
            "window": self.window.state(),
            "classes": list(self.training.classes),
            **self.contents,
        }
        self.checkpoints.save(self.state, progress, self.step, report.top1 if report else None)

    def _save_now(self) -> None:
        """Write a checkpoint of this step, unless there is one, and wait until it is complete."""
        if self.checkpoints.latest_step != self.step:
            self._save()
        self.checkpoints.wait()

    def _should_stop(self, stop: "StopRequest") -> bool:
        """Return whether any process was asked to stop; several processes look only at steps that are logged."""
        if jax.process_count() == 1:
            return stop.signal is not None
        if self.step % self.config.train.log_every:
            return False
        return bool(np.any(multihost_utils.process_allgather(np.asarray(stop.signal is not None))))

    def _leave(self, stop: "StopRequest") -> None:
        """Write a checkpoint and end the program, with the exit status that shells expect."""
        self._save_now()
        print(
            f"\nstopped after step {self.step} of {self.total_steps}; a checkpoint is in {self.workdir}. "
            "The same command again goes on from there.",
            file=sys.stderr,
        )
        raise SystemExit(128 + (stop.signal or signal.SIGTERM))

    def finish(self) -> Report:
        """Evaluate as the configuration says, write the report and print the last line."""
        evaluation, data = self.config.evaluation, self.config.data
        protocol = views(evaluation, data.crop_size)
        report = self.report if protocol == views(single_view(evaluation), data.crop_size) else None
        report = report or self._evaluate(evaluation)
        if self.is_first_process:
            for note in (undecoded_note(self.failures.names), undecoded_note(report.undecoded)):
                print(note, end="\n" if note else "")
            # First of all: nothing that fails below takes it away.
            print(f"{report}{self._better_checkpoint()}", flush=True)
            report.write(self.workdir, step=self.step, views=protocol)
            self.recorder.plot()
        return report

    def _better_checkpoint(self) -> str:
        """Return what the last line of a run adds where an earlier checkpoint did better on one view of each video."""
        best, last = self.recorder.best, self.recorder.last
        if best is None or last is None or best.top1 <= last.top1:
            return ""
        return f"; the best checkpoint had {best}: --checkpoint best takes it"


class StopRequest:
    """Turns the first SIGINT or SIGTERM within a ``with`` block into a wish; a second one ends the program at once.

    Attributes:
      signal: number of the signal, or None.
    """

    def __init__(self) -> None:
        """Start without a wish."""
        self.signal: int | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        """Listen; only the main thread of a program can. A signal that the program ignores stays ignored."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()
        print("\nstopping after this step; once more to stop at once", file=sys.stderr)

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def __exit__(self, *exception: object) -> None:
        """Put back what was listening before."""
        self._restore()
