import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnr_jax.data.clips import sampling

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


# The other schemes, against the peers' definitions written frame by frame. References draw what the function draws.


def literal_sample_frames(frames, clip_len, interval, clips, rng, jitter, out_of_bound):
    """MMAction2's SampleFrames in training."""
    span = clip_len * interval
    average = (frames - span + 1) // clips
    if average > 0:
        draws = rng.integers(average, size=clips)
        starts = [clip * average + int(draws[clip]) for clip in range(clips)]
    elif frames > max(clips, span):
        starts = sorted(int(draw) for draw in rng.integers(frames - span + 1, size=clips))
    elif average == 0:
        starts = [round(clip * ((frames - span + 1.0) / clips)) for clip in range(clips)]
    else:
        starts = [0] * clips
    shifts = rng.integers(interval, size=(clips, clip_len)) if jitter else np.zeros((clips, clip_len), int)
    rows = []
    for start, shift in zip(starts, shifts, strict=True):
        row = [start + frame * interval + int(shift[frame]) for frame in range(clip_len)]
        if out_of_bound == "loop":
            rows.append([index % frames for index in row])
        else:
            last = max([index for index in row if index < frames], default=0)
            rows.append([index if index < frames else last for index in row])
    return rows


@given(LENGTHS, SIZES, SIZES, SIZES, SEEDS, st.booleans(), st.sampled_from(["loop", "repeat_last"]))
def test_dense_train_is_mmaction2s_sample_frames(frames, clip_len, interval, clips, seed, jitter, out_of_bound):
    rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
    result = sampling.dense_train(frames, clip_len, interval, rng, clips, jitter, out_of_bound)
    assert result.dtype == np.int64 and result.shape == (clips, clip_len)
    assert (result >= 0).all() and (result < frames).all()
    expected = literal_sample_frames(frames, clip_len, interval, clips, same, jitter, out_of_bound)
    np.testing.assert_array_equal(result, expected)


@given(LENGTHS, st.integers(2, 16), SIZES, SIZES)
def test_dense_test_repeats_the_last_frame_where_it_would_wrap(frames, clip_len, interval, clips):
    wrapped = sampling.dense_test(frames, clip_len, interval, clips)
    repeated = sampling.dense_test(frames, clip_len, interval, clips, "repeat_last")
    assert (np.diff(repeated, axis=1) >= 0).all() and (repeated < frames).all()
    whole = np.diff(wrapped, axis=1).min(axis=1) == interval
    np.testing.assert_array_equal(repeated[whole], wrapped[whole])
    np.testing.assert_array_equal(repeated[:, 0], wrapped[:, 0])


def test_repeat_last_repeats_the_last_frame_of_the_clip_and_not_of_the_video():
    np.testing.assert_array_equal(
        sampling.dense_train(6, 4, 2, SmallestDraw(), 1, False, "repeat_last"), [[0, 2, 4, 4]]
    )
    np.testing.assert_array_equal(sampling.dense_test(6, 4, 2, 2, "repeat_last"), [[0, 2, 4, 4], [0, 2, 4, 4]])


def test_jitter_draws_each_frame_within_its_interval():
    np.testing.assert_array_equal(sampling.dense_train(20, 3, 4, LargestDraw(), jitter=True), [[11, 15, 19]])
    rng = np.random.default_rng(0)
    clips = np.concatenate([sampling.dense_train(12, 3, 4, rng, jitter=True) for _ in range(2000)])
    assert len(np.unique(clips, axis=0)) == 4**3


@given(LENGTHS, SIZES, SIZES)
def test_twice_adds_the_starts_of_the_segments(frames, segments, clips):
    result = sampling.segments_test(frames, segments, clips, twice=True)
    np.testing.assert_array_equal(result[:clips], sampling.segments_test(frames, segments, clips))
    length = frames / segments
    expected = [[int(s * length + length * (c / clips)) for s in range(segments)] for c in range(clips)]
    np.testing.assert_array_equal(result[clips:], expected)


