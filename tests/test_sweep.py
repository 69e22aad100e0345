"""``dnr sweep``, without training."""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from dnr_jax import cli, sweep_command
from dnr_jax.config import ConfigError
from dnr_jax.sweep_command import plan, run_trials
from tests.report.made import write_run

RATES = "optimizer.learning_rate=0.01,0.1"


def planned(out, *over: str, seeds: int = 1, fields: tuple[str, ...] = ()) -> list[sweep_command.Trial]:
    return plan("demo", fields, over, seeds, pathlib.Path(out))


@pytest.fixture
def trained(monkeypatch):
    """Names of the runs that are trained, which leave what a run leaves; those in ``fails`` end with a status."""
    names, fails = [], {}

    def train(trial):
        names.append(trial.name)
        folder = next(word for word in trial.words if word.startswith("--workdir=")).partition("=")[2]
        if trial.name not in fails:
            write_run(pathlib.Path(folder), trial.config, trial.config.optimizer.learning_rate)
        return fails.get(trial.name, 0)

    monkeypatch.setattr(sweep_command, "_train", train)
    return names, fails


def test_all_combinations_are_planned_seed_by_seed(tmp_path):
    trials = planned(tmp_path, RATES, "train.batch_size=8,16", seeds=2, fields=("--config.train.steps=7",))
    assert len(trials) == 8 and trials[0].name == "learning_rate=0.01,batch_size=8/seed0"
    assert [trial.config.train.seed for trial in trials] == [0] * 4 + [1] * 4
    last = trials[-1].config
    assert (last.optimizer.learning_rate, last.train.batch_size, last.train.steps) == (0.1, 16, 7)
    assert trials[0].words == (
        *("train", "--config=demo", f"--workdir={tmp_path / trials[0].name}", "--config.train.steps=7"),
        *("--config.train.seed=0", "--config.optimizer.learning_rate=0.01", "--config.train.batch_size=8"),
    )
    assert [trial.name for trial in planned(tmp_path, seeds=2)] == ["seed0", "seed1"]


def test_each_optimizer_of_a_sweep_has_its_own_rate(tmp_path):
    sgd, adamw = planned(tmp_path, "optimizer=SGD,AdamW")
    assert (sgd.config.optimizer.learning_rate, sgd.config.optimizer.base_batch_size) == (0.05, 8)
    assert (adamw.config.optimizer.learning_rate, adamw.config.optimizer.base_batch_size) == (0.001, 64)
    rate = "--config.optimizer.learning_rate=0.02"
    with pytest.raises(ConfigError, match="with optimizer=AdamW: .*learning_rate=0.02 stands before it"):
        planned(tmp_path, "optimizer=SGD,AdamW", fields=(rate,))


def test_commas_in_brackets_belong_to_a_value(tmp_path):
    trials = planned(tmp_path, "data.mean=(1.0,2.0,3.0),(4.0,5.0,6.0)")
    assert [trial.config.data.mean for trial in trials] == [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)]
    assert "/" not in trials[0].name.removesuffix("/seed0")


