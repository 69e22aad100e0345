"""A network whose scores and gradients are written down, and a run that holds it."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dnr_jax.config import DataConfig, ExperimentConfig
from dnr_jax.data.catalogue.sources import Folder
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.models import TSN
from dnr_jax.runs.folder import Run

T, SIDE = 4, 8
MEAN = (100.0, 110.0, 120.0)
WEIGHTS = np.array([[2.0, -1.0, 0.5], [-0.5, 3.0, 0.25], [0.1, 0.2, -4.0]], np.float32)
"""Of the colours, for each class."""


class Half(nn.Module):
    """Each pair of frames and square of 2 x 2 pixels averaged, then a ReLU."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, t, h, w, c = x.shape
        return nn.relu(jnp.mean(x.reshape(n, t // 2, 2, h // 2, 2, w // 2, 2, c), axis=(2, 4, 6)))


class Colours(nn.Module):
    """Scores that are squares of weighted sums of :class:`Half`, with half of their sign kept."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        sums = jnp.einsum("nthwc,kc->nk", Half(name="half")(x), jnp.asarray(WEIGHTS))
        return 0.1 * sums + 0.001 * sums**2


def literal_scores(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores ``[K]``, features ``[T', H', W', C]`` and the derivatives of the scores by the sums ``[K]``."""
    video = (clip.astype(np.float64) - MEAN) / 50
    features = np.zeros((T // 2, SIDE // 2, SIDE // 2, 3))
    for t, h, w in np.ndindex(*features.shape[:3]):
        features[t, h, w] = np.maximum(
            video[2 * t : 2 * t + 2, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2].mean((0, 1, 2)), 0
        )
    sums = sum(WEIGHTS @ features[place] for place in np.ndindex(*features.shape[:3]))
    return 0.1 * sums + 0.001 * sums**2, features, 0.1 + 0.002 * sums


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max()


def colours_run() -> Run:
    """A run with the network, which needs no training."""
    data = DataConfig(
        source=Folder("."), sampler=Segments(T), short_side=0, crop_size=SIDE, mean=MEAN, std=(50.0, 50.0, 50.0)
    )
    config = ExperimentConfig(model=TSN(num_classes=3), data=data)
    return Run(config, ("red", "green", "blue"), Colours(), {}, 0, pathlib.Path("runs/colours"))
