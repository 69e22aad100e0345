"""The trainer, with a model, a mesh, batches and an evaluation handed in: no folder, no videos."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import RunError
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.training.hooks import Evaluate, Hook
from dnr_jax.training.trainer import Trainer
from tests.training.tiny import one_device, tiny_config

REPORT = Report(np.eye(3, dtype=np.float32), np.arange(3), ("a", "b", "c"), ("x", "y", "z"))


class Mean(nn.Module):
    """A network that is compiled at once."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return nn.Dense(3)(jnp.mean(x, axis=(1, 2, 3)))


class Noise:
    """Batches of noise from a step on, of which so many can be read."""

    def __init__(self, step: int, count: int = 100):
        self.step, self.left, self.closed = step, count, False

    def __next__(self):
        if not self.left:
            raise RunError("the videos are gone")
        self.left -= 1
        rng = np.random.default_rng(self.step)
        self.step += 1
        video = rng.integers(0, 256, (4, 4, 16, 16, 3), np.uint8)
        index = np.arange(4)
        return {"video": video, "label": index.astype(np.int32) % 3, "weight": np.ones(4, np.float32), "index": index}

    def close(self):
        self.closed = True


class Recall(Hook):
    """Notes every event."""

    def __init__(self):
        self.events = []

    def __getattribute__(self, name):
        if name in vars(Hook) and not name.startswith("_") and name not in ("state", "restore"):
            return lambda trainer=None, *what: self.events.append((name, getattr(trainer, "step", None)))
        return super().__getattribute__(name)

    def state(self):
        return {"seen": len(self.events)}

    def restore(self, progress):
        self.events = [("restored", progress["seen"])]


def make_trainer(*hooks: Hook, batches=Noise, steps: int = 2) -> Trainer:
    config = tiny_config("", steps=steps, eval_every=2)
    trainer = Trainer(config, Mean(), one_device(), batches, lambda variables, views: REPORT, "abcdefgh", hooks)
    trainer.begin()
    return trainer


def test_hooks_are_told_of_every_event_in_order():
    recall = Recall()
    trainer = make_trainer(recall, Evaluate())
    assert trainer.run() is REPORT
    steps = [("before_step", 0), ("after_step", 1), ("before_step", 1), ("after_step", 2)]
    evaluation = [("before_evaluation", 2), ("after_row", 2), ("after_evaluation", 2)]
    assert recall.events == [("start", 0), *steps, *evaluation, ("trained", 2), ("end", 2), ("close", None)]


def test_a_run_goes_on_from_its_state_and_what_its_hooks_remember():
    whole, half = make_trainer(steps=2), make_trainer(Recall(), steps=2)
    whole.run()
    half.total_steps = 1
    half.run()
    recall = Recall()
    again = make_trainer(recall, steps=2)
    again.go_on(half.state, half.progress(), step=1)
    assert recall.events == [("restored", 6)] and again.window.state() == half.window.state()
    again.run()
    jax.tree.map(np.testing.assert_array_equal, again.state.params, whole.state.params)
    jax.tree.map(np.testing.assert_array_equal, again.state.opt_state, whole.state.opt_state)


def test_input_that_ends_is_told_to_the_hooks_and_everything_is_closed():
    read = []

    def batches(step):
        read.append(Noise(step, count=1))
        return read[0]

    class Saves(Hook):
        def failed(self, trainer, error):
            raise RunError(f"{error}; step {trainer.step} is saved")

    recall = Recall()
    with pytest.raises(RunError, match="the videos are gone; step 1 is saved"):
        make_trainer(recall, Saves(), batches=batches).run()
    assert recall.events[-2:] == [("failed", 1), ("close", None)]
    assert read[0].closed


def test_a_hook_may_replace_the_state():
    class Freeze(Hook):
        """Puts the weights of the start back after each step."""

        def start(self, trainer):
            self.params = jax.device_get(trainer.state.params)

        def after_step(self, trainer):
            trainer.state = trainer.state.replace(params=jax.device_put(self.params, jax.devices()[0]))

    trainer = make_trainer(Freeze())
    before = jax.device_get(trainer.state.params)
    trainer.run()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(trainer.state.params), before)
    assert int(trainer.state.step) == 2
