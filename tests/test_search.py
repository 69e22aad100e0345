"""``dnr sweep --search``, without training."""

import pathlib
import shlex
from typing import Annotated

import pytest
from annotated_types import Ge

from dnr_jax import cli, search, sweep_command
from dnr_jax.config import ConfigError
from dnr_jax.evaluation import outputs
from dnr_jax.search import Range, read_range
from dnr_jax.sweep_command import plan, plan_search
from tests.report.made import write_run

RATES = "optimizer.learning_rate=0.001..0.5:log"
SIZES = "train.batch_size=8,16"
STEPS = "train.steps=10..99"


def planned(out: pathlib.Path, *over: str, seeds: int = 1, fields: tuple[str, ...] = ()) -> sweep_command.Space:
    return plan_search("demo", fields, over, seeds, out)


@pytest.fixture
def trained(monkeypatch):
    """Runs that are trained, whose top-1 is their learning rate; ``fails`` has the status of some, by their number."""
    trials, fails = [], {}

    def train(trial):
        trials.append(trial)
        status = fails.pop(len(trials), 0)
        if not status:
            folder = next(word for word in trial.words if word.startswith("--workdir=")).partition("=")[2]
            write_run(pathlib.Path(folder), trial.config, trial.config.optimizer.learning_rate)
        return status

    monkeypatch.setattr(sweep_command, "_train", train)
    return trials, fails


@pytest.mark.parametrize(
    "text, kind, expected",
    [
        ("0.001..0.1:log", float, Range(0.001, 0.1, log=True)),
        ("-1..5e-1", Annotated[float, Ge(-1)] | None, Range(-1.0, 0.5)),
        ("8..64:log", Annotated[int, Ge(1)], Range(8, 64, log=True)),
        ("8,16", int, None),
        ("1..2", str, None),
        ("../videos,../more", str, None),
    ],
)
def test_ranges_are_those_of_the_field(text, kind, expected):
    found = read_range(text, kind)
    assert found == expected
    assert found is None or type(found.low) is type(expected.low) and type(found.high) is type(expected.high)


@pytest.mark.parametrize(
    "text, kind, message",
    [
        ("0.1..", float, r"'0.1..' is no range; expected LOW..HIGH"),
        ("0..1,5", float, "is no range"),
        ("0..1:lin", float, "is no range"),
        ("1..2.5", int, "expected ends that are a whole number"),
        ("1..1", int, "is empty; expected the lower number first"),
        ("0.5..0.1", float, "is empty"),
        ("0..1:log", float, "has no logarithm; expected a lower end above 0"),
    ],
)
def test_ranges_that_there_cannot_be_are_refused(text, kind, message):
    with pytest.raises(ConfigError, match=message):
        read_range(text, kind)


def test_numbers_are_short_and_within_their_range():
    assert Range(0.0, 1.0).written(0.123456789) == "0.123457"
    assert Range(0.0, 0.123456789).written(0.123456789) == "0.123456789"
    assert Range(1, 9).written(3) == "3"
    assert Range(1e-6, 1.0, log=True).ends == ("1e-06", "1.0")


