import numpy as np
import psutil
import pytest

from dnr_jax.streaming.segments import Segment
from dnr_jax.streaming.sources import Pictures, Reader, source_of
from dnr_jax.streaming.stream import Labelled, Stream, StreamSettings
from tests.streaming.conftest import CLASSES, LEVELS, write_scenes


def pictures(*scenes: tuple[str, int]) -> Pictures:
    frames = [
        np.full((16, 24, 3), LEVELS[CLASSES.index(label)], np.uint8) for label, count in scenes for _ in range(count)
    ]
    return Pictures(frames, 10.0)


def test_windows_and_segments_of_a_video(predictor):
    stream = Stream(predictor, pictures(("dark", 40), ("light", 40), ("grey", 41)), StreamSettings(window=1.0))
    events = list(stream)
    labelled = [event for event in events if isinstance(event, Labelled)]
    segments = [event for event in events if isinstance(event, Segment)]
    assert [CLASSES[segment.label] for segment in segments] == ["dark", "light", "grey"]
    # Boundaries are within a window of the truth.
    np.testing.assert_allclose([segment.start for segment in segments], [0, 4, 8], atol=1.0)
    assert segments[-1].end == pytest.approx(12.1)
    assert [(event.start, event.end) for event in labelled[:2]] == [(0.0, 1.0), (0.5, 1.5)]
    assert labelled[0].prediction.labels == ("dark", "grey")
    assert len(labelled) == stream.count == 24
    assert (stream.carries, stream.windows.stride, stream.rule.min_length) == (False, 5, 1.0)
    summary = stream.summary()
    assert (summary["windows"], summary["seconds"], summary["dropped_frames"]) == (24, 12.1, 0)
    assert summary["ended"] == "at the end of the video"
    assert summary["longest_latency"] >= summary["latency"] >= 0


@pytest.mark.parametrize(("min_length", "labels"), [(None, ["light"]), (0.5, ["light"]), (1.0, [])])
def test_a_video_that_is_shorter_than_a_window_has_a_label(predictor, min_length, labels):
    stream = Stream(predictor, pictures(("light", 7)), StreamSettings(window=2.0, min_length=min_length))
    segments = [event for event in stream if isinstance(event, Segment)]
    assert [CLASSES[segment.label] for segment in segments] == labels
    assert stream.rule.min_length == pytest.approx(0.7 if min_length is None else min_length)
    assert all((segment.start, segment.end) == (0.0, pytest.approx(0.7)) for segment in segments)


def test_batches_do_not_change_what_comes_out(predictor):
    scenes = ("dark", 31), ("light", 18), ("grey", 25)
    one, many = (list(Stream(predictor, pictures(*scenes), StreamSettings(window=1.0, batch=n))) for n in (1, 7))
    for kind in (Labelled, Segment):
        kept = [[event for event in events if isinstance(event, kind)] for events in (one, many)]
        assert [event.start for event in kept[0]] == [event.start for event in kept[1]]
    assert [event for event in one if isinstance(event, Segment)] == [e for e in many if isinstance(e, Segment)]


def test_after_an_interruption_the_rest_is_known(predictor):
    stream = Stream(predictor, pictures(("dark", 100)), StreamSettings(window=1.0, batch=1))
    events = iter(stream)
    for _ in range(6):
        next(events)
    (segment,) = stream.close()
    assert (segment.start, segment.label) == (0.0, 0)
    assert segment.end == pytest.approx(stream.end)
    assert stream.close() == []


def test_a_file_is_labelled_as_its_frames_are(predictor, tmp_path):
    scenes = [("dark", 30), ("light", 30)]
    path = write_scenes(tmp_path / "a.mp4", scenes)
    settings = StreamSettings(window=1.0)
    with Reader(source_of(str(path))) as reader:
        of_file = [event for event in Stream(predictor, reader, settings) if isinstance(event, Segment)]
    of_frames = [event for event in Stream(predictor, pictures(*scenes), settings) if isinstance(event, Segment)]
    assert [segment.label for segment in of_file] == [segment.label for segment in of_frames] == [0, 2]
    np.testing.assert_allclose([s.start for s in of_file], [s.start for s in of_frames], atol=1e-3)


@pytest.mark.parametrize("setting", [{"window": 0.0}, {"stride": -1.0}, {"batch": 0}, {"enter": 0.2}])
def test_settings_that_no_video_can_be_looked_at_with_are_refused(setting):
    with pytest.raises(ValueError, match="expected"):
        StreamSettings(**setting)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(predictor, tmp_path):
    """Half an hour of frames; what a decoder and the allocator take is taken in the first tenth."""
    path = write_scenes(tmp_path / "long.mp4", [("dark", 900), ("light", 900)] * 5, rate=5, size=64)
    process, memory = psutil.Process(), []
    with Reader(source_of(str(path))) as reader:
        for event in Stream(predictor, reader, StreamSettings(window=2.0)):
            if isinstance(event, Labelled):
                memory.append(process.memory_info().rss)
    assert len(memory) > 1700
    assert max(memory[180:]) - memory[180] < 10e6
