"""Metrics of class scores: pure functions of NumPy arrays.

``scores`` is ``[videos, classes]``, the larger the better; ``labels`` is an integer array ``[videos]``. Between equal
scores the class with the smaller number comes first. An empty set of videos has a metric of 0.
"""

import numpy as np


def ranking(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the ``k`` best classes of each video, the best first: int64 ``[videos, min(k, classes)]``."""
    if k == 1 and scores.size:  # the first of equals too, without sorting the others
        return scores.argmax(axis=1)[:, None]
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Return the share of videos whose label is among the ``k`` best classes."""
    hits = np.any(ranking(scores, k) == labels[:, None], axis=1)
    return float(np.mean(hits)) if len(labels) else 0.0


def confusion_matrix(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how often each class (row) was taken for each class (column): int64 ``[classes, classes]``."""
    classes = scores.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, ranking(scores, 1)[:, 0]), 1)
    return counts


def mean_class_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean, over the classes that have videos, of the share of the class's videos that are right."""
    counts = confusion_matrix(scores, labels)
    videos = counts.sum(axis=1)
    present = videos > 0
    return float(np.mean(np.diag(counts)[present] / videos[present])) if present.any() else 0.0


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative logarithm, in nats, of the probability float32 ``[videos, classes]`` of the label.

    A probability of 0 counts as the smallest number of its type, so the mean stays finite.
    """
    of_labels = probabilities[np.arange(len(labels)), labels]
    smallest = np.finfo(probabilities.dtype).tiny
    return float(np.mean(-np.log(np.maximum(of_labels, smallest), dtype=np.float64))) if len(labels) else 0.0


def class_accuracies(confusion: np.ndarray) -> np.ndarray:
    """Return the share of each class's videos that are right, float64 ``[classes]``; NaN for a class without videos."""
    videos = confusion.sum(axis=1)
    return np.where(videos, np.diag(confusion) / np.maximum(videos, 1), np.nan)


def most_confused(confusion: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Return the pairs ``(true, predicted)`` of different classes that are confused most, at most ``count`` of them.

    They are ordered by the number of videos, then by the share of the true class's videos, then as the classes are.
    """
    off = confusion * ~np.eye(len(confusion), dtype=bool)
    true, predicted = np.nonzero(off)
    videos, shares = off[true, predicted], off[true, predicted] / confusion[true].sum(axis=1)
    order = np.lexsort((predicted, true, -shares, -videos))[:count]
    return [(int(true[i]), int(predicted[i])) for i in order]
