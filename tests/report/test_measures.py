import numpy as np
import pytest

from dnr_jax.report import measures

SCORES = np.float32([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5], [0.7, 0.2, 0.1]])
LABELS = np.int32([0, 1, 1, 1, 2])


def test_classes_come_the_least_accurate_first_and_those_without_videos_not():
    found = measures.by_class(np.pad(SCORES, ((0, 0), (0, 1))), LABELS, ("a", "b", "c", "d"))
    assert [(group.name, group.correct, group.videos) for group in found] == [("c", 0, 1), ("b", 1, 3), ("a", 1, 1)]
    assert found[1].accuracy == pytest.approx(1 / 3)
    assert found[1].low < 1 / 3 < found[1].high


def test_the_calibration_error_is_the_mean_distance_from_honesty():
    found = measures.calibration(SCORES, LABELS, bins=2)
    (group,) = found.bins  # every best class has a probability of 0.5 or more
    assert (group.name, group.videos, group.correct) == ("0.50 to 1.00", 5, 2)
    assert found.confidence == pytest.approx([0.7])
    assert found.error == pytest.approx(0.3)
    fine = measures.calibration(SCORES, LABELS, bins=10)
    gaps = [abs(g.accuracy - c) * g.videos for g, c in zip(fine.bins, fine.confidence, strict=True)]
    assert fine.error == pytest.approx(sum(gaps) / 5)
    sure = measures.calibration(np.float32([[1.0, 0.0]]), np.int32([0]))
    assert sure.error == 0 and sure.bins[0].name == "0.93 to 1.00"


def test_few_values_are_groups_of_their_own_and_many_are_divided():
    correct = np.array([True, False, True, True])
    found = measures.by_quantity(np.array([240.0, 240, 480, 240]), correct, "px")
    assert [(group.name, group.videos, group.correct) for group in found] == [("240 px", 3, 2), ("480 px", 1, 1)]
    many = measures.by_quantity(np.arange(60.0), np.arange(60) < 10, "s")
    assert [group.videos for group in many] == [10] * 6
    assert [group.correct for group in many] == [10, 0, 0, 0, 0, 0]
    assert many[0].name == "up to 9.83 s" and many[-1].name == "over 49.2 s"


def test_the_videos_to_look_at():
    assert measures.hardest(SCORES, LABELS, 2) == [4, 1]
    assert measures.most_confidently_wrong(SCORES, LABELS, 5) == [1, 4, 3]
    pairs = measures.confused_pairs(SCORES, LABELS, 5)
    assert [(p.true, p.predicted, p.videos, p.of) for p in pairs] == [(2, 0, (4,), 1), (1, 0, (1,), 3), (1, 2, (3,), 3)]
    assert len(measures.confused_pairs(SCORES, LABELS, 1)) == 1


def test_the_most_confident_mistake_of_a_pair_comes_first():
    scores = np.float32([[0.4, 0.6], [0.1, 0.9], [0.3, 0.7]])
    (pair,) = measures.confused_pairs(scores, np.int32([0, 0, 0]), 5)
    assert pair.videos == (1, 2, 0)


def test_no_videos_have_nothing_to_tell():
    scores, labels = np.zeros((0, 3), np.float32), np.zeros(0, np.int32)
    assert measures.by_class(scores, labels, ("a", "b", "c")) == []
    assert measures.calibration(scores, labels) == measures.Calibration([], [], 0.0)
    assert measures.hardest(scores, labels, 3) == measures.most_confidently_wrong(scores, labels, 3) == []
    assert measures.confused_pairs(scores, labels, 3) == []
