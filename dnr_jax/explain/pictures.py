"""Maps laid over the frames of a clip: as frames of a video, as a strip, and of two networks side by side."""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # imported where something is drawn
    from matplotlib.figure import Figure

_OPACITY = 0.7
"""Of the highest value of a map; nothing lies over what is 0."""
_HEIGHT = 224
"""Pixels that frames of a video have at least: smaller ones cannot be looked at."""
_COLUMNS = 8


def overlay(clip: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lay a map over a clip, the higher its value the more opaque.

    Args:
      clip: uint8 ``[T, H, W, 3]`` RGB.
      values: ``[T, H, W]``, from 0 to 1.

    Returns:
      uint8 ``[T, H, W, 3]`` RGB.
    """
    import matplotlib

    colours = matplotlib.colormaps["turbo"](values)[..., :3] * 255
    opacity = _OPACITY * values[..., None]
    return np.round(clip * (1 - opacity) + colours * opacity).astype(np.uint8)


def side_by_side(clip: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the frames of a video that has the clip on the left, and on the right with the map over it.

    Args:
      clip: uint8 ``[T, H, W, 3]`` RGB.
      values: ``[T, H, W]``, from 0 to 1.

    Returns:
      uint8 ``[T, H', W', 3]``: small clips are enlarged; ``H'`` and ``W'`` are even.
    """
    times = -(-_HEIGHT // clip.shape[1])
    frames = np.concatenate([clip, overlay(clip, values)], axis=2).repeat(times, axis=1).repeat(times, axis=2)
    return np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), "edge")


def save_gif(path: str | os.PathLike[str], frames: np.ndarray, fps: float) -> None:
    """Write frames uint8 ``[T, H, W, 3]`` as an animation that repeats."""
    from PIL import Image  # comes with matplotlib

    first, *others = map(Image.fromarray, frames)
    first.save(path, format="GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)


def save_strip(path: str | os.PathLike[str], title: str, clip: np.ndarray, values: np.ndarray) -> None:
    """Draw frames of a clip, below each the map over it, and how much of the map is in the frame.

    Args:
      path: of the picture; its suffix is the format.
      title: written above.
      clip: uint8 ``[T, H, W, 3]`` RGB; of many frames some are shown, evenly spaced.
      values: ``[T, H, W]``, from 0 to 1.
    """
    from matplotlib.figure import Figure

    shown = evenly(len(clip), _COLUMNS)
    shares = values.sum(axis=(1, 2)) / max(float(values.sum()), np.finfo(np.float32).tiny)
    width = 1.3 * len(shown)
    height = 1.3 * clip.shape[1] / clip.shape[2]
    figure = Figure(figsize=(width + 0.4, 2 * height + 1.0), layout="constrained")
    grid = figure.subplots(2, len(shown), squeeze=False)
    mapped = overlay(clip, values)
    for (above, below), t in zip(grid.T, shown, strict=True):
        for axes, frames in ((above, clip), (below, mapped)):
            axes.imshow(frames[t], interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        above.set_title(f"frame {t + 1}", fontsize=8)
        below.set_xlabel(f"{shares[t]:.0%}", fontsize=8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    _save(figure, path)


class Column(NamedTuple):
    """What :func:`save_comparison` shows of a network.

    Attributes:
      title: written above.
      clip: uint8 ``[T, H, W, 3]`` RGB, as the network saw it.
      maps: ``[T, H, W]``, from 0 to 1, by layer.
    """

    title: str
    clip: np.ndarray
    maps: Mapping[str, np.ndarray]


def save_comparison(path: str | os.PathLike[str], columns: Sequence[Column], frames: int = 4) -> None:
    """Draw several networks side by side: a row of frames, and below it a row for each layer with its maps over them.

    Args:
      path: of the picture; its suffix is the format.
      columns: the networks, with the same layers.
      frames: how many of each clip, evenly spaced.
    """
    from matplotlib.figure import Figure

    layers = list(columns[0].maps)
    figure = Figure(figsize=(1.25 * frames * len(columns) + 1.2, 1.3 * (len(layers) + 1) + 0.6), layout="constrained")
    for place, (part, column) in enumerate(
        zip(figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True)
    ):
        part.suptitle(column.title, fontsize=9, parse_math=False)
        shown = evenly(len(column.clip), frames)
        rows = {"frames": column.clip} | {layer: overlay(column.clip, column.maps[layer]) for layer in layers}
        grid = part.subplots(len(rows), len(shown), squeeze=False)
        for axes_of_row, (name, pictures) in zip(grid, rows.items(), strict=True):
            for axes, t in zip(axes_of_row, shown, strict=True):
                axes.imshow(pictures[t], interpolation="nearest")
                axes.set(xticks=[], yticks=[])
            if not place:
                axes_of_row[0].set_ylabel(name.removeprefix("backbone/"), fontsize=8)
    _save(figure, path)


def evenly(count: int, most: int) -> list[int]:
    """Return at most ``most`` positions out of ``count``, evenly spaced, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def _save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # drawn as a box
        figure.savefig(path, dpi=120)
