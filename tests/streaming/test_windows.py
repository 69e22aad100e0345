import numpy as np
import pytest

from dnr_jax.data.clips.sampling import Dense, Linspace, Segments
from dnr_jax.data.clips.sampling import Window as WindowSampler
from dnr_jax.streaming.windows import Assembler, Window, Windows, plan

FOUR = Windows(length=4, stride=2, offsets=(0, 3), rate=2.0)


def assembled(windows: Windows, numbers: list[int]) -> tuple[list[Window], list[Window], list[int]]:
    """Windows of frames whose pixels are their number; those at the end; the frames that were converted."""
    assembler, converted = Assembler(windows), []

    def load(number: int) -> np.ndarray:
        converted.append(number)
        return np.full((1, 1, 3), number, np.uint8)

    done = []
    for number in numbers:
        done += assembler.add(number, number / windows.rate, 100.0 + number, lambda: load(number))  # noqa: B023
    return done, assembler.close(), converted


def shown(windows: list[Window]) -> list[list[int]]:
    return [window.frames[:, 0, 0, 0].tolist() for window in windows]


@pytest.mark.parametrize(
    ("sampler", "rate", "given", "length", "stride"),
    [
        (Dense(num_frames=8, interval=4), 25.0, {}, 32, 16),
        (Dense(num_frames=8, interval=4), 25.0, {"contiguous": True}, 32, 32),
        (WindowSampler(num_frames=8, window=64), 25.0, {}, 64, 32),
        (Linspace(num_frames=8, interval=8, target_fps=30.0), 60.0, {}, 128, 64),
        (Linspace(num_frames=8, interval=8), 60.0, {}, 64, 32),
        (Segments(num_frames=8), 30.0, {}, 120, 60),
        (Segments(num_frames=8), 0.0, {}, 100, 50),
        (Segments(num_frames=8), 10.0, {"window": 2.5, "stride": 0.5}, 25, 5),
        (Segments(num_frames=8), 10.0, {"window": 0.01, "stride": 0.01}, 1, 1),
    ],
)
def test_windows_are_as_long_as_the_samplers_clips(sampler, rate, given, length, stride):
    windows = plan(sampler, rate, **given)
    assert (windows.length, windows.stride, windows.rate) == (length, stride, rate or 25.0)
    assert len(windows.offsets) == 8
    assert 0 <= min(windows.offsets) <= max(windows.offsets) < length


def test_the_frames_of_a_window_are_those_of_a_video_of_its_length():
    assert plan(Segments(num_frames=4), 10.0, window=2.0).offsets == (2, 7, 12, 17)


def test_windows_slide_and_only_their_frames_are_converted():
    done, rest, converted = assembled(FOUR, list(range(8)))
    assert shown(done) == [[0, 3], [2, 5], [4, 7]]
    assert [(window.start, window.end, window.arrived) for window in done] == [
        (0.0, 2.0, 103.0),
        (1.0, 3.0, 105.0),
        (2.0, 4.0, 107.0),
    ]
    # What two windows share is divided between them.
    assert [(window.cell_start, window.cell_end) for window in done] == [(0.0, 1.5), (1.5, 2.5), (2.5, 3.5)]
    assert sorted(set(converted)) == converted == [0, 2, 3, 4, 5, 6, 7]
    assert shown(rest) == [[6, 7]]
    assert (rest[0].cell_start, rest[0].cell_end) == (3.5, 4.0)


def test_windows_without_overlap_and_with_room_between_them():
    done, rest, converted = assembled(Windows(2, 2, (1, 1), 1.0), list(range(5)))
    assert shown(done) == [[1, 1], [3, 3]]
    assert converted == [1, 3]
    assert rest == []  # the frame that it needs has not come
    apart, _, _ = assembled(Windows(2, 4, (0, 1), 1.0), list(range(8)))
    assert [(window.cell_start, window.cell_end) for window in apart] == [(0.0, 3.0), (3.0, 7.0)]


def test_a_video_that_is_shorter_than_a_window_is_one():
    done, rest, _ = assembled(Windows(8, 4, (1, 3, 5, 7), 1.0), [0, 1])
    assert done == []
    assert shown(rest) == [[1, 1, 1, 1]]
    assert (rest[0].start, rest[0].end) == (0.0, 2.0)
    assert assembled(FOUR, []) == ([], [], [])


def test_a_video_that_ends_before_the_first_frame_of_a_window_is_one():
    done, rest, converted = assembled(Windows(8, 4, (3, 7), 1.0), [0, 1])
    assert (done, shown(rest), converted) == ([], [[1, 1]], [1])
    assert (rest[0].cell_start, rest[0].cell_end) == (0.0, 2.0)


def test_the_next_frame_stands_for_one_that_was_dropped():
    done, _, _ = assembled(FOUR, [0, 1, 4, 5, 6, 7])
    assert shown(done) == [[0, 4], [4, 5], [4, 7]]


def test_windows_that_were_dropped_as_a_whole_are_not_made_up():
    done, _, _ = assembled(FOUR, [0, 1, 2, 3, 100, 101, 102, 103])
    assert shown(done) == [[0, 3], [100, 103]]
    assert done[-1].cell_start > 40  # nobody saw what lies before


def test_memory_is_that_of_the_windows_that_grow():
    assembler = Assembler(Windows(100, 10, tuple(range(0, 100, 10)), 25.0))
    held = []
    for number in range(2000):
        assembler.add(number, number / 25, 0.0, lambda: np.zeros((1, 1, 3), np.uint8))
        held.append(sum(len(window.seen) for window in assembler._growing))
    assert max(held) == max(held[:200]) <= 100
