"""The sections of an experiment about videos: where they are, which frames and which part of them are taken."""

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from annotated_types import Ge, Gt, Le

from dnr_jax.config.former import moved
from dnr_jax.config.parts import ConfigError, KnownFields, Part, named
from dnr_jax.config.paths import ExpandsPaths, missing_locations, path_fields
from dnr_jax.config.videos import Catalogue, VideoSource

Share = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]


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

    def extent(self, rate: float) -> int:
        """Return how many frames of a video a clip spans; 0: all of them, however many there are.

        Args:
          rate: frames per second of the video; 0: not known.
        """
        return 0

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
class Source(ExpandsPaths, Part, abc.ABC):
    """Which videos there are, and what each one shows. Sources derive from it and are registered.

    Fields that say where data lies are marked as :class:`~dnr_jax.config.Location`.
    """

    room = "dnr_jax.data.catalogue.sources"

    @abc.abstractmethod
    def load(self) -> tuple[VideoSource, VideoSource]:
        """Find the training and the validation videos; both have the same ``classes``.

        Raises:
          FileNotFoundError: a file or folder is missing; the message says which, and what is expected there.
          ValueError: what is there cannot be trained on, such as a malformed list or a video with several labels.
        """

    def load_split(self, split: str) -> VideoSource:
        """Find the videos of one split; a source that can does not need the others to be there.

        Without the training videos, classes are those that the split itself names: whoever compares them with others
        goes by name (:func:`dnr_jax.data.catalogue.classes.with_classes`).

        Raises:
          FileNotFoundError: as for :meth:`load`.
          ValueError: as for :meth:`load`, or where there is no such split.
        """
        return self.open((split,)).splits[split]

    def open(self, splits: Sequence[str] | None = None) -> Catalogue:
        """Find the videos, and what is missing or wrong among them, which does not end it.

        Args:
          splits: which splits; None: ``train`` and ``val``, or all there are.

        Raises:
          FileNotFoundError: as for :meth:`load`.
          ValueError: where nothing can be made of what is there, or where there is no such split.
        """
        pair = dict(zip(("train", "val"), self.load(), strict=True))
        if unknown := [split for split in splits or () if split not in pair]:
            raise ValueError(f"{type(self).__name__} has no split '{unknown[0]}'; expected train or val")
        found = {split: pair[split] for split in splits or pair}
        return Catalogue(type(self).__name__.lower(), pair["train"].classes, found)

    @classmethod
    def found_in(cls, folder: str) -> Self | None:
        """Return the source that a folder holds, where it tells by itself that it is of this class."""
        return None

    def path_problems(self) -> Iterator[str]:
        """Find files and folders that are not there, as ``field: what; what would be right``."""
        yield from missing_locations(self)

    @property
    def place(self) -> str:
        """Where the videos lie, for people: the first path that is not empty."""
        return next(filter(None, (getattr(self, name) for name in path_fields(type(self)))), "")


@dataclasses.dataclass
class DataConfig(KnownFields):
    """Where the videos are, which frames are read, and what is done to them."""

    source: Source = dataclasses.field(default_factory=lambda: named(Source, "Lists")())
    """Where the videos are, and what each one shows."""
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
    """The run ends when more than this share of the videos read so far, or of a validation, could not be decoded."""

    def problems(self) -> Iterator[str]:
        """Refuse colours that are meant from 0 to 1, as PySlowFast and torchvision have them."""
        if min(self.std) < 1:
            yield (
                f"std: is {self.std}, where colours count from 0 to 255; of colours from 0 to 1, write mean and std "
                f"times 255: std {tuple(round(255 * value, 3) for value in self.std)}"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; one of a former version is answered with where it is now."""
        if elsewhere := moved(f"data.{name}"):
            raise ConfigError(f"no field 'data.{name}': {elsewhere}")
        super().__setattr__(name, value)

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Shape of a training clip: ``(T, H, W, 3)``."""
        return self.sampler.clip_frames, self.crop_size, self.crop_size, 3