def literal_tdn_snippets(starts, length, frames):
    """TDN's loader: the index goes on by one from each segment's start, and stays at the last frame."""
    clip = []
    for start in starts:
        index = start
        for _ in range(length):
            clip.append(index)
            index = min(index + 1, frames - 1)
    return clip


@given(LENGTHS, SIZES, st.integers(2, 7), SEEDS)
def test_snippets_train_is_tdns_data_set(frames, segments, length, seed):
    rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
    average = (frames - length + 1) // segments
    if average > 0:
        draws = same.integers(average, size=segments)
        starts = [segment * average + int(draws[segment]) for segment in range(segments)]
    elif frames > segments:
        starts = sorted(same.integers(max(frames - length + 1, 1), size=segments).tolist())
    else:
        starts = [0] * segments
    result = sampling.snippets_train(frames, segments, length, rng)
    assert result.dtype == np.int64 and (result < frames).all()
    np.testing.assert_array_equal(result, [literal_tdn_snippets(starts, length, frames)])


@given(LENGTHS, SIZES, st.integers(2, 7))
def test_snippets_test_is_tdns_data_set(frames, segments, length):
    starts = [0] * segments
    if frames > segments + length - 1:
        tick = (frames - length + 1) / float(segments)
        starts = [int(tick / 2.0 + tick * segment) for segment in range(segments)]
    result = sampling.snippets_test(frames, segments, length, 1)
    assert result.dtype == np.int64 and (result < frames).all()
    np.testing.assert_array_equal(result, [literal_tdn_snippets(starts, length, frames)])


@given(LENGTHS, SIZES, st.integers(2, 7), SIZES)
def test_snippets_of_several_clips_start_where_segments_have_their_frames(frames, segments, length, clips):
    result = sampling.snippets_test(frames, segments, length, clips, twice=True)
    assert result.shape == (2 * clips, segments * length) and (result < frames).all()
    starts = result[:, ::length]
    if frames - length + 1 > segments:
        np.testing.assert_array_equal(starts, sampling.segments_test(frames - length + 1, segments, clips, twice=True))
        assert (np.diff(result.reshape(2 * clips, segments, length), axis=-1) == 1).all()
    else:
        assert not starts.any()


