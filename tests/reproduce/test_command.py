import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from dnr_jax import cli
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.reproduce import command, experiments, queue, results
from dnr_jax.reproduce.experiments import runs_of
from dnr_jax.reproduce.tables import ARMS, TABLES
from tests.reproduce.finished import result

REPORT = Report(np.eye(2, dtype=np.float32), np.array([0, 0]), ("a", "b"), ("x", "y"))


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setattr("dnr_jax.runs.devices.enable_compilation_cache", lambda: None)


@pytest.fixture
def trained(monkeypatch):
    folders = []

    def train(config, workdir):
        folders.append(workdir)
        workdir.mkdir()
        (workdir / "metrics.jsonl").write_text('{"step": 10, "time": {"seconds": 1}}\n')
        return REPORT

    monkeypatch.setattr(queue, "train", train)
    monkeypatch.setattr(experiments, "make_hard_demo", lambda *args: "/videos")
    return folders


def reproduce(*words: str) -> int:
    return cli.main(["reproduce", *words])


def test_the_list_has_the_papers_figures_what_is_done_and_what_is_missing(tmp_path, capsys):
    for run in runs_of(TABLES["arms"], ARMS[3], 2):
        results.append(tmp_path / results.RESULTS_FILE, result(run, [1, 1, 1, 0]))
    assert reproduce("--list", "--out", str(tmp_path)) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "Table 1b: Relay distance; paper scale: Mini-Kinetics-200" in lines
    assert "method=ct,relay_distance=2 paper 74.56 92.33 0 of 5 done" in lines
    assert lines.count("dnr 2 of 5 done 75.0") > 5
    assert "bn 0 of 20 done there is no folder ut_interaction in --data (not given)" in lines
    assert any(line.startswith("Table cost:") and "dnr profile --all" in line for line in lines)
    assert reproduce("--list", "--table", "arms", "--out", str(tmp_path)) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "Table" in line] == ["Table arms"]


def test_the_list_of_the_papers_scale_says_what_was_not_measured(tmp_path, capsys):
    assert reproduce("--list", "--table", "5", "--scale", "paper", "--out", str(tmp_path)) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "slowfast+dnr" in line]
    assert "hours not measured here" in line


def test_the_command_does_the_runs_and_says_so(trained, tmp_path, capsys):
    words = ["--table", "arms", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert reproduce(*words) == 0
    out = capsys.readouterr().out
    assert "[4/4] table arms, dnr: generated, seed 0" in out
    assert "4 runs done here, 0 of 4 left" in out
    assert (tmp_path / "out" / "report" / "results.md").is_file()
    assert reproduce(*words) == 0 and len(trained) == 4


def test_seeds_at_once_are_asked_for_by_a_flag(trained, tmp_path, monkeypatch):
    groups = []
    monkeypatch.setattr(
        queue, "train_together", lambda configs, workdirs, ended: groups.append([c.train.seed for c in configs])
    )
    assert reproduce("--table", "arms", "--row", "bn", "--seeds", "3", "--vmap", "--out", str(tmp_path)) == 0
    assert groups == [[0, 1, 2]]


def test_what_could_not_be_done_is_the_exit_status(trained, tmp_path, capsys):
    assert (
        reproduce("--table", "ut", "--row", "bn", "--seeds", "1", "--out", str(tmp_path), "--data", str(tmp_path)) == 1
    )
    assert "skipped: there is no folder ut_interaction" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["--table", "7"], "there is no '7'"),
        (["--row", "dnr"], "--row needs --table"),
        (["--table", "cost"], "Table cost is made by dnr profile --all"),
        (["--quick", "--scale", "paper"], "--quick is of the mini scale"),
        (["--budget", "2"], "no time such as 90s, 30m or 2h"),
        (["--seeds", "0"], "whole number of 1 or more"),
    ],
)
def test_what_cannot_be_meant_is_refused(words, message, tmp_path, capsys):
    try:
        status = reproduce(*words, "--out", str(tmp_path))
    except SystemExit as refused:
        status = refused.code
    assert status == 2 and message in capsys.readouterr().err


def test_jobs_are_processes_with_the_same_command(tmp_path, monkeypatch):
    started, environments = [], []

    class Worker:
        def __init__(self, words, env):
            started.append(words[words.index("reproduce") + 1 :])
            environments.append(env)

        def wait(self):
            return len(started)

    monkeypatch.setattr(command.subprocess, "Popen", Worker)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    words = ["--table", "1b", "--seeds", "2", "--out", str(tmp_path)]
    assert reproduce(*words, "--jobs", "2", "--budget", "3m", "--vmap") == 2
    assert started[0] == started[1]
    assert environments[0] == {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ  # they share a GPU's memory
    parsed = cli._parser().parse_args(["reproduce", *started[0]])
    assert parsed.vmap
    assert (parsed.table, parsed.seeds, parsed.jobs, parsed.budget, parsed.quick) == ("1b", 2, 1, 180, False)
    assert (parsed.out, parsed.scale, parsed.data, parsed.row) == (str(tmp_path), "mini", "", "")


class Child(subprocess.Popen):
    """A process in the place of a worker, which answers SIGTERM as they do, or is killed."""

    def __init__(self, file: pathlib.Path, killed: bool):
        block = "import os, pathlib, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})"
        wait = "os.kill(os.getpid(), signal.SIGKILL)" if killed else "sys.exit(128 + signal.sigwait({signal.SIGTERM}))"
        super().__init__([sys.executable, "-c", f"{block}; pathlib.Path({str(file)!r}).touch(); {wait}"])


def start_children(monkeypatch, folder: pathlib.Path, killed: bool) -> list[Child]:
    children: list[Child] = []

    def start(words, env):
        children.append(Child(folder / str(len(children)), killed))
        return children[-1]

    monkeypatch.setattr(command.subprocess, "Popen", start)
    return children


def test_sigterm_reaches_all_processes(tmp_path, monkeypatch):
    children = start_children(monkeypatch, tmp_path, killed=False)

    def terminate():
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before, thread = signal.getsignal(signal.SIGTERM), threading.Thread(target=terminate)
    thread.start()
    assert command.in_processes(2, []) == 143
    thread.join()
    assert [child.returncode for child in children] == [143, 143]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_process_that_was_killed_is_no_success(tmp_path, monkeypatch):
    start_children(monkeypatch, tmp_path, killed=True)
    assert command.in_processes(2, []) == 137


def test_the_report_of_a_checkout_is_written(tmp_path, monkeypatch, capsys):
    lines = tmp_path / "docs" / "results" / "mini.jsonl"
    for row in ARMS:
        results.append(lines, result(runs_of(TABLES["arms"], row, 1)[0], [1, 0]))
    monkeypatch.chdir(tmp_path)
    assert reproduce("--report") == 0
    assert capsys.readouterr().out.splitlines()[0] == "wrote docs/results.md"
    assert "| dnr | 50.0 | 1 |" in (tmp_path / "docs" / "results.md").read_text()
    assert json.loads(lines.read_text().splitlines()[0])["videos"] == 2
