"""A small data set of generated videos in which only the order of the frames tells the classes of a pair apart.

A glyph (a digit or an asymmetric shape) lies on a textured background and moves, turns or changes its size. There are
four pairs of classes; the two members of a pair draw the same paths of poses, one forward and one backward in time. All
other attributes are drawn alike for every class. Frames are encoded one by one (only keyframes, constant quantiser), so
compression tells nothing about the direction of time either. A model that ignores order cannot do better than 50%.
Train on it without mirroring (``data.flip=False``): left and right are classes.
"""

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dnr_jax.data.clips import decode
from dnr_jax.progress import Progress

CLASSES = (
    "moves_right",
    "moves_left",
    "moves_down",
    "moves_up",
    "turns_clockwise",
    "turns_anticlockwise",
    "grows",
    "shrinks",
)
"""Two neighbours are a pair: the first plays its path forward, the second backward."""

# Part of the folder's name: raise it with every change of what is drawn.
_VERSION = 1

_STENCIL = 64  # side of a glyph's stencil in pixels
_SUPERSAMPLING = 4
# Every frame a keyframe, all quantised alike: a frame's pixels do not depend on its place in the video.
_ENCODER_OPTIONS = {"g": "1", "qp": "14", "preset": "veryfast"}

# Corners in the unit square, x to the right and y down; no shape looks the same after a turn of less than 360 degrees.
_POLYGONS = {
    "arrow": [(0.5, 0.0), (1.0, 0.5), (0.68, 0.5), (0.68, 1.0), (0.32, 1.0), (0.32, 0.5), (0.0, 0.5)],
    "corner": [(0.0, 0.0), (0.38, 0.0), (0.38, 0.62), (1.0, 0.62), (1.0, 1.0), (0.0, 1.0)],
    "flag": [(0.1, 0.0), (1.0, 0.0), (1.0, 0.55), (0.4, 0.55), (0.4, 1.0), (0.1, 1.0)],
    "wedge": [(0.0, 1.0), (0.0, 0.0), (0.45, 0.0), (1.0, 1.0)],
}
GLYPHS = (*_POLYGONS, "2", "4", "5", "7")


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of a glyph, one a frame; each float64 ``[frames]``.

    Attributes:
      x: Centre, as a share of the frame's width, from the left.
      y: Centre, as a share of the frame's height, from the top.
      angle: Clockwise turn in degrees.
      size: Side of the glyph's square, as a share of the frame's.
    """

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    size: np.ndarray

    def reversed(self) -> "Trajectory":
        """The same poses in opposite order."""
        return Trajectory(self.x[::-1], self.y[::-1], self.angle[::-1], self.size[::-1])


def trajectory(label: int, rng: np.random.Generator, frames: int = 24) -> Trajectory:
    """Draws the path of one video.

    Start, extent and all attributes that do not change are drawn alike for all classes; the pair of the class chooses
    which attribute changes, at constant speed, and its member the direction of time.

    Args:
      label: Position in :data:`CLASSES`.
      rng: The same state gives the two members of a pair the same poses in opposite order.
      frames: Length of the video.

    Returns:
      The poses.
    """
    # Extent of each attribute's change; that of the size is a factor.
    travel_x, travel_y = rng.uniform(0.35, 0.5, size=2)
    turn, growth = rng.uniform(100, 160), rng.uniform(1.8, 2.2)
    x, y = rng.uniform(0.45, 0.55, size=2)
    angle, size = rng.uniform(0, 360), rng.uniform(0.45, 0.6)
    changes = np.eye(4)[label // 2]
    progress = np.outer(changes, np.linspace(-0.5, 0.5, frames))
    path = Trajectory(
        x=x + travel_x * progress[0],
        y=y + travel_y * progress[1],
        angle=angle + turn * progress[2],
        size=size * growth ** progress[3],
    )
    return path.reversed() if label % 2 else path


def draw(path: Trajectory, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a video: a random glyph and background, the same in all frames, and fresh noise in each.

    Args:
      path: The poses.
      size: Side of the frames in pixels.
      rng: Draws glyph, colours, texture and noise, without regard to the path.

    Returns:
      uint8 ``[frames, size, size, 3]`` RGB.
    """
    stencil = _stencil(GLYPHS[rng.integers(len(GLYPHS))])
    texture = cv2.resize(rng.uniform(0, 1, (6, 6, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
    background = rng.uniform(0, 60, 3) + 40 * texture
    colour = rng.uniform(170, 255, 3)
    video = np.empty((len(path.x), size, size, 3), np.uint8)
    for frame, x, y, angle, side in zip(video, path.x, path.y, path.angle, path.size, strict=True):
        cover = _place(stencil, size, x * size, y * size, angle, side * size)[..., None]
        picture = background + cover * (colour - background) + rng.normal(0, 4, background.shape)
        frame[:] = np.clip(np.round(picture), 0, 255)
    return video


def make_demo(cache_dir: str, train_videos: int, val_videos: int, size: int = 40, frames: int = 24) -> str:
    """Generates the data set unless it is there already.

    The videos are written to a temporary folder that takes its final name when it is complete, so an interrupted run
    leaves nothing half-made. The same arguments give the same frames.

    Args:
      cache_dir: Folder to keep data sets in; empty: ``dnr_jax`` in the user's cache folder.
      train_videos: Training videos, over all classes.
      val_videos: Validation videos, over all classes, drawn from other random streams.
      size: Side of the frames in pixels; even.
      frames: Frames a video.

    Returns:
      The data set's folder; below it ``train/<class>/<number>.mp4`` and ``val/<class>/<number>.mp4``, for
      :func:`dnr_jax.data.catalogue.sources.scan_folder`.

    Raises:
      ValueError: A split has fewer videos than there are classes, or ``size`` is odd.
    """
    if min(train_videos, val_videos) < len(CLASSES) or size % 2:
        raise ValueError(
            f"a demo of {train_videos} training and {val_videos} validation videos of {size} pixels; expected at least "
            f"{len(CLASSES)} videos, one a class, in each, and an even size"
        )
    cache = Path(cache_dir).expanduser() if cache_dir else _default_cache()
    folder = cache / f"demo-v{_VERSION}-{train_videos}-{val_videos}-{size}px-{frames}f"
    if folder.is_dir():
        return str(folder)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".demo-") as temporary:
        built = Path(temporary) / folder.name
        with Progress(train_videos + val_videos, "generating the demo's videos", "video") as bar:
            for stream, (split, count) in enumerate([("train", train_videos), ("val", val_videos)]):
                _write_split(built / split, stream, count, size, frames, bar.update)
        _publish(built, folder)
    return str(folder)


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dnr_jax"


def _write_split(folder: Path, stream: int, count: int, size: int, frames: int, advance: Callable[[], object]) -> None:
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng((stream, number))
        label = number % len(CLASSES)
        video = draw(trajectory(label, rng, frames), size, rng)
        path = folder / CLASSES[label] / f"{number:05d}.mp4"
        decode.encode_video(str(path), video, options=_ENCODER_OPTIONS)
        advance()


def _publish(built: Path, folder: Path) -> None:
    """Gives the data set its name, unless another process was faster."""
    try:
        built.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _stencil(glyph: str) -> np.ndarray:
    """The glyph in white on black, float32 ``[_STENCIL, _STENCIL]``, filling the square."""
    picture = np.zeros((_STENCIL, _STENCIL), np.uint8)
    if glyph in _POLYGONS:
        cv2.fillPoly(picture, [np.round(np.array(_POLYGONS[glyph]) * (_STENCIL - 1)).astype(np.int32)], 255)
    else:
        cv2.putText(picture, glyph, (10, _STENCIL - 4), cv2.FONT_HERSHEY_SIMPLEX, 2.4, 255, thickness=10)
    return picture.astype(np.float32) / 255


def _place(stencil: np.ndarray, size: int, x: float, y: float, angle: float, side: float) -> np.ndarray:
    """How much of each pixel the glyph covers, float32 ``[size, size]``, with its centre at (x, y)."""
    scale, turn = side * _SUPERSAMPLING / _STENCIL, np.deg2rad(angle)
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = np.array([x, y]) * _SUPERSAMPLING
    offset = centre - rotation @ np.full(2, _STENCIL / 2)
    large = cv2.warpAffine(stencil, np.column_stack([rotation, offset]), (size * _SUPERSAMPLING,) * 2)
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA)
