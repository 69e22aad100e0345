import functools
import io
import shutil

import av
import numpy as np
import pytest
from av.stream import Disposition

from dnr_jax.data.catalogue import media
from dnr_jax.data.clips import container
from dnr_jax.data.clips.decode import decode_frames
from tests.data.videos import moving_frames

pytestmark = pytest.mark.compat

UNIT = 65536  # of a display matrix, in which numbers are 16.16 fixed point


def write(
    path: str | io.BytesIO, frames: np.ndarray, matrix: list[int] | None = None, pictures: Disposition | None = None
) -> None:
    """Write an MP4 file, which may have a picture beside its video."""
    with av.open(path, "w", format="mp4") as file:
        if pictures:
            cover = file.add_stream("mjpeg", rate=1)
            cover.width = cover.height = 64
            cover.pix_fmt, cover.disposition = "yuvj420p", pictures
        if len(frames):
            stream = file.add_stream("libx264", rate=25, options={"preset": "ultrafast", "qp": "5"})
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
            if matrix:
                a, b, c, d = matrix
                stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        if pictures:
            file.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
            file.mux(cover.encode())
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if len(frames):
            file.mux(stream.encode())


def written(*args, **kwargs) -> bytes:
    output = io.BytesIO()
    write(output, *args, **kwargs)
    return output.getvalue()


@pytest.fixture(scope="module")
def plain() -> bytes:
    return written(moving_frames(4, seed=1))


def quarter(turns: int, mirrored: bool = False) -> list[int]:
    """The matrix of clockwise turns; then mirrored from left to right."""
    across, down = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns], [(0, 1), (-1, 0), (0, -1), (1, 0)][turns]
    sign = -1 if mirrored else 1
    return [sign * UNIT * across[0], UNIT * across[1], sign * UNIT * down[0], UNIT * down[1]]


# What `ffmpeg -i FILE -frames:v 1 out.png` shows.
WAYS = {
    "upright": (quarter(0), lambda picture: picture),
    "mirrored": (quarter(0, True), lambda picture: picture[:, ::-1]),
    "upside down in a mirror": (quarter(2, True), lambda picture: picture[::-1]),
    "half a turn": (quarter(2), lambda picture: picture[::-1, ::-1]),
    "clockwise": (quarter(1), lambda picture: np.rot90(picture, -1)),
    "counterclockwise": (quarter(3), np.rot90),
    "transposed": ([0, UNIT, UNIT, 0], lambda picture: picture.swapaxes(0, 1)),
    "transverse": ([0, -UNIT, -UNIT, 0], lambda picture: picture.swapaxes(0, 1)[::-1, ::-1]),
    "scaled": ([3 * UNIT, 0, 0, 2 * UNIT], lambda picture: picture),
    "no matrix": ([0, 0, 0, 0], lambda picture: picture),
    "40 degrees": ([50203, 42126, -42126, 50203], lambda picture: picture),
    "50 degrees": ([42126, 50203, -50203, 42126], lambda picture: np.rot90(picture, -1)),
    "-100 degrees": ([-11380, -64540, 64540, -11380], np.rot90),
}


@pytest.mark.parametrize("way", WAYS)
def test_frames_are_turned_and_mirrored_as_the_display_matrix_asks(plain, way):
    matrix, expected = WAYS[way]
    content = written(moving_frames(4, seed=1), matrix)
    stored, _ = decode_frames(plain, np.arange)
    shown, _ = decode_frames(content, np.arange)
    np.testing.assert_array_equal(shown, [expected(picture) for picture in stored])
    facts = media.probe(content)
    assert (facts.height, facts.width) == shown.shape[1:3]
    again, _ = decode_frames(media.reencode(content, media.Reencoding(0)), np.arange)
    assert np.abs(again.astype(int) - shown).mean() < 20


def test_a_picture_beside_the_video_is_not_taken_for_it(plain):
    content = written(moving_frames(4, seed=1), pictures=Disposition.attached_pic)
    frames, total = decode_frames(content, np.arange)
    assert total == 4
    np.testing.assert_array_equal(frames, decode_frames(plain, np.arange)[0])
    assert media.probe(content).codec == "h264" and media.count_frames(content) == (4, 0)


