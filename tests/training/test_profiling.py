"""Traces of steps."""

import gzip
import json
from types import SimpleNamespace

import pytest

from dnr_jax import train_command
from dnr_jax.config import ConfigError
from dnr_jax.training.profiling import ProfileSteps
from tests.training.tiny import tiny_config, train


@pytest.mark.parametrize(("text", "steps"), [("3:5", (3, 5)), ("7", (7, 7)), (" 20:20 ", (20, 20)), (None, None)])
def test_steps_to_trace_are_a_range(text, steps):
    assert train_command._steps(text) == steps


@pytest.mark.parametrize("text", ["", "0:3", "5:3", "3:", "a:b", "3-5", "1:2:3", "-1:2"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ConfigError, match="expected A:B with steps counted from 1"):
        train_command._steps(text)


@pytest.mark.parametrize(("first", "last"), [(6, 11), (20, 30), (0, 3), (5, 3)])
@pytest.mark.parametrize("step", [0, 4, 10])
def test_steps_that_the_run_does_not_have_are_refused(step, first, last, tmp_path):
    hook = ProfileSteps(tmp_path, first, last)
    with pytest.raises(ConfigError, match=f"--profile_steps={first}:{last}: the steps of the run are 1:10"):
        hook.start(SimpleNamespace(step=step, total_steps=10))


def test_the_same_command_goes_on_behind_the_steps_to_trace(videos, tmp_path, capsys):
    train(tiny_config(videos, steps=2, eval_every=2), tmp_path)
    train(tiny_config(videos, steps=4, eval_every=2), tmp_path, ProfileSteps(tmp_path, 2, 3))
    told = "--profile_steps=2:3: nothing is traced, since 2 steps are taken already"
    assert capsys.readouterr().err.count(told) == 1
    train(tiny_config(videos, steps=4, eval_every=2), tmp_path, ProfileSteps(tmp_path, 2, 3))  # and where it has ended
    assert not (tmp_path / "profile").exists()


@pytest.mark.slow
def test_a_trace_is_one_of_the_steps_for_both_viewers(videos, tmp_path):
    train(tiny_config(videos, steps=4), tmp_path, ProfileSteps(tmp_path, 2, 3))
    (perfetto,) = (tmp_path / "profile").rglob("perfetto_trace.json.gz")
    (xprof,) = (tmp_path / "profile").rglob("*.xplane.pb")
    events = json.loads(gzip.decompress(perfetto.read_bytes()))["traceEvents"]
    steps = [event["args"]["step_num"] for event in events if event.get("name") == "train"]
    assert sorted(map(int, steps)) == [2, 3] and xprof.stat().st_size > 1000
