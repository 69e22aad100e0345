"""Doing runs: in order, each once, by any number of processes in one folder, until all are done or the time is up."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence

import filelock
import jax

from dnr_jax.config import ConfigError, ExperimentConfig, RunError
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.reproduce import results
from dnr_jax.reproduce.experiments import Run, make_config, why_not
from dnr_jax.reproduce.tables import Row
from dnr_jax.runs.checkpoint import CHECKPOINTS_FOLDER
from dnr_jax.training.loop import train
from dnr_jax.training.metrics import NonFiniteError
from dnr_jax.training.together import Ended, train_together


@dataclasses.dataclass(frozen=True)
class Job:
    """A run that is wanted, and the row that wants it.

    Attributes:
      run: the run.
      row: the first row that it is of.
      label: of the run, for people.
    """

    run: Run
    row: Row
    label: str


@dataclasses.dataclass
class Outcome:
    """What became of a queue.

    Attributes:
      done: runs that were finished by this process.
      failed: what could not be done, with the reason.
      busy: runs that another process is at.
      stopped: signal that ended the queue, or None.
    """

    done: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)
    busy: int = 0
    stopped: int | None = None


def with_starts(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs, each once and behind the one that it starts from."""
    ordered: dict[tuple[str, int], Job] = {}
    for job in jobs:
        if start := job.run.start:
            first = Job(start, dataclasses.replace(job.row, start="", skipped=""), f"{job.label}, first part")
            ordered.setdefault((start.fingerprint, start.seed), first)
        ordered.setdefault((job.run.fingerprint, job.run.seed), job)
    return list(ordered.values())


def work(
    jobs: Sequence[Job], out: pathlib.Path, data: str, seconds: float | None = None, vmap: bool = False
) -> Outcome:
    """Do jobs, those that are finished or that another process is at left out.

    Args:
      jobs: in the order of :func:`with_starts`.
      out: folder of the results; the runs are in ``runs/`` below it, generated videos in ``data/``.
      data: folder of the data that is not generated.
      seconds: after which to stop, with a checkpoint; None: when all is done.
      vmap: whether runs that differ in their seeds alone are trained at once.
    """
    outcome, place = Outcome(), _Place(out, data, _wanted_starts(jobs, out / results.RESULTS_FILE))
    position = {job.run.name: number for number, job in enumerate(jobs, 1)}
    with _leaving_at_once(outcome), _alarm(seconds):
        for group in _of_one_network(jobs) if vmap else [[job] for job in jobs]:
            left = [job for job in group if not place.is_done(job)]
            lines = [f"[{position[job.run.name]}/{len(jobs)}] {job.label}" for job in left]
            for line in ["", *lines] if lines else []:
                print(line, flush=True)
            _do(left, place, outcome, vmap)
    return outcome


def _of_one_network(jobs: Sequence[Job]) -> list[list[Job]]:
    """Return jobs that differ in their seeds alone side by side, in the order of the first of each."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.run.fingerprint, []).append(job)
    return list(groups.values())


def _wanted_starts(jobs: Sequence[Job], file: pathlib.Path) -> frozenset[str]:
    """Return the names of the runs that runs which are not finished start from."""
    finished = results.by_key(results.read(file))
    return frozenset(
        job.run.start.name for job in jobs if job.run.start and (job.run.fingerprint, job.run.seed) not in finished
    )


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where jobs are done.

    Attributes:
      out: folder of the results.
      data: folder of the data that is not generated.
      starts: names of the runs whose checkpoint others start from.
    """

    out: pathlib.Path
    data: str
    starts: frozenset[str]

    @property
    def file(self) -> pathlib.Path:
        """The file of the results."""
        return self.out / results.RESULTS_FILE

    @property
    def runs(self) -> pathlib.Path:
        """The folder of all runs."""
        return self.out / "runs"

    def workdir(self, job: Job) -> pathlib.Path:
        """Return the folder of a job's run."""
        return self.runs / job.run.name

    def is_finished(self, job: Job) -> bool:
        """Return whether a job's run has its line."""
        return (job.run.fingerprint, job.run.seed) in results.by_key(results.read(self.file))

    def is_done(self, job: Job) -> bool:
        """Return whether nothing is left to do: the run is finished, and has a checkpoint where others need it."""
        has_checkpoint = (self.workdir(job) / CHECKPOINTS_FOLDER).is_dir()
        return self.is_finished(job) and (job.run.name not in self.starts or has_checkpoint)

    def tidy(self, job: Job) -> None:
        """Remove the checkpoints of a finished run, unless another run starts from it."""
        if job.run.name not in self.starts and self.is_finished(job):
            shutil.rmtree(self.workdir(job) / CHECKPOINTS_FOLDER, ignore_errors=True)


