"""Labels along a video: its frames go in one by one, windows and segments come out as they are known."""

import collections
import dataclasses
import statistics
import time
from collections.abc import Iterator
from typing import TypeAlias

import jax
import numpy as np

from dnr_jax.evaluation.predict import Prediction, Predictor
from dnr_jax.streaming.network import Scorer
from dnr_jax.streaming.segments import Cell, Hysteresis, Segment, Segmenter
from dnr_jax.streaming.sources import Pictures, Reader
from dnr_jax.streaming.windows import Assembler, Window, Windows, plan

Frames: TypeAlias = Reader | Pictures

_REMEMBERED = 1000
"""Windows whose latency and lag are known."""


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """How a video is looked at.

    Attributes:
      window: seconds of a window; None: what the network's sampler spans, or 4 where that is the whole video.
      stride: seconds from one window to the next; None: a window where the state of relays is carried, otherwise half
        of one.
      carry: hand the state of cross-temporal relays from one window to the next, where the network has it.
      batch: windows at once; None: 1 of a live source, and of others 8 on a CPU, 32 on an accelerator.
      enter: probability from which a label starts a segment.
      leave: probability below which it ends.
      min_length: seconds of the shortest segment; None: those of a window, or of the video where that is shorter.
    """

    window: float | None = None
    stride: float | None = None
    carry: bool = True
    batch: int | None = None
    enter: float = 0.5
    leave: float = 0.3
    min_length: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no video can be looked at with."""
        for name in ("window", "stride", "batch"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; expected more than 0")
        Hysteresis(self.enter, self.leave, self.min_length or 0.0)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A window and what the network sees in it.

    Attributes:
      start: of the window, in seconds from the start of the video.
      end: likewise.
      prediction: the best labels.
      latency: seconds from the arrival of the window's last frame to its label.
      lag: of a live source, seconds from the window's end to its label, by a clock that the frame that came with the
        least delay has set; otherwise 0.
    """

    start: float
    end: float
    prediction: Prediction
    latency: float
    lag: float


Event: TypeAlias = Labelled | Segment


class Stream:
    """Labels one video, window by window.

    Attributes:
      windows: how windows lie on the video.
      carries: whether the state of relays is handed on.
      rule: when segments start and end.
      count: windows that were labelled.
      end: seconds of the video that were looked at.
    """

    def __init__(self, predictor: Predictor, frames: Frames, settings: StreamSettings | None = None):
        """Plan the windows.

        Args:
          predictor: the network.
          frames: the video.
          settings: how it is looked at.
        """
        settings = settings or StreamSettings()
        live = frames.source.live
        batch = settings.batch or (1 if live else 8 if jax.default_backend() == "cpu" else 32)
        self._predictor, self._frames = predictor, frames
        self._scorer = Scorer(predictor, batch, settings.carry)
        self.carries = self._scorer.carries
        sampler = predictor.run.config.data.sampler
        self.windows: Windows = plan(sampler, frames.rate, settings.window, settings.stride, contiguous=self.carries)
        length = self.windows.length / self.windows.rate if settings.min_length is None else settings.min_length
        self.rule = Hysteresis(settings.enter, settings.leave, length)
        self._adapts = settings.min_length is None
        self.count = 0
        self.end = 0.0
        self._segmenter = Segmenter(self.rule)
        self._waiting: list[Window] = []
        self._began: float | None = None
        self._clock = time.monotonic
        self._started, self._ended = self._clock(), 0.0
        self._latencies: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._lags: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)

    def __iter__(self) -> Iterator[Event]:
        """Yield each window when it is labelled, and each segment when it is settled, to the end of the video.

        After an interruption, :meth:`close` has the segments that are left.
        """
        assembler = Assembler(self.windows)
        for frame in self._frames:
            if self._began is None or frame.arrived - frame.time < self._began:
                self._began = frame.arrived - frame.time
            done = assembler.add(frame.number, frame.time, frame.arrived, lambda: frame.pixels(self._scorer.side))  # noqa: B023
            self.end = assembler.end
            yield from self._label(done)
        if self._adapts and self.end < self.rule.min_length:
            self.rule = self._segmenter.rule = dataclasses.replace(self.rule, min_length=self.end)
        yield from self._label(assembler.close(), to_the_end=True)
        yield from self.close()

    def close(self) -> list[Segment]:
        """Return the segments that are left, at the end or after an interruption; called again, none."""
        self._ended = self._ended or self._clock()
        return self._segmenter.close(self.end)

    def _label(self, windows: list[Window], to_the_end: bool = False) -> Iterator[Event]:
        """Score windows as soon as a batch is full, and yield what becomes known."""
        self._waiting += windows
        while self._waiting and (to_the_end or len(self._waiting) >= self._scorer.batch):
            batch = self._waiting[: self._scorer.batch]
            scores = self._scorer.score([window.frames for window in batch])
            self._waiting = self._waiting[len(batch) :]
            for window, row in zip(batch, scores, strict=True):
                yield self._labelled(window, row)
                yield from self._segmenter.add(Cell(window.cell_start, window.cell_end, row))

    def _labelled(self, window: Window, scores: np.ndarray) -> Labelled:
        now = self._clock()
        latency = now - window.arrived
        lag = now - (self._began or 0.0) - window.end if self._frames.source.live else 0.0
        self.count += 1
        self._latencies.append(latency)
        self._lags.append(lag)
        return Labelled(window.start, window.end, self._predictor.best(scores), latency, max(lag, 0.0))

    def summary(self) -> dict[str, float | int | str | bool]:
        """Return what was done and how fast: of latency and lag, in seconds, the median of the last 1000 windows."""
        elapsed = (self._ended or self._clock()) - self._started
        return {
            "seconds": round(self.end, 3),
            "elapsed": round(elapsed, 3),
            "speed": round(self.end / elapsed, 3) if elapsed else 0.0,
            "windows": self.count,
            "carried": self.carries,
            "latency": round(statistics.median(self._latencies), 4) if self._latencies else 0.0,
            "longest_latency": round(max(self._latencies, default=0.0), 4),
            "lag": round(max(statistics.median(self._lags), 0.0), 4) if self._lags else 0.0,
            "dropped_frames": self._frames.dropped,
            "damaged_packets": self._frames.damaged,
            "ended": self._frames.reason or "at the end of the video",
        }
