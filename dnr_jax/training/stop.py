"""Requests to stop: SIGINT and SIGTERM between two steps instead of anywhere."""

import signal
import sys
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """Turns the first SIGINT or SIGTERM within a ``with`` block into a request; a second one ends the program at once.

    Attributes:
      signal: number of the signal, or None.
    """

    def __init__(self) -> None:
        """Start without a request."""
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
