"""Answers of a network whose scores are written down, with readers in this process."""

import concurrent.futures
import dataclasses
import pathlib

import numpy as np

from dnr_jax.app import answers
from dnr_jax.app.similar import TrainingClips
from dnr_jax.evaluation.predict import Predictor
from dnr_jax.serve.decoding import Limits, Readers
from tests.explain.colours import colours_run


class ThreadReaders(Readers):
    """Reads in a thread."""

    def __init__(self, *settings) -> None:
        self._settings, self._limits = settings, settings[-1]
        self._pool, self._started = concurrent.futures.ThreadPoolExecutor(1), []

    def read(self, path, how=None):
        return self._pool.submit(how, path, *self._settings)

    def close(self) -> None:
        self._pool.shutdown()


def colours_answers(folder: pathlib.Path, limits: Limits) -> answers.Answers:
    """Answers of the network of colours, with three training clips; call where :class:`ThreadReaders` is patched in."""
    run = dataclasses.replace(colours_run(), workdir=folder, classes=("red", "green", "<b>&\udcff"))
    features = np.eye(3, dtype=np.float32)
    clips = TrainingClips(0, 3, features, ["r.mp4", "<img src=x>.mp4", "b\udcff.mp4"], run.classes, [b"film"] * 3)
    return answers.Answers(Predictor(run, top=2), limits, clips)


def coloured(channel: int, frames: int = 60, side: int = 16) -> np.ndarray:
    """Frames of one colour, with noise for the map to see."""
    pixels = np.random.default_rng(0).integers(0, 60, (frames, side, side, 3), np.uint8)
    pixels[..., channel] += 180
    return pixels
