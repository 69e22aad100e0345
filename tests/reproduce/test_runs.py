"""Runs that are real: killed ones go on, and what is sure shows in minutes."""

import json
import os
import subprocess
import sys
import time

import pytest

from dnr_jax.reproduce import command, queue, results
from tests.paths import REPOSITORY

ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}


def start(out, steps: int, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.reproduce.run_tiny", str(steps), "--table", "arms", "--out", str(out)]
    return subprocess.Popen([*command, "--quick", *arguments], env=ENVIRONMENT, cwd=REPOSITORY, stdout=subprocess.PIPE)


def lines(out) -> list[dict]:
    file = out / results.RESULTS_FILE
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


@pytest.mark.slow
def test_a_table_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    """Killed behind the first checkpoint of the second row; no finished row is trained again."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    rows = ["--row", "bn"], ["--row", "dnr"]
    for row in rows:
        assert start(whole, 210, *row).wait() == 0
    assert start(killed, 210, *rows[0]).wait() == 0
    (first,) = lines(killed)
    process = start(killed, 210, *rows[1])
    while not list(killed.glob("runs/*/checkpoints/100/_CHECKPOINT_METADATA")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert lines(killed) == [first]
    assert start(killed, 210).wait() == 0
    found = {line["fingerprint"]: line for line in lines(killed)}
    assert len(found) == 4 and found[first["fingerprint"]] == first
    for line in lines(whole):
        assert found[line["fingerprint"]]["correct"] == line["correct"]


@pytest.mark.slow
def test_what_is_sure_shows_in_the_quick_form(tmp_path):
    """A network that does not see order is right in at most half of the videos; DNR alone does see it."""
    rows = [pair for row in ("bn", "dnr_no_interlace") for pair in command.select(["arms"], row)]
    outcome = queue.work(command.jobs_of(rows, 1, "quick"), tmp_path, "")
    assert outcome.done == 2 and not outcome.failed
    bn, dnr = results.read(tmp_path / results.RESULTS_FILE)
    assert bn.top1 < 0.6
    assert dnr.top1 > 0.6
