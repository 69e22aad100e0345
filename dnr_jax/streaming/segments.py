"""From the scores of windows to segments of one label each: pure functions of numbers."""

import dataclasses
from collections.abc import Iterable

import numpy as np

_ROUNDING = 1e-6
"""Seconds by which sums of lengths may miss the shortest one."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A stretch of a video and what a network makes of it.

    Attributes:
      start: in seconds from the start of the video.
      end: likewise; the next cell starts there.
      scores: probabilities of the classes, float32 ``[K]``.
    """

    start: float
    end: float
    scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of a video that shows one class.

    Attributes:
      start: in seconds from the start of the video.
      end: likewise.
      label: number of the class.
      score: mean of its probability over the segment.
    """

    start: float
    end: float
    label: int
    score: float

    @property
    def length(self) -> float:
        """Seconds."""
        return self.end - self.start


@dataclasses.dataclass(frozen=True)
class Hysteresis:
    """When a segment starts and ends.

    Attributes:
      enter: a label starts a segment where it is the best one, with at least this probability.
      leave: the segment goes on until its label's probability is below this, or another label enters.
      min_length: seconds; shorter segments are left out, and so is what interrupts a label for a shorter time.
    """

    enter: float = 0.5
    leave: float = 0.3
    min_length: float = 0.0

    def __post_init__(self) -> None:
        """Refuse thresholds that no score can keep."""
        if not 0 <= self.leave <= self.enter <= 1:
            raise ValueError(f"leave is {self.leave} and enter {self.enter}; expected 0 <= leave <= enter <= 1")
        if self.min_length < 0:
            raise ValueError(f"min_length is {self.min_length}; expected seconds, 0 or more")


class Segmenter:
    """Makes segments of cells as they come, in memory that does not grow.

    Attributes:
      rule: when segments start and end.
    """

    def __init__(self, rule: Hysteresis):
        """Start before the first cell."""
        self.rule = rule
        self._open: Segment | None = None  # goes on with the next cell
        self._held: Segment | None = None  # has ended, unless its label comes back soon

    def add(self, cell: Cell) -> list[Segment]:
        """Take the next cell, and return the segments that are settled by it."""
        best = int(np.argmax(cell.scores))
        enters = bool(cell.scores[best] >= self.rule.enter)
        current = self._open
        settled: list[Segment] = []
        if current and cell.scores[current.label] >= self.rule.leave and not (enters and best != current.label):
            self._open = _joined(current, _segment_of(cell, current.label))
        else:
            settled += self._settle_open()
            self._open = _segment_of(cell, best) if enters else None
        if self._held and not self._may_return(self._held, cell.end):
            settled.append(self._held)
            self._held = None
        return settled

    def _may_return(self, held: Segment, now: float) -> bool:
        """Return whether a segment that has ended may still be joined with one that starts soon enough behind it."""
        returned = self._open is not None and self._open.label == held.label
        since = self._open.start if self._open and returned else now
        return since - held.end < self.rule.min_length - _ROUNDING

    def _settle_open(self) -> list[Segment]:
        """End the open segment; return what was held before it, where the two are not one."""
        ended, self._open = self._open, None
        if ended is None:
            return []
        held = self._held
        if held and held.label == ended.label and ended.start - held.end < self.rule.min_length - _ROUNDING:
            self._held = _joined(held, ended)
            return []
        if ended.length < self.rule.min_length - _ROUNDING:
            return []
        self._held = ended
        return [held] if held else []

    def close(self, end: float = 0.0) -> list[Segment]:
        """Return the segments that are left at the end of the video, which the last one lasts until."""
        if self._open:
            self._open = dataclasses.replace(self._open, end=max(self._open.end, end))
        settled = self._settle_open()
        if self._held:
            settled.append(self._held)
        self._held = None
        return settled


def segments_of(cells: Iterable[Cell], rule: Hysteresis, end: float = 0.0) -> list[Segment]:
    """Return the segments of all cells of a video that lasts until ``end``, in order; they do not overlap."""
    segmenter = Segmenter(rule)
    settled = [segment for cell in cells for segment in segmenter.add(cell)]
    return settled + segmenter.close(end)


def _segment_of(cell: Cell, label: int) -> Segment:
    return Segment(cell.start, cell.end, label, float(cell.scores[label]))


def _joined(first: Segment, second: Segment) -> Segment:
    """Return both as one, with the mean of their scores by their lengths; a gap between them does not count."""
    whole = first.length + second.length
    mean = (first.score * first.length + second.score * second.length) / whole if whole else first.score
    return Segment(first.start, second.end, first.label, mean)


def seconds_as_clock(seconds: float, decimals: int = 1, mark: str = ".") -> str:
    """Return a time as ``h:mm:ss.d``.

    Args:
      seconds: 0 or more.
      decimals: digits behind the seconds; 0: none.
      mark: what stands before them.
    """
    units = round(seconds * 10**decimals)
    whole, part = divmod(units, 10**decimals)
    clock = f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{clock}{mark}{part:0{decimals}}" if decimals else clock
