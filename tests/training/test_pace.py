"""How long a run will take, and whether its input keeps up."""

import datetime
import sys
from types import SimpleNamespace

import pytest

from dnr_jax.config import DataConfig
from dnr_jax.training import pace
from dnr_jax.training.clock import Clock
from dnr_jax.training.hooks import Row
from dnr_jax.training.pace import Pace, expected, spoken, starved

NOW = datetime.datetime(2026, 3, 1, 22, 30)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def steps(hook: Pace, clock, first: int, last: int, seconds: float, total: int = 600) -> None:
    for step in range(first, last + 1):
        clock[0] += seconds
        hook.after_step(SimpleNamespace(step=step, total_steps=total))


def test_the_expected_time_leaves_compiling_and_evaluating_out(clock):
    said = []
    hook = Pace(lambda *what: said.append(what))
    hook.start(SimpleNamespace(step=100))
    steps(hook, clock, 101, 101, 60)
    steps(hook, clock, 102, 110, 2)
    hook.before_evaluation(None)
    clock[0] += 1000
    hook.after_evaluation(None, None)
    steps(hook, clock, 111, 119, 2)
    assert said == []
    steps(hook, clock, 120, 600, 2)
    ((text, stream),) = said
    assert stream is sys.stdout
    assert text.startswith("time           about 16 min for the 480 steps that are left, beside evaluations: until ")


def test_a_run_that_ends_with_the_twentieth_step_has_no_rest(clock):
    said = []
    hook = Pace(lambda *what: said.append(what))
    hook.start(SimpleNamespace(step=0))
    steps(hook, clock, 1, 20, 1, total=20)
    assert said == []


def test_the_end_is_told_with_its_day_where_that_is_another():
    assert expected(1.0, 1800, NOW) == "about 30 min for the 1800 steps that are left, beside evaluations: until 23:00"
    assert expected(1.0, 7200, NOW).endswith("until 2026-03-02 00:30")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (200, "200 s"), (300, "5 min"), (12000, "3 h 20 min"), (183600, "2 d 3 h"), (86399.7, "1 d 0 h")],
)
def test_durations_are_spoken(seconds, text):
    assert spoken(datetime.timedelta(seconds=seconds)) == text


def row(step: int, waited: float, worked: float, kind: str = "train") -> Row:
    return Row(kind, step, {}, {"input": waited, "step": worked})


def test_a_starved_device_is_told_once():
    said, trainer = [], SimpleNamespace(config=SimpleNamespace(data=DataConfig()))
    hook = Pace(lambda *what: said.append(what))
    hook.start(SimpleNamespace(step=0))
    hook.after_row(trainer, row(20, 30.0, 1.0))  # with the compile
    hook.after_row(trainer, row(40, 4.0, 4.0))  # not long enough to tell
    assert said == []
    for step in (60, 80):
        hook.after_row(trainer, row(step, 4.0, 4.0))
    ((text, stream),) = said
    assert text.startswith("WARNING: the devices wait for input 50% of the time") and stream is sys.stderr


def test_a_run_whose_input_keeps_up_is_not_warned():
    said = []
    hook = Pace(lambda *what: said.append(what))
    hook.start(SimpleNamespace(step=0))
    for step in range(40, 400, 20):
        hook.after_row(None, row(step, 2.0, 8.0))
    assert said == []


def test_what_helps_is_said_for_the_machine():
    two = starved(0.5, DataConfig(num_threads=1), cores=2)
    assert "1 decoding threads in this process. What helps: data.num_threads=2, for 2 cores; 'dnr prepare'" in two
    many = starved(0.5, DataConfig(num_threads=2, num_workers=4, short_side=0, crop_size=112), cores=8)
    assert (
        "2 decoding threads in each of 4 workers. What helps: 'dnr prepare' with '--reencode access --size 112'" in many
    )
    assert "data.num_workers=-1" in starved(0.5, DataConfig(), cores=16)


def test_the_clock_divides_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dnr_jax.training.clock.time.monotonic", lambda: now[0])
    clock = Clock()
    for activity, seconds in (("input", 1.0), ("step", 2.0), ("input", 0.5), ("evaluation", 4.0)):
        with clock.during(activity):
            now[0] += seconds
    now[0] += 0.5
    assert clock.read() == {"seconds": 8.0, "input": 1.5, "step": 2.0, "evaluation": 4.0, "checkpoint": 0.0}
    assert clock.read() == {"seconds": 0.0, "input": 0.0, "step": 0.0, "evaluation": 0.0, "checkpoint": 0.0}