@pytest.mark.parametrize(
    "over, message",
    [
        (("optimizer.learning_rat=0.1",), r"did you mean 'learning_rate'\?"),
        (("learning_rate=0.1",), r"did you mean 'optimizer.learning_rate'\?"),
        (("optimizer.learning_rate=0.1,fast",), "with .*learning_rate=fast: .*'fast' does not fit; expected"),
        (("train.batch_size=8,0",), "with train.batch_size=0: .*batch_size"),
        (("optimizer.learning_rate",), "expected FIELD=VALUE,VALUE"),
        (("optimizer.learning_rate=0.1,",), "expected FIELD=VALUE,VALUE"),
        ((RATES, RATES), "is given twice"),
        (("optimizer.learning_rate=0.1,0.10",), "two runs are the same"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(over, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        planned(tmp_path / "out", *over)
    assert not (tmp_path / "out").exists()


def test_seeds_are_set_in_one_place(tmp_path):
    with pytest.raises(ConfigError, match="leave out one"):
        planned(tmp_path, "train.seed=3,4", seeds=2)
    with pytest.raises(ConfigError, match="--seeds is 0"):
        planned(tmp_path, seeds=0)
    assert [trial.name for trial in planned(tmp_path, "train.seed=3,4")] == ["seed3", "seed4"]


def test_printed_commands_are_those_that_would_run(tmp_path, capsys):
    out = tmp_path / "a sweep"
    words = ["sweep", "--config", "demo", "--over", RATES, "--out", str(out), "--print", "--config.train.steps=7"]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [shlex.split(line)[1:] for line in lines] == [
        list(trial.words) for trial in planned(out, RATES, fields=("--config.train.steps=7",))
    ]
    assert not out.exists()


def test_a_sweep_ends_in_a_comparison_and_does_not_repeat_itself(tmp_path, trained, capsys):
    names, _ = trained
    words = ["sweep", "--config", "demo", "--over", RATES, "--seeds", "2", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    assert len(names) == 4
    told = capsys.readouterr().out
    assert "learning_rate=0.1  " in told and "10.0 ± 0.0%" in told
    assert (tmp_path / "compare.html").is_file() and (tmp_path / "compare.csv").is_file()
    (tmp_path / names[0] / "evaluation.json").unlink()  # as if it had been interrupted
    with (tmp_path / "sweep.jsonl").open("a") as file:
        file.write('{"run": ')
    done = list(names)
    for file in (tmp_path / names[0]).iterdir():
        file.unlink()
    (tmp_path / names[0]).rmdir()
    assert cli.main(words) == 0
    assert names == [*done, done[0]]
    assert capsys.readouterr().out.count("has ended before") == 3


def test_another_length_is_another_run(tmp_path, trained):
    names, _ = trained
    run_trials(planned(tmp_path), tmp_path)
    assert json.loads((tmp_path / "sweep.jsonl").read_text())["run"] == "seed0"
    names.clear()
    (longer,) = planned(tmp_path, fields=("--config.train.steps=9",))
    assert (longer.name, longer.fingerprint) not in sweep_command._ended(tmp_path)


def test_a_run_that_fails_costs_none_of_the_others(tmp_path, trained, capsys):
    names, fails = trained
    fails["learning_rate=0.01/seed0"] = 2
    assert cli.main(["sweep", "--config", "demo", "--over", RATES, "--out", str(tmp_path)]) == 1
    assert names == ["learning_rate=0.01/seed0", "learning_rate=0.1/seed0"]
    told = capsys.readouterr()
    assert "failed: learning_rate=0.01/seed0 (exit status 2)" in told.err and "learning_rate" in told.out


def test_a_comparison_is_of_the_runs_of_this_sweep_that_ended(tmp_path, trained, capsys):
    _, fails = trained
    for name in ("seed0", "learning_rate=0.01/seed0", "learning_rate=0.02/seed0"):  # of sweeps before
        write_run(tmp_path / name, planned(tmp_path, fields=("--config.train.steps=9",))[0].config, 0.9)
    fails["learning_rate=0.01/seed0"] = 2  # train refuses: the folder holds a run of another length
    assert (
        cli.main(["sweep", "--config", "demo", "--over", "optimizer.learning_rate=0.01,0.1", "--out", str(tmp_path)])
        == 1
    )
    assert "90.0%" not in capsys.readouterr().out
    assert [line.partition(",")[0] for line in (tmp_path / "compare.csv").read_text().splitlines()[1:]] == [
        str(tmp_path / "learning_rate=0.1/seed0")
    ]
    fails["learning_rate=0.1/seed0"] = 2
    (tmp_path / "sweep.jsonl").unlink()
    assert (
        cli.main(["sweep", "--config", "demo", "--over", "optimizer.learning_rate=0.01,0.1", "--out", str(tmp_path)])
        == 2
    )
    told = capsys.readouterr().err
    assert "nothing to compare: no run has ended" in told and "failed: learning_rate=0.1/seed0 (exit status 2)" in told


@pytest.mark.parametrize("config", ["demo", "demo:bn", "configs/demo.py:bn"])
def test_the_arms_of_an_experiment_have_folders_of_their_own(config, capsys):
    assert cli.main(["sweep", "--config", config, "--print"]) == 0
    words = shlex.split(capsys.readouterr().out)
    workdir = "runs/sweep_demo_bn/seed0" if ":" in config else "runs/sweep_demo/seed0"
    assert next(word for word in words if word.startswith("--workdir")) == f"--workdir={workdir}"


def test_the_value_of_a_field_may_stand_behind_it(capsys):
    words = ["--config.train.steps", "300", "--seeds", "2", "--config.data.flip", "--config.train.log_every", "2"]
    assert cli.main(["sweep", "--config", "demo", *words, "--print"]) == 0
    first, _ = capsys.readouterr().out.splitlines()
    assert shlex.split(first)[4:-1] == ["--config.train.steps", "300", *words[4:]]
    assert cli.main(["sweep", "--config", "demo", "--config.train.steps"]) == 2
    assert "--config.train.steps: has no value; expected a whole number" in capsys.readouterr().err
    assert cli.main(["sweep", "--config", "demo", "--config.data.flip", "yes", "--print"]) == 2
    assert "'yes' is no field; expected --config.FIELD=VALUE" in capsys.readouterr().err


def test_ctrl_c_ends_the_sweep(tmp_path, trained, capsys):
    names, fails = trained
    fails["learning_rate=0.01/seed0"] = 130
    assert cli.main(["sweep", "--config", "demo", "--over", RATES, "--out", str(tmp_path)]) == 130
    assert len(names) == 1 and "the same command goes on" in capsys.readouterr().err


class Child(subprocess.Popen):
    """A process in the place of a training, which answers SIGTERM as trainings do: after what it has to write."""

    PROGRAM = """
import pathlib, signal, sys
pathlib.Path(sys.argv[1]).write_text("started")
signal.sigwait({signal.SIGTERM})
pathlib.Path(sys.argv[1]).write_text("written")
sys.exit(143)
"""

    def __init__(self, file: pathlib.Path):
        block = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})"
        super().__init__([sys.executable, "-c", f"{block}\n{self.PROGRAM}", str(file)])


def test_sigterm_reaches_the_run_and_ends_the_sweep(tmp_path, monkeypatch):
    file, started = tmp_path / "file", []

    def start(words):
        started.append(words)
        return Child(file)

    def terminate():
        while not file.is_file() or file.read_text() != "started":
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sweep_command.subprocess, "Popen", start)
    before, thread = signal.getsignal(signal.SIGTERM), threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(SystemExit) as ended:
        run_trials(planned(tmp_path, seeds=2), tmp_path)
    thread.join()
    assert ended.value.code == 143 and len(started) == 1
    assert file.read_text() == "written"
    assert signal.getsignal(signal.SIGTERM) is before
