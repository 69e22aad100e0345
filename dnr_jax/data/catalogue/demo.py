"""A small data set of generated videos in which only the order of the frames tells the classes of a pair apart.

A glyph (a digit or an asymmetric shape) lies on a textured background and moves, turns or changes its size. There are
four pairs of classes; the two members of a pair draw the same paths of poses, one forward and one backward in time. All
other attributes are drawn alike for every class. Frames are encoded one by one (only keyframes, constant quantiser), so
compression tells nothing about the direction of time either. A model that ignores order cannot do better than 50%.
Train on it without mirroring (``data.flip=False``): left and right are classes.

The hard mode (:func:`make_hard_demo`) has the same classes, with knobs for what makes order and appearance hard to
read: see :class:`Difficulty`.
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
_HARD_VERSION = 1

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
        """Return the same poses in opposite order."""
        return Trajectory(self.x[::-1], self.y[::-1], self.angle[::-1], self.size[::-1])


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """What makes a video of the hard mode hard; the first value of each knob is the easiest.

    Each video shows two poses of the glyph, the ends of a path of :func:`trajectory`, each for :data:`SHOWN` frames; in
    all other frames there is the background alone. Which pose comes first tells the class from its pair's other one.

    Attributes:
      gap: frames between the two poses, from 0: how far apart in time the evidence for order lies.
      contrast: a video's contrast is divided by a factor between 1 and this, log-uniform, from 1.
      cast: deviation of the logarithm of a video's gain of red, green and blue, from 0.
      exposure: amplitude of the logarithm of the gain that swings in the course of a video, from 0.
      noise: standard deviation of the noise of each pixel and frame, in steps of 255, from 0.
    """

    gap: int = 0
    contrast: float = 1.0
    cast: float = 0.0
    exposure: float = 0.0
    noise: float = 4.0

    def __post_init__(self) -> None:
        """Refuse what is easier than the easiest."""
        if self.gap < 0 or self.contrast < 1 or min(self.cast, self.exposure, self.noise) < 0:
            raise ValueError(f"{self}: expected a contrast of 1 or more, and no other knob below 0")


SHOWN = 6
"""Frames in which each of the two poses of a hard video is seen."""


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
    background, colour, covers = _scene(path, size, rng)
    video = np.empty((len(covers), size, size, 3), np.uint8)
    for frame, cover in zip(video, covers, strict=True):
        picture = background + cover[..., None] * (colour - background) + rng.normal(0, 4, background.shape)
        frame[:] = np.clip(np.round(picture), 0, 255)
    return video


def draw_hard(label: int, size: int, frames: int, difficulty: Difficulty, rng: np.random.Generator) -> np.ndarray:
    """Draws a video of the hard mode.

    The same random state gives the same glyph, poses, background and curves at every difficulty.

    Args:
      label: Position in :data:`CLASSES`.
      size: Side of the frames in pixels.
      frames: Length of the video.
      difficulty: The knobs.
      rng: Draws everything else, without regard to the label's direction of time.

    Returns:
      uint8 ``[frames, size, size, 3]`` RGB.

    Raises:
      ValueError: Two poses and the gap between them need more frames.
    """
    length = 2 * SHOWN + difficulty.gap
    if length > frames:
        raise ValueError(
            f"a gap of {difficulty.gap} frames between poses of {SHOWN} needs {length} frames, not {frames}"
        )
    ends = trajectory(label, rng, 2)
    first = round(rng.uniform() * (frames - length))
    background, colour, covers = _scene(ends, size, rng)
    shown = np.full(frames, -1)
    shown[first : first + SHOWN], shown[first + length - SHOWN : first + length] = 0, 1
    cover = np.stack([*covers, np.zeros_like(covers[0])])[shown, :, :, None]
    pictures = background + cover * (colour - background)
    noise = difficulty.noise * rng.standard_normal(pictures.shape)
    return np.clip(np.round(_distort(pictures, difficulty, rng) + noise), 0, 255).astype(np.uint8)


def _scene(path: Trajectory, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Draws background ``[size, size, 3]`` and colour ``[3]``, and where a glyph is: ``[size, size]`` for each pose."""
    stencil = _stencil(GLYPHS[rng.integers(len(GLYPHS))])
    texture = cv2.resize(rng.uniform(0, 1, (6, 6, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
    background = rng.uniform(0, 60, 3) + 40 * texture
    colour = rng.uniform(170, 255, 3)
    poses = zip(path.x, path.y, path.angle, path.size, strict=True)
    return background, colour, [_place(stencil, size, x * size, y * size, a, side * size) for x, y, a, side in poses]


def _distort(pictures: np.ndarray, difficulty: Difficulty, rng: np.random.Generator) -> np.ndarray:
    """Change the contrast and the colours of a video ``[frames, size, size, 3]``, and its exposure over time."""
    grey = rng.uniform(60, 160)
    contrast = difficulty.contrast ** -rng.uniform()
    cast = np.exp(difficulty.cast * rng.standard_normal(3))
    periods, phase = rng.uniform(0.5, 1.5), rng.uniform(0, 2 * np.pi)
    swing = np.sin(2 * np.pi * periods * np.linspace(0, 1, len(pictures)) + phase)
    gains = np.exp(difficulty.exposure * swing)[:, None, None, None]
    return gains * cast * (grey + contrast * (pictures - grey))


def make_demo(cache_dir: str, train_videos: int, val_videos: int, size: int = 40, frames: int = 24) -> str:
    """Generate the data set unless it is there already.

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

    def video(label: int, rng: np.random.Generator) -> np.ndarray:
        return draw(trajectory(label, rng, frames), size, rng)

    name = f"demo-v{_VERSION}-{train_videos}-{val_videos}-{size}px-{frames}f"
    return _make(cache_dir, name, train_videos, val_videos, size, video)


def make_hard_demo(
    cache_dir: str, train_videos: int, val_videos: int, difficulty: Difficulty, size: int = 32, frames: int = 24
) -> str:
    """Generate a data set of the hard mode unless it is there already; arguments and result as :func:`make_demo`'s.

    Raises:
      ValueError: As :func:`make_demo` and :func:`draw_hard` do.
    """

    def video(label: int, rng: np.random.Generator) -> np.ndarray:
        return draw_hard(label, size, frames, difficulty, rng)

    knobs = "-".join(f"{name}{value:g}" for name, value in dataclasses.asdict(difficulty).items())
    name = f"hard-demo-v{_HARD_VERSION}-{train_videos}-{val_videos}-{size}px-{frames}f-{knobs}"
    return _make(cache_dir, name, train_videos, val_videos, size, video)


def _make(
    cache_dir: str,
    name: str,
    train_videos: int,
    val_videos: int,
    size: int,
    video: Callable[[int, np.random.Generator], np.ndarray],
) -> str:
    """Write a data set into the folder ``name`` of the cache, of videos drawn by label and random stream."""
    if min(train_videos, val_videos) < len(CLASSES) or size % 2:
        raise ValueError(
            f"a demo of {train_videos} training and {val_videos} validation videos of {size} pixels; expected at least "
            f"{len(CLASSES)} videos, one a class, in each, and an even size"
        )
    cache = Path(cache_dir).expanduser() if cache_dir else _default_cache()
    folder = cache / name
    if folder.is_dir():
        return str(folder)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".demo-") as temporary:
        built = Path(temporary) / folder.name
        with Progress(train_videos + val_videos, "generating the demo's videos", "video") as bar:
            for stream, (split, count) in enumerate([("train", train_videos), ("val", val_videos)]):
                _write_split(built / split, stream, count, video, bar.update)
        _publish(built, folder)
    return str(folder)


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dnr_jax"


def _write_split(
    folder: Path,
    stream: int,
    count: int,
    draw_video: Callable[[int, np.random.Generator], np.ndarray],
    advance: Callable[[], object],
) -> None:
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng((stream, number))
        label = number % len(CLASSES)
        path = folder / CLASSES[label] / f"{number:05d}.mp4"
        decode.encode_video(str(path), draw_video(label, rng), options=_ENCODER_OPTIONS)
        advance()


def _publish(built: Path, folder: Path) -> None:
    """Give the data set its name, unless another process was faster."""
    try:
        built.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _stencil(glyph: str) -> np.ndarray:
    """Return the glyph in white on black, float32 ``[_STENCIL, _STENCIL]``, filling the square."""
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
