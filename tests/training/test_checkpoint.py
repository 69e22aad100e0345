import contextlib
import os
import re
import shutil
import subprocess
import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from dnr_jax.config import ConfigError, RunError
from dnr_jax.runs.checkpoint import Checkpoints, complete_steps, what_is_left
from dnr_jax.runs.state import TrainState
from tests.paths import REPOSITORY


def make_state(step: int) -> TrainState:
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params={"kernel": jnp.full((400, 400), step, jnp.float32)},
        batch_stats={"mean": jnp.arange(3, dtype=jnp.float32)},
        opt_state=(),
        key=jax.random.key(step),
    )


def abstract() -> TrainState:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), make_state(0))


def steps_on_disk(folder) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


@pytest.fixture
def checkpoints(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path)) as opened:
        yield opened


@pytest.mark.compat
def test_a_checkpoint_is_the_state_and_the_progress(checkpoints):
    checkpoints.save(make_state(7), {"window": [{"loss": 0.1}], "failures": {"read": 3}}, 7)
    checkpoints.wait()
    state, progress = checkpoints.restore(abstract(), 7)
    assert progress == {"window": [{"loss": 0.1}], "failures": {"read": 3}}
    np.testing.assert_array_equal(state.params["kernel"], np.full((400, 400), 7.0))
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(jax.random.key(7)))


def save_as_one_item(folder, state: TrainState) -> None:
    """Write a checkpoint of the older form, which held the whole state as one item."""
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave({"a": 1}))
    with ocp.CheckpointManager(folder / "checkpoints") as manager:
        manager.save(int(state.step), args=items)


@pytest.mark.compat
@pytest.mark.parametrize("older", [False, True])
def test_the_variables_are_read_alone(older, tmp_path):
    state = make_state(4).replace(opt_state={"momentum": jnp.ones(3)})
    if older:
        save_as_one_item(tmp_path, state)
    with contextlib.closing(Checkpoints(tmp_path)) as opened:
        if not older:
            opened.save(state, {}, 4)
            opened.wait()
            shutil.rmtree(tmp_path / "checkpoints" / "4" / "optimizer")
        variables = opened.restore_variables(abstract().variables, 4)
    chex.assert_trees_all_equal(variables, state.variables)


@pytest.mark.compat
def test_a_checkpoint_of_the_older_form_goes_on(tmp_path):
    save_as_one_item(tmp_path, make_state(4))
    with contextlib.closing(Checkpoints(tmp_path)) as opened:
        state, progress = opened.restore(abstract(), 4)
        opened.save(state.replace(step=state.step + 1), {"a": 2}, 5)
        opened.wait()
        again, _ = opened.restore(abstract(), 5)
    assert (progress, int(state.step), int(again.step)) == ({"a": 1}, 4, 5)
    chex.assert_trees_all_equal(state.variables, make_state(4).variables)
    chex.assert_trees_all_equal(again.variables, state.variables)
    np.testing.assert_array_equal(jax.random.key_data(again.key), jax.random.key_data(jax.random.key(4)))


@pytest.mark.compat
def test_the_latest_and_the_best_are_kept(checkpoints, tmp_path):
    for step, top1 in [(1, 0.5), (2, 0.8), (3, None), (4, 0.8), (5, 0.3), (6, None)]:
        checkpoints.save(make_state(step), {}, step, top1)
        checkpoints.wait()
    assert (checkpoints.latest_step, checkpoints.best_step) == (6, 4)
    assert steps_on_disk(tmp_path) == [4, 6]


def of(videos: str) -> dict:
    return {"validation": {"videos": 3, "fingerprint": videos}}


@pytest.mark.compat
def test_the_best_is_of_the_videos_of_the_latest_evaluation(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path)) as first:
        first.save(make_state(1), of("old"), 1, 0.9)
        first.save(make_state(2), of("old"), 2, 0.2)
    with contextlib.closing(Checkpoints(tmp_path)) as second:
        second.save(make_state(3), of("new"), 3)
        second.wait()
        assert (second.best_step, steps_on_disk(tmp_path)) == (1, [1, 3])  # none of the new ones was evaluated yet
        for step, top1 in [(4, 0.5), (5, 0.4)]:
            second.save(make_state(step), of("new"), step, top1)
        second.wait()
        assert (second.best_step, steps_on_disk(tmp_path)) == (4, [4, 5])
    with contextlib.closing(Checkpoints(tmp_path, read_only=True)) as third:
        assert third.best_step == 4


def test_without_an_evaluation_the_best_is_the_latest(checkpoints):
    assert (checkpoints.latest_step, checkpoints.best_step) == (None, None)
    checkpoints.save(make_state(3), {}, 3)
    checkpoints.wait()
    assert (checkpoints.latest_step, checkpoints.best_step) == (3, 3)


