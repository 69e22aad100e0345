"""Intervals: of the mean over runs, and of the share of videos that are right."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

ALPHA = 0.05
"""Intervals are of 95%; also the level of the tests of ``dnr reproduce``, after Holm's correction."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean with its 95% t interval; without bounds where there is one value only.

    Attributes:
      mean: of the values.
      half: half the width of the interval; NaN with one value.
      count: number of values.
    """

    mean: float
    half: float
    count: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of independent values with its 95% t interval; raises ValueError where there are none."""
    if not len(values):
        raise ValueError("there are no values to take the mean of")
    count = len(values)
    half = math.nan
    if count > 1:
        half = float(stats.t.ppf(1 - ALPHA / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return Estimate(float(np.mean(values)), half, count)


def wilson(correct: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95% Wilson interval of shares, float64 like the arguments' shape.

    It is honest where the share is near 0 or 1 and where there are few videos; of none, it is from 0 to 1.

    Args:
      correct: how many are right.
      count: of how many.
    """
    z = stats.norm.ppf(1 - ALPHA / 2)
    total = np.maximum(count, 1)
    share = correct / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    empty = np.asarray(count) == 0
    return np.where(empty, 0.0, np.maximum(centre - half, 0.0)), np.where(empty, 1.0, np.minimum(centre + half, 1.0))
