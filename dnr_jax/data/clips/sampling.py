"""Which frames of a video make a clip: pure functions of the number of frames and of a random generator.

Each scheme has a function for training, which draws one clip, and one for evaluation, which draws nothing:

* ``dense``: MMAction2's ``SampleFrames``, frames a fixed interval apart;
* ``segments``: the segments of TSN, one frame from each;
* ``snippets``: the segments of TDN, several consecutive frames from each;
* ``window``: MMAction2's ``DenseSampleFrames``, segments of a window of the video (I3D's way, which TSM uses too);
* ``linspace``: PySlowFast, frames spread evenly from the first to the last of a window.

The classes at the end are the samplers of an experiment, each made of two of these functions.

All functions return int64 ``[clips, frames]``, indices from 0 of a video of at least one frame. Within a clip, indices
do not fall until they wrap around the end of a video that is too short (``jitter`` may exchange neighbours).
"""

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from annotated_types import Ge

from dnr_jax.config import Sampler, register

Indices: TypeAlias = np.ndarray

# Of an interval that is not whole; keeps the products of linspace_test far within int64.
_MAX_DENOMINATOR = 10**6


def dense_train(
    num_frames: int,
    clip_len: int,
    interval: int,
    rng: np.random.Generator,
    num_clips: int = 1,
    jitter: bool = False,
    out_of_bound: str = "loop",
) -> Indices:
    """Draw frames ``interval`` apart from a random start (MMAction2's ``SampleFrames`` in training).

    Args:
      num_frames: Frames in the video, at least 1.
      clip_len: Frames in a clip, L.
      interval: Distance between a clip's frames, I, in frames of the video.
      rng: Draws the starts among those that leave room for ``L * I`` frames: one from each of ``num_clips`` equal
        ranges of them. Where there are fewer starts than clips, any, in order; in a shorter video 0.
      num_clips: Clips, N.
      jitter: Move each frame by up to ``I - 1`` frames, each by its own draw.
      out_of_bound: What stands for frames past the end: ``loop``, those from the start of the video on, or
        ``repeat_last``, the clip's last frame that there is.

    Returns:
      int64 ``[N, L]``.
    """
    room = num_frames - clip_len * interval + 1
    if room >= num_clips:
        starts = _one_of_each(room // num_clips, num_clips, rng)
    elif num_frames > max(num_clips, clip_len * interval):
        starts = np.sort(rng.integers(room, size=num_clips))
    else:
        # Nothing is random; with N starts or fewer than that they are spread over the clips, each repeated.
        starts = np.round(np.arange(num_clips) * (max(room, 0) / num_clips)).astype(np.int64)
    indices = starts[:, None] + np.arange(clip_len) * interval
    if jitter:
        indices = indices + rng.integers(interval, size=indices.shape)
    return _within(indices, num_frames, out_of_bound)


def dense_test(num_frames: int, clip_len: int, interval: int, num_clips: int, out_of_bound: str = "loop") -> Indices:
    """Return clips of frames ``interval`` apart, from the video's start to its end, evenly spaced.

    Args:
      num_frames: Frames in the video, at least 1.
      clip_len: Frames in a clip, L. A clip of one frame has no extent: the clips are then the centres of segments.
      interval: Distance between a clip's frames, in frames of the video.
      num_clips: Clips, V; a single one lies in the middle. MMAction2's ``twice_sample`` is twice as many.
      out_of_bound: As in :func:`dense_train`.

    Returns:
      int64 ``[V, L]``.
    """
    if clip_len == 1:
        return segments_test(num_frames, num_clips, 1).T
    room = max(num_frames - (clip_len - 1) * interval - 1, 0)
    if num_clips == 1:
        starts = np.array([room // 2])
    else:
        starts = np.round(np.arange(num_clips) * (room / (num_clips - 1))).astype(np.int64)
    return _within(starts[:, None] + np.arange(clip_len) * interval, num_frames, out_of_bound)


def segments_train(num_frames: int, num_segments: int, rng: np.random.Generator) -> Indices:
    """Draw one frame from each of equal segments (TSN): :func:`dense_train` with as many clips of one frame.

    Args:
      num_frames: Frames in the video, at least 1. With fewer than ``num_segments`` nothing is random: the frames are
        spread over the segments, each repeated about equally often.
      num_segments: Frames in the clip, T.
      rng: Draws one offset a segment. The ``num_frames % T`` frames at the end are never drawn, as in MMAction2.

    Returns:
      int64 ``[1, T]``.
    """
    return dense_train(num_frames, 1, 1, rng, num_clips=num_segments).T


def segments_test(num_frames: int, num_segments: int, num_clips: int, twice: bool = False) -> Indices:
    """Return one frame from each of equal segments: its centre, or for several clips evenly spaced positions.

    One clip is TSN's protocol, and with ``twice`` TSM's. More are this module's: clip v of V takes the position
    ``(v + 1/2) / V`` of each segment.

    Args:
      num_frames: Frames in the video, at least 1.
      num_segments: Frames in a clip, T.
      num_clips: Clips, V.
      twice: As many clips again, at the positions ``v / V``: for one clip the segments' first frames.

    Returns:
      int64 ``[V, T]``, or ``[2 * V, T]``.
    """
    length = num_frames / num_segments
    shares = np.arange(num_clips)[:, None]
    positions = np.concatenate([shares + 0.5, shares]) if twice else shares + 0.5
    return (np.arange(num_segments) * length + length * (positions / num_clips)).astype(np.int64)


def snippets_train(num_frames: int, num_segments: int, length: int, rng: np.random.Generator) -> Indices:
    """Draw consecutive frames from each of equal segments (TDN's data set), whose starts are TSN's frames.

    Args:
      num_frames: Frames in the video, at least 1. The starts are drawn in order from anywhere where there are fewer of
        them than segments, and are 0 in a video of at most T frames. Frames past the end are the last one.
      num_segments: Segments, T.
      length: Frames from each segment, F (TDN: 5, of which the middle one is the segment's).
      rng: Draws the starts.

    Returns:
      int64 ``[1, T * F]``, segment after segment.
    """
    room = num_frames - length + 1
    if room >= num_segments:
        starts = _one_of_each(room // num_segments, num_segments, rng)
    elif num_frames > num_segments:
        starts = np.sort(rng.integers(max(room, 1), size=num_segments))
    else:
        starts = np.zeros(num_segments, np.int64)
    return _snippets(starts[None], length, num_frames)


def snippets_test(num_frames: int, num_segments: int, length: int, num_clips: int, twice: bool = False) -> Indices:
    """Return consecutive frames from the middle of each of equal segments (TDN's data set).

    Args:
      num_frames: Frames in the video, at least 1. In a video of fewer than T + F frames all starts are 0, and frames
        past the end are the last one.
      num_segments: Segments, T.
      length: Frames from each segment, F.
      num_clips: Clips, V: the starts lie where the frames of :func:`segments_test` would.
      twice: As there.

    Returns:
      int64 ``[V, T * F]``, or ``[2 * V, T * F]``; segment after segment.
    """
    room = num_frames - length + 1
    starts = segments_test(room if room > num_segments else 0, num_segments, num_clips, twice)
    return _snippets(starts, length, num_frames)


def window_train(num_frames: int, num_segments: int, window: int, rng: np.random.Generator) -> Indices:
    """Draw frames evenly spaced in a window of the video (MMAction2's ``DenseSampleFrames`` in training).

    Args:
      num_frames: Frames in the video, at least 1. Indices past its end wrap around.
      num_segments: Frames in the clip, T; they are ``window // T`` apart.
      window: Frames of the window.
      rng: Draws the window's start, which is never the last one possible, as in MMAction2.

    Returns:
      int64 ``[1, T]``.
    """
    start = rng.integers(max(num_frames - window, 1))
    return (start + np.arange(num_segments)[None] * (window // num_segments)) % num_frames


def window_test(num_frames: int, num_segments: int, window: int, num_clips: int) -> Indices:
    """Return the same from windows whose starts are evenly spaced from the first frame to the last possible.

    Args:
      num_frames: Frames in the video, at least 1. Indices past its end wrap around.
      num_segments: Frames in a clip, T.
      window: Frames of a window.
      num_clips: Windows, V (MMAction2's ``num_sample_positions``); a single one starts with the video.

    Returns:
      int64 ``[V, T]``.
    """
    starts = max(num_frames - window, 0) * np.arange(num_clips)[:, None] // max(num_clips - 1, 1)
    return (starts + np.arange(num_segments) * (window // num_segments)) % num_frames


def linspace_train(num_frames: int, clip_len: int, interval: float, rng: np.random.Generator) -> Indices:
    """Draw frames spread evenly over ``clip_len * interval`` frames from a random start on (PySlowFast).

    The first and the last frame of that window belong to the clip, so its frames are a little more than ``interval``
    apart, on average.

    Args:
      num_frames: Frames in the video, at least 1. Frames past its end are the last one.
      clip_len: Frames in the clip, L.
      interval: Frames of the window for each of the clip, I; need not be whole (see :func:`interval_at`). A window of
        less than a frame is one frame.
      rng: Draws the start, a real number, uniformly over those that leave room for the window; 0 in a shorter video.

    Returns:
      int64 ``[1, L]``.
    """
    size = max(clip_len * interval, 1)
    start = rng.random() * max(num_frames - size, 0)
    steps = np.arange(clip_len) * (size - 1) / max(clip_len - 1, 1)
    return np.minimum((start + steps)[None].astype(np.int64), num_frames - 1)


def linspace_test(num_frames: int, clip_len: int, interval: float, num_clips: int) -> Indices:
    """Return the same from evenly spaced starts: start v of V is ``v / V`` of the room (PySlowFast's uniform clips).

    Args:
      num_frames: Frames in the video, at least 1. Frames past its end are the last one.
      clip_len: Frames in a clip, L.
      interval: Frames of the window for each of the clip, I, as in :func:`linspace_train`.
      num_clips: Clips, V; a single one lies in the middle, as with PySlowFast's ``USE_OFFSET_SAMPLING``.

    Returns:
      int64 ``[V, L]``.
    """
    # In whole numbers: a rounding error just below an index would take the frame before it.
    size = max(clip_len * Fraction(interval).limit_denominator(_MAX_DENOMINATOR), Fraction(1))
    unit, gaps = size.denominator, max(clip_len - 1, 1)
    room = max(num_frames * unit - size.numerator, 0)
    starts = room * np.arange(num_clips) * gaps if num_clips > 1 else np.array([room // (2 * unit) * unit * gaps])
    steps = np.arange(clip_len) * (size.numerator - unit)
    indices = (starts[:, None] + steps * num_clips) // (num_clips * gaps * unit)
    return np.minimum(indices, num_frames - 1)


def interval_at(interval: int, rate: float, target_fps: float) -> float:
    """Return an interval in frames of a video that is the same time as ``interval`` frames at ``target_fps``.

    So PySlowFast's windows are as long in seconds for videos of any frame rate (its ``DATA.TARGET_FPS``; MMAction2's
    ``target_fps``).

    Args:
      interval: In frames at ``target_fps``.
      rate: The video's frames per second; 0, not known: taken for ``target_fps``, as in MMAction2.
      target_fps: Frames per second; 0: the video's own, whatever it is.

    Returns:
      The interval in the video's frames.
    """
    return interval * rate / target_fps if rate and target_fps else interval


def _one_of_each(size: int, count: int, rng: np.random.Generator) -> Indices:
    """Draw a random number from each of ``count`` neighbouring ranges of ``size`` numbers."""
    return np.arange(count) * size + rng.integers(size, size=count)


def _within(indices: Indices, num_frames: int, out_of_bound: str) -> Indices:
    if out_of_bound == "loop":
        return indices % num_frames
    inside = indices < num_frames
    last = np.max(inside * indices, axis=1, keepdims=True)
    return np.where(inside, indices, last)


def _snippets(starts: Indices, length: int, num_frames: int) -> Indices:
    """Return the indices ``[V, T * F]`` of starts ``[V, T]``."""
    indices = np.minimum(starts[..., None] + np.arange(length), num_frames - 1)
    return indices.reshape(len(starts), -1)


@register
@dataclasses.dataclass
class Dense(Sampler):
    """Frames a fixed interval apart, from a random start (MMAction2's ``SampleFrames``)."""

    interval: Annotated[int, Ge(1)] = 8
    """Distance between a clip's frames, in frames of the video."""
    jitter: bool = False
    """In training: move each frame by a random part of the interval."""
    out_of_bound: Literal["loop", "repeat_last"] = "loop"
    """What follows the end of a short video: its start (``loop``) or its last frame (``repeat_last``)."""

    def problems(self) -> Iterator[str]:
        """Refuse to move frames that have no room."""
        if self.jitter and self.interval == 1:
            yield "jitter: is True, which needs an interval above 1"

    def extent(self, rate: float) -> int:
        """Return the frames from one clip to the next that follows it without a gap."""
        return self.num_frames * self.interval

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """Draw a clip; see :func:`dense_train`."""
        clip = total, self.num_frames, self.interval
        return dense_train(*clip, rng, jitter=self.jitter, out_of_bound=self.out_of_bound)

    def test(self, total: int, clips: int, twice: bool = False) -> Indices:
        """Return the clips of an evaluation; see :func:`dense_test`."""
        return dense_test(total, self.num_frames, self.interval, clips * (1 + twice), self.out_of_bound)


@register
@dataclasses.dataclass
class Segments(Sampler):
    """One frame from each of ``num_frames`` equal segments (TSN), or several consecutive ones (TDN)."""

    frames_per_segment: Annotated[int, Ge(1)] = 1
    """Consecutive frames from each segment (TDN: 5); a clip has ``num_frames`` times as many."""

    @property
    def clip_frames(self) -> int:
        """Frames of a clip, of all segments."""
        return self.num_frames * self.frames_per_segment

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """Draw a clip; see :func:`segments_train` and :func:`snippets_train`."""
        if self.frames_per_segment == 1:
            return segments_train(total, self.num_frames, rng)
        return snippets_train(total, self.num_frames, self.frames_per_segment, rng)

    def test(self, total: int, clips: int, twice: bool = False) -> Indices:
        """Return the clips of an evaluation; see :func:`segments_test` and :func:`snippets_test`."""
        if self.frames_per_segment == 1:
            return segments_test(total, self.num_frames, clips, twice)
        return snippets_test(total, self.num_frames, self.frames_per_segment, clips, twice)


@register
@dataclasses.dataclass
class Window(Sampler):
    """Frames evenly spaced in a window of the video (MMAction2's ``DenseSampleFrames``)."""

    window: Annotated[int, Ge(1)] = 64
    """Frames of the video in which a clip lies."""

    def problems(self) -> Iterator[str]:
        """Refuse a window that is shorter than a clip."""
        if self.window < self.num_frames:
            yield f"window: is {self.window}; expected at least num_frames, which is {self.num_frames}"

    def extent(self, rate: float) -> int:
        """Return the frames of the window."""
        return self.window

    def train(self, total: int, rng: np.random.Generator) -> Indices:
        """Draw a clip; see :func:`window_train`."""
        return window_train(total, self.num_frames, self.window, rng)

    def test(self, total: int, clips: int, twice: bool = False) -> Indices:
        """Return the clips of an evaluation; see :func:`window_test`."""
        return window_test(total, self.num_frames, self.window, clips * (1 + twice))


@register
@dataclasses.dataclass
class Linspace(Sampler):
    """Frames spread over ``num_frames * interval`` frames, both ends included (PySlowFast)."""

    interval: Annotated[int, Ge(1)] = 8
    """Frames of the video for each frame of a clip."""
    target_fps: Annotated[float, Ge(0)] = 0.0
    """The rate at which ``interval`` counts frames, whatever a video's own (PySlowFast: 30); 0: in its frames."""

    def extent(self, rate: float) -> int:
        """Return the frames of the window, at a video's rate."""
        return max(round(self.num_frames * interval_at(self.interval, rate, self.target_fps)), 1)

    def train(self, total: Any, rng: np.random.Generator) -> Indices:
        """Draw a clip; see :func:`linspace_train`."""
        return linspace_train(total, self.num_frames, interval_at(self.interval, total.rate, self.target_fps), rng)

    def test(self, total: Any, clips: int, twice: bool = False) -> Indices:
        """Return the clips of an evaluation; see :func:`linspace_test`."""
        interval = interval_at(self.interval, total.rate, self.target_fps)
        return linspace_test(total, self.num_frames, interval, clips * (1 + twice))
