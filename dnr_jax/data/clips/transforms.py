"""Crops and mirror images of clips on the host, and all that happens to a clip: uint8 ``[T, H, W, 3]`` in, uint8 out.

Geometry and rounding follow MMAction2 (``Resize``, ``MultiScaleCrop``, ``RandomResizedCrop``, ``CenterCrop``,
``ThreeCrop``, ``TenCrop``, ``Flip``). All frames of a clip are treated alike. A region is cut first and only it is
resized; OpenCV's bilinear resize is five times faster than PIL's. Crops may be views of their input.
"""

import collections
import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Gt, Le

from dnr_jax.config import Crop, DataConfig, RandAugment, register
from dnr_jax.data.clips import augment

# Clips are processed in parallel already: OpenCV's own threads would only compete with the readers.
cv2.setNumThreads(0)

# MMAction2 uses a crop that is almost of the final size as it is, to spare the interpolation.
_SNAP = 3
# Corners and centre, in quarters of the room that a crop has.
_FIVE_POSITIONS = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
# How often MMAction2 draws a box before it takes the central square.
_ATTEMPTS = 10
# What a word is in a mirror, where it stands alone.
_OPPOSITES = {"left": "right", "clockwise": "counterclockwise", "cw": "ccw"}
_OPPOSITES |= {opposite: word for word, opposite in _OPPOSITES.items()}
_SIDE = re.compile(rf"\b(?:{'|'.join(_OPPOSITES)})\b")
_SIDE_IN_WORD = re.compile("left|right|counterclockwise|clockwise")
_NEW_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def resize_short_side(frames: np.ndarray, size: int) -> np.ndarray:
    """Resize so that the shorter side has ``size`` pixels, keeping the aspect ratio.

    Args:
      frames: uint8 ``[T, H, W, 3]``.
      size: Pixels; 0 keeps the frames as they are.

    Returns:
      uint8 ``[T, h, w, 3]``; the longer side is rounded half up, as in MMAction2.
    """
    height, width = frames.shape[1:3]
    scale = size / min(height, width)
    return _resize(frames, int(height * scale + 0.5), int(width * scale + 0.5)) if size else frames


def multi_scale_crop(
    frames: np.ndarray,
    size: int,
    rng: np.random.Generator,
    scales: tuple[float, ...] = (1, 0.875, 0.75, 0.66),
) -> np.ndarray:
    """Cut a random box at one of five positions and resize it (TSN's augmentation, MMAction2's ``MultiScaleCrop``).

    Height and width are shares of the frame's shorter side, drawn from ``scales`` at most one step of the list apart,
    which bounds the change of aspect ratio. The box lies in a corner or in the centre.

    Args:
      frames: uint8 ``[T, H, W, 3]``.
      size: Side of the result in pixels. A side of the box within 3 pixels of it is set to it, where the frame allows.
      rng: Draws the box's height and width, and its position.
      scales: Shares of the shorter side, in descending order.

    Returns:
      uint8 ``[T, size, size, 3]``.
    """
    height, width = frames.shape[1:3]
    sides = [max(int(min(height, width) * scale), 1) for scale in scales]
    pairs = [(a, b) for (i, a), (j, b) in itertools.product(enumerate(sides), repeat=2) if abs(i - j) <= 1]
    box_height, box_width = pairs[rng.integers(len(pairs))]
    box_height, box_width = _snap(box_height, size, height), _snap(box_width, size, width)
    step_y, step_x = (height - box_height) // 4, (width - box_width) // 4
    y, x = _FIVE_POSITIONS[rng.integers(len(_FIVE_POSITIONS))]
    return _resize(_crop(frames, y * step_y, x * step_x, box_height, box_width), size, size)