@pytest.mark.parametrize(
    "over, message",
    [
        ((), "has nothing to choose"),
        (("train.seed=1,2",), "expected --seeds N"),
        (("optimizer.learning_rat=0..1",), "--over optimizer.learning_rat: .*did you mean 'learning_rate'"),
        (("optimizer.learning_rate=0.1..",), "--over optimizer.learning_rate: '0.1..' is no range"),
        (("train.batch_size=0..8",), "with train.batch_size=0: .*batch_size"),
        ((RATES, "train.batch_size=8,0"), "train.batch_size=0: .*batch_size"),
        (("train.batch_size=8,8",), "two runs are the same"),
        ((RATES, RATES), "is given twice"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_trained(over, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        planned(tmp_path / "out", *over)
    assert not (tmp_path / "out").exists()


def test_a_range_without_search_says_what_it_is_for(tmp_path):
    with pytest.raises(ConfigError, match="ranges are for --search N"):
        plan("demo", (), (RATES,), 1, tmp_path)


def test_a_setting_is_trained_with_each_seed_and_can_be_repeated(tmp_path):
    space = planned(tmp_path, RATES, SIZES, seeds=2, fields=("--config.train.steps=7",))
    values = {"optimizer.learning_rate": "0.01", "train.batch_size": "16"}
    trials = space.trials(values)
    assert [trial.name for trial in trials] == [f"learning_rate=0.01,batch_size=16/seed{seed}" for seed in (0, 1)]
    assert {(trial.config.train.batch_size, trial.config.train.steps) for trial in trials} == {(16, 7)}
    assert shlex.join(space.command(values)) == (
        "train --config=demo --config.train.steps=7 --config.optimizer.learning_rate=0.01 --config.train.batch_size=16"
    )


def test_other_fields_seeds_or_ranges_are_another_search(tmp_path):
    first = planned(tmp_path, RATES, SIZES)
    assert planned(tmp_path, SIZES, RATES).fingerprint == first.fingerprint
    others = [
        planned(tmp_path, RATES, SIZES, seeds=2),
        planned(tmp_path, RATES, SIZES, fields=("--config.train.steps=7",)),
        planned(tmp_path, RATES, "train.batch_size=8,32"),
    ]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_the_score_is_the_mean_over_seeds_and_failures_have_none(tmp_path, trained, monkeypatch):
    _, fails = trained
    space = planned(tmp_path, RATES, seeds=2)
    assert sweep_command._score(space, {"optimizer.learning_rate": "0.25"}) == (0.25, {})
    folder = tmp_path / "learning_rate=0.25"
    (folder / "seed1" / outputs.REPORT_FILE).write_text('{"top1": 0.75}')
    assert sweep_command._score(space, {"optimizer.learning_rate": "0.25"}) == (0.5, {})
    for empty in ("{}", '{"top1": 0.0, "videos": 0}'):
        (folder / "seed1" / outputs.REPORT_FILE).write_text(empty)
        assert sweep_command._score(space, {"optimizer.learning_rate": "0.25"}) == (
            None,
            {"learning_rate=0.25/seed1": "its evaluation has no top-1"},
        )
    fails[3] = 2
    assert sweep_command._score(space, {"optimizer.learning_rate": "0.125"}) == (
        None,
        {"learning_rate=0.125/seed0": "exit status 2"},
    )
    score, (refused,) = sweep_command._score(space, {"optimizer.learning_rate": "-1"})
    assert score is None and "learning_rate" in refused


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    words = ["sweep", "--config", "demo", "--over", RATES, "--search", "2", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "pip install 'dnr-jax[search]'" in capsys.readouterr().err
    assert cli.main([*words, "--print"]) == 2
    assert "--print goes without --search" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_search_goes_on_as_if_it_had_not_been_interrupted(tmp_path, trained, capsys):
    pytest.importorskip("optuna", reason="optuna is not installed")
    trials, fails = trained

    def run(out, number):
        over = [word for axis in (RATES, SIZES, STEPS) for word in ("--over", axis)]
        return cli.main(["sweep", "--config", "demo", *over, "--search", str(number), "--out", str(tmp_path / out)])

    assert run("whole", 14) == 0  # the first ten are at random
    told = capsys.readouterr().out
    whole = list(trials)
    configs = [trial.config for trial in whole]
    assert len({trial.name for trial in whole}) == 14
    assert {config.train.batch_size for config in configs} == {8, 16}
    assert all(0.001 <= config.optimizer.learning_rate <= 0.5 and 10 <= config.train.steps <= 99 for config in configs)
    best = max(whole, key=lambda trial: trial.config.optimizer.learning_rate)
    assert f"best of 14: optimizer.learning_rate={best.config.optimizer.learning_rate!r}, " in told
    assert f"dnr train --config=demo {shlex.join(best.words[4:])}" in told
    assert (tmp_path / "whole" / "compare.html").is_file()

    trials.clear()
    fails[3] = 130
    assert run("halves ?#%20", 5) == 130
    assert run("halves ?#%20", 12) == 0 and run("halves ?#%20", 14) == 0
    names = [trial.name for trial in trials]
    assert names[2] == names[3] and names[:3] + names[4:] == [trial.name for trial in whole]
    assert run("halves ?#%20", 14) == 0 and len(trials) == 15

    trials.clear()
    fails[2] = 2
    assert run("failing", 3) == 1
    told = capsys.readouterr()
    assert f"failed: {whole[1].name} (exit status 2); the same command tries another setting" in told.err
    assert "best of 2: " in told.out
    assert run("failing", 3) == 0
    assert [trial.name for trial in trials][:3] == [trial.name for trial in whole][:3]
    assert len({trial.name for trial in trials}) == 4
