"""Means with intervals, paired tests and verdicts. ``docs/reproduction.md`` states the rule, which was there first."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from dnr_jax.evaluation.intervals import ALPHA
from dnr_jax.evaluation.intervals import Estimate as Estimate
from dnr_jax.evaluation.intervals import estimate as estimate

Verdict = Literal["supported", "not seen here", "contradicted", "open"]

MIN_SEEDS = 5
"""Fewer seeds bear no verdict."""


def p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of a t-test that the mean of independent differences is 0.

    1 where all differences are 0; with fewer than two values nothing can be told, which is 1 as well.
    """
    if len(differences) < 2 or not np.any(differences):
        return 1.0
    mean, deviation = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if deviation <= 1e-12 * abs(mean):
        return 0.0
    statistic = mean / (deviation / math.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(statistic), len(differences) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's method, in the order given."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, position in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


@dataclasses.dataclass(frozen=True)
class Contrast:
    """What the runs say about one weighted sum of rows, such as DNR minus its baseline.

    Attributes:
      over_seeds: of the contrast in points, a value a seed (with all folds that every row has of the seed).
      over_videos: the same, a value a validation video (the mean over the seeds).
      p: the larger of the p-values over seeds and over videos, before correction.
      folds: that it is over.
    """

    over_seeds: Estimate
    over_videos: Estimate
    p: float
    folds: tuple[int, ...] = (0,)


Outcome = Mapping[tuple[int, int], np.ndarray]
"""Of one row on one data set: by (seed, fold) which validation videos were right, bool ``[videos of the fold]``."""


def contrast(outcomes: Mapping[str, Outcome], weights: Mapping[str, float]) -> Contrast | None:
    """Return the weighted sum of rows over the seeds and folds that all of them have; None where there are none.

    A seed counts where all rows have all folds that any seed of theirs has.

    Args:
      outcomes: of each row by name.
      weights: of each row.
    """
    common = sorted(set.intersection(*(set(outcomes.get(row, {})) for row in weights)))
    folds = {fold for _, fold in common}
    seeds = sorted(seed for seed in {seed for seed, _ in common} if all((seed, fold) in common for fold in folds))
    if not seeds:
        return None
    videos = np.stack(
        [
            np.concatenate(
                [100.0 * sum(w * outcomes[row][seed, fold] for row, w in weights.items()) for fold in sorted(folds)]
            )
            for seed in seeds
        ]
    )
    over_seeds, over_videos = videos.mean(1), videos.mean(0)
    return Contrast(
        estimate(over_seeds.tolist()),
        estimate(over_videos.tolist()),
        max(p_value(over_seeds.tolist()), p_value(over_videos.tolist())),
        tuple(sorted(folds)),
    )


def verdict(found: Contrast | None, adjusted: float, min_seeds: int = MIN_SEEDS, folds: int = 1) -> Verdict:
    """Return the verdict on a contrast that is claimed to be above 0, by the rule of ``docs/reproduction.md``.

    Args:
      found: the contrast.
      adjusted: its corrected p-value.
      min_seeds: fewer bear no verdict.
      folds: of the data set; a contrast over fewer bears none either.
    """
    if found is None or found.over_seeds.count < min_seeds or len(found.folds) < folds:
        return "open"
    if adjusted >= ALPHA:
        return "not seen here"
    return "supported" if found.over_seeds.mean > 0 else "contradicted"
