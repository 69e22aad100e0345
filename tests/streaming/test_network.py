"""The state of relays from window to window."""

import types
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax import CrossTemporalDNR, StaticNorm
from dnr_jax.config import DataConfig, EvaluationConfig, ExperimentConfig
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.streaming.network import Scorer, make_carrying_step, relay_state


class OnlyRelays(nn.Module):
    """Frames by themselves but for the relay; scores of a clip are the means of its frames'."""

    norm: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Conv(4, (3, 3), use_bias=False)(x)
        _, x = self.norm(None, x, use_running_average=not train)
        return nn.Dense(3)(jnp.mean(nn.relu(x), axis=(1, 2, 3)))


def experiment() -> ExperimentConfig:
    data = DataConfig(sampler=Segments(num_frames=4), short_side=0, crop_size=8)
    return ExperimentConfig(data=data, evaluation=EvaluationConfig(average="score"))


def variables_of(model: nn.Module) -> Any:
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4, 8, 8, 3)), train=False)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return jax.tree.unflatten(
        tree, [leaf + 0.5 * jax.random.uniform(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    )


@pytest.mark.slow
@pytest.mark.parametrize("initial_state", ["zeros", "learned"])
def test_two_windows_are_one_long_clip(quick_compile, initial_state):
    model = OnlyRelays(CrossTemporalDNR(relay_distance=2, depth=2, initial_state=initial_state))
    variables, config = variables_of(model), experiment()
    config.data.mean, config.data.std = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)
    video = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 8, 3), np.uint8)  # crops, frames
    whole = jax.nn.softmax(jnp.mean(model.apply(variables, jnp.asarray(video, jnp.float32) / 255, train=False), axis=0))
    state = relay_state(model, variables, (2, 4, 8, 8, 3))
    if initial_state == "learned":
        assert all(np.ptp(leaf) > 0.01 for leaf in jax.tree.leaves(state))
    windows = video.reshape(2, 2, 4, 8, 8, 3).swapaxes(0, 1)
    step = make_carrying_step(model, config)
    _, together = step(variables, state, windows)
    left, first = step(variables, state, windows[:1])
    _, second = step(variables, left, windows[1:])
    np.testing.assert_allclose(together, jnp.concatenate([first, second]), rtol=1e-5)
    # The mean of the windows' logits is that of the whole; a softmax tells them but for a constant.
    logits = jnp.mean(jnp.log(together), axis=0)
    np.testing.assert_allclose(jax.nn.softmax(logits), whole, rtol=1e-5)
    _, anew = step(variables, state, windows[1:])
    assert np.abs(anew[0] - together[1]).max() > 1e-4


@pytest.mark.slow
def test_networks_without_relays_have_no_state_and_backward_ones_cannot_be_carried():
    shape = (1, 4, 8, 8, 3)
    static = OnlyRelays(StaticNorm())
    assert relay_state(static, variables_of(static), shape) is None
    both = OnlyRelays(CrossTemporalDNR(relay_distance=2, direction="bidirectional"))
    with pytest.raises(ValueError, match="a bidirectional relay cannot be streamed"):
        relay_state(both, variables_of(both), shape)


def test_windows_are_scored_in_batches_of_one_shape():
    """Without a state to carry, by the predictor; the last batch is filled up."""
    batches = []

    def score(video: np.ndarray) -> np.ndarray:
        batches.append(video)
        return video[:, 0, 0, 0, 0].astype(np.float32) / 255

    run = types.SimpleNamespace(config=experiment(), model=OnlyRelays(StaticNorm()))
    predictor: Any = types.SimpleNamespace(run=run, evaluation=EvaluationConfig(clips=10, crops=3), score=score)
    scorer = Scorer(predictor, batch=4, carry=False)
    assert (scorer.carries, scorer.side) == (False, 0)
    clips = [np.full((4, 8, 12, 3), level, np.uint8) for level in (51, 102)]
    np.testing.assert_allclose(scorer.score(clips), [[0.2] * 3, [0.4] * 3])
    assert batches[0].shape == (4, 3, 4, 8, 8, 3)
    assert not batches[0][2:].any()
