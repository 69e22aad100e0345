import contextlib
import gc
import re
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import ConfigError, RunError
from dnr_jax.training.checkpoint import Checkpoints, complete_steps, what_is_left
from dnr_jax.training.state import TrainState


@contextlib.contextmanager
def largest_file(size: int):
    """Let no file grow beyond so many bytes, as if the disk were full then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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


def test_a_checkpoint_is_the_state_and_the_progress(checkpoints):
    checkpoints.save(make_state(7), {"window": [{"loss": 0.1}], "failures": {"read": 3}}, 7)
    checkpoints.wait()
    state, progress = checkpoints.restore(abstract(), 7)
    assert progress == {"window": [{"loss": 0.1}], "failures": {"read": 3}}
    np.testing.assert_array_equal(state.params["kernel"], np.full((400, 400), 7.0))
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(jax.random.key(7)))


def test_the_latest_and_the_best_are_kept(checkpoints, tmp_path):
    for step, top1 in [(1, 0.5), (2, 0.8), (3, None), (4, 0.8), (5, 0.3), (6, None)]:
        checkpoints.save(make_state(step), {}, step, top1)
        checkpoints.wait()
    assert (checkpoints.latest_step, checkpoints.best_step) == (6, 4)
    assert steps_on_disk(tmp_path) == [4, 6]


def test_without_an_evaluation_the_best_is_the_latest(checkpoints):
    assert (checkpoints.latest_step, checkpoints.best_step) == (None, None)
    checkpoints.save(make_state(3), {}, 3)
    checkpoints.wait()
    assert (checkpoints.latest_step, checkpoints.best_step) == (3, 3)


def test_the_best_is_known_again_after_a_restart(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path)) as first:
        first.save(make_state(1), {}, 1, 0.9)
        first.save(make_state(2), {}, 2, 0.2)
    with contextlib.closing(Checkpoints(tmp_path, read_only=True)) as second:
        assert (second.latest_step, second.best_step) == (2, 1)


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


def test_a_full_disk_costs_the_new_checkpoint_alone(tmp_path, caplog):
    noise = np.random.default_rng(0).random((400, 400), np.float32)  # which does not compress
    with contextlib.closing(Checkpoints(tmp_path)) as first:
        first.save(make_state(1), {"a": 1}, 1)
        first.wait()
        with largest_file(50_000), pytest.raises(RunError) as refused:
            first.save(make_state(2).replace(params={"kernel": jnp.asarray(noise)}), {"a": 2}, 2)
            first.wait()
    told = r"no checkpoint can be written to '.*/checkpoints': .*\. The checkpoint of step 1 is complete"
    assert re.match(told, str(refused.value))
    assert steps_on_disk(tmp_path) == [1]  # and nothing half-written takes room
    assert caplog.text == ""
    with contextlib.closing(Checkpoints(tmp_path)) as second:
        state, progress = second.restore(abstract(), second.latest_step)
    assert progress == {"a": 1} == second.progress(1)
    np.testing.assert_array_equal(state.params["kernel"], np.full((400, 400), 1.0))


def test_a_run_without_a_checkpoint_is_told_so(tmp_path):
    assert what_is_left(tmp_path) == "There is no checkpoint yet: the same command starts again"
    assert complete_steps(tmp_path) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_checkpoint_of_other_shapes_is_refused_with_a_sentence(checkpoints):
    checkpoints.save(make_state(3), {}, 3)
    checkpoints.wait()
    other = abstract()
    other = other.replace(params={"kernel": jax.ShapeDtypeStruct((3, 4), jnp.float32, sharding=other.step.sharding)})
    with pytest.raises(ConfigError, match=r"checkpoints/3' cannot be read: it is damaged, or not of the network .*\)$"):
        checkpoints.restore(other, 3)
    gc.collect()  # orbax leaves an event loop open where it fails
