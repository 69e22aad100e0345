import numpy as np
import pytest

from dnr_jax.evaluation.metrics import (
    class_accuracies,
    confusion_matrix,
    cross_entropy,
    mean_class_accuracy,
    most_confused,
    ranking,
    top_k_accuracy,
)


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    return rng.integers(0, 6, (40, 5)).astype(np.float32), rng.integers(0, 4, 40)  # ties, and a class without videos


def literal_ranking(scores) -> list[list[int]]:
    return [sorted(range(len(row)), key=lambda k: (-row[k], k)) for row in scores.tolist()]


def test_ranking(scored):
    scores, _ = scored
    assert ranking(scores, 5).tolist() == literal_ranking(scores)
    assert ranking(scores, 2).tolist() == [row[:2] for row in literal_ranking(scores)]


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_accuracy(scored, k):
    scores, labels = scored
    hits = 0
    for row, label in zip(literal_ranking(scores), labels, strict=True):
        hits += label in row[:k]
    assert top_k_accuracy(scores, labels, k) == hits / 40


def test_confusion_matrix(scored):
    scores, labels = scored
    expected = np.zeros((5, 5), np.int64)
    for row, label in zip(literal_ranking(scores), labels, strict=True):
        expected[label][row[0]] += 1
    np.testing.assert_array_equal(confusion_matrix(scores, labels), expected)


def test_mean_class_accuracy(scored):
    scores, labels = scored
    shares = []
    for label in range(4):
        videos = [row[0] for row, true in zip(literal_ranking(scores), labels, strict=True) if true == label]
        shares.append(videos.count(label) / len(videos))
    assert mean_class_accuracy(scores, labels) == pytest.approx(sum(shares) / 4, rel=1e-12)


def test_no_videos_score_nothing():
    nothing = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    assert top_k_accuracy(*nothing) == mean_class_accuracy(*nothing) == 0.0
    assert confusion_matrix(*nothing).sum() == 0


def test_cross_entropy_is_the_mean_negative_logarithm_of_the_labels_probability():
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]], np.float32)
    assert cross_entropy(probabilities[:2], np.array([0, 1])) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    assert cross_entropy(probabilities, np.array([0, 0, 1])) < 100  # and finite, although one is impossible
    assert cross_entropy(np.zeros((0, 2), np.float32), np.zeros(0, np.int64)) == 0.0


def test_accuracies_of_classes():
    confusion = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    np.testing.assert_equal(class_accuracies(confusion), [0.75, np.nan, 0.5])


def test_pairs_that_are_confused_most_come_first():
    confusion = np.array([[5, 2, 0], [2, 0, 3], [1, 0, 9]])
    assert most_confused(confusion, 9) == [(1, 2), (1, 0), (0, 1), (2, 0)]
    assert most_confused(confusion, 1) == [(1, 2)]
    assert most_confused(np.eye(3, dtype=int), 5) == []
