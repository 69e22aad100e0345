"""What long work shows on the standard error stream: a bar on a terminal, now and then a line in a file.

All commands show their progress with these two: :class:`Progress` for work that can be counted, :func:`stage` for work
that cannot.
"""

import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from tqdm import tqdm

_NEXT_LINE, _NEXT_LINE_LATER, _LATER = 10.0, 60.0, 600.0
"""Seconds from line to line, in a file; the same later on; and when later is."""
_SLOW, _LONG = 1.0, 5.0
"""Seconds after which a file is told what happens, and that it has happened."""


def on_terminal() -> bool:
    """Return whether somebody watches the standard error stream on a terminal that can overwrite a line."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return False
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return True
    return min(size) > 0  # programs that run others in a terminal may give it no size, and a bar no room


_WAITING = "{desc} ... {elapsed}"
_tqdm = functools.partial(tqdm, leave=False, dynamic_ncols=True)


class Progress:
    """Counts units of work, from a ``with`` statement on to its end."""

    def __init__(
        self, total: int, description: str, unit: str, *, initial: int = 0, first: str = "", show: bool = True
    ):
        """Show that work begins.

        Args:
          total: units of work; 0: nobody knows.
          description: what is done, such as ``training``.
          unit: what is counted, in the singular.
          initial: units that were done before.
          first: what happens before the first of them is done, where that takes long.
          show: whether to show anything.
        """
        self._display: _Bar | _Lines | None = None
        if show:
            display = _Bar if on_terminal() else _Lines
            self._display = display(total, description, unit, initial, first)

    def update(self, count: int = 1) -> None:
        """Say that ``count`` more units are done."""
        if self._display:
            self._display.update(count)

    def note(self, **values: str) -> None:
        """Set what is shown behind the numbers from now on, by name."""
        if self._display:
            self._display.note(", ".join(f"{name} {value}" for name, value in values.items()))

    def print(self, text: str, file: TextIO | None = None) -> None:
        """Print a text that stays, above the bar; default: to the standard output."""
        if self._display:
            self._display.print(text, file or sys.stdout)
        else:
            print(text, file=file or sys.stdout, flush=True)

    def __enter__(self) -> "Progress":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Show how far the work has come."""
        if self._display:
            self._display.close()


class _Bar:
    """A bar that is drawn again and again in the last line of the terminal."""

    def __init__(self, total: int, description: str, unit: str, initial: int, first: str):
        self._bar = _tqdm(
            total=total or None,
            initial=initial,
            desc=f"{description}: {first}" if first else description,
            unit=unit,
            unit_scale=total > 9999,
            bar_format=_WAITING if first else None,
        )
        self._description = description
        self._ticks = _Ticks(self._bar.refresh) if first else None

    def update(self, count: int) -> None:
        if self._ticks:
            self._ticks.close()
            self._ticks = None
            self._bar.unpause()  # the rate, and what is left, are those of what follows
            self._bar.bar_format = None
            self._bar.set_description(self._description, refresh=False)
        self._bar.update(count)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)

    def print(self, text: str, file: TextIO) -> None:
        self._bar.write(text, file=file)
        file.flush()

    def close(self) -> None:
        if self._ticks:
            self._ticks.close()
        self._bar.close()


class _Lines:
    """A line now and then, and one at the end: for files, and for programs that read along."""

    def __init__(self, total: int, description: str, unit: str, initial: int, first: str):
        self._total, self._description, self._unit = total, description, unit
        self._done = self._rate_since = initial
        self._written: int | None = None
        self._note = ""
        self._start = self._rate_from = time.monotonic()
        self._due = self._start + _NEXT_LINE
        self._first = _after(_SLOW, lambda: self._write(first)) if first else None

    def update(self, count: int) -> None:
        now = time.monotonic()
        self._done += count
        if self._first:
            self._first.cancel()
            self._first = None
            self._rate_from, self._rate_since = now, self._done  # the first took longer than those that follow
        if now >= self._due:
            self._due = now + (_NEXT_LINE if now - self._start < _LATER else _NEXT_LINE_LATER)
            self._show(now)

    def note(self, text: str) -> None:
        self._note = text

    def print(self, text: str, file: TextIO) -> None:
        print(text, file=file, flush=True)

    def close(self) -> None:
        if self._first:
            self._first.cancel()
        now = time.monotonic()
        if self._written != self._done and (self._written is not None or now - self._start >= _LONG):
            self._show(now)

    def _show(self, now: float) -> None:
        """Write how many units are done, how long it took, and how long the rest will take at this rate."""
        self._written = self._done
        new, left = self._done - self._rate_since, self._total - self._done
        of = f"/{self._total}" if self._total else ""
        parts = [f"{self._done}{of} {self._unit}s", f"{tqdm.format_interval(now - self._start)} elapsed"]
        if new and left > 0:
            parts.append(f"{tqdm.format_interval((now - self._rate_from) / new * left)} left")
        self._write(", ".join([*parts, *([self._note] if self._note else [])]))

    def _write(self, text: str) -> None:
        print(f"{self._description}: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def stage(text: str, show: bool = True) -> Iterator[None]:
    """Say what happens within a ``with`` block, and on a terminal for how long already.

    Args:
      text: what happens, such as ``importing``.
      show: whether to say anything.
    """
    if not show:
        yield
    elif on_terminal():
        bar = _tqdm(desc=text, bar_format=_WAITING)
        with contextlib.closing(bar), contextlib.closing(_Ticks(bar.refresh)):
            yield
    else:
        started = time.monotonic()
        line = _after(_SLOW, lambda: print(f"{text} ...", file=sys.stderr, flush=True))
        try:
            yield
        finally:
            line.cancel()
        if (seconds := time.monotonic() - started) > _NEXT_LINE:
            print(f"{text}: {seconds:.0f} s", file=sys.stderr, flush=True)


def _after(seconds: float, call: Callable[[], Any]) -> threading.Timer:
    """Return a started timer that calls a function once, unless it is cancelled before."""
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
    return timer


class _Ticks:
    """Calls a function once a second in a thread of its own."""

    def __init__(self, call: Callable[[], Any]):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        while not self._stop.wait(1.0):
            call()

    def close(self) -> None:
        """Stop; the function is not called any more."""
        self._stop.set()
        self._thread.join()
