"""Runs that are trained at once: each as if it were alone, and none at the cost of another."""

import dataclasses
import json
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import ConfigError
from dnr_jax.training import together
from dnr_jax.training.ema import EMA
from dnr_jax.training.metrics import NonFiniteError
from dnr_jax.training.together import make_joint_step, step_together, train_together
from tests.training import tiny


class Counter:
    """A trainer whose steps add up what its batches hold: its seed."""

    def __init__(self, seed: int, step: int = 0, fails_at: int = 0, signals_at: int = 0):
        self.state, self.step, self.seed = jnp.float32(0), step, seed
        self.fails_at, self.signals_at = fails_at, signals_at
        self.closed = self.stopped = False

    @staticmethod
    def take_step(state, batch):
        return state + batch, {"loss": 10 * batch}

    def course(self, stop):
        try:
            while self.step < 4:
                self.state, self.metrics = yield jnp.float32(self.seed)
                self.step += 1
                if self.step == self.fails_at:
                    raise NonFiniteError("the loss is nan")
                if self.step == self.signals_at:
                    signal.raise_signal(signal.SIGTERM)
                if stop.signal:
                    self.stopped = True
                    raise SystemExit(128 + stop.signal)
            return f"report {self.seed}"
        finally:
            self.closed = True


def step(*counters: Counter) -> dict[int, object]:
    """Step counters together; return what became of them."""
    became: dict[int, object] = {}
    step_together(dict(enumerate(counters)), lambda number, found: became.update({number: found}))
    return became


def test_each_run_has_its_own_batches_state_and_metrics():
    one, two = Counter(1), Counter(2)
    assert step(one, two) == {0: "report 1", 1: "report 2"}
    assert (float(one.state), float(two.state)) == (4, 8)
    assert (float(one.metrics["loss"]), float(two.metrics["loss"])) == (10, 20)


def test_runs_that_are_behind_catch_up():
    ahead, behind = Counter(1, step=3), Counter(2)
    assert step(ahead, behind) == {0: "report 1", 1: "report 2"}
    assert (float(ahead.state), float(behind.state)) == (1, 8)


def test_runs_that_have_nothing_left_have_a_report():
    assert step(Counter(1, step=4), Counter(2)) == {0: "report 1", 1: "report 2"}


def test_a_run_that_fails_leaves_the_others_to_go_on():
    one, two, three = Counter(1), Counter(2, fails_at=2), Counter(3)
    became = step(one, two, three)
    assert (became[0], became[2]) == ("report 1", "report 3")
    assert isinstance(became[1], NonFiniteError)
    assert (float(one.state), two.step, float(three.state)) == (4, 2, 12)


def test_a_signal_stops_all_runs_after_the_same_step():
    one, two = Counter(1), Counter(2, signals_at=2)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        step(one, two)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert (one.step, two.step, one.stopped, two.stopped) == (3, 3, True, True)
    assert signal.getsignal(signal.SIGTERM) is before


def test_whatever_ends_them_all_runs_are_closed():
    one, two = Counter(1), Counter(2)
    one.take_step = lambda state, batch: 1 / 0
    with pytest.raises(ZeroDivisionError):
        step(one, two)
    assert one.closed and two.closed


def test_a_single_run_takes_its_own_step():
    (taken,) = make_joint_step(lambda state, batch: ("its own", batch))(["state"], ["batch"])
    assert taken == ("its own", "batch")


def test_a_run_that_cannot_begin_leaves_the_others_to(tmp_path, monkeypatch):
    def opened(config, workdir, **_):
        raise ConfigError(f"{workdir} is in use")

    monkeypatch.setattr(together, "opened", opened)
    became = {}
    train_together([None, None], ["a", "b"], lambda number, found: became.update({number: str(found)}))
    assert became == {0: "a is in use", 1: "b is in use"}


@pytest.mark.slow
def test_runs_at_once_are_those_that_were_trained_alone(tmp_path, capsys):
    """Rows of losses and gradients, validation, averaged weights, precise statistics: of each seed, to rounding."""
    with tiny.known():
        videos = tiny.write_videos(tmp_path / "videos")
        averaged = tiny.tiny_config(videos, averaging=EMA(decay=0.5), precise_statistics=2, checkpoint_every=2)
        configs = [dataclasses.replace(averaged, train=dataclasses.replace(averaged.train, seed=s)) for s in (3, 4)]
        alone = [tiny.train(config, tmp_path / f"alone{number}") for number, config in enumerate(configs)]
        capsys.readouterr()
        reports = {}
        folders = [tmp_path / "at_once0", tmp_path / "at_once1"]
        train_together(configs, folders, lambda n, report: reports.update({n: report}), mesh=tiny.one_device())
    assert capsys.readouterr().out.count("starting at step 0") == 1  # the other one is quiet
    for number in range(2):
        np.testing.assert_allclose(reports[number].scores, alone[number].scores, atol=1e-5)
        rows, expected = (records(tmp_path / f"{name}{number}") for name in ("at_once", "alone"))
        assert [row.keys() for row in rows] == [row.keys() for row in expected]
        for row, other in zip(rows, expected, strict=True):
            numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
            np.testing.assert_allclose([*numbers.values()], [other[key] for key in numbers], rtol=1e-4, atol=1e-6)
        assert {path.name for path in folders[number].iterdir()} == {
            path.name for path in (tmp_path / f"alone{number}").iterdir()
        }
    assert np.abs(alone[0].scores - alone[1].scores).max() > 1e-3


def records(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
