"""What a report shows of the videos themselves: clips as film strips, durations and resolutions."""

import base64
import concurrent.futures
import dataclasses
import functools
import io
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from PIL import Image

from dnr_jax.config import ConfigError, ExperimentConfig, VideoSource, single_view
from dnr_jax.data.clips.cores import available_cores
from dnr_jax.data.clips.decode import DecodeError, FrameCount, decode_frames
from dnr_jax.data.clips.pipeline import load_clip

FRAMES = 8
"""Frames of a film strip, at most."""
SIDE = 112
"""Height and width of a film strip's frame, in pixels."""
_QUALITIES = (60, 40, 20)
_STRIP_BYTES = 30_000
"""A strip that takes more is encoded at the next quality."""
_PROBED = 1000
"""So many videos are looked into for their durations; of more, a random sample."""


@dataclasses.dataclass(frozen=True, eq=False)
class Videos:
    """The videos of a report, as far as they can be read now.

    Attributes:
      source: where they are; None where nothing is.
      missing: why there is none; empty where there is one.
      config: of the run, which says how they are read.
    """

    source: VideoSource | None
    missing: str
    config: ExperimentConfig

    @functools.cached_property
    def _positions(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.source.names)} if self.source else {}

    def clip(self, name: str) -> np.ndarray | None:
        """Return what the network sees of a video in one view, uint8 ``[T, H, W, 3]``; None where it cannot be read."""
        if self.source is None or name not in self._positions:
            return None
        try:
            view = single_view(self.config.evaluation)
            return load_clip(self.source.media(self._positions[name]), self.config.data, view)[0]
        except (DecodeError, OSError):
            return None

    def facts(self, names: Sequence[str]) -> dict[str, tuple[float, int]]:
        """Return the duration in seconds (0: not known) and the short side in pixels of videos that can be read."""
        known = [name for name in names if name in self._positions]
        if len(known) > _PROBED:
            known = [known[i] for i in np.random.default_rng(0).choice(len(known), _PROBED, replace=False)]
        with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
            found = zip(known, pool.map(self._probe, known), strict=True)
            return {name: facts for name, facts in found if facts}

    def _probe(self, name: str) -> tuple[float, int] | None:
        assert self.source is not None
        counts: list[FrameCount] = []

        def first(count: FrameCount) -> np.ndarray:
            counts.append(count)
            return np.zeros(1, np.int64)

        try:
            frames, _ = decode_frames(self.source.media(self._positions[name]), first)
        except (DecodeError, OSError):
            return None
        count = counts[-1]
        return (count / count.rate if count.rate else 0.0), min(frames.shape[1:3])


def open_videos(config: ExperimentConfig, split: str = "val") -> Videos:
    """Return the videos of a run's data; where they are no longer there, the reason."""
    try:
        return Videos(config.data.source.load_split(split), "", config)
    except (ConfigError, OSError, ValueError) as error:
        return Videos(None, str(error), config)


@dataclasses.dataclass(frozen=True)
class Strip:
    """A few frames of a clip side by side, as a picture.

    Attributes:
      data: the picture, a URL that holds it.
      frames: how many there are.
    """

    data: str
    frames: int


def strip(clip: np.ndarray) -> Strip:
    """Return the film strip of a clip, uint8 ``[T, H, W, 3]``: WebP of about 30 kB at most, whatever it shows."""
    chosen = np.linspace(0, len(clip) - 1, min(len(clip), FRAMES)).round().astype(int)
    frames = [cv2.resize(clip[i], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for i in chosen]
    return Strip(encoded(np.concatenate(frames, axis=1)), len(frames))


def encoded(pixels: np.ndarray) -> str:
    """Return a picture, uint8 ``[H, W, 3]``, as a URL that holds it: WebP of 30 kB, or what its worst quality takes."""
    picture, content = Image.fromarray(pixels), b""
    for quality in _QUALITIES:
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=quality, method=4)
        content = file.getvalue()
        if len(content) <= _STRIP_BYTES:
            break
    return data_url(content, "image/webp")


def data_url(content: bytes, kind: str) -> str:
    """Return a URL that holds a file of a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


class Strips:
    """Film strips by the names of the videos, each made once, until what is shown of them takes too much room."""

    def __init__(self, videos: Videos, budget: int):
        """Take at most ``budget`` bytes of the page."""
        self._videos, self._left = videos, budget
        self._made: dict[str, Strip | None] = {}

    def __getitem__(self, name: str) -> Strip | None:
        """Return the strip of a video, to be shown once more; None where it cannot be read, or for want of room."""
        if self._left <= 0:
            return None
        if name not in self._made:
            clip = self._videos.clip(name)
            self._made[name] = strip(clip) if clip is not None else None
        made = self._made[name]
        self._left -= len(made.data) if made else 0
        return made


def first_clips(videos: Videos, names: Iterable[str], count: int) -> dict[str, np.ndarray]:
    """Return the clips of the first ``count`` videos that can be read, uint8 ``[T, H, W, 3]`` each, by their names."""
    clips: dict[str, np.ndarray] = {}
    for name in names:
        if len(clips) == count:
            break
        clip = videos.clip(name)
        if clip is not None:
            clips[name] = clip
    return clips