@dataclasses.dataclass
class _Ready:
    """A job that this process has claimed.

    Attributes:
      job: the job.
      config: of its run.
      workdir: of its run.
      ended: whether it was finished or has failed.
    """

    job: Job
    config: ExperimentConfig
    workdir: pathlib.Path
    ended: bool = False


def _do(jobs: Sequence[Job], place: _Place, outcome: Outcome, at_once: bool) -> None:
    """Do jobs that differ in their seeds alone, those left out that another process is at.

    Where they are done at once they are one process's, so that several do not take a seed each.
    """
    with contextlib.ExitStack() as claims:
        if at_once and jobs and not _is_locked(place.runs / jobs[0].run.fingerprint, claims):
            outcome.busy += len(jobs)
            print("another process is at these", flush=True)
            return
        ready: list[_Ready] = []
        for job in jobs:
            with _noting(job, outcome):
                if _claim(job, place, claims, outcome):
                    claims.callback(place.tidy, job)
                    workdir = place.workdir(job)
                    ready.append(_Ready(job, make_config(job.run, place.data, workdir.parent), workdir))
        _train(ready, place, outcome)


def _claim(job: Job, place: _Place, claims: contextlib.ExitStack, outcome: Outcome) -> bool:
    """Return whether a job is this process's; raises ConfigError where it cannot be done here."""
    if problem := why_not(job.run, job.row, place.data):
        raise ConfigError(f"skipped: {problem}")
    if not _is_locked(place.workdir(job), claims):
        outcome.busy += 1
        print("another process is at it", flush=True)
        return False
    return not place.is_done(job)


def _is_locked(path: pathlib.Path, claims: contextlib.ExitStack) -> bool:
    """Return whether the lock of a path was free, and is this process's now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        claims.enter_context(filelock.FileLock(path.with_suffix(".lock"), blocking=False))
    except filelock.Timeout:
        return False
    return True


def _train(ready: Sequence[_Ready], place: _Place, outcome: Outcome) -> None:
    """Train runs, as many of them at once as fit into the memory of the devices."""

    def ended(number: int, found: Report | Exception) -> None:
        one = ready[number]
        one.ended = True
        with _noting(one.job, outcome):
            if isinstance(found, Exception):
                raise found
            results.append(place.file, results.make_result(one.job.run, found, one.workdir, len(ready)))
            outcome.done += 1
            if len(ready) > 1:
                print(f"{one.job.label}: {found}", flush=True)

    if len(ready) == 1:
        with _noting(ready[0].job, outcome):
            ended(0, train(ready[0].config, ready[0].workdir))
    elif ready and not _fit(ready, ended):
        left = [one for one in ready if not one.ended]
        half = -(-len(left) // 2)
        print(f"{len(ready)} runs at once do not fit into the devices' memory: {half} at once", flush=True)
        for part in (left[:half], left[half:]):
            _train(part, place, outcome)


def _fit(ready: Sequence[_Ready], ended: Ended) -> bool:
    """Train runs at once; return False where they do not fit into memory. What they took is free again by then."""
    try:
        train_together([one.config for one in ready], [one.workdir for one in ready], ended)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return False
    except RunError as error:  # of what they share, such as a disk that is full
        for number, one in enumerate(ready):
            if not one.ended:
                ended(number, error)
    return True


@contextlib.contextmanager
def _noting(job: Job, outcome: Outcome) -> Iterator[None]:
    """Take note of what cannot be done within a ``with`` block, so that it costs none of the others."""
    try:
        yield
    except (ConfigError, RunError, NonFiniteError) as error:
        outcome.failed.append(f"{job.label}: {error}")
        print(f"dnr reproduce: {job.label}: {error}", flush=True)


@contextlib.contextmanager
def _leaving_at_once(outcome: Outcome) -> Iterator[None]:
    """End a ``with`` block at SIGINT or SIGTERM; while steps are taken, the trainer writes a checkpoint before that."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit as leaving:
        outcome.stopped = int(leaving.code or 0) - 128
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Ask this process to stop after some time, as SIGTERM does."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
