"""What is read of an upload."""

import numpy as np
import pytest

from dnr_jax.app import reading
from dnr_jax.app.reading import read_upload
from dnr_jax.config import DataConfig, EvaluationConfig
from dnr_jax.data.clips.decode import DecodeError, encode_video
from dnr_jax.data.clips.sampling import Segments, Window
from dnr_jax.serve.decoding import Limits

T, SIDE, FPS = 4, 16, 10
DATA = DataConfig(sampler=Window(T, window=T), short_side=0, crop_size=SIDE)


def video(path, seconds: float):
    """Grey that grows lighter, four steps a tenth of a second."""
    values = (4 * np.arange(round(seconds * FPS))).clip(0, 255).astype(np.uint8)
    frames = np.broadcast_to(values[:, None, None, None], (len(values), 32, 32, 3))
    encode_video(str(path), np.ascontiguousarray(frames), fps=FPS, options={"preset": "ultrafast", "crf": "1"})
    return path


def test_views_a_clip_and_windows_along_the_video(tmp_path):
    upload = read_upload(video(tmp_path / "a.mp4", 2), DATA, EvaluationConfig(clips=3), Limits())
    assert upload.views.shape == (3, T, SIDE, SIDE, 3) and upload.clip.shape == (T, SIDE, SIDE, 3)
    assert upload.windows.shape == (10, T, SIDE, SIDE, 3) and upload.length == pytest.approx(0.4)
    frames = 2 * np.arange(10)[:, None] + np.arange(T)  # the last window is half of one, filled up
    np.testing.assert_allclose(upload.windows.mean(axis=(2, 3, 4)), 4 * frames.clip(max=19), atol=2.5)
    assert upload.times[0, 0] == 0 and upload.times[-1, 1] == pytest.approx(2)
    np.testing.assert_allclose(upload.times[1:, 0], upload.times[:-1, 1])


def test_a_video_shorter_than_a_window_is_one(tmp_path):
    data = DataConfig(sampler=Segments(T), short_side=0, crop_size=SIDE)
    upload = read_upload(video(tmp_path / "a.mp4", 1), data, EvaluationConfig(), Limits())
    assert len(upload.windows) == 1 and upload.length == pytest.approx(4)
    np.testing.assert_allclose(upload.times, [[0, 1]])


def test_windows_of_a_long_video_lie_further_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_FEWEST", 4)
    monkeypatch.setattr(reading, "_MOST", 4)
    path = video(tmp_path / "a.mp4", 6)
    upload = read_upload(path, DATA, EvaluationConfig(), Limits())
    assert len(upload.windows) == 4
    np.testing.assert_allclose(np.diff(upload.times[1:, 0]), 1.5)  # the first has what lies in front of it too
    monkeypatch.setattr(
        reading.Reader, "duration", property(lambda reader: 0.0, lambda reader, value: None), raising=False
    )
    unknown = read_upload(path, DATA, EvaluationConfig(), Limits())
    assert 4 <= len(unknown.windows) < 8
    np.testing.assert_allclose(unknown.times[1:, 0], unknown.times[:-1, 1])
    assert unknown.times[-1, 1] == pytest.approx(6)
    with pytest.raises(DecodeError, match="the video takes longer than 3 seconds, which is the limit here"):
        monkeypatch.setattr(reading, "read_views", lambda *arguments: None)  # as of a header that tells nothing
        read_upload(path, DATA, EvaluationConfig(), Limits(duration=3))


def test_what_is_no_video_is_refused_without_its_name(tmp_path):
    path = tmp_path / "secret.mp4"
    path.write_text("no video")
    with pytest.raises(DecodeError, match="no video file that is read here") as refused:
        read_upload(path, DATA, EvaluationConfig(), Limits())
    assert "secret" not in str(refused.value)
    with pytest.raises(DecodeError, match="the video takes 2 seconds; at most 1 are read"):
        read_upload(video(tmp_path / "b.mp4", 2), DATA, EvaluationConfig(), Limits(duration=1))
