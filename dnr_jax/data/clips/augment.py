"""Colours and shapes of training clips changed at random: colour jitter and RandAugment, on uint8 ``[T, H, W, 3]``.

What changes is drawn once a clip, so that all its frames are changed alike. Each change is a function of its draw;
``draw_color_jitter`` and ``draw_rand_augment`` make the draws. OpenCV works on one frame at a time: look-up tables, a
3x4 matrix over the colours, or a warp.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np

# Shares of red, green and blue in grey (MMAction2's; those of ITU-R BT.601).
_GREY = np.array([0.2989, 0.587, 0.114])
# What stands where a shifted or turned frame does not reach.
_FILL = (128, 128, 128)
_MAX_LEVEL = 10.0

Operation: TypeAlias = Callable[[np.ndarray, float], np.ndarray]
"""One frame uint8 ``[H, W, 3]`` and a strength from -1 to 1 -> the changed frame."""


@dataclasses.dataclass(frozen=True)
class ColorJitter:
    """One draw of colour jitter.

    Attributes:
      brightness: Factor of all values.
      contrast: Factor of the distance from the frame's mean grey.
      saturation: Factor of the distance from the pixel's grey.
      hue: Shift of the hue by ``int(hue * 255)`` of OpenCV's 180 steps of two degrees.
      order: In which order these four are done.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    order: tuple[str, ...] = ("brightness", "contrast", "saturation", "hue")

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Map uint8 ``[T, H, W, 3]`` to a new array of the same shape; round down, as MMAction2's ``ColorJitter``."""
        return np.stack([self._frame(frame) for frame in frames])

    def _frame(self, pixels: np.ndarray) -> np.ndarray:
        # All but the hue are affine in the colours: what stands before and after it is one matrix each.
        matrix = np.eye(3, 4)
        for step in self.order:
            factor = getattr(self, step)
            if step == "hue":
                if factor:
                    pixels, matrix = _shift_hue(_affine_colors(pixels, matrix), factor), np.eye(3, 4)
            elif step == "brightness":
                matrix = factor * matrix
            elif step == "contrast":
                mean = _GREY @ (matrix @ [*cv2.mean(pixels)[:3], 1.0])
                matrix = factor * matrix
                matrix[:, 3] += (1 - factor) * mean
            else:
                matrix = (factor * np.eye(3) + (1 - factor) * _GREY) @ matrix
        return _affine_colors(pixels, matrix)


def draw_color_jitter(strengths: Sequence[float], rng: np.random.Generator) -> ColorJitter:
    """Draw a colour jitter, as MMAction2's ``ColorJitter`` does, and its order, as torchvision's does.

    Args:
      strengths: Brightness, contrast, saturation and hue: the factors of the first three are uniform in 1 plus or minus
        the strength, the hue's shift in plus or minus.
      rng: Draws the four, and their order.
    """
    brightness, contrast, saturation, hue = (float(rng.uniform(-strength, strength)) for strength in strengths)
    order = tuple(np.array(ColorJitter.order)[rng.permutation(4)].tolist())
    return ColorJitter(1 + brightness, 1 + contrast, 1 + saturation, hue, order)


def draw_rand_augment(
    layers: int, magnitude: float, magnitude_std: float, probability: float, rng: np.random.Generator
) -> list[tuple[str, float]]:
    """Draw the operations of RandAugment, as timm's ``rand-m{magnitude}-n{layers}-mstd{std}-inc1`` and PySlowFast do.

    Args:
      layers: Operations drawn from :data:`OPERATIONS`, with replacement.
      magnitude: Mean of their strengths, from 0 to 10.
      magnitude_std: Standard deviation of the strengths, which are cut to 0 to 10.
      probability: Share of the drawn operations that are applied.
      rng: Draws.

    Returns:
      Names and strengths from -1 to 1, negative for half of those in :data:`SIGNED`.
    """
    draws = []
    for name in rng.choice(list(OPERATIONS), size=layers).tolist():
        if rng.random() < probability:
            level = np.clip(rng.normal(magnitude, magnitude_std), 0, _MAX_LEVEL) / _MAX_LEVEL
            negative = name in SIGNED and rng.random() < 0.5
            draws.append((name, float(-level if negative else level)))
    return draws


def rand_augment(frames: np.ndarray, draws: Sequence[tuple[str, float]]) -> np.ndarray:
    """Apply operations to every frame of a clip, one after the other.

    Args:
      frames: uint8 ``[T, H, W, 3]``.
      draws: Names in :data:`OPERATIONS` and their strengths.

    Returns:
      uint8 ``[T, H, W, 3]``; the input itself where there are no operations.
    """
    for name, strength in draws:
        frames = np.stack([OPERATIONS[name](frame, strength) for frame in frames])
    return frames