def random_resized_crop(
    frames: np.ndarray,
    size: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
    """Cut a box of random area and aspect ratio and resize it (MMAction2's ``RandomResizedCrop``).

    Args:
      frames: uint8 ``[T, H, W, 3]``.
      size: Side of the result in pixels.
      rng: Draws ten aspect ratios, uniformly in their logarithm, then ten areas; the first box that the frame can hold
        is taken, at a random place, and the central square where there is none.
      area: Smallest and largest share of the frame's area.
      aspect: Smallest and largest ratio of width to height.

    Returns:
      uint8 ``[T, size, size, 3]``.
    """
    height, width = frames.shape[1:3]
    ratios = np.exp(rng.uniform(np.log(aspect[0]), np.log(aspect[1]), size=_ATTEMPTS))
    areas = rng.uniform(*area, size=_ATTEMPTS) * (height * width)
    boxes = np.maximum(np.round(np.sqrt([areas / ratios, areas * ratios])), 1).astype(np.int64).T
    for box_height, box_width in boxes:
        if box_height <= height and box_width <= width:
            x, y = rng.integers(width - box_width + 1), rng.integers(height - box_height + 1)
            return _resize(_crop(frames, y, x, box_height, box_width), size, size)
    return _resize(center_crop(frames, min(height, width)), size, size)


def center_crop(frames: np.ndarray, size: int) -> np.ndarray:
    """Cut the central square.

    Args:
      frames: uint8 ``[T, H, W, 3]``; frames smaller than the crop are first enlarged until it fits.
      size: Side of the square in pixels.

    Returns:
      uint8 ``[T, size, size, 3]``.
    """
    frames = _at_least(frames, size)
    height, width = frames.shape[1:3]
    return _crop(frames, (height - size) // 2, (width - size) // 2, size, size)


def three_crops(frames: np.ndarray, size: int) -> np.ndarray:
    """Cut three squares evenly spaced along the longer side, centred on the shorter.

    MMAction2's ``ThreeCrop`` requires ``size`` to be the shorter side; where it is smaller, the squares are centred on
    that side.

    Args:
      frames: uint8 ``[T, H, W, 3]``; frames smaller than the crop are first enlarged until it fits.
      size: Side of the squares in pixels.

    Returns:
      uint8 ``[3, T, size, size, 3]``: left, right, middle; or top, bottom, middle in upright frames.
    """
    frames = _at_least(frames, size)
    height, width = frames.shape[1:3]
    step = (max(height, width) - size) // 2
    along, across = (0, 2 * step, step), (min(height, width) - size) // 2
    boxes = [(across, start) if width >= height else (start, across) for start in along]
    return np.stack([_crop(frames, y, x, size, size) for y, x in boxes])


def ten_crops(frames: np.ndarray, size: int) -> np.ndarray:
    """Cut squares from the corners and the centre, each with its mirror image (MMAction2's ``TenCrop``).

    Args:
      frames: uint8 ``[T, H, W, 3]``; frames smaller than the crop are first enlarged until it fits.
      size: Side of the squares in pixels.

    Returns:
      uint8 ``[10, T, size, size, 3]``: upper left and its mirror image, then upper right, lower left, lower right and
      the centre.
    """
    frames = _at_least(frames, size)
    step_y, step_x = (frames.shape[1] - size) // 4, (frames.shape[2] - size) // 4
    crops = (_crop(frames, y * step_y, x * step_x, size, size) for y, x in _FIVE_POSITIONS)
    return np.stack([view for crop in crops for view in (crop, flip(crop))])


def flip(frames: np.ndarray) -> np.ndarray:
    """Mirror a clip left to right.

    Args:
      frames: uint8 ``[T, H, W, 3]``.

    Returns:
      uint8 ``[T, H, W, 3]``, a new array.
    """
    output = np.empty(frames.shape, np.uint8)
    for source, target in zip(frames, output, strict=True):
        cv2.flip(source, 1, dst=target)  # ten times faster than a view with a negative stride, once that is copied
    return output


def mirrored_labels(classes: Sequence[str]) -> tuple[int, ...]:
    """Find what the mirror image of each class shows.

    Args:
      classes: Names of the classes.

    Returns:
      For each class the position of the only one whose name differs by every "left" being "right" and the reverse
      (also "clockwise" and "counterclockwise" or "anticlockwise", "cw" and "ccw"), otherwise its own. How words are
      joined ("swipe_left", "Swipe-Left", "SwipeLeft", "swipeleft") and the case of letters do not matter. For
      Something-Something these are the pairs of MMAction2's ``flip_label_map``.
    """
    names = [_words(name) for name in classes]
    labels = collections.defaultdict(list)
    for label, name in enumerate(names):
        labels[name.replace(" ", "")].append(label)

    def image_of(label: int) -> int:
        for sides in (_SIDE, _SIDE_IN_WORD):  # "bright light, left" is not "bleft light, right"
            image = sides.sub(lambda match: _OPPOSITES[match[0]], names[label])
            found = labels[image.replace(" ", "")]
            if image != names[label] and len(found) == 1:
                return found[0]
        return label

    images = [image_of(label) for label in range(len(classes))]
    return tuple(image if images[image] == label else label for label, image in enumerate(images))


def one_sided(classes: Sequence[str]) -> list[str]:
    """Return the classes with a word of :func:`mirrored_labels` in their name of whose mirror image no class is."""
    mirrored = enumerate(mirrored_labels(classes))
    return [classes[label] for label, other in mirrored if label == other and _SIDE.search(_words(classes[label]))]


def _words(name: str) -> str:
    """Return the words of a class's name in lower case, with spaces between them; a sense of rotation is one word."""
    words = " ".join(re.findall(r"[^\W\d_]+|\d+", _NEW_WORD.sub(" ", name).lower()))
    return re.sub(r"\b(?:counter|anti) ?clockwise\b", "counterclockwise", words)


@register
@dataclasses.dataclass
class MultiScaleCrop(Crop):
    """A crop of 1, 0.875, 0.75 or 0.66 of the short side, from a corner or the centre (TSN)."""

    def __call__(self, frames: np.ndarray, short_side: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Crop a clip; see :func:`multi_scale_crop`. ``short_side`` does not matter to a share of the frames."""
        return multi_scale_crop(frames, size, rng)


@register
@dataclasses.dataclass
class RandomResizedCrop(Crop):
    """A crop of random area and aspect ratio."""

    area: tuple[Annotated[float, Gt(0), Le(1)], Annotated[float, Gt(0), Le(1)]] = (0.08, 1.0)
    """Smallest and largest share of the frame's area."""
    aspect: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (3 / 4, 4 / 3)
    """Smallest and largest ratio of width to height."""

    def problems(self) -> Iterator[str]:
        """Refuse limits in the wrong order."""
        for name, (low, high) in (("area", self.area), ("aspect", self.aspect)):
            if low > high:
                yield f"{name}: is {(low, high)}; expected the smaller number first"

    def __call__(self, frames: np.ndarray, short_side: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Crop a clip; see :func:`random_resized_crop`. ``short_side`` does not matter."""
        return random_resized_crop(frames, size, rng, self.area, self.aspect)


@register
@dataclasses.dataclass
class CenterCrop(Crop):
    """The centre of the frames."""

    def __call__(self, frames: np.ndarray, short_side: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Crop a clip of frames that are resized to ``short_side``; see :func:`center_crop`."""
        return center_crop(resize_short_side(frames, short_side), size)


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """What happens to a training clip, in this order: crop, mirror image, RandAugment, colour jitter.

    Attributes:
      short_side: Short side, in pixels, that the frames have when they are cropped; 0 keeps their size. A multi-scale
        crop is a share of the frame, so it is cut from the frames as they are and interpolated only once.
      crop_size: Side of the result in pixels.
      crop: Which part of the frames the clip shows.
      flip: Mirror half of the clips.
      mirrored: For each label that of the mirror image; empty: all keep theirs.
      rand_augment: Number, strength and share of RandAugment's operations; None: off.
      color_jitter: Strengths of :func:`dnr_jax.data.clips.augment.draw_color_jitter`.
    """

    short_side: int
    crop_size: int
    crop: Crop = dataclasses.field(default_factory=MultiScaleCrop)
    flip: bool = True
    mirrored: tuple[int, ...] = ()
    rand_augment: RandAugment | None = None
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    @classmethod
    def from_config(cls, data: DataConfig, classes: Sequence[str]) -> "TrainTransform":
        """Return the transform that a configuration asks for, for classes of these names."""
        return cls(
            data.short_side,
            data.crop_size,
            data.crop,
            data.flip,
            mirrored_labels(classes),
            data.rand_augment,
            data.color_jitter,
        )

    def __call__(self, frames: np.ndarray, label: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Change a clip with random numbers from ``rng``.

        Args:
          frames: uint8 ``[T, H, W, 3]``.
          label: Its class.
          rng: Draws only for what is switched on.

        Returns:
          uint8 ``[T, crop_size, crop_size, 3]`` and the class that it shows.
        """
        clip = self.crop(frames, self.short_side, self.crop_size, rng)
        if self.flip and rng.random() < 0.5:
            clip, label = flip(clip), self.mirrored[label] if self.mirrored else label
        if self.rand_augment:
            clip = augment.rand_augment(clip, augment.draw_rand_augment(**vars(self.rand_augment), rng=rng))
        if any(self.color_jitter):
            clip = augment.draw_color_jitter(self.color_jitter, rng)(clip)
        return clip, label


@dataclasses.dataclass(frozen=True)
class TestTransform:
    """The crops of a test clip.

    Attributes:
      short_side: Short side of the resized frames in pixels, raised to the crop where that is larger; 0 keeps their
        size.
      crop_size: Side of the crops in pixels.
      crops: 1 (:func:`center_crop`), 3 (:func:`three_crops`) or 10 (:func:`ten_crops`).

    Raises:
      ValueError: ``crops`` is none of these.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    short_side: int
    crop_size: int
    crops: int = 1

    def __post_init__(self) -> None:
        """Check the number of crops."""
        if self.crops not in (1, 3, 10):
            raise ValueError(f"crops is {self.crops}; expected 1 (centre), 3 (along the longer side) or 10")

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Map uint8 ``[T, H, W, 3]`` to uint8 ``[crops, T, crop_size, crop_size, 3]``."""
        frames = resize_short_side(frames, self.short_side and max(self.short_side, self.crop_size))
        if self.crops == 1:
            return center_crop(frames, self.crop_size)[None]
        return (three_crops if self.crops == 3 else ten_crops)(frames, self.crop_size)


def _resize(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    if frames.shape[1:3] == (height, width):
        return frames
    output = np.empty((len(frames), height, width, 3), np.uint8)
    for source, target in zip(frames, output, strict=True):
        cv2.resize(source, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return output


def _at_least(frames: np.ndarray, size: int) -> np.ndarray:
    return resize_short_side(frames, size) if min(frames.shape[1:3]) < size else frames


def _crop(frames: np.ndarray, y: int, x: int, height: int, width: int) -> np.ndarray:
    return frames[:, y : y + height, x : x + width]


def _snap(side: int, size: int, limit: int) -> int:
    return size if abs(side - size) < _SNAP and size <= limit else side
