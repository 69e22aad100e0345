"""Work on many videos in several processes, which a video that crashes its decoder does not end."""

import collections
import concurrent.futures
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """The number of cores that this process may use, which may be fewer than there are: job schedulers limit it."""
    # macOS has no such limit, and no such function.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    crashed: Callable[[Item], Result],
) -> Generator[Result, None, None]:
    """Applies a function to items in worker processes, and yields the results in the order of the items.

    At most four items a worker are under way, so results do not pile up in memory.

    Args:
      function: Picklable; what it raises is raised here.
      items: Picklable.
      workers: Number of processes; 1: this one.
      crashed: Makes the result of an item that ends the process which works on it. Each of the items under way at that
        time is given a process of its own, so that the others get theirs.

    Yields:
      The results.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, 1)):
        pending: collections.deque[tuple[Item, concurrent.futures.Future[Result] | None]] = collections.deque()
        with _pool(workers) as pool:
            try:
                for item in itertools.chain(batch, remaining):
                    pending.append((item, None))
                    pending[-1] = (item, _submit(pool, function, item))
                    if len(pending) >= 4 * workers:
                        yield _first(pending)
                while pending:
                    yield _first(pending)
            except BrokenProcessPool:
                pool.shutdown(cancel_futures=True)
                for item, _ in pending:
                    yield _alone(function, item, crashed)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _first(pending: "collections.deque[tuple[Item, concurrent.futures.Future[Result] | None]]") -> Result:
    """The result of the oldest item, which leaves the queue when it is there."""
    future = pending[0][1]
    assert future is not None
    result = future.result()
    pending.popleft()
    return result


def _alone(function: Callable[[Item], Result], item: Item, crashed: Callable[[Item], Result]) -> Result:
    with _pool(1) as pool:
        try:
            return _submit(pool, function, item).result()
        except BrokenProcessPool:
            return crashed(item)


def _submit(
    pool: concurrent.futures.ProcessPoolExecutor, function: Callable[[Item], Result], item: Item
) -> concurrent.futures.Future[Result]:
    """Hand an item to a pool.

    A process that is started for it inherits that Ctrl-C is blocked, from its first import on: an interruption is the
    business of this process, which gets it when the other one has started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(function, item)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    # Spawned: threads of this process (XLA's, grain's) do not survive a fork.
    return concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