def test_a_file_with_a_cover_alone_is_refused():
    content = written(np.zeros((0, 32, 48, 3), np.uint8), pictures=Disposition.attached_pic)
    for read in (functools.partial(decode_frames, pick=np.arange), media.probe, media.count_frames):
        with pytest.raises(container.DecodeError, match="only a cover picture"):
            read(content)


def test_of_several_videos_ffmpegs_choice_is_read():
    output = io.BytesIO()
    with av.open(output, "w", format="matroska") as file:
        streams = [file.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, side in zip(streams, (16, 32), strict=True):
            stream.width = stream.height = side
        for _ in range(3):
            for stream in streams:
                picture = np.zeros((stream.height, stream.width, 3), np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            file.mux(stream.encode())
    content = output.getvalue()
    with av.open(io.BytesIO(content)) as file:
        best = file.streams.best("video").codec_context.height
    assert decode_frames(content, np.arange)[0].shape == (3, best, best, 3)


@pytest.mark.parametrize("name", ["2021-05-03T12:30:00.mp4", "pipe:0.mp4", "frame%03d.mp4", "a b#c?.mp4"])
def test_no_character_of_a_files_name_means_anything(tmp_path, monkeypatch, plain, name):
    (tmp_path / name).write_bytes(plain)
    monkeypatch.chdir(tmp_path)
    for path in (name, str(tmp_path / name)):
        assert decode_frames(path, np.arange)[1] == 4


def test_what_is_a_url():
    assert container.is_url("https://host/video.mp4") and container.is_url("gs://bucket/video.mp4")
    assert not any(map(container.is_url, ["a:b.mp4", "/data/x://y.mp4", "C:\\videos\\a.mp4", "12://a", "file:a.mp4"]))


def test_packets_after_a_break_are_reported(plain):
    damaged: list[str] = []
    with av.open(io.BytesIO(plain)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    content = bytearray(plain)
    content[packets[2].pos : packets[2].pos + packets[2].size] = bytes(packets[2].size)
    frames = list(container.decode_in_order(bytes(content), damaged))
    assert len(damaged) == 1 and len(frames) == 3
    assert list(container.decode_in_order(plain, damaged)) and len(damaged) == 1
    with pytest.raises((av.FFmpegError, container.DecodeError)):
        list(container.decode_in_order(b"no video"))


def test_the_failing_inputs_are_right(shared, tmp_path):
    folder = shared / "failing"
    if not folder.is_dir():
        pytest.skip("no failing inputs there")
    mirrored = {"matrix_hflip.mp4": np.s_[:, ::-1], "matrix_vflip.mp4": np.s_[::-1], "matrix_zero.mp4": np.s_[:]}
    for name, way in mirrored.items():
        with av.open(str(folder / name)) as file:
            stored = next(file.decode(video=0)).to_ndarray(format="rgb24")
        shown, _ = decode_frames(str(folder / name), lambda total: np.zeros(1, int))
        np.testing.assert_array_equal(shown[0], stored[way])
    shutil.copy(folder / "audio_with_cover.mp3", tmp_path / "cover.mp4")
    with pytest.raises(container.DecodeError, match="only a cover picture"):
        decode_frames(str(tmp_path / "cover.mp4"), np.arange)


def test_a_decoder_that_cannot_be_opened_is_damage_at_every_packet():
    codec = av.CodecContext.create("h264", "r")
    codec.extradata = bytes([1, 100, 0, 10, 255, 225, 0, 22, 103, 100, 0, 10])  # of 22 bytes of a parameter set, 4
    codec.options = {"err_detect": "explode"}
    reasons: list[str] = []
    for packet in (av.Packet(b"\0\0\0\1e"), av.Packet(b"\0\0\0\1e"), None):
        assert list(container.decode_packet(codec, packet, reasons)) == []
    assert len(reasons) == 3
