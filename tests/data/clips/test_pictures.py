"""Clips of streams in every state that they are found in have the frames of decoding in order; tests/data/zoo.py."""

import io
import itertools

import av
import numpy as np
import pytest

from dnr_jax.data.clips import decode, pictures
from tests.data import zoo


def is_told(content: bytes) -> bool:
    return decode.told_frames(content) > 0


def first_options(codec: str, index: int = 0) -> dict[str, str]:
    return dict(zoo.STREAMS[codec][index])


@pytest.fixture(scope="module")
def reordered() -> bytes:
    """H.264 with B frames that are referred to, in an AVI file."""
    return zoo.write("libx264", "avi", first_options("libx264", 1), zoo.numbered_frames())


@pytest.mark.parametrize("container", ["avi", "mp4", "matroska", "mpegts", "h264"])
def test_h264_copied_out_of_an_avi_file_is_told(reordered, container):
    """Although its packets have the times of decoding."""
    content = reordered if container == "avi" else zoo.copy([reordered], container)
    assert is_told(content) and decode.told_frames(content) == zoo.FRAMES
    assert not zoo.wrong_clips(content, range(0, 36, 9), (1, 5))


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [
        pytest.param("libx264", "mpegts", 2, marks=pytest.mark.slow),
        ("libx264", "mp4", 3),
        pytest.param("libx265", "matroska", 1, marks=pytest.mark.slow),
        pytest.param("mpeg2video", "mpeg", 1, marks=pytest.mark.slow),
        pytest.param("mpeg4", "avi", 1, marks=pytest.mark.slow),
        pytest.param("libvpx", "webm", 1, marks=pytest.mark.slow),
        ("mjpeg", "avi", 0),
    ],
)
def test_clips_are_those_of_decoding_in_order(codec, container, options):
    for how, content in zoo.variants(codec, container, first_options(codec, options)):
        if zoo.can_be_decoded(content):
            assert not zoo.wrong_clips(content, (0, 7, 19), (1, 5)), how
        if how == "plain":
            assert is_told(content)


@pytest.mark.parametrize("codec, container", [("ffv1", "matroska"), ("wmv2", "asf"), ("flv", "flv")])
def test_of_other_codecs_frames_are_counted(codec, container):
    content = zoo.write(codec, container, {}, zoo.numbered_frames(12))
    assert not is_told(content)
    assert not zoo.wrong_clips(content, (0, 5), (1, 2))


def without(content: bytes, container: str, lost: set[int]) -> bytes:
    """A stream some of whose packets are missing."""
    output = io.BytesIO()
    with av.open(io.BytesIO(content)) as file, av.open(output, "w", format=container) as target:
        stream = target.add_stream_from_template(file.streams.video[0])
        for number, packet in enumerate(p for p in file.demux(video=0) if p.size):
            if number not in lost:
                packet.stream = stream
                target.mux(packet)
    return output.getvalue()


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "mpeg2video"])
def test_streams_with_packets_missing_are_counted(codec):
    """A reference picture is lost: decoders leave out some of those that refer to it, far from the clip."""
    whole = zoo.write(codec, "mp4", first_options(codec, 1), zoo.numbered_frames())
    content = without(whole, "mp4", {4})
    assert is_told(whole) and not is_told(content)
    assert not zoo.wrong_clips(content, range(0, 36, 9), (1, 5))


@pytest.mark.parametrize(
    "times, expected",
    [
        (range(0, 90, 3), False),
        ([0, 34, 66, 100, 133, 167], False),
        ([6, 0, 3, 12], True),
        ([0, 0, 3, 3, 6, 9], False),
        ([5], False),
        ([], False),
    ],
)
def test_a_gap_is_a_step_longer_than_the_others(times, expected):
    assert pictures.has_gap(list(times)) == expected


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_videos_in_which_nothing_moves_are_told(codec):
    """Their pictures take as few bytes as what a cut may leave of another."""
    still = np.full((30, 64, 96, 3), 120, np.uint8)
    content = zoo.write(codec, "mp4", {**first_options(codec), "g": "10"}, still)
    assert decode.told_frames(content) == 30


def test_invisible_pictures_of_vp8_are_no_frames():
    """A picture becomes invisible where the bit that shows it is taken back."""
    source = zoo.write("libvpx", "webm", first_options("libvpx"), zoo.numbered_frames(20))
    output = io.BytesIO()
    with av.open(io.BytesIO(source)) as file, av.open(output, "w", format="webm") as target:
        stream = target.add_stream_from_template(file.streams.video[0])
        for number, packet in enumerate(p for p in file.demux(video=0) if p.size):
            content = bytearray(packet)
            content[0] &= ~0x10 if number in (1, 7, 8, 19) else 0xFF
            copied = av.Packet(bytes(content))
            copied.pts, copied.dts, copied.time_base = packet.pts, packet.dts, packet.time_base
            copied.is_keyframe, copied.stream = packet.is_keyframe, stream
            target.mux(copied)
    assert decode.told_frames(output.getvalue()) == 16
    assert not zoo.wrong_clips(output.getvalue(), range(12), (1, 2))


