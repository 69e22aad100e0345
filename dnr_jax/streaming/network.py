"""The network on windows: in batches, or one after the other with the state of its relays handed on."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dnr_jax.config import ExperimentConfig
from dnr_jax.data.clips.pipeline import evaluation_side, views_of_clip
from dnr_jax.dnr.norm import RELAY_STATE
from dnr_jax.dnr.statistics import Variables
from dnr_jax.evaluation.predict import Predictor
from dnr_jax.runs.devices import compiler_options
from dnr_jax.runs.inference import normalize


def relay_state(model: nn.Module, variables: Variables, clip_shape: tuple[int, ...]) -> Any:
    """Return the state that the relays of a network start a video with; None where it has none to hand on.

    Args:
      model: a recogniser.
      variables: its ``params`` and ``batch_stats``.
      clip_shape: of its clips, ``(N, T, H, W, 3)``.

    Raises:
      ValueError: where a relay is bidirectional: its backward cell would have to start from the end of the video.
    """
    clip = jax.ShapeDtypeStruct(clip_shape, jnp.float32)
    apply = lambda given, x: model.apply(given, x, train=False, mutable=[RELAY_STATE])[1]  # noqa: E731
    shapes = jax.eval_shape(apply, variables, clip).get(RELAY_STATE, {})
    if not jax.tree.leaves(shapes):
        return None
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _initial(path, leaf, variables), shapes)


def _initial(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct, variables: Variables) -> jax.Array:
    """Return zeros, or what a relay has learned to start from; ``path`` ends in ``state``, layer, ``h`` or ``c``."""
    *layer, _, depth, which = path
    found: Any = variables["params"]
    for key in layer:
        found = found.get(key.key, {})
    learned = found.get("relay", {}).get("initial_state")
    if learned is None:
        return jnp.zeros(leaf.shape, leaf.dtype)
    # Of blocks under a scan, all begin with the axis of the blocks.
    start = learned[..., depth.idx, which.idx, None, None, :].astype(leaf.dtype)
    return jnp.broadcast_to(start, leaf.shape)


def make_carrying_step(model: nn.Module, config: ExperimentConfig) -> Any:
    """Return the jitted step ``(variables, state, video) -> (state, scores)``, which hands the state of relays on.

    ``video`` is uint8 ``[B, V, T, H, W, 3]``, of B windows that follow one another with V crops each; ``scores`` are
    probabilities float32 ``[B, K]``, averaged over the crops as the evaluation does.
    """
    dtype = jnp.dtype(config.model.dtype)
    of_probabilities = config.evaluation.average == "probability"

    def window(variables: Variables, state: Any, views: jax.Array) -> tuple[Any, jax.Array]:
        given = {**variables, RELAY_STATE: state}
        logits, left = model.apply(given, normalize(views, config.data, dtype), train=False, mutable=[RELAY_STATE])
        scores = jax.nn.softmax(logits) if of_probabilities else logits
        average = jnp.mean(scores, axis=0)
        return left[RELAY_STATE], average if of_probabilities else jax.nn.softmax(average)

    def step(variables: Variables, state: Any, video: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(lambda state, views: window(variables, state, views), state, video)

    return jax.jit(step, compiler_options=compiler_options(jax.default_backend()))


class Scorer:
    """Scores windows in their order, several at once.

    Attributes:
      batch: windows at once.
      carries: whether relays start a window with the state that they ended the one before with.
    """

    def __init__(self, predictor: Predictor, batch: int, carry: bool):
        """Prepare for one video.

        Args:
          predictor: the network.
          batch: windows at once; the last batch is filled up.
          carry: hand the state of cross-temporal relays on, where the network has it and where they run forward.
        """
        run = predictor.run
        self._predictor, self.batch = predictor, batch
        self._evaluation = dataclasses.replace(predictor.evaluation, clips=1, twice_sample=False)
        side = self._evaluation.crop_size or run.config.data.crop_size
        self._state: Any = None
        if carry and getattr(run.config.model.norm, "direction", "forward") == "forward":
            shape = self._evaluation.crops, run.config.data.sampler.clip_frames, side, side, 3
            self._state = relay_state(run.model, predictor.variables, shape)
        self.carries = self._state is not None
        self._step = make_carrying_step(run.model, run.config) if self.carries else None

    @property
    def side(self) -> int:
        """Short side of the frames that are wanted, in pixels; 0: as they are."""
        return evaluation_side(self._predictor.run.config.data, self._evaluation)

    def score(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return probabilities float32 ``[n, K]`` of at most ``batch`` windows, frames uint8 ``[T, h, w, 3]`` each."""
        data = self._predictor.run.config.data
        views = np.stack([views_of_clip(clip, data, self._evaluation) for clip in clips])
        video = np.concatenate([views, np.zeros((self.batch - len(views), *views.shape[1:]), np.uint8)])
        if self._step is None:
            return self._predictor.score(video)[: len(clips)]
        with self._predictor.device:
            self._state, scores = self._step(self._predictor.variables, self._state, video)
            return np.asarray(scores)[: len(clips)]
