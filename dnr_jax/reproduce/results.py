"""Finished runs, as lines of a file that several processes and machines append to."""

import contextlib
import dataclasses
import datetime
import functools
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterable
from typing import Any

import filelock
import jax
import numpy as np

import dnr_jax
from dnr_jax.config import ConfigError
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.reproduce.experiments import Run, fingerprint_of
from dnr_jax.runs.folder import read_config

RESULTS_FILE = "results.jsonl"


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
      fingerprint: of what was declared: :attr:`dnr_jax.reproduce.experiments.Run.fingerprint`.
      declared: what that is of.
      seed: of the run.
      top1: share of the validation videos that were right.
      videos: number of validation videos.
      correct: ``1`` for each of them that was right and ``0`` for the others, in the order of their names.
      steps: of training.
      seconds: of training and validation, over all parts of an interrupted run.
      finished: when, in UTC.
      device: what it ran on.
      versions: of this package, JAX and what computes for it, and Flax; of a checkout of this package also its
        ``commit``, with ``+`` where files differ from it. Another version, or another processor, may round differently,
        after which a run of the same seed is another one.
      together: runs that were trained at once and had these seconds together, this one included.
    """

    fingerprint: str
    declared: dict[str, Any]
    seed: int
    top1: float
    videos: int
    correct: str
    steps: int
    seconds: float
    finished: str
    device: str
    versions: dict[str, str]
    together: int = 1

    @property
    def key(self) -> tuple[str, int]:
        """What no two lines of a file have in common: fingerprint and seed."""
        return self.fingerprint, self.seed

    def right(self) -> np.ndarray:
        """Return which validation videos were right: bool ``[videos]``."""
        return np.array(list(self.correct)) == "1"


def make_result(run: Run, report: Report, workdir: pathlib.Path, together: int = 1) -> Result:
    """Return the line of a run that has just ended, of its report and of the records in its folder.

    Args:
      run: the run.
      report: its evaluation.
      workdir: its folder.
      together: runs that were trained at once, this one included.
    """
    right = dict.fromkeys(report.undecoded, False) | dict(
        zip(report.names, report.scores.argmax(1) == report.labels, strict=True)
    )
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return Result(
        fingerprint=run.fingerprint,
        declared=run.declared(),
        seed=run.seed,
        top1=float(np.mean([*right.values()])),
        videos=len(right),
        correct="".join(str(int(right[name])) for name in sorted(right)),
        steps=max(row["step"] for row in rows),
        seconds=round(sum(row["time"]["seconds"] for row in rows), 1),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        device=describe_device(),
        versions=versions(),
        together=together,
    )


def measured_hours(workdir: pathlib.Path) -> float | None:
    """Return how many hours the whole of a run takes, by the median rate of the steps in its records; None without."""
    file = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    steps = [row for row in rows if row["kind"] == "train"]
    if not steps:
        return None
    train, last = read_config(workdir).train, steps[-1]
    total = train.steps or train.epochs * last["step"] / last["epoch"]
    rate = float(np.median([row["time"]["clips_per_second"] for row in steps]))
    return total * train.batch_size / rate / 3600


def describe_device() -> str:
    """Return what runs are done on: kind and number of devices, and the processor of a machine without accelerators."""
    devices = jax.devices()
    kind = f"{len(devices)} x {devices[0].device_kind}"
    if devices[0].platform != "cpu":
        return kind
    return ", ".join(filter(None, (kind, platform.machine(), _processor(), f"{os.cpu_count()} cores")))


def _processor() -> str:
    """Return the name of the processor where Linux tells it."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return ""


@functools.cache
def versions() -> dict[str, str]:
    """Return what the ``versions`` of a :class:`Result` of this process are."""
    found = {"dnr_jax": dnr_jax.__version__} | {
        package: importlib.metadata.version(package) for package in ("jax", "jaxlib", "flax")
    }
    if commit := _git("rev-parse", "--short=12", "HEAD"):
        found["commit"] = commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    return found


def _git(*command: str) -> str:
    """Return what git says of the checkout that this package is imported from; empty where it is none."""
    root = pathlib.Path(dnr_jax.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(("git", "-C", str(root), *command), capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def append(file: pathlib.Path, result: Result) -> None:
    """Add a line, unless there is one of the same run; other processes wait meanwhile. A line cut off gives way."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(file.with_suffix(".lock")):
        if result.key in by_key(read(file)):
            return
        with file.open("ab+") as lines:
            lines.seek(0)
            lines.truncate(lines.read().rfind(b"\n") + 1)
            lines.write(json.dumps(dataclasses.asdict(result)).encode() + b"\n")
            lines.flush()
            os.fsync(lines.fileno())


def read(*files: pathlib.Path) -> list[Result]:
    """Return the finished runs in files, each once; a file that is not there holds none.

    Raises:
      ConfigError: for a line that is no result, contradicts itself, or does not go with the lines before it; the last
        one may be cut off, as a full disk leaves it.
    """
    found: dict[tuple[str, int], Result] = {}
    videos: dict[str, int] = {}
    for file in files:
        lines = file.read_text().split("\n") if file.is_file() else []
        for number, line in enumerate(lines[:-1], 1):
            try:
                result = _parse(line)
                _compare(result, found.get(result.key), videos.setdefault(_fold_of(result), result.videos))
            except (ValueError, TypeError) as error:
                raise ConfigError(
                    f"{file}, line {number} is no result of 'dnr reproduce' that can count ({error})"
                ) from error
            found.setdefault(result.key, result)
    return list(found.values())


def _parse(line: str) -> Result:
    """Return the result of a line; raises ValueError or TypeError for one that is none or contradicts itself."""
    result = Result(**json.loads(line))
    if type(result.seed) is not int:
        raise ValueError(f"the seed {result.seed!r} is no integer")
    if not isinstance(result.correct, str) or not result.correct or set(result.correct) - {"0", "1"}:
        raise ValueError("'correct' has to be a 0 or a 1 for each video")
    if len(result.correct) != result.videos:
        raise ValueError(f"'correct' is of {len(result.correct)} videos, not of {result.videos}")
    if not math.isclose(result.top1, result.correct.count("1") / result.videos, abs_tol=1e-9):
        raise ValueError(f"top1 is {result.top1}, the mean of 'correct' {result.correct.count('1') / result.videos}")
    if fingerprint_of(result.declared) != result.fingerprint:
        raise ValueError(f"{result.fingerprint} is not the fingerprint of what is declared")
    return result


def _fold_of(result: Result) -> str:
    """Return what results of the same validation videos have in common."""
    return json.dumps([result.declared.get(name) for name in ("scale", "data", "knobs", "fold")], sort_keys=True)


def _compare(result: Result, before: Result | None, videos: int) -> None:
    """Raise ValueError where a result differs from that of the same run, or from others in how many videos there are.

    Two runs of the same seed may differ, by rounding; which of them counts has to be somebody's choice.
    """
    if before and before.correct != result.correct:
        raise ValueError(f"the run {result.fingerprint} with seed {result.seed} is there with another outcome already")
    if result.videos != videos:
        raise ValueError(f"it is of {result.videos} videos, lines before it of the same data and fold of {videos}")


def by_key(results: Iterable[Result]) -> dict[tuple[str, int], Result]:
    """Return results by fingerprint and seed."""
    return {result.key: result for result in results}
