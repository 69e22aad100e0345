"""Windows that slide along a video: which frames they need, and where on the time line they count."""

import dataclasses
from collections.abc import Callable

import numpy as np

from dnr_jax.config import Sampler
from dnr_jax.data.clips.decode import FrameCount

WHOLE_VIDEOS_SECONDS = 4.0
"""Length of a window where the sampler spreads its frames over whole videos, and does not say how long these are."""
UNKNOWN_RATE = 25.0
"""Frames per second of a video that does not tell."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """How windows lie on a video.

    Attributes:
      length: frames of the video that a window spans.
      stride: frames from the start of one to the start of the next.
      offsets: the frames of a window that the network sees, in the order in which it sees them.
      rate: frames per second.
    """

    length: int
    stride: int
    offsets: tuple[int, ...]
    rate: float


def plan(
    sampler: Sampler,
    rate: float,
    window: float | None = None,
    stride: float | None = None,
    contiguous: bool = False,
) -> Windows:
    """Return how windows lie on a video.

    Args:
      sampler: the network's; it chooses the frames of a window as it does those of a video of that length.
      rate: frames per second of the video; 0: not known, taken for 25.
      window: seconds of a window; default: what the sampler's clips span, or 4 where that is the whole video.
      stride: seconds from one to the next; default: half a window.
      contiguous: let the default be a window instead, so that each frame is seen once.
    """
    rate = rate or UNKNOWN_RATE
    spanned = sampler.extent(rate) or round(WHOLE_VIDEOS_SECONDS * rate)
    length = max(spanned if window is None else round(window * rate), 1)
    step = max(length // (1 if contiguous else 2) if stride is None else round(stride * rate), 1)
    offsets = np.asarray(sampler.test(FrameCount(length, rate), 1))[0]
    return Windows(length, step, tuple(offsets.tolist()), rate)


@dataclasses.dataclass(frozen=True, eq=False)
class Window:
    """A window whose frames are all there.

    Attributes:
      frames: uint8 ``[T, h, w, 3]``, what the network sees.
      start: of its first frame, in seconds from the start of the video.
      end: of its last frame's successor, likewise.
      cell_start: where the stretch begins that this window is the nearest one to.
      cell_end: where that ends.
      arrived: when its last frame was there, in seconds of the clock that the frames came with.
    """

    frames: np.ndarray
    start: float
    end: float
    cell_start: float
    cell_end: float
    arrived: float


@dataclasses.dataclass(eq=False)
class _Growing:
    """A window of which frames are still to come."""

    first: int
    start: float
    seen: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)


class Assembler:
    """Puts windows together from frames that come one after the other, each looked at once.

    Only frames that a window needs are converted. Where a frame is missing, because a live source was too fast, the
    next one stands for it.
    """

    def __init__(self, windows: Windows):
        """Start before the first frame."""
        self._windows = windows
        self._wanted = sorted(set(windows.offsets))
        self._growing: list[_Growing] = []
        self._next = 0
        self._covered = 0.0
        self._complete = 0
        self._last: tuple[int, float, float, np.ndarray | None] = (-1, 0.0, 0.0, None)
        self._load_last: Callable[[], np.ndarray] | None = None

    def add(self, number: int, time: float, arrived: float, load: Callable[[], np.ndarray]) -> list[Window]:
        """Take a frame, and return the windows that it completes.

        Args:
          number: which frame of the video, rising.
          time: when it is shown, in seconds from the start of the video.
          arrived: when it was there, by any clock.
          load: returns its pixels, uint8 ``[h, w, 3]``; called where a window needs them.
        """
        length, stride = self._windows.length, self._windows.stride
        if number >= self._next + length:  # whole windows were lost
            self._next += (number - self._next) // stride * stride
        self._growing = [window for window in self._growing if number < window.first + 2 * length]
        while number >= self._next:
            self._growing.append(_Growing(self._next, time))
            self._next += self._windows.stride
        image: np.ndarray | None = None
        for window in self._growing:
            due = [offset for offset in self._wanted if offset not in window.seen and window.first + offset <= number]
            if due:
                image = load() if image is None else image
                window.seen |= dict.fromkeys(due, image)
        self._last = (number, time, arrived, image if image is not None else self._last[3])
        self._load_last = load
        done = [window for window in self._growing if number >= window.first + self._windows.length - 1]
        self._growing = self._growing[len(done) :]
        return [self._finish(window) for window in done]

    def _finish(self, window: _Growing, to_the_end: bool = False) -> Window:
        """Return a window with the frames that it has, and the stretch from where that of the one before ended."""
        length, stride, rate = self._windows.length, self._windows.stride, self._windows.rate
        end, arrived = self.end, self._last[2]
        share = (
            1.0 if to_the_end else (length + stride) / (2 * length)
        )  # what two windows share is divided between them
        cell_end = max(window.start + (end - window.start) * share, self._covered)
        own_start = cell_end - stride / rate
        lost = own_start - self._covered >= stride / rate  # of a live source; nobody looked at what lies there
        cell_start, self._covered = own_start if lost else self._covered, cell_end
        self._complete += 1
        frames = np.stack([window.seen[offset] for offset in self._windows.offsets])
        return Window(frames, window.start, end, cell_start, cell_end, arrived)

    def close(self) -> list[Window]:
        """Return the window at the end, where there is half of one or no other; the last frame fills it up."""
        for window in self._growing:
            enough = 2 * len(window.seen) >= len(self._wanted)
            uncovered = self._last[1] >= self._covered
            if self._load_last and uncovered and (enough or not self._complete):
                last = self._load_last() if self._last[3] is None else self._last[3]  # none was needed so far
                window.seen = {offset: window.seen.get(offset, last) for offset in self._wanted}
                self._growing = []
                return [self._finish(window, to_the_end=True)]
        return []

    @property
    def end(self) -> float:
        """When the last frame is over, in seconds from the start of the video."""
        return self._last[1] + 1 / self._windows.rate if self._last[0] >= 0 else 0.0
