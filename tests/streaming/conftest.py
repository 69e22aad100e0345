"""Videos whose brightness says what they show, and a predictor that reads it: nothing is compiled."""

import pathlib
import types
from collections.abc import Sequence
from typing import Any

import av
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import DataConfig, EvaluationConfig, ExperimentConfig
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.evaluation.predict import Predictor

CLASSES = ("dark", "grey", "light")
LEVELS = (30, 128, 225)


def write_scenes(
    path: pathlib.Path, scenes: Sequence[tuple[str, int]], rate: int = 10, sound: bool = False, size: int = 32
) -> pathlib.Path:
    """Write a video that shows each label for so many frames."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "g": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = size * 3 // 2, size, "yuv420p"
        voice: Any = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        for label, frames in scenes:
            image = np.full((size, size * 3 // 2, 3), LEVELS[CLASSES.index(label)], np.uint8)
            for _ in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
        if voice:
            seconds = sum(frames for _, frames in scenes) / rate
            noise = np.zeros((1, int(8000 * seconds)), np.float32)
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            frame.sample_rate = 8000
            container.mux([*voice.encode(frame), *voice.encode()])
    return path


class Blind(nn.Module):
    """A network without relays, and without anything else."""

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return jnp.zeros((x.shape[0], 3))


@pytest.fixture
def predictor() -> Any:
    """A predictor of TSN's sort (four frames of a window), without relays, that tells dark from light."""
    data = DataConfig(sampler=Segments(num_frames=4), short_side=16, crop_size=16)
    config = ExperimentConfig(data=data)
    run: Any = types.SimpleNamespace(config=config, classes=CLASSES, model=Blind(), variables={})

    def score(video: np.ndarray) -> np.ndarray:
        level = video.astype(np.float32).mean(axis=(1, 2, 3, 4, 5))
        nearest = np.abs(level[:, None] - np.array(LEVELS)).argmin(axis=1)
        return np.float32(0.05) + np.float32(0.85) * np.eye(3, dtype=np.float32)[nearest]

    made = object.__new__(Predictor)
    vars(made).update(run=run, top=2, evaluation=EvaluationConfig(), variables={}, score=score)
    return made
