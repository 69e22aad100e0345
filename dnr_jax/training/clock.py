"""Where the time of a run goes."""

import collections
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

Activity = Literal["input", "step", "evaluation", "checkpoint"]
"""Waiting for a batch; the step, with waiting for the devices; evaluating; what writing checkpoints holds up."""


class Clock:
    """Counts the seconds of each activity, and of everything, since it was read the last time."""

    def __init__(self) -> None:
        """Start to count."""
        self._seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
        self._since = time.monotonic()

    @contextlib.contextmanager
    def during(self, activity: Activity) -> Iterator[None]:
        """Count what a ``with`` block takes as time of an activity."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds[activity] += time.monotonic() - started

    def read(self) -> Mapping[str, float]:
        """Return the ``seconds`` since the last time, and those of each activity; then start anew."""
        now = time.monotonic()
        times = {"seconds": now - self._since} | {name: self._seconds[name] for name in get_args(Activity)}
        self._seconds.clear()
        self._since = now
        return times
