import av
import numpy as np
import pytest

from dnr_jax.streaming.burn import burn, caption
from dnr_jax.streaming.outputs import as_png
from dnr_jax.streaming.segments import Segment
from dnr_jax.streaming.sources import source_of
from tests.data.videos import irregular_video
from tests.streaming.conftest import CLASSES, write_scenes


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    return str(write_scenes(tmp_path_factory.mktemp("burn") / "a.mp4", [("dark", 20)], sound=True, size=64))


def read(path: str) -> tuple[np.ndarray, list[float], int]:
    """The frames, when they are shown, and how many packets of sound there are."""
    with av.open(path) as container:
        pictures = list(container.decode(video=0))
    with av.open(path) as container:
        sound = [packet for packet in container.demux(audio=0) if packet.size]
    frames = np.stack([picture.to_ndarray(format="rgb24") for picture in pictures])
    return frames, [float(picture.pts * picture.time_base) for picture in pictures], len(sound)


def test_labels_are_drawn_where_their_segments_are_and_sound_is_kept(video, tmp_path):
    out, advanced = str(tmp_path / "out.mp4"), []
    burn(source_of(video), out, [Segment(0.5, 1.0, 0, 0.875)], CLASSES, 2.0, advanced.append)
    frames, times, sound = read(out)
    before, before_times, before_sound = read(video)
    assert frames.shape == before.shape
    np.testing.assert_allclose(times, before_times, atol=1e-3)
    assert sound == before_sound > 0
    changed = np.abs(frames.astype(int) - before).max(axis=(1, 2, 3)) > 40
    assert changed.tolist() == [5 <= number < 10 for number in range(20)]
    assert (frames[:, :40].astype(int) - before[:, :40]).max() < 20  # above the bar
    assert advanced == pytest.approx(np.arange(20) / 10)


def test_a_recording_of_irregular_frames_keeps_their_times(tmp_path):
    """FFmpeg tells 2000 frames a second of it, for which a player would need much."""
    times = np.cumsum(np.random.default_rng(0).integers(40, 120, 30)).tolist()
    (tmp_path / "a.ts").write_bytes(irregular_video("mpegts", "libx264", times))
    burn(source_of(str(tmp_path / "a.ts")), str(tmp_path / "out.mp4"), [], (), 60.0)
    with av.open(str(tmp_path / "out.mp4")) as container:
        shown = [picture.time for picture in container.decode(video=0)]
        level = container.streams.video[0].codec_context.extradata[3]
    np.testing.assert_allclose(np.diff(shown), np.diff(times) / 1000, atol=2e-3)
    assert level == 10  # 1.0, that of the smallest pictures; 2.1 for 2000 of them a second


def test_only_what_was_labelled_is_written(video, tmp_path):
    out = str(tmp_path / "out.mp4")
    burn(source_of(video), out, [], CLASSES, 0.8)
    assert 8 <= len(read(out)[0]) <= 9


def test_a_name_may_hold_a_colon(video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    burn(source_of(video), "12:30.mp4", [], CLASSES, 2.0)
    assert len(read(str(tmp_path / "12:30.mp4"))[0]) == 20


def test_a_caption_fits_however_long_it_is():
    for text in ("90%  jump", "90%  a very long name of a class " * 4):
        label = caption(text, 64, 96)
        assert label.shape == (12, 96, 4)
        white = label[..., 0] > 0.8
        assert white.any()
        assert not white[:, -1].any()


def test_characters_that_the_font_does_not_have_are_drawn_without_a_warning(recwarn):
    assert (caption("90%  日本 🎉", 64, 96)[..., 0] > 0.8).any()
    assert as_png([Segment(0.0, 1.0, 0, 0.9)], ["日本 🎉"], {}).startswith(b"\x89PNG")
    assert not recwarn.list
