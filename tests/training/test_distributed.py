"""Two processes that talk over the loopback address train the network that one process trains."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from dnr_jax.training.report import METRICS_FILE, read_metrics
from tests.paths import REPOSITORY


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
    # Without dropout, which follows the row of a clip in the batch: two processes fill the rows in another order.
    coordinator = f"127.0.0.1:{free_port()}"
    cluster = [run_tiny(str(videos), str(tmp_path / "two"), "0", coordinator, "2", str(i)) for i in range(2)]
    first, second = (finish(process) for process in cluster)
    finish(run_tiny(str(videos), str(tmp_path / "one"), "0"))

    assert "validation top-1" in first and "validation top-1" not in second
    ours, theirs = rows_of(tmp_path / "two"), rows_of(tmp_path / "one")
    assert [(row["kind"], row["step"]) for row in ours] == [(row["kind"], row["step"]) for row in theirs]
    for name in ("loss", "grad_norm", "learning_rate", "accuracy"):  # later steps add up rounding
        np.testing.assert_allclose(ours[0][name], theirs[0][name], rtol=1e-5)
    assert ours[-1]["videos"] == theirs[-1]["videos"] == 7
    report = json.loads((tmp_path / "two" / "evaluation.json").read_text())
    assert report["videos"] == 7 and report["undecoded"] == 0
