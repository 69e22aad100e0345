"""What a report says of scores: calibration, accuracy by some quantity, and which videos to look at.

``scores`` are probabilities float32 ``[videos, classes]``, ``labels`` an integer array ``[videos]``.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dnr_jax.evaluation.intervals import wilson
from dnr_jax.evaluation.metrics import confusion_matrix, most_confused, ranking

_FEW_VALUES = 6
"""So many different values are a group each; more are divided into as many groups."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Videos of which the accuracy is told together.

    Attributes:
      name: what they have in common.
      videos: how many they are.
      correct: how many of them are right.
      low: lower end of the 95% interval of the accuracy.
      high: its upper end.
    """

    name: str
    videos: int
    correct: int
    low: float
    high: float

    @property
    def accuracy(self) -> float:
        """Share of the videos that are right; 0 where there are none."""
        return self.correct / max(self.videos, 1)


def groups(names: Sequence[str], correct: Sequence[int], videos: Sequence[int]) -> list[Group]:
    """Return groups with their intervals, given the counts of each."""
    counts = np.asarray(correct, np.int64), np.asarray(videos, np.int64)
    rows = zip(names, counts[1].tolist(), counts[0].tolist(), *(end.tolist() for end in wilson(*counts)), strict=True)
    return [Group(*row) for row in rows]


def by_class(scores: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[Group]:
    """Return a group a class, the least accurate first; classes without videos are left out."""
    confusion = confusion_matrix(scores, labels)
    found = groups(classes, np.diag(confusion).tolist(), confusion.sum(axis=1).tolist())
    return sorted((group for group in found if group.videos), key=lambda group: (group.accuracy, -group.videos))


def by_quantity(values: np.ndarray, correct: np.ndarray, unit: str) -> list[Group]:
    """Return the accuracy of videos grouped by a quantity.

    Few different values are a group each; many are divided into groups of about as many videos.

    Args:
      values: of the quantity, float ``[videos]``.
      correct: whether each video is right, bool ``[videos]``.
      unit: behind the values in the groups' names.
    """
    different = np.unique(values)
    if len(different) <= _FEW_VALUES:
        place, names = np.searchsorted(different, values), [f"{value:g} {unit}" for value in different]
    else:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _FEW_VALUES + 1)[1:-1]))
        place = np.searchsorted(edges, values)
        names = [f"up to {edges[0]:.3g} {unit}"]
        names += [f"{low:.3g} to {high:.3g} {unit}" for low, high in zip(edges, edges[1:], strict=False)]
        names += [f"over {edges[-1]:.3g} {unit}"]
    videos = np.bincount(place, minlength=len(names))
    right = np.bincount(place, weights=correct, minlength=len(names)).astype(int)
    return [group for group in groups(names, right.tolist(), videos.tolist()) if group.videos]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far probabilities tell how often the network is right.

    Attributes:
      bins: the videos by the probability of their best class, in equal parts of [0, 1]; empty ones are left out.
      confidence: mean probability of the best class in each.
      error: expected calibration error: the mean, over the videos, of what accuracy and confidence of their bin differ.
    """

    bins: list[Group]
    confidence: list[float]
    error: float


def calibration(scores: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """Return how well probabilities are calibrated, by ``bins`` parts of [0, 1]; of no videos, no bins and no error."""
    confidence = scores.max(axis=1, initial=0.0).astype(np.float64)
    correct = ranking(scores, 1)[:, 0] == labels if len(labels) else np.zeros(0, bool)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    videos = np.bincount(place, minlength=bins)
    right = np.bincount(place, weights=correct, minlength=bins).astype(int)
    means = np.bincount(place, weights=confidence, minlength=bins) / np.maximum(videos, 1)
    names = [f"{i / bins:.2f} to {(i + 1) / bins:.2f}" for i in range(bins)]
    told = groups(names, right.tolist(), videos.tolist())
    error = sum(group.videos * abs(group.accuracy - mean) for group, mean in zip(told, means, strict=True))
    shown = [(group, float(mean)) for group, mean in zip(told, means, strict=True) if group.videos]
    return Calibration([group for group, _ in shown], [mean for _, mean in shown], float(error / max(len(labels), 1)))


def hardest(scores: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    """Return the videos whose own class has the smallest probability, the smallest first."""
    return np.argsort(scores[np.arange(len(labels)), labels], kind="stable")[:count].tolist()


def most_confidently_wrong(scores: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    """Return the wrong videos whose best class has the largest probability, the largest first."""
    if not len(labels):
        return []
    wrong = np.flatnonzero(ranking(scores, 1)[:, 0] != labels)
    return wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")][:count].tolist()


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two classes, of which one is taken for the other.

    Attributes:
      true: the class of the videos.
      predicted: what they are taken for.
      videos: positions of the videos, the most confident mistake first.
      of: how many videos the true class has.
    """

    true: int
    predicted: int
    videos: tuple[int, ...]
    of: int


def confused_pairs(scores: np.ndarray, labels: np.ndarray, count: int) -> list[Pair]:
    """Return the pairs of classes that are confused most, at most ``count``, with their videos."""
    if not len(labels):
        return []
    confusion, best, confidence = confusion_matrix(scores, labels), ranking(scores, 1)[:, 0], scores.max(axis=1)
    pairs = []
    for true, predicted in most_confused(confusion, count):
        videos = np.flatnonzero((labels == true) & (best == predicted))
        ordered = videos[np.argsort(-confidence[videos], kind="stable")]
        pairs.append(Pair(true, predicted, tuple(ordered.tolist()), int(confusion[true].sum())))
    return pairs
