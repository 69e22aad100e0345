"""How fast a run is: how long the rest will take, and whether the devices wait for input."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from dnr_jax.config import DataConfig
from dnr_jax.data.clips.cores import available_cores
from dnr_jax.data.clips.pipeline import threads_and_workers
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.training.hooks import Hook, Row

if TYPE_CHECKING:
    from dnr_jax.training.trainer import Trainer

STEPS = 20
"""Steps after which a pace is believed."""
_STARVED, _SECONDS = 0.3, 10.0
"""Share of the time spent waiting for input from which on a warning is due, and seconds that it takes to tell."""


class Pace(Hook):
    """Prints once how long the rest of the run will take, and warns once where the input cannot keep up."""

    def __init__(self, say: Callable[[str, TextIO], None]):
        """Print with ``say``, which gets a text and the stream that it is for."""
        self._say = say
        self._begun = 0
        self._since = 0.0
        self._waited = self._worked = 0.0
        self._warned = False

    def start(self, trainer: Trainer) -> None:
        """Count the steps of this call."""
        self._begun = trainer.step

    def after_step(self, trainer: Trainer) -> None:
        """Print the expected time after some steps; the first of them, which is compiled, does not count."""
        taken, left = trainer.step - self._begun, trainer.total_steps - trainer.step
        if taken == 1:
            self._since = time.monotonic()
        if taken == STEPS and left:
            seconds = (time.monotonic() - self._since) / (STEPS - 1)
            self._say(f"{'time':<14} {expected(seconds, left, datetime.datetime.now())}", sys.stdout)

    def before_evaluation(self, trainer: Trainer) -> None:
        """Leave the evaluation out."""
        self._since -= time.monotonic()

    def after_evaluation(self, trainer: Trainer, report: Report) -> None:
        """Count on."""
        self._since += time.monotonic()

    def after_row(self, trainer: Trainer, row: Row) -> None:
        """Warn where the devices waited for input for long; rows with the compile in them do not count."""
        if self._warned or row.kind != "train" or row.step - self._begun <= STEPS:
            return
        self._waited += row.times["input"]
        self._worked += row.times["step"]
        total = self._waited + self._worked
        if total >= _SECONDS and self._waited > _STARVED * total:
            self._warned = True
            text = starved(self._waited / total, trainer.config.data, available_cores())
            self._say(f"WARNING: {text}", sys.stderr)


def expected(seconds: float, left: int, now: datetime.datetime) -> str:
    """Return how long ``left`` steps will take at ``seconds`` a step, and until when."""
    total = datetime.timedelta(seconds=seconds * left)
    until = now + total
    day = "" if until.date() == now.date() else f"{until:%Y-%m-%d} "
    return f"about {spoken(total)} for the {left} steps that are left, beside evaluations: until {day}{until:%H:%M}"


def spoken(duration: datetime.timedelta) -> str:
    """Return a duration in the two largest units that it has: ``2 d 3 h``, ``3 h 20 min``, ``4 min``, ``40 s``."""
    minutes, seconds = divmod(round(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes >= 5 else f"{60 * minutes + seconds} s"


def starved(share: float, data: DataConfig, cores: int) -> str:
    """Return what to say where the devices wait for input, and what to change."""
    threads, workers = threads_and_workers(data, cores)
    changes = []
    if threads * max(workers, 1) < cores:
        changes.append(f"data.num_threads={cores // max(workers, 1)}, for {cores} cores")
    if not workers and cores >= 16:
        changes.append("data.num_workers=-1, which decodes in processes")
    size = data.short_side or data.crop_size
    changes.append(f"'dnr prepare' with '--reencode access --size {size}', whose videos are decoded sooner")
    decoding = f"{threads} decoding threads in {f'each of {workers} workers' if workers else 'this process'}"
    return (
        f"the devices wait for input {share:.0%} of the time, with {decoding}. What helps: {'; '.join(changes)}; a "
        "smaller data.short_side"
    )
