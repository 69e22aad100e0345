import numpy as np
import pytest

from dnr_jax.streaming.segments import Cell, Hysteresis, Segment, Segmenter, seconds_as_clock, segments_of

JUMP, RUN, SIT = range(3)


def cells(*scores: tuple[float, float, float], length: float = 1.0) -> list[Cell]:
    return [Cell(i * length, (i + 1) * length, np.array(row, np.float32)) for i, row in enumerate(scores)]


def found(
    *scores: tuple[float, float, float], end: float = 0.0, **rule: float
) -> list[tuple[float, float, int, float]]:
    segments = segments_of(cells(*scores), Hysteresis(**rule), end)
    return [(segment.start, segment.end, segment.label, round(segment.score, 4)) for segment in segments]


def test_a_segment_starts_at_the_high_threshold_and_lasts_to_the_low_one():
    scores = [(0.4, 0.3, 0.3), (0.6, 0.2, 0.2), (0.4, 0.3, 0.3), (0.3, 0.4, 0.3), (0.2, 0.4, 0.4), (0.4, 0.3, 0.3)]
    assert found(*scores) == [(1.0, 4.0, JUMP, 0.4333)]
    assert found(*scores, leave=0.5) == [(1.0, 2.0, JUMP, 0.6)]
    assert found(*scores, enter=0.7) == []


def test_another_label_ends_a_segment_where_it_enters():
    assert found((0.9, 0.1, 0.0), (0.4, 0.6, 0.0), (0.1, 0.9, 0.0)) == [(0.0, 1.0, JUMP, 0.9), (1.0, 3.0, RUN, 0.75)]
    # At 0.55 it does not enter yet, and the first one is still above where it leaves.
    assert found((0.9, 0.1, 0.0), (0.4, 0.55, 0.0), enter=0.6) == [(0.0, 2.0, JUMP, 0.65)]


def test_short_segments_are_left_out():
    scores = [(0.9, 0.0, 0.1), (0.9, 0.0, 0.1), (0.0, 0.9, 0.1), (0.0, 0.1, 0.9), (0.0, 0.1, 0.9)]
    assert found(*scores, min_length=2) == [(0.0, 2.0, JUMP, 0.9), (3.0, 5.0, SIT, 0.9)]
    assert found(*scores, min_length=0) == [(0.0, 2.0, JUMP, 0.9), (2.0, 3.0, RUN, 0.9), (3.0, 5.0, SIT, 0.9)]


def test_what_interrupts_a_label_for_a_short_time_is_bridged_and_does_not_count():
    scores = [(0.8, 0.1, 0.1), (0.8, 0.1, 0.1), (0.0, 0.9, 0.1), (0.6, 0.2, 0.2), (0.6, 0.2, 0.2)]
    assert found(*scores, min_length=2) == [(0.0, 5.0, JUMP, 0.7)]
    longer = [*scores[:3], scores[2], *scores[3:]]
    assert [entry[:3] for entry in found(*longer, min_length=2)] == [
        (0.0, 2.0, JUMP),
        (2.0, 4.0, RUN),
        (4.0, 6.0, JUMP),
    ]
    nothing = [*scores[:2], (0.2, 0.4, 0.4), (0.2, 0.4, 0.4), *scores[3:]]
    assert [entry[:3] for entry in found(*nothing, min_length=2)] == [(0.0, 2.0, JUMP), (4.0, 6.0, JUMP)]


def test_sums_of_lengths_are_not_short_by_rounding():
    rule = Hysteresis(min_length=0.3)
    assert len(segments_of(cells(*[(0.9, 0.1, 0.0)] * 3, length=0.1), rule)) == 1


def test_the_last_segment_lasts_to_the_end_of_the_video():
    assert found((0.9, 0.1, 0.0), end=1.5) == [(0.0, 1.5, JUMP, 0.9)]
    assert found((0.2, 0.4, 0.4), end=1.5) == []
    assert found() == []


def test_segments_are_settled_as_soon_as_nothing_can_change_them():
    segmenter = Segmenter(Hysteresis(min_length=1.0))
    settled = [len(segmenter.add(cell)) for cell in cells((0.9, 0, 0), (0, 0.9, 0), (0, 0.9, 0), (0, 0, 0.9))]
    assert settled == [0, 1, 0, 1]
    assert [segment.label for segment in segmenter.close()] == [SIT]
    assert segmenter.close() == []


def test_settled_segments_are_in_order_and_apart():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet((0.4, 0.4, 0.4), 500).astype(np.float32)
    for min_length in (0.0, 1.0, 2.5):
        segments = segments_of(cells(*scores), Hysteresis(min_length=min_length))
        assert len(segments) > 20
        for before, after in zip(segments, segments[1:], strict=False):
            assert before.end <= after.start
            assert before.label != after.label or after.start - before.end >= min_length
        assert all(segment.length >= min_length for segment in segments)


@pytest.mark.parametrize("rule", [{"enter": 0.3, "leave": 0.5}, {"enter": 1.5}, {"leave": -0.1}])
def test_thresholds_that_no_score_can_keep_are_refused(rule):
    with pytest.raises(ValueError, match="expected 0 <= leave <= enter <= 1"):
        Hysteresis(**rule)
    with pytest.raises(ValueError, match="min_length is -1"):
        Hysteresis(min_length=-1)


def test_clocks():
    assert seconds_as_clock(3725.06) == "1:02:05.1"
    assert seconds_as_clock(59.96) == "0:01:00.0"
    assert seconds_as_clock(7199.9996, 3, ",") == "2:00:00,000"
    assert seconds_as_clock(61.4, 0) == "0:01:01"
    assert Segment(1.5, 4.0, JUMP, 0.5).length == 2.5