def _affine_colors(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Map colours ``[3]`` to ``matrix @ [*colours, 1]``, rounded down."""
    values = cv2.transform(pixels.astype(np.float32), matrix.astype(np.float32))
    return np.clip(values, 0, 255).astype(np.uint8)


def _shift_hue(pixels: np.ndarray, shift: float) -> np.ndarray:
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    table[:, 0] = (np.arange(256) + int(shift * 255)) % 180
    hsv = _look_up(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _look_up(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace values by their entries in ``table``, ``[256]`` or ``[256, 3]``."""
    return cv2.LUT(pixels, np.clip(table, 0, 255).astype(np.uint8).reshape(1, 256, -1))


def _histograms(pixels: np.ndarray) -> np.ndarray:
    """Return the counts of the values of each colour: int64 ``[3, 256]``."""
    counts = [cv2.calcHist([pixels], [color], None, [256], [0, 256]).ravel() for color in range(3)]
    return np.stack(counts).astype(np.int64)


def _autocontrast(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Stretch each colour to all values."""
    there = _histograms(pixels) > 0  # ten times faster than the extrema of strided colours
    low, high = there.argmax(axis=1), 255 - there[:, ::-1].argmax(axis=1)
    stretched = (np.arange(256)[:, None] - low) * 255 / np.maximum(high - low, 1)
    return _look_up(pixels, np.where(high > low, stretched, np.arange(256)[:, None]))


def _equalize(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Give each colour a flat histogram, with the whole numbers of PIL's ``ImageOps.equalize``."""
    tables = []
    for counts in _histograms(pixels):
        # PIL leaves the largest value out of the step; a single value, or very few pixels, are left alone.
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        below = np.cumsum(counts) - counts
        tables.append((step // 2 + below) // step if step else np.arange(256))
    return _look_up(pixels, np.stack(tables, axis=1))


def _sharpness(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Move away from (or towards) PIL's ``SMOOTH``; the outermost pixels stay as they are."""
    factor = 1 + 0.9 * strength
    smooth = np.ones((3, 3))
    smooth[1, 1] = 5
    kernel = (1 - factor) / smooth.sum() * smooth
    kernel[1, 1] += factor
    changed = pixels.copy()
    changed[1:-1, 1:-1] = cv2.filter2D(pixels, -1, kernel)[1:-1, 1:-1]
    return changed


def _invert(pixels: np.ndarray, strength: float) -> np.ndarray:
    return cv2.bitwise_not(pixels)


def _posterize(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Keep the upper 4 bits, and with the strength down to 1 (timm: 0, which leaves a black frame)."""
    dropped = min(4 + int(4 * strength), 7)
    return _look_up(pixels, np.arange(256) >> dropped << dropped)


def _solarize(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Invert the values from a threshold on."""
    values = np.arange(256)
    return _look_up(pixels, np.where(values < 256 - int(256 * strength), values, 255 - values))


def _solarize_add(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Brighten the darker half of the values."""
    values = np.arange(256)
    return _look_up(pixels, np.where(values < 128, values + int(110 * strength), values))


def _enhance(quality: str) -> Operation:
    def change(pixels: np.ndarray, strength: float) -> np.ndarray:
        settings: dict[str, Any] = {quality: 1 + 0.9 * strength}
        return ColorJitter(**settings)(pixels[None])[0]

    return change


def _rotate(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Turn counter-clockwise about the centre, by up to 30 degrees."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 30 * strength, 1.0)
    return _warp(pixels, cv2.invertAffineTransform(matrix))


def _shear_x(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Take row y from ``0.3 * strength * y`` pixels to the right, counted from the frame's upper edge."""
    shear = 0.3 * strength
    return _warp(pixels, np.array([[1, shear, shear / 2], [0, 1, 0]]))


def _shear_y(pixels: np.ndarray, strength: float) -> np.ndarray:
    shear = 0.3 * strength
    return _warp(pixels, np.array([[1, 0, 0], [shear, 1, shear / 2]]))


def _translate_x(pixels: np.ndarray, strength: float) -> np.ndarray:
    """Move to the left by up to 0.45 of the width."""
    return _warp(pixels, np.array([[1, 0, 0.45 * strength * pixels.shape[1]], [0, 1, 0]]))


def _translate_y(pixels: np.ndarray, strength: float) -> np.ndarray:
    return _warp(pixels, np.array([[1, 0, 0], [0, 1, 0.45 * strength * pixels.shape[0]]]))


def _warp(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Take each pixel from where ``matrix`` maps it, both counted between centres of pixels; bilinear."""
    return cv2.warpAffine(
        pixels,
        matrix,
        pixels.shape[1::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_FILL,
    )


OPERATIONS: dict[str, Operation] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "invert": _invert,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "color": _enhance("saturation"),
    "contrast": _enhance("contrast"),
    "brightness": _enhance("brightness"),
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
"""The 15 operations of timm's increasing policy, which is PySlowFast's."""

SIGNED = frozenset("rotate color contrast brightness sharpness shear_x shear_y translate_x translate_y".split())
"""Operations that may go in either direction."""
