"""Runs that are real: killed ones go on, and what is sure shows in minutes."""

import json
import os
import subprocess
import sys
import time

import pytest

from dnr_jax.reproduce import results
from tests.paths import REPOSITORY

ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}


def words(out) -> list[str]:
    tiny = [sys.executable, "-m", "tests.reproduce.run_tiny", "210", "--table", "arms", "--row", "bn"]
    return [*tiny, "--out", str(out), "--quick"]


def finish(out) -> str:
    """Run to the end; return what was printed."""
    return subprocess.run(
        words(out), env=ENVIRONMENT, cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout


def lines(out) -> list[dict]:
    file = out / results.RESULTS_FILE
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


@pytest.mark.slow
def test_a_table_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    """Killed behind its first checkpoint; afterwards the run goes on there, and its line is that of a whole run."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(whole)
    with subprocess.Popen(words(killed), env=ENVIRONMENT, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        while not list(killed.glob("runs/*/checkpoints/100")):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
        process.kill()
    assert lines(killed) == []
    assert "continuing at step 100" in finish(killed)
    (expected,), (found,) = lines(whole), lines(killed)
    assert found["steps"] == 210
    assert (found["fingerprint"], found["correct"]) == (expected["fingerprint"], expected["correct"])


@pytest.mark.slow
@pytest.mark.timeout(1200)  # two networks are compiled and trained
def test_what_is_sure_shows_in_the_quick_form(tmp_path):
    """A network that does not see order is right in at most half of the videos, give or take chance."""
    for row in ("bn", "dnr_no_interlace"):
        command = [sys.executable, "-m", "dnr_jax", "reproduce", "--table", "arms", "--row", row, "--quick"]
        subprocess.run([*command, "--out", str(tmp_path)], env=ENVIRONMENT, check=True, capture_output=True)
    bn, dnr = lines(tmp_path)
    assert bn["top1"] < 0.6
    assert dnr["top1"] > 0.7
