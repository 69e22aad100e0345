"""Work on many videos in several processes, which a video that crashes or hangs its decoder does not end."""

import collections
import concurrent.futures
import contextlib
import itertools
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from pebble import ProcessExpired, ProcessPool

from dnr_jax.config import RunError

Item = TypeVar("Item")
Result = TypeVar("Result")

TIME_LIMIT = 3600.0
"""Seconds that a worker process may take for one video: a decoder that takes longer hangs."""


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    lost: Callable[[Item, str], Result],
    time_limit: float = TIME_LIMIT,
) -> Generator[Result, None, None]:
    """Apply a function to items in worker processes, and yield the results in the order of the items.

    At most four items a worker are under way, so results do not pile up in memory.

    Args:
      function: Picklable; what it raises is raised here.
      items: Picklable.
      workers: Number of processes; 1: this one.
      lost: Makes the result of an item that ended the process which worked on it, or took too long, of the item and the
        reason. The other items are not concerned.
      time_limit: Seconds that a worker process may take for an item.

    Yields:
      The results.

    Raises:
      RunError: The processes cannot start.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    # Spawned: threads of this process (XLA's, grain's) do not survive a fork.
    pool = ProcessPool(workers, context=multiprocessing.get_context("spawn"))
    pending: collections.deque[tuple[Item, concurrent.futures.Future[Result]]] = collections.deque()
    remaining = iter(items)
    try:
        while True:
            for item in itertools.islice(remaining, 4 * workers - len(pending)):
                pending.append((item, _begin(pool, function, item, time_limit)))
            if not pending:
                return
            yield _result(*pending.popleft(), lost, time_limit)
    finally:
        pool.stop()
        pool.join()


def _begin(
    pool: ProcessPool, function: Callable[[Item], Result], item: Item, time_limit: float
) -> "concurrent.futures.Future[Result]":
    try:
        with _interrupts_blocked():
            return pool.schedule(function, args=(item,), timeout=time_limit)
    except (OSError, RuntimeError) as error:  # RuntimeError: the pool noticed before that it is broken
        raise _not_started(error) from error


def _result(
    item: Item, future: "concurrent.futures.Future[Result]", lost: Callable[[Item, str], Result], time_limit: float
) -> Result:
    try:
        return future.result()
    except ProcessExpired:
        return lost(item, "the process that read it died")
    except concurrent.futures.TimeoutError:
        return lost(item, f"reading it took longer than {time_limit:g} seconds")
    except concurrent.futures.BrokenExecutor as error:
        raise _not_started(error) from error


def _not_started(error: Exception) -> RunError:
    return RunError(
        f"the processes that read the videos cannot start ({error}); with --workers 1 there are none, and the messages "
        "above may say why"
    )


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in the threads that the pool starts here, and so in their processes, from the first import on.

    An interruption is the business of this process, which gets it a moment later.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
