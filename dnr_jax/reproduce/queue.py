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

from dnr_jax.config import ConfigError, RunError
from dnr_jax.reproduce import results
from dnr_jax.reproduce.experiments import Run, make_config, why_not
from dnr_jax.reproduce.tables import Row
from dnr_jax.runs.checkpoint import CHECKPOINTS_FOLDER
from dnr_jax.training.loop import train
from dnr_jax.training.metrics import NonFiniteError


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


def work(jobs: Sequence[Job], out: pathlib.Path, data: str, seconds: float | None = None) -> Outcome:
    """Do jobs, those that are finished or that another process is at left out.

    Args:
      jobs: in the order of :func:`with_starts`.
      out: folder of the results; the runs are in ``runs/`` below it, generated videos in ``data/``.
      data: folder of the data that is not generated.
      seconds: after which to stop, with a checkpoint; None: when all is done.
    """
    outcome, file = Outcome(), out / results.RESULTS_FILE
    started = {(job.run.start.fingerprint, job.run.start.seed) for job in jobs if job.run.start}
    with _leaving_at_once(outcome), _alarm(seconds):
        for number, job in enumerate(jobs, 1):
            key = (job.run.fingerprint, job.run.seed)
            if key in results.by_key(results.read(file)):
                continue
            print(f"\n[{number}/{len(jobs)}] {job.label}", flush=True)
            try:
                _do(job, out, data, outcome, keep=key in started)
            except (ConfigError, RunError, NonFiniteError) as error:
                outcome.failed.append(f"{job.label}: {error}")
                print(f"dnr reproduce: {job.label}: {error}", flush=True)
    return outcome


def _do(job: Job, out: pathlib.Path, data: str, outcome: Outcome, keep: bool) -> None:
    """Do one job, unless another process is at it."""
    if problem := why_not(job.run, job.row, data):
        raise ConfigError(f"skipped: {problem}")
    workdir = out / "runs" / job.run.name
    workdir.parent.mkdir(parents=True, exist_ok=True)
    claim = filelock.FileLock(workdir.with_suffix(".lock"), blocking=False)
    try:
        claim.acquire()
    except filelock.Timeout:
        outcome.busy += 1
        print("another process is at it", flush=True)
        return
    with claim:
        file = out / results.RESULTS_FILE
        if (job.run.fingerprint, job.run.seed) in results.by_key(results.read(file)):
            return
        report = train(make_config(job.run, data, workdir.parent), workdir)
        results.append(file, results.make_result(job.run, report, workdir))
        outcome.done += 1
        if not keep:
            shutil.rmtree(workdir / CHECKPOINTS_FOLDER, ignore_errors=True)


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
