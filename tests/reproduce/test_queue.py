import os
import shutil
import signal
import time

import filelock
import jax
import numpy as np
import pytest

from dnr_jax.config import ConfigError, RunError
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.reproduce import command, experiments, queue, results
from dnr_jax.training.metrics import NonFiniteError
from dnr_jax.training.stop import StopRequest

REPORT = Report(np.eye(2, dtype=np.float32), np.array([0, 0]), ("a", "b"), ("x", "y"))


@pytest.fixture
def trained(monkeypatch):
    """Folders that the trainer was called with; it writes what a run leaves."""
    calls = []

    def train(config, workdir):
        calls.append(workdir)
        (workdir / "checkpoints").mkdir(parents=True)
        (workdir / "metrics.jsonl").write_text('{"step": 10, "time": {"seconds": 1}}\n')
        return REPORT

    monkeypatch.setattr(queue, "train", train)
    monkeypatch.setattr(experiments, "make_hard_demo", lambda *args: "/videos")
    return calls


@pytest.fixture
def at_once(trained, monkeypatch):
    """How many runs were trained at once each time; up to ``at_once.limit`` of them fit into memory."""

    class Calls(list):
        limit = 9

    calls = Calls()

    def train_together(configs, workdirs, ended):
        calls.append(len(configs))
        if len(configs) > calls.limit:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        for number, (config, workdir) in enumerate(zip(configs, workdirs, strict=True)):
            ended(number, queue.train(config, workdir))

    monkeypatch.setattr(queue, "train_together", train_together)
    return calls


def jobs(table: str, seeds: int = 1, row: str = ""):
    return command.jobs_of(command.select([table], row), seeds, "mini")


def test_jobs_go_seed_by_seed_so_that_a_part_of_them_can_be_compared():
    labels = [job.label for job in jobs("arms", 2)]
    assert labels[0] == "table arms, bn: generated, seed 0"
    assert [label[-1] for label in labels] == list("00001111")


def test_a_run_of_several_rows_is_a_job_once_and_what_cannot_be_done_is_none():
    names = [job.row.name for job in jobs("1a")]
    assert names == [
        *("bn", "bn_interlace", "dnr_no_interlace", "dnr"),
        *("method=ct,location=1", "method=ct,location=2", "method=cl,location=1", "method=cl,location=2"),
        "method=ct+cl",
    ]
    both = command.jobs_of(command.select(["1a", "1b"], ""), 1, "mini")
    assert len(both) == len(names) + 4  # distances 1, 2 and 8 of CT, 2 of CL


def test_the_papers_scale_has_jobs_for_the_papers_rows_alone():
    names = [job.row.name for job in command.jobs_of(command.select(["5"], ""), 1, "paper")]
    assert names == ["r2plus1d", "r2plus1d+dnr", "slowfast", "slowfast+dnr"]


@pytest.mark.parametrize(
    ("table", "row", "scale", "why"),
    [
        ("knobs", "", "quick", "nothing of Table knobs is done at the quick scale$"),
        ("arms", "", "paper", "nothing of Table arms is done at the paper scale$"),
        ("1a", "method=ct,location=3", "mini", "at the mini scale: its blocks have no third norm"),
    ],
)
def test_where_nothing_is_to_be_done_it_says_so(table, row, scale, why):
    with pytest.raises(ConfigError, match=why):
        command.jobs_of(command.select([table], row), 1, scale)


def test_a_run_comes_behind_the_one_that_it_starts_from():
    labels = [job.label for job in jobs("4", row="sthv1")]
    assert labels == [
        "table 4, sthv1: weizmann4_order, seed 0, first part",
        "table 4, sthv1: weizmann4_order, seed 0",
    ]


def test_finished_runs_are_lines_and_are_not_done_again(trained, tmp_path):
    outcome = queue.work(jobs("arms"), tmp_path, "")
    assert (outcome.done, outcome.failed, outcome.stopped) == (4, [], None)
    assert len(results.read(tmp_path / results.RESULTS_FILE)) == 4
    assert [folder.parent for folder in trained] == [tmp_path / "runs"] * 4
    assert not any((folder / "checkpoints").exists() for folder in trained)
    assert queue.work(jobs("arms"), tmp_path, "").done == 0 and len(trained) == 4


def test_a_checkpoint_that_others_start_from_is_kept(trained, tmp_path):
    (tmp_path / "real" / "weizmann4_order").mkdir(parents=True)
    queue.work(jobs("4", row="sthv1"), tmp_path, str(tmp_path / "real"))
    assert [(folder / "checkpoints").exists() for folder in trained] == [True, False]


def test_a_checkpoint_that_is_gone_is_made_again_for_those_that_start_from_it(trained, tmp_path):
    (tmp_path / "real" / "weizmann4_order").mkdir(parents=True)
    first, second = jobs("4", row="sthv1")
    queue.work([first], tmp_path, "")
    assert not (trained[0] / "checkpoints").exists()
    shutil.rmtree(trained[0])
    assert queue.work([first, second], tmp_path, str(tmp_path / "real")).done == 2
    assert [folder.name for folder in trained] == [first.run.name, first.run.name, second.run.name]
    assert len(results.read(tmp_path / results.RESULTS_FILE)) == 2
    assert queue.work([first, second], tmp_path, str(tmp_path / "real")).done == 0


