"""Two processes that talk over the loopback address train the network that one process trains."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from dnr_jax.config import ConfigError, ExperimentConfig, RunError
from dnr_jax.data.catalogue.sources import load_sources
from dnr_jax.data.clips.pipeline import train_iterator
from dnr_jax.runs import processes
from dnr_jax.runs.devices import place_batch
from dnr_jax.runs.folder import METRICS_FILE, read_metrics
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import create_state
from dnr_jax.training.step import make_train_step
from tests.paths import REPOSITORY
from tests.training.tiny import TinyNetwork, one_device, tiny_config


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_tiny(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.run_tiny", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    return output.decode()


def rows_of(workdir: pathlib.Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "time"} for row in read_metrics(workdir / METRICS_FILE)]


@pytest.mark.slow
def test_two_processes_equal_one(videos, tmp_path):
    coordinator = f"127.0.0.1:{free_port()}"
    cluster = [run_tiny(str(videos), str(tmp_path / "two"), "0.2", coordinator, "2", str(i)) for i in range(2)]
    first, second = (finish(process) for process in cluster)
    finish(run_tiny(str(videos), str(tmp_path / "one"), "0.2"))

    assert "validation top-1" in first and "validation top-1" not in second
    ours, theirs = rows_of(tmp_path / "two"), rows_of(tmp_path / "one")
    assert [(row["kind"], row["step"]) for row in ours] == [(row["kind"], row["step"]) for row in theirs]
    for name in ("loss", "grad_norm", "learning_rate", "accuracy"):  # later steps add up rounding
        np.testing.assert_allclose(ours[0][name], theirs[0][name], rtol=1e-5)
    assert ours[-1]["videos"] == theirs[-1]["videos"] == 7
    report = json.loads((tmp_path / "two" / "evaluation.json").read_text())
    assert report["videos"] == 7 and report["undecoded"] == 0


def first_loss(config: ExperimentConfig, clips_per_statistics: int, processes: int) -> float:
    """The loss of the first step, whose batch is put together from the shares of so many processes."""
    training, _ = load_sources(config.data)
    shares, size = [], config.train.batch_size // processes
    for process in range(processes):
        with train_iterator(training, config.data, size, 0, process_index=process, process_count=processes) as batches:
            shares.append(next(batches))
    names = ("video", "label", "weight")
    batch = place_batch({name: np.concatenate([share[name] for share in shares]) for name in names}, one_device())
    model = TinyNetwork(3, 0.2, clips_per_statistics)
    schedule = make_schedule(config.optimizer, config.train.batch_size, config.train.steps)
    tx = make_optimizer(config.optimizer, schedule)
    state = create_state(model, tx, config.data.clip_shape, one_device(), 0)
    return float(make_train_step(model, tx, schedule, config, one_device())(state, batch)[1]["loss"])


@pytest.mark.parametrize(("clips_per_statistics", "mixup"), [(2, 0.0), (0, 0.8)])
def test_clips_that_are_seen_together_are_the_same_for_any_number_of_processes(clips_per_statistics, mixup, videos):
    config = tiny_config(videos, mixup=mixup)
    config.model.num_classes = 3
    one, two, four = (first_loss(config, clips_per_statistics, processes) for processes in (1, 2, 4))
    assert one == two == four


def as_process(monkeypatch, number: int, told: int, seen: list[bool]) -> None:
    """Let this process be one of two, of which the first drew ``told`` and all together see ``seen``."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: number)
    monkeypatch.setattr(processes, "PATIENCE", 0.0)
    monkeypatch.setattr(processes.random, "randrange", lambda bound: told if number == 0 else bound - 1)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda value: told)
    monkeypatch.setattr(
        multihost_utils, "process_allgather", lambda value: np.asarray([*seen[:number], value, *seen[number + 1 :]])
    )


def test_one_process_needs_no_shared_folder(tmp_path):
    processes.require_shared(tmp_path / "not there")


def test_processes_that_see_the_folder_of_the_first_go_on_and_leave_nothing(monkeypatch, tmp_path):
    as_process(monkeypatch, 0, 7, [True, True])
    processes.require_shared(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / ".shared-7").touch()  # by the first process
    as_process(monkeypatch, 1, 7, [True, True])
    processes.require_shared(tmp_path)


def test_folders_that_are_not_shared_are_refused_in_every_process(monkeypatch, tmp_path):
    as_process(monkeypatch, 1, 7, [True, True])
    with pytest.raises(ConfigError, match="not seen by process 1. Choose a folder on a disk that all hosts share"):
        processes.require_shared(tmp_path)
    as_process(monkeypatch, 0, 7, [True, False])
    with pytest.raises(ConfigError, match="process 1"):
        processes.require_shared(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_process_that_ended_is_told_from_a_damaged_checkpoint(monkeypatch, tmp_path):
    def fail(value):
        raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")

    as_process(monkeypatch, 1, 7, [True, True])
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", fail)
    with pytest.raises(RunError, match="its own output says why"):
        processes.require_shared(tmp_path)


@pytest.mark.slow
def test_processes_on_disks_of_their_own_end_instead_of_waiting(videos, tmp_path):
    coordinator = f"127.0.0.1:{free_port()}"
    cluster = [
        run_tiny(str(videos), str(tmp_path / f"disk_{i}" / "run"), "0", coordinator, "2", str(i)) for i in range(2)
    ]
    for process in cluster:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 1 and "is not the same folder in all processes" in output.decode()
