"""The average of the weights: what it is, that it is evaluated and exported, and that runs with it go on exactly."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import ConfigError, ExperimentConfig, from_json, override, part_problems, to_json
from dnr_jax.convert.source import read_source
from dnr_jax.dnr import BatchRenorm, StaticNorm
from dnr_jax.runs.devices import make_mesh, place_batch
from dnr_jax.runs.folder import load_run
from dnr_jax.training.ema import EMA
from tests.training.test_loop import Signal, assert_same_run
from tests.training.test_step import make_batch, setup
from tests.training.tiny import one_device, opened, tiny_config, train


def literal_ema(values, decay: float, warmup: bool) -> float:
    average = values[0]
    for step, value in enumerate(values[1:], start=1):
        kept = min(decay, (1 + step) / (10 + step)) if warmup else decay
        average = kept * average + (1 - kept) * value
    return average


@pytest.mark.parametrize(("decay", "warmup"), [(0.9, False), (0.9, True), (0.15, True)])
def test_the_average_is_the_formula(decay, warmup):
    values = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    average = {"params": {"kernel": jnp.asarray(values[0])}, "batch_stats": {}}
    for step, value in enumerate(values[1:], start=1):
        trained = {"params": {"kernel": jnp.asarray(value)}, "batch_stats": {}}
        average = EMA(decay, warmup).update(average, trained, jnp.int32(step))
    np.testing.assert_allclose(average["params"]["kernel"], literal_ema(values, decay, warmup), rtol=1e-5)


def test_what_is_no_floating_point_number_is_that_of_the_trained_variables():
    """Batch renormalisation counts its steps, and its limits follow from that count."""
    model = StaticNorm(base="brn")
    before = model.init(jax.random.key(0), None, jnp.ones((2, 2, 3, 3, 4)), use_running_average=False)
    average = jax.tree.map(jnp.zeros_like, before)
    for step in (1, 2, 3):
        trained = jax.tree.map(lambda leaf, step=step: leaf + jnp.asarray(step, leaf.dtype), before)
        average = EMA(0.9).update(average, trained, jnp.int32(step))
    counts = [leaf for leaf in jax.tree.leaves(average) if not jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert [int(count) for count in counts] == [3]


@pytest.mark.slow
def test_a_step_averages_batch_renormalisation(videos, tmp_path):
    config = averaged_config(videos)
    config.model.norm.base = BatchRenorm()
    config.train.steps = 4
    train(config, tmp_path)


def test_an_average_is_chosen_checked_and_saved():
    with pytest.raises(ConfigError, match="train.averaging is None; set --config.train.averaging=EMA before it"):
        override(ExperimentConfig(), ["--config.train.averaging.decay=0.5"])
    flags = ["--config.train.averaging=EMA", "--config.train.averaging.decay=0.5"]
    config, _ = override(ExperimentConfig(), flags)
    assert config.train.averaging == EMA(0.5) and from_json(to_json(config)) == config
    config.train.averaging.decay = 1.0
    assert list(part_problems(config)) == ["train.averaging.decay: is 1.0; expected less than 1"]


@pytest.mark.slow
def test_eight_devices_average_what_one_does():
    averages = []
    for num_devices in (1, 8):
        _, mesh, _, state, step = setup(num_devices, averaging=EMA(0.5, warmup=False))
        for seed in range(3):
            state, _ = step(state, place_batch(make_batch(seed=seed), mesh))
        averages.append(jax.device_get(state.average))
        assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.average))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-7), *averages)
    trained = jax.device_get(state.variables)
    assert np.any(averages[1]["params"]["fc"]["kernel"] != trained["params"]["fc"]["kernel"])


def averaged_config(videos, **changes):
    return tiny_config(videos, checkpoint_every=3, averaging=EMA(0.5), **changes)


@pytest.mark.slow
def test_the_average_is_evaluated_saved_and_loaded_and_a_stopped_run_goes_on_exactly(videos, tmp_path):
    with opened(averaged_config(videos), tmp_path / "whole") as trainer:
        report = trainer.run()
    state = trainer.state
    average, trained = (jax.device_get(tree) for tree in (state.average, state.variables))
    assert np.any(average["params"]["fc"]["kernel"] != trained["params"]["fc"]["kernel"])
    assert np.any(average["batch_stats"]["norm"]["mean"] != trained["batch_stats"]["norm"]["mean"])
    again = trainer.evaluate(state.average, trainer.config.evaluation)
    np.testing.assert_array_equal(again.scores, report.scores)
    assert np.any(trainer.evaluate(state.variables, trainer.config.evaluation).scores != report.scores)
    loaded = load_run(tmp_path / "whole", one_device()).variables
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(loaded), average)
    found = read_source(tmp_path / "whole").state  # what convert, export and init_from take
    np.testing.assert_array_equal(found["fc/kernel"], average["params"]["fc"]["kernel"])

    with pytest.raises(SystemExit):
        train(averaged_config(videos), tmp_path / "half", Signal(signal.SIGTERM, step=5))
    train(averaged_config(videos), tmp_path / "half")
    assert_same_run(tmp_path / "half", tmp_path / "whole")
    with pytest.raises(ConfigError, match="train.averaging: 'EMA' there, None now"):
        train(tiny_config(videos, checkpoint_every=3), tmp_path / "half")


@pytest.mark.slow
def test_precise_statistics_are_those_of_the_average(videos, tmp_path):
    with opened(averaged_config(videos, steps=2, eval_every=2, precise_statistics=1), tmp_path) as trainer:
        trainer.run()
    state = trainer.state
    assert np.any(state.average["batch_stats"]["norm"]["mean"] != state.batch_stats["norm"]["mean"])
    loaded = load_run(tmp_path, make_mesh(jax.devices()[:1])).variables
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(loaded), jax.device_get(state.average))


@pytest.mark.slow
def test_an_average_begins_as_the_weights_that_a_run_starts_from(videos, tmp_path):
    train(tiny_config(videos, steps=1, eval_every=1), tmp_path / "first")
    config = averaged_config(videos)
    config.init_from = str(tmp_path / "first")
    with opened(config, tmp_path / "second") as trainer:
        jax.tree.map(np.testing.assert_array_equal, trainer.state.average, trainer.state.variables)
        expected = read_source(tmp_path / "first").state["fc/kernel"]
        np.testing.assert_array_equal(trainer.state.average["params"]["fc"]["kernel"], expected)
