"""With an index of its packets, a video gives the frames of decoding in order, without being opened as a file."""

import dataclasses
import io
import zipfile

import av
import numpy as np
import pytest

from dnr_jax.data.clips import decode, packet_index
from dnr_jax.data.clips.packet_index import Doubt, PacketIndex
from tests.data import zoo

FILES = [
    ("libx264", "mp4", 1),
    ("libx264", "matroska", 0),
    ("libx265", "mov", 1),
    ("mpeg4", "avi", 1),
    ("mpeg2video", "matroska", 1),
    ("libvpx", "webm", 1),
    ("libvpx-vp9", "webm", 1),
    ("mjpeg", "avi", 0),
]


def write(codec: str, container: str, options: int = 0, count: int = 24) -> bytes:
    return zoo.write(codec, container, zoo.STREAMS[codec][options], zoo.numbered_frames(count))


@pytest.fixture(scope="module")
def video() -> bytes:
    return write("libx264", "mp4", 1)


@pytest.fixture(scope="module")
def index(video) -> PacketIndex:
    return PacketIndex.from_bytes(decode.index_packets(video))


def frames_of(content: bytes, packets: bytes, clip: list[int]) -> tuple[list[int], int]:
    """The numbers that the frames of a clip show, and how many frames there are."""
    frames, total = decode.decode_frames(decode.StoredVideo(content, packets=packets), lambda total: np.array(clip))
    return [zoo.number_of(frame) for frame in frames], total


@pytest.mark.parametrize("codec, container, options", FILES, ids=lambda value: str(value))
def test_nothing_but_the_packets_is_read(codec, container, options, monkeypatch):
    content = write(codec, container, options)
    packets = decode.index_packets(content)
    assert packets and packets == decode.index_packets(content)
    with av.open(io.BytesIO(content)) as file:
        rate = float(file.streams.video[0].average_rate)
    expected = [zoo.number_of(frame) for frame in decode.decode_frames(content, np.arange)[0]]
    monkeypatch.setattr(decode, "open_video", None)
    monkeypatch.setattr(decode, "decode_in_order", None)
    counts = []
    for clip in ([0], [23], [20, 3, 3, 9], list(range(24))):
        assert frames_of(content, packets, clip) == ([expected[i] for i in clip], 24)
    decode.decode_frames(decode.StoredVideo(content, 0, packets), lambda total: counts.append(total) or np.array([0]))
    assert counts == [24] and counts[0].rate == rate


def test_colours_that_only_the_container_tells_are_kept():
    """Of MPEG-4 no packet says that its colours take the full range."""
    output = io.BytesIO()
    with av.open(output, "w", format="matroska") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = zoo.WIDTH, zoo.HEIGHT, "yuv420p"
        stream.codec_context.color_range, stream.codec_context.colorspace = 2, 1
        for frame in zoo.numbered_frames(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    content = output.getvalue()
    packets = decode.index_packets(content)
    assert PacketIndex.from_bytes(packets).decoder.settings["color_range"] == 2
    frames, _ = decode.decode_frames(decode.StoredVideo(content, packets=packets), np.arange)
    np.testing.assert_array_equal(frames, decode.decode_frames(content, np.arange)[0])


def rotated(content: bytes) -> bytes:
    """An MP4 file that asks for its frames to be turned by 180 degrees."""
    output = io.BytesIO()
    with av.open(io.BytesIO(content)) as source, av.open(output, "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(180)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return output.getvalue()


def archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("00001.jpg", b"no picture")
    return packed.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda: write("libx264", "mpegts"),  # whose packets are cut up
        lambda: zoo.write("ffv1", "matroska", {}, zoo.numbered_frames(3)),  # which does not tell its frames
        lambda: rotated(zoo.write("libx264", "mp4", {}, np.full((3, 64, 96, 3), 90, np.uint8))),
        archive,
    ],
    ids=["transport stream", "counted", "rotated", "archive"],
)
def test_of_others_there_is_no_index(make):
    assert decode.index_packets(make()) == b""


def test_what_is_no_video_has_no_index():
    with pytest.raises(decode.DecodeError):
        decode.index_packets(b"this is not a video" * 100)


def test_an_index_tells_the_frames(video, index, monkeypatch):
    assert decode.told_frames(decode.StoredVideo(video, packets=index.to_bytes()[:-1])) == 24  # as the packets tell
    monkeypatch.setattr(decode, "open_video", None)
    fewer = dataclasses.replace(index, order=index.order[:20]).to_bytes()
    assert decode.told_frames(decode.StoredVideo(video, packets=fewer)) == 20


def test_an_index_survives_as_bytes(index):
    again = PacketIndex.from_bytes(index.to_bytes())
    for field in dataclasses.fields(PacketIndex):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(index, field.name))
    assert again.to_bytes() == index.to_bytes()
    assert index.sizes.dtype.itemsize == 4 and len(index.to_bytes()) < 16 * 24 + 800


def test_a_damaged_index_or_one_of_another_version_is_noticed(index, video):
    content = index.to_bytes()
    damaged = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(0, len(content), 7)]
    for wrong in (*damaged, content[:-4], content + b"\0", b"", bytes([content[0] + 1]) + content[1:]):
        with pytest.raises(Doubt, match="damaged, or of another version"):
            PacketIndex.from_bytes(wrong)
    for wrong in (damaged[0], damaged[-1], content[:40]):
        assert frames_of(video, wrong, [3, 17]) == ([3, 17], 24)


def test_an_index_of_another_video_is_noticed(index, video):
    other = write("libx264", "mp4", 1, count=20)
    assert frames_of(other, index.to_bytes(), [3, 17]) == ([3, 17], 20)
    same_size = dataclasses.replace(index, size=len(other)).to_bytes()
    assert frames_of(other, same_size, [3, 17]) == ([3, 17], 20)


def test_what_a_wrong_index_promises_is_verified_while_decoding(index, video):
    """Frames are then those that the packets themselves tell."""
    for change in (
        {"order": index.order[::-1]},
        {"order": np.delete(index.order, 3)},
        {"starts": np.delete(index.starts, 5), "sizes": np.delete(index.sizes, 5)},
        {"starts": index.starts[:9], "sizes": index.sizes[:9], "checksums": index.checksums[:9]},
        {"decoder": dataclasses.replace(index.decoder, name="none")},
        {"decoder": dataclasses.replace(index.decoder, extradata="")},
        {"delay": 9},
    ):
        wrong = dataclasses.replace(index, **change).to_bytes()
        frames, total = decode.decode_frames(decode.StoredVideo(video, packets=wrong), np.arange)
        assert [zoo.number_of(frame) for frame in frames] == list(range(total)) == list(range(24)), change


def test_a_damaged_packet_is_noticed(index, video):
    start = int(index.starts[4])
    damaged = video[:start] + bytes([video[start] ^ 255]) + video[start + 1 :]
    with pytest.raises(Doubt, match="packet 4 is not where the index says"):
        list(index.read(damaged, 0, 6))
    assert [bytes(packet) for packet in index.read(video, 4, 5)] == [
        video[start : start + size] for start, size in zip(index.starts[4:6], index.sizes[4:6], strict=True)
    ]


def test_packets_that_are_not_in_the_file_have_no_place(index, video):
    with av.open(io.BytesIO(video)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    facts = index.decoder, index.rate, index.delay, index.order.tolist(), index.keys.tolist()
    assert packet_index.index_of(video, packets, *facts).to_bytes() == index.to_bytes()
    assert packet_index.index_of(video[: len(video) // 2], packets, *facts) is None
