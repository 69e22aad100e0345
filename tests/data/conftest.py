import pathlib

import pytest

from dnr_jax.config import DataConfig
from dnr_jax.data.catalogue.sources import Folder
from dnr_jax.data.clips import decode
from dnr_jax.data.clips.sampling import Dense
from tests.data.videos import moving_frames


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory) -> pathlib.Path:
    """``train/`` with 11 videos of 3 classes and ``val/`` with 5 of 2; lengths from 5 to 20 frames."""
    root = tmp_path_factory.mktemp("videos")
    for split, classes, count in [("train", ["jump", "run", "walk"], 11), ("val", ["jump", "run"], 5)]:
        for number in range(count):
            folder = root / split / classes[number % len(classes)]
            folder.mkdir(parents=True, exist_ok=True)
            frames = moving_frames(5 + 3 * (number % 6), seed=number)
            decode.encode_video(str(folder / f"{number:02d}.mp4"), frames, options={"preset": "ultrafast"})
    return root


@pytest.fixture
def data(video_folder) -> DataConfig:
    """Clips of 3 frames of 16 pixels, read in two threads."""
    return DataConfig(
        source=Folder(str(video_folder)),
        sampler=Dense(num_frames=3, interval=2),
        short_side=24,
        crop_size=16,
        num_threads=2,
    )
