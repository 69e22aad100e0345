"""The sections of an experiment about videos: where they are, which frames and which part of them are taken."""

import abc
import dataclasses
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from dnr_jax.config.parts import Part, named
from dnr_jax.config.paths import ExpandsPaths

Share = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
SourceKind = Literal["list", "folder", "dataset", "records", "demo"]


@dataclasses.dataclass
class Sampler(Part, abc.ABC):
    """Which frames of a video make a clip. Samplers derive from it and are registered."""

    room = "dnr_jax.data.clips.sampling"

    num_frames: Annotated[int, Ge(1)] = 8
    """Frames of a clip, T."""

    @property
    def clip_frames(self) -> int:
        """Frames of a clip."""
        return self.num_frames

    @abc.abstractmethod
    def train(self, total: Any, rng: np.random.Generator) -> np.ndarray:
        """Draw a training clip.

        Args:
          total: frames of the video, an int with the attribute ``rate``: frames a second, 0 where it is not known.
          rng: all random numbers are from here.

        Returns:
          Indices of frames, int64 ``[1, clip_frames]``.
        """

    @abc.abstractmethod
    def test(self, total: Any, clips: int, twice: bool = False) -> np.ndarray:
        """Return the clips of an evaluation, which are not random.

        Args:
          total: as for :meth:`train`.
          clips: number of clips, evenly spaced.
          twice: twice as many.

        Returns:
          Indices of frames, int64 ``[clips, clip_frames]``, or twice as many clips.
        """


@dataclasses.dataclass
class Crop(Part, abc.ABC):
    """Which part of its frames a training clip shows. Crops derive from it and are registered."""

    room = "dnr_jax.data.clips.transforms"

    @abc.abstractmethod
    def __call__(self, frames: np.ndarray, short_side: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Crop a clip.

        Args:
          frames: uint8 ``[T, H, W, 3]``.
          short_side: of the frames, in pixels, where the crop has a size in pixels; 0: as it is.
          size: side of the result.
          rng: all random numbers are from here.

        Returns:
          uint8 ``[T, size, size, 3]``.
        """


@dataclasses.dataclass
class RandAugment:
    """RandAugment of the training clips, in the notation of timm ``rand-m{magnitude}-n{layers}-mstd{std}-inc1``."""

    layers: Annotated[int, Ge(1)] = 4
    """Operations drawn for a clip (PySlowFast: 4)."""
    magnitude: Annotated[float, Ge(0), Le(10)] = 7.0
    """Mean of their strengths, from 0 to 10."""
    magnitude_std: Annotated[float, Ge(0)] = 0.5
    """Standard deviation of the strengths."""
    probability: Annotated[float, Ge(0), Le(1)] = 0.5
    """Share of the drawn operations that are applied."""


@dataclasses.dataclass
class DataConfig(ExpandsPaths):
    """Where the videos are, which frames are read, and what is done to them."""

    PATHS = ("root", "annotations", "train_list", "val_list", "label_map", "cache_dir")
    source: SourceKind = "list"
    """``list``: annotation files with ``path label`` lines; ``folder``: one folder a class; ``dataset``: a public data
    set as it is on the disk; ``records``: what ``dnr prepare`` wrote; ``demo``: generated."""
    root: str = ""
    """Folder of the videos: for ``list`` the one that paths are relative to; for ``folder`` it holds ``train/`` and
    ``val/``; for ``records`` the prepared data set."""
    dataset: str = ""
    """For ``dataset``: its name, such as ``kinetics400`` or ``ucf101``."""
    annotations: str = ""
    """For ``dataset``: the folder of the annotation files; empty: looked for in ``root``."""
    fold: Annotated[int, Ge(1)] = 1
    """For ``dataset``: which of the three official divisions of UCF101 and HMDB51."""
    train_list: str = ""
    """For ``list``: the annotation file of the training videos."""
    val_list: str = ""
    """For ``list``: that of the validation videos."""
    label_map: str = ""
    """Optional file of the classes, such as one name a line in the order of the labels; docs/data.md tells formats."""
    cache_dir: str = ""
    """Where the demo's videos are kept; empty: the user's cache folder."""
    demo_train_videos: Annotated[int, Ge(1)] = 480
    """For ``demo``: how many training videos are generated."""
    demo_val_videos: Annotated[int, Ge(1)] = 120
    """For ``demo``: how many validation videos."""
    sampler: Sampler = dataclasses.field(default_factory=lambda: named(Sampler, "Dense")())
    """Which frames of a video make a clip, and how many."""
    short_side: Annotated[int, Ge(0)] = 256
    """Frames are resized so that their shorter side has this many pixels; 0 keeps their size."""
    crop_size: Annotated[int, Ge(1)] = 224
    """Sides of a training clip in pixels."""
    crop: Crop = dataclasses.field(default_factory=lambda: named(Crop, "MultiScaleCrop")())
    """Which part of the frames a training clip shows."""
    flip: bool = True
    """Mirror half of the training clips. Where the names of two classes differ by "left" and "right" alone, the label
    changes too. Switch off where a class has a left or a right that its name does not tell."""
    color_jitter: tuple[Share, Share, Share, Annotated[float, Ge(0), Le(0.5)]] = (0.0, 0.0, 0.0, 0.0)
    """Strengths of random changes of brightness, contrast, saturation and hue (MMAction2: 0.5, 0.5, 0.5, 0.1)."""
    rand_augment: RandAugment | None = None
    """Random operations on training clips; None: off."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Of the pixels' colours, from 0 to 255; taken off before the network."""
    std: tuple[Positive, Positive, Positive] = (58.395, 57.12, 57.375)
    """Standard deviation of the colours, by which they are divided."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order of colours in ``mean``, ``std`` and for the network: ``rgb``, or ``bgr`` for weights that Caffe trained."""
    num_threads: Annotated[int, Ge(0)] = 0
    """Decoding threads a process (or a worker); 0: one a core (the workers share the cores), at most 16."""
    num_workers: Annotated[int, Ge(-1)] = 0
    """Worker processes; 0: threads only; -1: one for every 8 cores where there are at least 16, otherwise none."""
    max_failures: Annotated[float, Ge(0), Le(1)] = 0.1
    """The run ends when more than this share of the videos read so far could not be decoded."""

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Shape of a training clip: ``(T, H, W, 3)``."""
        return self.sampler.clip_frames, self.crop_size, self.crop_size, 3
