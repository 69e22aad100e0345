"""Spatial transforms of clips on the host: uint8 ``[T, H, W, 3]`` in, uint8 out.

Geometry and rounding follow MMAction2 (``Resize``, ``MultiScaleCrop``, ``CenterCrop``, ``ThreeCrop``). All frames of a
clip are treated alike. A region is cut first and only that region is resized; OpenCV's bilinear resize is five times
faster than PIL's. Crops may be views of their input.
"""

import dataclasses
import itertools

import cv2
import numpy as np

# Clips are processed in parallel already: OpenCV's own threads would only compete with the readers.
cv2.setNumThreads(0)

# MMAction2 uses a crop that is almost of the final size as it is, to spare the interpolation.
_SNAP = 3


def resize_short_side(frames: np.ndarray, size: int) -> np.ndarray:
    """Resizes so that the shorter side has ``size`` pixels, keeping the aspect ratio.

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
    """Cuts a random box at one of five positions and resizes it (TSN's augmentation, MMAction2's ``MultiScaleCrop``).

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
    sides = [int(min(height, width) * scale) for scale in scales]
    pairs = [(a, b) for (i, a), (j, b) in itertools.product(enumerate(sides), repeat=2) if abs(i - j) <= 1]
    box_height, box_width = pairs[rng.integers(len(pairs))]
    box_height, box_width = _snap(box_height, size, height), _snap(box_width, size, width)
    step_y, step_x = (height - box_height) // 4, (width - box_width) // 4
    positions = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    y, x = positions[rng.integers(len(positions))]
    return _resize(_crop(frames, y * step_y, x * step_x, box_height, box_width), size, size)


def center_crop(frames: np.ndarray, size: int) -> np.ndarray:
    """Cuts the central square.

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
    """Cuts three squares evenly spaced along the longer side, centred on the shorter.

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


def flip(frames: np.ndarray) -> np.ndarray:
    """Mirrors a clip left to right.

    Args:
      frames: uint8 ``[T, H, W, 3]``.

    Returns:
      uint8 ``[T, H, W, 3]``, a new array.
    """
    output = np.empty(frames.shape, np.uint8)
    for source, target in zip(frames, output, strict=True):
        cv2.flip(source, 1, dst=target)  # ten times faster than a view with a negative stride, once that is copied
    return output


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Random crop and mirror image of a training clip.

    Attributes:
      short_side: Short side, in pixels, that the frames have when they are cropped; 0 keeps their size. A multi-scale
        crop is a share of the frame, so it is cut from the frames as they are and interpolated only once.
      crop_size: Side of the result in pixels.
      multi_scale: :func:`multi_scale_crop`; otherwise :func:`center_crop`.
      flip: Mirror half of the clips.
    """

    short_side: int
    crop_size: int
    multi_scale: bool = True
    flip: bool = True

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Maps uint8 ``[T, H, W, 3]`` to uint8 ``[T, crop_size, crop_size, 3]``, with random numbers from ``rng``."""
        if self.multi_scale:
            clip = multi_scale_crop(frames, self.crop_size, rng)
        else:
            clip = center_crop(resize_short_side(frames, self.short_side), self.crop_size)
        return flip(clip) if self.flip and rng.random() < 0.5 else clip


@dataclasses.dataclass(frozen=True)
class TestTransform:
    """The crops of a test clip.

    Attributes:
      short_side: Short side of the resized frames in pixels, raised to the crop where that is larger; 0 keeps their
        size.
      crop_size: Side of the crops in pixels.
      crops: 1 (:func:`center_crop`) or 3 (:func:`three_crops`).

    Raises:
      ValueError: ``crops`` is neither 1 nor 3.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    short_side: int
    crop_size: int
    crops: int = 1

    def __post_init__(self) -> None:
        """Checks the number of crops."""
        if self.crops not in (1, 3):
            raise ValueError(f"crops is {self.crops}; expected 1 (centre) or 3 (along the longer side)")

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Maps uint8 ``[T, H, W, 3]`` to uint8 ``[crops, T, crop_size, crop_size, 3]``."""
        frames = resize_short_side(frames, self.short_side and max(self.short_side, self.crop_size))
        if self.crops == 3:
            return three_crops(frames, self.crop_size)
        return center_crop(frames, self.crop_size)[None]


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