def test_the_seeds_of_a_row_are_trained_at_once(at_once, trained, tmp_path, capsys):
    outcome = queue.work(jobs("arms", 3), tmp_path, "", vmap=True)
    assert (outcome.done, at_once) == (12, [3, 3, 3, 3])
    lines = results.read(tmp_path / results.RESULTS_FILE)
    assert [line.seed for line in lines] == [0, 1, 2] * 4 and {line.together for line in lines} == {3}
    assert not any((folder / "checkpoints").exists() for folder in trained)
    out = capsys.readouterr().out
    assert "[1/12] table arms, bn: generated, seed 0\n[5/12] table arms, bn: generated, seed 1\n" in out
    assert queue.work(jobs("arms", 4), tmp_path, "", vmap=True).done == 4
    assert at_once == [3, 3, 3, 3]  # one seed a row is trained alone


def test_seeds_that_another_process_trains_at_once_are_not_shared_with_it(at_once, trained, tmp_path, capsys):
    wanted = jobs("arms", 3)
    bn = next(job.run.fingerprint for job in wanted)
    (tmp_path / "runs").mkdir()
    with filelock.FileLock(tmp_path / "runs" / f"{bn}.lock"):
        outcome = queue.work(wanted, tmp_path, "", vmap=True)
    assert (outcome.done, outcome.busy, at_once) == (9, 3, [3, 3, 3])
    assert "another process is at these" in capsys.readouterr().out
    assert queue.work(wanted, tmp_path, "", vmap=True).done == 3  # the other one has ended


@pytest.mark.parametrize(("limit", "calls", "together"), [(3, [5, 3, 2], {3, 2}), (1, [5, 3, 2, 2], {1})])
def test_as_many_seeds_are_trained_at_once_as_fit(limit, calls, together, at_once, trained, tmp_path, capsys):
    at_once.limit = limit
    outcome = queue.work(jobs("arms", 5, row="bn"), tmp_path, "", vmap=True)
    assert (outcome.done, outcome.failed, at_once) == (5, [], calls)
    lines = results.read(tmp_path / results.RESULTS_FILE)
    assert {line.together for line in lines} == together and {line.seed for line in lines} == set(range(5))
    assert "5 runs at once do not fit into the devices' memory: 3 at once" in capsys.readouterr().out


def test_other_errors_of_the_devices_are_not_taken_for_a_want_of_memory(at_once, tmp_path, monkeypatch):
    def fails(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")

    monkeypatch.setattr(queue, "train_together", fails)
    with pytest.raises(jax.errors.JaxRuntimeError, match="is gone"):
        queue.work(jobs("arms", 2), tmp_path, "", vmap=True)


def test_what_ends_runs_that_are_trained_at_once_is_noted_of_each(trained, tmp_path, monkeypatch):
    def fails(configs, workdirs, ended):
        ended(0, queue.train(configs[0], workdirs[0]))
        ended(1, NonFiniteError("step 3: the loss is nan"))
        raise RunError("the disk is full")

    monkeypatch.setattr(queue, "train_together", fails)
    outcome = queue.work(jobs("arms", 3, row="bn"), tmp_path, "", vmap=True)
    assert outcome.done == 1
    assert outcome.failed == [
        "table arms, bn: generated, seed 1: step 3: the loss is nan",
        "table arms, bn: generated, seed 2: the disk is full",
    ]


def test_one_run_that_fails_costs_none_of_the_others(trained, tmp_path, monkeypatch):
    train = queue.train

    def fails_first(config, workdir):
        if not trained:
            trained.append(workdir)
            raise RunError("the disk is full")
        return train(config, workdir)

    monkeypatch.setattr(queue, "train", fails_first)
    outcome = queue.work(jobs("arms"), tmp_path, "")
    assert outcome.done == 3
    assert outcome.failed == ["table arms, bn: generated, seed 0: the disk is full"]


def test_rows_without_their_data_are_skipped_with_the_reason(trained, tmp_path):
    outcome = queue.work(jobs("ut", row="dnr")[:1], tmp_path, str(tmp_path))
    assert outcome.failed == [
        f"table ut, dnr: ut_interaction, seed 0: skipped: there is no folder ut_interaction in --data {tmp_path}"
    ]
    assert not trained


def test_a_run_that_another_process_is_at_is_left_to_it(trained, tmp_path):
    first, *others = jobs("arms")
    (tmp_path / "runs").mkdir()
    with filelock.FileLock(tmp_path / "runs" / f"{first.run.name}.lock"):
        outcome = queue.work([first, *others], tmp_path, "")
    assert (outcome.done, outcome.busy) == (3, 1)


def test_the_budget_ends_the_queue_and_the_run_that_it_is_at(trained, tmp_path, monkeypatch):
    def slow(config, workdir):
        with StopRequest() as stop:
            while stop.signal is None:
                time.sleep(0.01)
        raise SystemExit(128 + stop.signal)

    monkeypatch.setattr(queue, "train", slow)
    outcome = queue.work(jobs("arms"), tmp_path, "", seconds=0.2)
    assert (outcome.done, outcome.failed, outcome.stopped) == (0, [], signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_queue_at_once_where_no_steps_are_taken(number, trained, tmp_path, monkeypatch):
    """While a network is built or scored, which nobody who wants it to stop would wait for."""
    before = signal.getsignal(number)

    def signalled(config, workdir):
        os.kill(os.getpid(), number)
        raise AssertionError("it went on")

    monkeypatch.setattr(queue, "train", signalled)
    outcome = queue.work(jobs("arms"), tmp_path, "")
    assert (outcome.done, outcome.stopped) == (0, number)
    assert signal.getsignal(number) is before
