import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnr_jax.data import sampling

LENGTHS = st.integers(1, 400)
SIZES = st.integers(1, 16)
SEEDS = st.integers(0, 2**32 - 1)


class LargestDraw:
    """Stands in for a generator; always draws the largest number."""

    def integers(self, high, size=None):
        return high - 1 if size is None else np.full(size, high - 1)


class SmallestDraw:
    """Stands in for a generator; always draws 0."""

    def integers(self, high, size=None):
        return 0 if size is None else np.zeros(size, np.int64)


# Worked out by hand from the definitions; the test rows also by running MMAction2's SampleFrames.
DENSE_TEST = [
    # frames, clip_len, interval, clips, expected
    (20, 4, 2, 1, [[6, 8, 10, 12]]),  # (20 - 7) // 2 = 6
    (20, 4, 2, 3, [[0, 2, 4, 6], [6, 8, 10, 12], [13, 15, 17, 19]]),  # 0, 6.5 to even, 13
    (7, 4, 2, 2, [[0, 2, 4, 6], [0, 2, 4, 6]]),  # exactly fits
    (5, 4, 2, 2, [[0, 2, 4, 1], [0, 2, 4, 1]]),  # wraps around
    (1, 3, 8, 1, [[0, 0, 0]]),
    (10, 1, 1, 2, [[2], [7]]),  # one frame a clip: centres of the segments
]
SEGMENTS_TEST = [
    # frames, segments, clips, expected
    (16, 8, 1, [[1, 3, 5, 7, 9, 11, 13, 15]]),
    (20, 8, 1, [[1, 3, 6, 8, 11, 13, 16, 18]]),  # 1.25, 3.75, 6.25, ...
    (3, 4, 1, [[0, 1, 1, 2]]),  # 0.375, 1.125, 1.875, 2.625
    (16, 4, 2, [[1, 5, 9, 13], [3, 7, 11, 15]]),
]


@pytest.mark.parametrize("frames, clip_len, interval, clips, expected", DENSE_TEST)
def test_dense_test_matches_table(frames, clip_len, interval, clips, expected):
    np.testing.assert_array_equal(sampling.dense_test(frames, clip_len, interval, clips), expected)


@pytest.mark.parametrize("frames, segments, clips, expected", SEGMENTS_TEST)
def test_segments_test_matches_table(frames, segments, clips, expected):
    np.testing.assert_array_equal(sampling.segments_test(frames, segments, clips), expected)


def test_dense_train_at_the_ends_of_its_range():
    # 20 frames hold 4 * 2 = 8: the start is one of 0 .. 12.
    np.testing.assert_array_equal(sampling.dense_train(20, 4, 2, SmallestDraw()), [[0, 2, 4, 6]])
    np.testing.assert_array_equal(sampling.dense_train(20, 4, 2, LargestDraw()), [[12, 14, 16, 18]])
    np.testing.assert_array_equal(sampling.dense_train(5, 4, 2, LargestDraw()), [[0, 2, 4, 1]])


def test_segments_train_at_the_ends_of_its_range():
    np.testing.assert_array_equal(sampling.segments_train(11, 3, SmallestDraw()), [[0, 3, 6]])
    np.testing.assert_array_equal(sampling.segments_train(11, 3, LargestDraw()), [[2, 5, 8]])
    # Fewer frames than segments: round(i * 3 / 4), and round(i * 2 / 8) with the last, 2, wrapping to 0.
    np.testing.assert_array_equal(sampling.segments_train(3, 4, LargestDraw()), [[0, 1, 2, 2]])
    np.testing.assert_array_equal(sampling.segments_train(2, 8, LargestDraw()), [[0, 0, 0, 1, 1, 1, 0, 0]])


def test_dense_train_draws_every_start():
    rng = np.random.default_rng(0)
    starts = {int(sampling.dense_train(20, 4, 2, rng)[0, 0]) for _ in range(500)}
    assert starts == set(range(13))


def test_segments_train_draws_every_frame_independently():
    rng = np.random.default_rng(0)
    clips = np.concatenate([sampling.segments_train(12, 3, rng) for _ in range(2000)])
    assert len(np.unique(clips, axis=0)) == 4**3


@given(LENGTHS, SIZES, SIZES, SEEDS)
def test_dense_train_is_one_stride_in_range(frames, clip_len, interval, seed):
    clip = sampling.dense_train(frames, clip_len, interval, np.random.default_rng(seed))
    assert clip.shape == (1, clip_len) and clip.dtype == np.int64
    assert (clip >= 0).all() and (clip < frames).all()
    np.testing.assert_array_equal(clip[0], (clip[0, 0] + interval * np.arange(clip_len)) % frames)
    if frames >= clip_len * interval:
        assert (np.diff(clip[0]) == interval).all()
    np.testing.assert_array_equal(clip, sampling.dense_train(frames, clip_len, interval, np.random.default_rng(seed)))


@given(LENGTHS, SIZES, SEEDS)
def test_segments_train_takes_one_frame_from_each_segment(frames, segments, seed):
    clip = sampling.segments_train(frames, segments, np.random.default_rng(seed))
    assert clip.shape == (1, segments) and clip.dtype == np.int64
    assert (clip >= 0).all() and (clip < frames).all()
    if frames >= segments:
        np.testing.assert_array_equal(clip[0] // (frames // segments), np.arange(segments))
    np.testing.assert_array_equal(clip, sampling.segments_train(frames, segments, np.random.default_rng(seed)))


@given(LENGTHS, st.integers(2, 16), SIZES, SIZES)
def test_dense_test_equals_slow_loop_and_covers(frames, clip_len, interval, clips):
    room = max(frames - ((clip_len - 1) * interval + 1), 0)
    expected = []
    for clip in range(clips):
        start = room // 2 if clips == 1 else round(clip * (room / (clips - 1)))
        expected.append([(start + frame * interval) % frames for frame in range(clip_len)])
    result = sampling.dense_test(frames, clip_len, interval, clips)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, expected)
    if clips > 1 and room:
        assert result.min() == 0 and result.max() == frames - 1


@given(LENGTHS, SIZES, SIZES)
def test_segments_test_equals_slow_loop(frames, segments, clips):
    length = frames / segments
    expected = [[int(s * length + length * ((c + 0.5) / clips)) for s in range(segments)] for c in range(clips)]
    result = sampling.segments_test(frames, segments, clips)
    assert result.dtype == np.int64 and (result < frames).all()
    np.testing.assert_array_equal(result, expected)
    assert (np.diff(result, axis=1) >= 0).all() and (np.diff(result, axis=0) >= 0).all()


@given(LENGTHS, SIZES)
def test_segments_test_of_one_clip_is_the_centre_of_each_segment(frames, segments):
    length = frames / segments
    expected = [[int(segment * length + length / 2) for segment in range(segments)]]
    np.testing.assert_array_equal(sampling.segments_test(frames, segments, 1), expected)
