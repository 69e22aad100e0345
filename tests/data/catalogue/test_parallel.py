import concurrent.futures
import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from dnr_jax.config import RunError
from dnr_jax.data.catalogue import parallel
from dnr_jax.data.catalogue.parallel import ordered_map


def double(number: int) -> int:
    return 2 * number


def double_or_die(number: int) -> int:
    if number in (3, 11):
        os._exit(1)  # as a decoder that crashes does
    return 2 * number


def refuse(number: int) -> int:
    raise ValueError(f"not {number}")


def double_or_hang(number: int) -> int:
    if number == 2:
        time.sleep(100)
    return 2 * number


def blocks_interrupts(number: int) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def lost(number: int, reason: str) -> str:
    return f"{number}: {reason}"


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
    assert list(ordered_map(double, range(20), workers, lost)) == list(range(0, 40, 2))
    assert list(ordered_map(double, [], workers, lost)) == []


def test_interruptions_are_left_to_the_first_process():
    assert list(ordered_map(blocks_interrupts, [0], 2, lost)) == [True]
    assert not blocks_interrupts(0)


def test_an_item_that_ends_its_process_costs_itself_only():
    expected = [f"{n}: the process that read it died" if n in (3, 11) else 2 * n for n in range(16)]
    assert list(ordered_map(double_or_die, iter(range(16)), 2, lost)) == expected


def test_an_item_that_hangs_its_process_costs_itself_only():
    """The limit counts from when a process begins with an item, which is not before the process has started."""
    results = list(ordered_map(double_or_hang, range(6), 2, lost, time_limit=1.5))
    assert results == [0, 2, "2: reading it took longer than 1.5 seconds", 6, 8, 10]


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_are_raised_here(workers):
    with pytest.raises(ValueError, match="not 0"):
        list(ordered_map(refuse, range(3), workers, lost))


def test_items_are_taken_as_they_are_needed():
    """So that neither videos nor results pile up in memory."""
    taken = []
    results = ordered_map(double, (taken.append(n) or n for n in range(100)), 2, lost)
    assert next(results) == 0 and len(taken) <= 8
    results.close()
    assert len(taken) <= 8 and threading.active_count() < 50


class BrokenPool:
    """A pool that tells how its processes cannot start, at once or in its futures, as pebble's does either."""

    def __init__(self, error: Exception, at_once: bool):
        self.error, self.at_once = error, at_once

    def schedule(self, function, **options) -> concurrent.futures.Future:
        if self.at_once:
            raise self.error
        future = concurrent.futures.Future()
        future.set_exception(self.error)
        return future

    def stop(self) -> None:
        pass

    def join(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "at_once"),
    [
        (BrokenPipeError("a pipe"), True),
        (RuntimeError("the pool is broken"), True),
        (BrokenProcessPool("no process"), False),
    ],
)
def test_processes_that_cannot_start_are_told_in_a_sentence(error, at_once, monkeypatch):
    monkeypatch.setattr(parallel, "ProcessPool", lambda *_, **__: BrokenPool(error, at_once))
    with pytest.raises(RunError, match=f"the processes that read the videos cannot start .{error}.*--workers 1"):
        list(ordered_map(double, range(6), 2, lost))