def superframe(*frames: bytes) -> bytes:
    """VP9 bitstream specification, annex B, with sizes of two bytes."""
    marker = bytes([0xC0 | 1 << 3 | len(frames) - 1])
    return b"".join(frames) + marker + b"".join(len(f).to_bytes(2, "little") for f in frames) + marker


@pytest.mark.parametrize(
    "packet, shown",
    [
        (b"\x82....", True),  # profile 0, shown
        (b"\x80....", False),
        (b"\x88", True),  # shows one that was decoded before
        (b"\xb1....", True),  # profile 3, in which a reserved bit comes first
        (b"\xb0....", False),
        (b"\xb4", True),
        (superframe(b"\x80" + 300 * b".", b"\x82.."), True),
        (superframe(b"\x80...", b"\x80..."), False),
    ],
)
def test_what_vp9_shows(packet, shown):
    order = pictures.VisiblePictures(pictures._shown_in_vp9)
    order.add([av.Packet(content) for content in (b"\x82", packet, b"\x82")])
    assert order.order() == ([0, 1, 2] if shown else [0, 2])


def test_a_vp9_packet_with_two_shown_pictures_is_in_doubt():
    order = pictures.VisiblePictures(pictures._shown_in_vp9)
    order.add([av.Packet(superframe(b"\x82..", b"\x82.."))])
    assert order.order() is None


def test_what_comes_before_the_first_keyframe_is_counted():
    content = zoo.write("libx264", "mpegts", first_options("libx264", 1), zoo.numbered_frames())
    cut = content[len(content) // 8 // 188 * 188 :]
    assert not is_told(cut) and not zoo.wrong_clips(cut, (0, 3), (1, 4))


def test_pictures_of_two_fields_are_counted():
    """No encoder here writes H.264 in fields: a slice header that says so is made."""
    content = zoo.write("libx264", "mp4", first_options("libx264", 4), zoo.numbered_frames(12))
    with av.open(io.BytesIO(content)) as file:
        stream = file.streams.video[0]
        order = pictures.picture_order(stream.codec_context)
        packets = [packet for packet in file.demux(stream) if packet.size]
        order.add(packets[:5])
        order.add(packets[5:])
        assert sorted(order.order()) == list(range(12))
        again = pictures.picture_order(stream.codec_context)
        again.add([packet for packet in packets for _ in range(2)])  # the two fields of a frame have the same count
        assert again.order() is None


def test_large_files_are_read_again_and_not_kept(monkeypatch, reordered):
    content = zoo.copy([reordered], "mp4")
    monkeypatch.setattr(decode, "_KEPT_BYTES", 1000)
    monkeypatch.setattr(decode, "_BATCH_BYTES", 700)
    clips = [np.arange(start, start + 9, 3) for start in (0, 7, 30)]
    small = [decode.decode_frames(content, lambda total, clip=clip: clip)[0] for clip in clips]
    monkeypatch.undo()
    for clip, frames in zip(clips, small, strict=True):
        np.testing.assert_array_equal(frames, decode.decode_frames(content, lambda total, clip=clip: clip)[0])


def test_clips_that_take_too_much_memory_are_refused(monkeypatch, reordered):
    monkeypatch.setattr(decode, "MAX_CLIP_BYTES", 3 * zoo.HEIGHT * zoo.WIDTH * 4)
    assert decode.decode_frames(reordered, lambda total: np.arange(4))[0].shape[0] == 4
    cut = zoo.write("ffv1", "matroska", {}, zoo.numbered_frames(6))  # whose frames are counted
    for content in (reordered, cut):
        with pytest.raises(decode.DecodeError, match="5 frames of 176 x 144 pixels take 0.0 GB.*--reencode access"):
            decode.decode_frames(content, lambda total: np.arange(5))


@pytest.mark.slow
@pytest.mark.parametrize(
    "codec", ["libx264", "mpeg2video", "mpeg4", "libvpx", "libvpx-vp9", "mjpeg", "msmpeg4", "prores"]
)
def test_the_zoo(codec):
    for container, options in itertools.product(zoo.CONTAINERS, zoo.STREAMS.get(codec, [{}])):
        for how, content in zoo.variants(codec, container, options):
            if zoo.can_be_decoded(content):
                assert not zoo.wrong_clips(content, (0, 7, 19, 31), (1, 5)), (container, options, how)
