"""The sample table of an MP4 file gives the packets that demuxing gives, where it gives any."""

import io

import av
import numpy as np
import pytest

from dnr_jax.data.clips import decode
from dnr_jax.data.clips.container import demux, open_video
from dnr_jax.data.clips.sample_table import SampleTable, sample_table
from tests.data import zoo

pytestmark = pytest.mark.compat

COUNT = 24


def write(container: str = "mp4", stream: int = 1, movflags: str = "", start: int = 0) -> bytes:
    """Return a file of one of the zoo's H.264 streams, whose first frames may come before its time begins."""
    output = io.BytesIO()
    with av.open(output, "w", format=container, options={"movflags": movflags} if movflags else {}) as file:
        video = file.add_stream("libx264", rate=zoo.FPS, options=zoo.STREAMS["libx264"][stream])
        video.height, video.width, video.codec_context.thread_count = zoo.HEIGHT, zoo.WIDTH, 1
        for time, picture in enumerate(zoo.numbered_frames(COUNT), start=-start):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, 1 / video.average_rate
            file.mux(video.encode(frame))
        file.mux(video.encode())
    return output.getvalue()


@pytest.fixture(scope="module")
def video() -> bytes:
    return write()


def table_of(content: bytes) -> SampleTable | None:
    with open_video(content, probe=False) as (container, stream):
        return sample_table(content, container, stream)


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("stream", range(5))
def test_packets_are_those_of_demuxing(container, stream):
    content = write(container, stream)
    table = table_of(content)
    with open_video(content) as opened:
        packets = list(demux(*opened))
    assert len(packets) == COUNT and list(map(bytes, packets)) == list(map(bytes, table.read(0, COUNT - 1)))
    assert [packet.is_keyframe for packet in packets] == [packet.is_keyframe for packet in table.read(0, COUNT - 1)]
    assert table.keys == [n for n, packet in enumerate(packets) if packet.is_keyframe]
    assert [bytes(packet) for packet in table.read(3, 5)] == list(map(bytes, packets[3:6]))


def test_a_clip_is_decoded_without_demuxing(video, tmp_path, monkeypatch):
    path = tmp_path / "video.mp4"
    path.write_bytes(video)
    monkeypatch.setattr(decode, "demux", None)
    clip = np.array([3, 3, 11, 23, 0])
    for source in (video, str(path)):
        frames, total = decode.decode_frames(source, lambda total: clip)
        assert total == COUNT and [zoo.number_of(frame) for frame in frames] == clip.tolist()
        assert decode.told_frames(source) == COUNT


def patched(content: bytes, box: bytes, offset: int, value: int) -> bytes:
    """Return a file with another byte in a box, so far behind its name."""
    place = content.rindex(box) + offset
    return content[:place] + bytes([value]) + content[place + 1 :]


NOT_RELIED_ON = {
    "fragments alone": lambda: write(movflags="frag_keyframe+empty_moov"),
    "fragments after a header": lambda: write(movflags="frag_keyframe"),
    "several descriptions": lambda: patched(write(), b"stsd", 11, 2),
    "data in another file": lambda: patched(write(), b"dref", 23, 0),
    "frames cut off": lambda: write(start=5),
    "data beyond the end": lambda: patched(write(), b"stco", 12, 1),
    "another container": lambda: write("matroska"),
    "another codec": lambda: zoo.write("mpeg4", "mp4", zoo.SMOOTH, zoo.numbered_frames(4)),
}


@pytest.mark.parametrize("kind", NOT_RELIED_ON)
def test_a_table_that_is_not_all_there_is_is_not_relied_on(kind):
    assert table_of(NOT_RELIED_ON[kind]()) is None


@pytest.mark.parametrize(
    "options, shown",
    [
        ({"movflags": "frag_keyframe+empty_moov"}, range(COUNT)),
        ({"movflags": "frag_keyframe"}, range(COUNT)),
        ({"start": 5}, range(5, COUNT)),
    ],
)
def test_such_files_are_demuxed(options, shown):
    frames, total = decode.decode_frames(write(**options), lambda total: np.arange(total))
    assert total == len(shown) and [zoo.number_of(frame) for frame in frames] == list(shown)


def test_large_files_are_not_read_whole(video, tmp_path, monkeypatch):
    path = tmp_path / "video.mp4"
    path.write_bytes(video)
    assert decode._fetch(str(path)) == video
    monkeypatch.setattr(decode, "_KEPT_BYTES", len(video) - 1)
    assert decode._fetch(str(path)) == str(path)
    frames, total = decode.decode_frames(str(path), lambda total: np.array([7]))
    assert total == COUNT and zoo.number_of(frames[0]) == 7
