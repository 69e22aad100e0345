import base64
import io

import numpy as np
import pytest
from PIL import Image

from dnr_jax.config import VideoSource
from dnr_jax.data.catalogue.sources import Folder
from dnr_jax.report import clips
from dnr_jax.report.clips import Strips, Videos, open_videos, strip
from tests.training.tiny import tiny_config


def picture(data: str) -> np.ndarray:
    kind, content = data.split(",", 1)
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_a_strip_shows_frames_from_the_first_to_the_last():
    clip = np.stack([np.full((20, 20, 3), value, np.uint8) for value in range(0, 250, 10)])
    made = strip(clip)
    pixels = picture(made.data)
    assert made.frames == 8 and pixels.shape == (112, 8 * 112, 3)
    middles = pixels[56, 56::112, 0].astype(int)
    assert middles[0] < 4 and abs(middles[-1] - 240) < 4 and (np.diff(middles) > 0).all()
    assert strip(clip[:3]).frames == 3


def test_a_strip_of_noise_is_no_larger_than_its_share():
    noise = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3), np.uint8)
    assert len(strip(noise).data) < 60_000


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    from tests.training.tiny import write_videos

    return write_videos(tmp_path_factory.mktemp("videos"), train=3, val=4)


def test_clips_and_facts_are_those_of_the_videos(videos):
    (videos / "val" / "dark" / "bad.mp4").write_bytes(b"no video")
    found = open_videos(tiny_config(videos))
    assert found.missing == "" and found.clip("light/02.mp4").shape == (4, 16, 16, 3)
    assert found.clip("dark/bad.mp4") is None and found.clip("elsewhere.mp4") is None
    facts = found.facts(["dark/00.mp4", "dark/bad.mp4", "elsewhere.mp4"])
    assert facts == {"dark/00.mp4": (pytest.approx(6 / 25), 16)}
    chosen = clips.first_clips(found, ["dark/bad.mp4", "dark/00.mp4", "light/02.mp4"], 1)
    assert {name: clip.shape for name, clip in chosen.items()} == {"dark/00.mp4": (4, 16, 16, 3)}
    assert clips.first_clips(found, ["dark/bad.mp4"], 2) == {}


def test_videos_that_are_gone_are_told(tmp_path):
    config = tiny_config(tmp_path)
    config.data.source = Folder(str(tmp_path / "gone"))
    found = open_videos(config)
    assert "gone" in found.missing
    assert found.clip("a") is None and found.facts(["a"]) == {}


def test_of_many_videos_a_sample_is_looked_into(monkeypatch):
    monkeypatch.setattr(Videos, "_probe", lambda self, name: (1.0, 2))
    names = tuple(str(i) for i in range(3000))
    source = VideoSource(names, np.zeros(3000, np.int32), names, ("a",))
    found = Videos(source, "", tiny_config("")).facts(names)
    assert len(found) == clips._PROBED and any(int(name) > 2000 for name in found)


def test_strips_end_where_their_room_does(monkeypatch):
    monkeypatch.setattr(Videos, "clip", lambda self, name: np.zeros((2, 8, 8, 3), np.uint8))
    size = len(strip(np.zeros((2, 8, 8, 3), np.uint8)).data)
    strips = Strips(Videos(None, "", tiny_config("")), budget=2 * size)
    assert [strips[name] is not None for name in ("a", "a", "b")] == [True, True, False]
