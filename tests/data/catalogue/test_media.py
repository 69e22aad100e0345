import io
import os
import pathlib
import subprocess
import sys

import av
import numpy as np
import pytest

from dnr_jax.data.catalogue import media
from dnr_jax.data.clips.decode import DecodeError, decode_frames, encode_video
from tests.data.videos import moving_frames, write_frames
from tests.paths import REPOSITORY


@pytest.fixture
def video(tmp_path) -> bytes:
    """12 frames of 64 x 96 pixels at 24 frames a second."""
    frames = moving_frames(12, seed=1, height=64, width=96)
    encode_video(str(tmp_path / "video.mp4"), frames, fps=24, options={"crf": "10"})
    return (tmp_path / "video.mp4").read_bytes()


@pytest.fixture
def folder(tmp_path) -> str:
    write_frames(tmp_path / "frames", moving_frames(12, seed=2), "{}.jpg")
    return str(tmp_path / "frames")


def test_facts(video, folder):
    assert media.probe(video) == media.Facts(12, 64, 96, 0.5, "h264", len(video))
    archive = media.pack_frames(folder)
    assert media.probe(archive, frame_rate=12.0) == media.Facts(12, 32, 48, 1.0, "mjpeg", len(archive))
    assert media.probe(archive).duration == 0.0


def test_an_archive_has_the_frames_of_its_folder(folder):
    archive = media.read_media(folder)
    assert archive == media.pack_frames(folder)
    pathlib.Path(folder, "3.jpg").touch()  # neither dates nor what is not a frame are part of it
    pathlib.Path(folder, "flow_x_1.jpg").touch()
    assert media.pack_frames(folder) == archive
    np.testing.assert_array_equal(decode_frames(archive, np.arange)[0], decode_frames(folder, np.arange)[0])
    assert media.fingerprint(archive) != media.fingerprint(archive + b"x")


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(DecodeError, match="gone.mp4"):
        media.read_media(str(tmp_path / "gone.mp4"))
    with pytest.raises(DecodeError, match="there are no JPEG or PNG files"):
        media.read_media(str(tmp_path))


def test_an_address_that_only_a_player_reads_is_refused():
    with pytest.raises(DecodeError, match=r"http://127\.0\.0\.1/a\.mp4: only files and buckets .*; download it"):
        media.readable("http://127.0.0.1/a.mp4")


def test_every_frame_is_counted(video, folder):
    assert media.count_frames(video) == (12, 0)
    pathlib.Path(folder, "4.jpg").write_bytes(b"no picture")
    assert media.count_frames(media.pack_frames(folder)) == (11, 1)
    with pytest.raises(DecodeError):
        media.count_frames(b"no video")


@pytest.mark.parametrize(
    "settings, height, width, expected",
    [
        (media.Reencoding(), 240, 320, (240, 320)),
        (media.Reencoding(), 720, 1280, (256, 456)),
        (media.Reencoding(), 1280, 720, (456, 256)),
        (media.Reencoding(0), 721, 1281, (720, 1280)),
        (media.Reencoding(size=(256, 340)), 720, 1280, (256, 340)),
        (media.Reencoding(), 1, 1, (2, 2)),
    ],
)
def test_sizes_of_videos_encoded_anew(settings, height, width, expected):
    assert settings.shape(height, width) == expected


def test_a_video_encoded_anew_is_made_for_access(video):
    again = media.reencode(video, media.Reencoding(0))
    original, decoded = decode_frames(video, np.arange)[0], decode_frames(again, np.arange)[0]
    assert decoded.shape == original.shape
    assert np.abs(decoded.astype(float) - original).mean() < 8
    with av.open(io.BytesIO(again)) as container:
        assert float(container.streams.video[0].average_rate) == 24
        container.streams.video[0].codec_context.skip_frame = "NONREF"
        assert sum(1 for _ in container.decode(video=0)) <= 4  # the others need not be decoded


def test_encoding_does_not_depend_on_what_was_in_memory():
    """The C library fills what is freed with a byte: an encoder that reads memory before it writes it sees another."""
    program = """
import pathlib, tempfile
import cv2, numpy as np
from dnr_jax.data.catalogue import media
from dnr_jax.data.clips import decode
rng = np.random.default_rng(0)
picture = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (340, 256), interpolation=cv2.INTER_CUBIC)
frames = np.stack([picture[t : t + 128, t : t + 170] + rng.normal(0, 6, (128, 170, 3)) for t in range(16)])
frames = frames.clip(0, 255).astype(np.uint8)
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "video.mp4"
    decode.encode_video(str(path), frames)
    content = path.read_bytes()
print(media.fingerprint(content), media.fingerprint(media.reencode(content, media.Reencoding())))
"""
    printed = set()
    for byte in ("85", "170"):
        memory = {"MALLOC_PERTURB_": byte, "MALLOC_MMAP_THRESHOLD_": "1000000000"}  # fresh pages would hold zeros
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=os.environ | memory)
        assert not done.returncode, done.stderr
        printed.add(done.stdout)
    assert len(printed) == 1


def test_frames_encoded_anew_keep_their_colours(folder):
    archive = media.pack_frames(folder)
    again = media.reencode(archive, media.Reencoding(0), frame_rate=12.0)
    assert media.probe(again).duration == 1.0
    original, decoded = decode_frames(archive, np.arange)[0], decode_frames(again, np.arange)[0]
    difference = decoded.astype(float).mean(axis=(1, 2)) - original.mean(axis=(1, 2))
    assert np.abs(difference).max() < 4  # a wrong range or matrix of colours is off by 10 and more


def test_rotated_videos_are_encoded_upright(shared):
    content = (shared / "data" / "clips" / "decord_video_90.mov").read_bytes()
    again = media.reencode(content, media.Reencoding(64))
    first, _ = decode_frames(content, lambda total: np.zeros(1, int))
    small, _ = decode_frames(again, lambda total: np.zeros(1, int))
    assert (first.shape[1] > first.shape[2]) == (small.shape[1] > small.shape[2]) and min(small.shape[1:3]) == 64