@given(LENGTHS, SIZES, st.integers(1, 80), SEEDS)
def test_window_train_is_mmaction2s_dense_sample_frames(frames, segments, window, seed):
    rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
    positions = max(1, 1 + frames - window)
    start = 0 if positions == 1 else int(same.integers(0, positions - 1))
    expected = [[(start + segment * (window // segments)) % frames for segment in range(segments)]]
    result = sampling.window_train(frames, segments, window, rng)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, expected)


@given(LENGTHS, SIZES, st.integers(1, 80), SIZES)
def test_window_test_is_mmaction2s_dense_sample_frames(frames, segments, window, clips):
    positions = max(1, 1 + frames - window)
    starts = [int(Fraction(positions - 1, max(clips - 1, 1)) * clip) for clip in range(clips)]
    expected = [[(start + segment * (window // segments)) % frames for segment in range(segments)] for start in starts]
    result = sampling.window_test(frames, segments, window, clips)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, expected)
    if clips > 1 and segments > 1 and frames >= window and window % segments == 0:  # covers, up to the last interval
        assert result.min() == 0 and result.max() == frames - window // segments


def literal_pyslowfast(frames, clip_len, size, start):
    """PySlowFast's temporal_sampling: torch.linspace(start, start + size - 1, clip_len), clamped, rounded down."""
    steps = [Fraction(size - 1, max(clip_len - 1, 1)) * frame for frame in range(clip_len)]
    return [min(math.floor(start + step), frames - 1) for step in steps]


@given(LENGTHS, SIZES, SIZES, st.integers(2, 12))
def test_linspace_test_is_pyslowfasts_uniform_clips(frames, clip_len, interval, clips):
    size = clip_len * interval
    starts = [Fraction(max(frames - size, 0)) * clip / clips for clip in range(clips)]
    expected = [literal_pyslowfast(frames, clip_len, size, start) for start in starts]
    result = sampling.linspace_test(frames, clip_len, interval, clips)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, expected)
    assert (np.diff(result, axis=1) >= 0).all() and (np.diff(result, axis=0) >= 0).all()


def test_linspace_test_of_ten_clips_by_hand():
    # 300 frames, 8 x 8: starts 0, 23.6, 47.2, ..., 212.4, and 63 frames over 7 gaps of 9.
    clips = sampling.linspace_test(300, 8, 8, 10)
    np.testing.assert_array_equal(clips[:, 0], [0, 23, 47, 70, 94, 118, 141, 165, 188, 212])
    np.testing.assert_array_equal(clips[1], [23, 32, 41, 50, 59, 68, 77, 86])
    np.testing.assert_array_equal(sampling.linspace_test(300, 8, 8, 1), [118 + 9 * np.arange(8)])


@given(LENGTHS, SIZES, SIZES, SEEDS)
def test_linspace_train_is_pyslowfasts_temporal_sampling(frames, clip_len, interval, seed):
    size = clip_len * interval
    start = Fraction(np.random.default_rng(seed).random() * max(frames - size, 0))
    result = sampling.linspace_train(frames, clip_len, interval, np.random.default_rng(seed))
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, [literal_pyslowfast(frames, clip_len, size, start)])


RATES = st.fractions(5, 120, max_denominator=1001)


@given(LENGTHS, SIZES, SIZES, st.integers(1, 12), RATES, SEEDS)
def test_an_interval_of_time_is_pyslowfasts_target_fps(frames, clip_len, interval, clips, rate, seed):
    """The decoder: a clip of sampling_rate * num_frames / target_fps * fps frames, at delta * clip_idx / num_clips."""
    size = max(Fraction(clip_len * interval, 30) * rate, 1)
    delta = max(frames - size, 0)
    starts = [delta * clip / clips for clip in range(clips)] if clips > 1 else [math.floor(delta / 2)]
    converted = sampling.interval_at(interval, float(rate), 30)
    result = sampling.linspace_test(frames, clip_len, converted, clips)
    np.testing.assert_array_equal(result, [literal_pyslowfast(frames, clip_len, size, start) for start in starts])

    # Rounding may move a frame that lies on the edge between two.
    result = sampling.linspace_train(frames, clip_len, converted, np.random.default_rng(seed))
    start = Fraction(np.random.default_rng(seed).random()) * delta
    edges = (-Fraction(1, 10**6), 0, Fraction(1, 10**6))
    expected = np.array([literal_pyslowfast(frames, clip_len, size, start + edge) for edge in edges]).clip(0)
    assert (expected.min(axis=0) <= result).all() and (result <= expected.max(axis=0)).all()
    assert result.min() >= 0 and (np.diff(result) >= 0).all()


def test_a_window_lasts_as_long_at_any_frame_rate():
    # Two seconds at 30 frames a second, in videos of 15, 30 and 60.
    for rate, length in ((15, 30), (30, 60), (60, 120)):
        converted = sampling.interval_at(2, rate, 30)
        clip = sampling.linspace_test(20 * rate, 30, converted, 2)[0]
        assert (clip[0], clip[-1]) == (0, length - 1)
    assert sampling.interval_at(2, 25.0, 0) == sampling.interval_at(2, 0, 30) == 2


def test_a_window_of_less_than_a_frame_is_one_frame():
    assert sampling.linspace_test(9, 4, 0.1, 2).tolist() == [[0] * 4, [4] * 4]
    assert np.ptp(sampling.linspace_train(9, 4, 0.1, np.random.default_rng(0))) == 0