@pytest.mark.compat
def test_the_best_is_known_again_after_a_restart(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path)) as first:
        first.save(make_state(1), {}, 1, 0.9)
        first.save(make_state(2), {}, 2, 0.2)
    with contextlib.closing(Checkpoints(tmp_path, read_only=True)) as second:
        assert (second.latest_step, second.best_step) == (2, 1)


@pytest.mark.compat
def test_a_state_that_is_donated_while_it_is_written_is_written_whole(checkpoints):
    state = make_state(5)
    advance = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s.replace(key=None)), donate_argnums=0)
    checkpoints.save(state, {}, 5)
    moved = state.replace(key=None)
    for _ in range(20):
        moved = advance(moved)
    checkpoints.wait()
    restored, _ = checkpoints.restore(abstract(), 5)
    np.testing.assert_array_equal(restored.params["kernel"], np.full((400, 400), 5.0))


def test_a_half_written_checkpoint_of_a_killed_run_is_not_one(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path)) as first:
        first.save(make_state(1), {}, 1)
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    with contextlib.closing(Checkpoints(tmp_path)) as second:
        assert second.latest_step == 1
        second.save(make_state(2), {}, 2)
        second.wait()
        assert second.latest_step == 2
        restored, _ = second.restore(abstract(), 2)
    np.testing.assert_array_equal(restored.params["kernel"], np.full((400, 400), 2.0))


FULL = r"no checkpoint can be written to '.*/checkpoints': no space left on the device\. The checkpoint of step 1 is"


def test_a_full_disk_costs_the_new_checkpoint_alone(checkpoints, tmp_path, monkeypatch):
    checkpoints.save(make_state(1), {}, 1)
    checkpoints.wait()
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir()

    def fail():
        raise ValueError(
            "RESOURCE_EXHAUSTED: Failed to write 5619712 bytes: No space left on device [os_error_code='28']"
        )

    with monkeypatch.context() as patch, pytest.raises(RunError, match=FULL):
        patch.setattr(checkpoints._manager, "wait_until_finished", fail)
        checkpoints.wait()
    assert steps_on_disk(tmp_path) == [1]  # what was half-written takes no room


FILLS = """
import resource, sys, jax.numpy as jnp, numpy as np
from dnr_jax.config import RunError
from dnr_jax.runs.checkpoint import Checkpoints
from tests.training.test_checkpoint import make_state
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(make_state(1), {"a": 1}, 1)
checkpoints.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
noise = jnp.asarray(np.random.default_rng(0).random((400, 400), np.float32))  # which does not compress
try:
    checkpoints.save(make_state(2).replace(params={"kernel": noise}), {"a": 2}, 2)
    checkpoints.wait()
except RunError as error:
    print(error)
"""


@pytest.mark.slow
def test_where_no_file_can_be_written_the_checkpoint_before_is_whole(tmp_path):
    """In a process of its own: orbax leaves threads behind that fail later."""
    command = [sys.executable, "-c", FILLS, str(tmp_path)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=100)
    told = r"no checkpoint can be written to '.*/checkpoints': .*The checkpoint of step 1 is complete"
    assert re.match(told, done.stdout), done.stderr
    assert "ERROR:absl" not in done.stderr
    assert steps_on_disk(tmp_path) == [1]
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        state, progress = checkpoints.restore(abstract(), checkpoints.latest_step)
    assert progress == {"a": 1}
    np.testing.assert_array_equal(state.params["kernel"], np.full((400, 400), 1.0))


def test_a_run_without_a_checkpoint_is_told_so(tmp_path):
    assert what_is_left(tmp_path) == "There is no checkpoint yet: the same command starts again"
    assert complete_steps(tmp_path) == []


def test_a_checkpoint_of_other_shapes_is_refused_with_a_sentence(checkpoints):
    checkpoints.save(make_state(3), {"a": 3}, 3)
    checkpoints.wait()
    assert checkpoints.progress(3) == {"a": 3}
    other = abstract()
    other = other.replace(params={"kernel": jax.ShapeDtypeStruct((3, 4), jnp.float32, sharding=other.step.sharding)})
    with pytest.raises(ConfigError, match=r"3' cannot be read: .*params/kernel is \(400, 400\); expected \(3, 4\)\)$"):
        checkpoints.restore(other, 3)


def test_writers_that_come_after_one_has_failed_are_not_shown(tmp_path, monkeypatch):
    """On a full disk each would leave a traceback; everything else that cannot be raised is shown."""
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    for _ in range(2):
        Checkpoints(tmp_path).close()
    for error in (RuntimeError("Event loop is closed"), ValueError("another")):
        sys.unraisablehook(types.SimpleNamespace(exc_value=error))
    assert [str(unraisable.exc_value) for unraisable in shown] == ["another"]
