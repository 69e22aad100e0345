"""Exact random access to the frames of a video file, and a small encoder.

:func:`decode_frames` returns the frames that decoding the whole file in order would return, but feeds the decoder only
what it needs: demuxing is cheap (about 1 ms a clip), so all packets are listed first, the order of their frames is read
from them (:mod:`dnr_jax.data.clips.pictures`), and each group of pictures is decoded from its keyframe to the last
frame wanted. Frames that nothing refers to and nobody asked for are skipped (``skip_frame = NONREF``), which saves a
third of the work on Kinetics-like files. Where the packets leave a doubt, or what comes out of the decoder is not what
they promised, the whole file is decoded and frames are counted instead. Of H.264 in an MP4 file nothing need be demuxed
(:mod:`dnr_jax.data.clips.sample_table`). Records of a prepared data set have the list with them
(:mod:`dnr_jax.data.clips.packet_index`), and only the packets that are needed are looked at.

A folder or archive of pictures is a video too (:mod:`dnr_jax.data.clips.frame_files`): of these only the files of the
wanted frames are read, by OpenCV, and at a reduced size where they are much larger than needed.
"""

import bisect
import contextlib
import dataclasses
import functools
import itertools
import logging
import os
import pathlib
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import TypeAlias, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from etils import epath

from dnr_jax.data.clips.container import (
    DecodeError,
    average_rate,
    decode_in_order,
    decode_packet,
    demux,
    is_url,
    may_be_mp4,
    open_video,
    openable,
    orientation,
    states_rate,
    time_of,
    why_unreadable,
)
from dnr_jax.data.clips.frame_files import BUCKETS, FrameFiles, has_frame_files
from dnr_jax.data.clips.packet_index import Decoder, Doubt, PacketIndex, index_of
from dnr_jax.data.clips.pictures import has_gap, picture_order
from dnr_jax.data.clips.sample_table import sample_table

__all__ = [
    "DecodeError",
    "FrameCount",
    "Pick",
    "StoredVideo",
    "decode_frames",
    "encode_video",
    "index_packets",
    "told_frames",
]

_logger = logging.getLogger(__name__)


class FrameCount(int):
    """The number of frames of a video.

    Attributes:
      rate: Frames per second, on average; 0 where nothing tells, as in a folder of pictures.
    """

    rate: float

    def __new__(cls, frames: int, rate: float = 0.0) -> "FrameCount":
        """Attach the rate to the number."""
        count = super().__new__(cls, frames)
        count.rate = rate
        return count


class StoredVideo(bytes):
    """The bytes of a video of which something is known already.

    Attributes:
      counted: How many frames decoding all of it gave, where its packets do not tell; 0 where they do.
      packets: Their index, as :func:`index_packets` returned it; empty where there is none.
    """

    counted: int
    packets: bytes

    def __new__(cls, content: bytes, counted: int = 0, packets: bytes = b"") -> "StoredVideo":
        """Attach what is known to the bytes."""
        video = super().__new__(cls, content)
        video.counted = counted
        video.packets = packets
        return video


Pick: TypeAlias = Callable[[FrameCount], np.ndarray]

# Of the encoders. With AVX-512, x264's macroblock tree reads memory that nothing wrote, and the frames depend on it.
REPEATABLE = {"libx264": {"mbtree": "0"}}

# Packets of smaller files are kept in memory from the listing on; larger files are read a second time.
_KEPT_BYTES = 16 * 2**20
_BATCH_BYTES = 4 * 2**20

MAX_CLIP_BYTES = 2**31
"""Of the frames of one call, in RGB: 21 frames of 7680 x 4320 pixels, 345 of 1920 x 1080."""


class _ThreadState(threading.local):
    """One reformatter a thread: it keeps its conversion tables from frame to frame, and must not be shared."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()


_thread = _ThreadState()


def decode_frames(source: str | bytes, pick: Pick, short_side: int = 0) -> tuple[np.ndarray, int]:
    """Decode chosen frames of a video.

    Args:
      source: Path (local, a URL that FFmpeg knows, or in a bucket that etils.epath can read) of a video file or of a
        folder of pictures, or the bytes of a video file or of an archive of pictures.
      pick: Called with the number of frames in the video, a :class:`FrameCount`; returns the indices wanted, in
        presentation order from 0, as an integer array of any shape. Repeated and unsorted indices are allowed. Called
        again with another number if the file turns out to hold more or fewer frames than it says.
      short_side: How many pixels are needed. JPEG frames are decoded at the smallest of a half, a quarter and an eighth
        of their size whose short side is not below; 0, and for all others: their full size.

    Returns:
      The frames, uint8 ``[n, H, W, 3]`` RGB, upright as the file's metadata asks, and the number of frames in the
      video.

    Raises:
      DecodeError: The file is missing, is not a video, or holds no frame that can be decoded; there is no picture in
        the folder or archive, a wanted one is damaged, or they have several sizes; or the frames wanted take more than
        :data:`MAX_CLIP_BYTES`.
      IndexError: ``pick`` returned an index out of range.
    """
    name = source if isinstance(source, str) else f"video of {len(source)} bytes"
    try:
        if has_frame_files(source):
            return _decode_files(FrameFiles(source), pick, short_side)
        media = _fetch(source)
        frames, indices, total = _decode_stored(media, pick) or _decode_counting(media, pick, counted=0)
        return _to_rgb(frames, indices), total
    except (av.FFmpegError, OSError, DecodeError) as error:
        raise DecodeError(f"{name}: {why_unreadable(source, error)}") from error


def told_frames(media: str | bytes) -> int:
    """Return how many frames a video has, as far as its packets (or files, or index) tell; 0 where they do not.

    Where they do, a clip costs decoding what its frames depend on. Otherwise it costs decoding the whole file, or from
    the start to its last frame where the number of frames is known (:class:`StoredVideo`).

    Raises:
      DecodeError: It is no video.
    """
    try:
        if has_frame_files(media):
            return len(FrameFiles(media))
        if isinstance(media, StoredVideo) and media.packets:
            with contextlib.suppress(Doubt):
                return len(PacketIndex.from_bytes(media.packets).order)
        media = _fetch(media)
        with open_video(media) as (container, stream):
            packets = _list_samples(media, container, stream) or _list_packets(container, stream)
            return len(packets.order) if packets.delay <= stream.codec_context.reorder_depth else 0
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(why_unreadable(media, error)) from error


def index_packets(content: bytes) -> bytes:
    """Return an index of a video's packets, with which clips are decoded faster; empty where there can be none.

    There can be one where the packets tell their frames and lie in the file as they are, and decoding with it gives
    what decoding without it does. The same bytes give the same index.

    Args:
      content: The bytes of a file.

    Raises:
      DecodeError: It is no video, or its first frame cannot be decoded.
    """
    if has_frame_files(content):
        return b""
    try:
        index = _index(content)
        # What a container asks of its decoder, colours for example, it asks of all frames: the first one tells.
        is_right = index is not None and _decodes_alike(content, index, lambda total: np.zeros(1, np.int64))
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(why_unreadable(content, error)) from error
    return index.to_bytes() if index is not None and is_right else b""


def encode_video(
    path: str,
    frames: np.ndarray,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> None:
    """Write a video file in YUV 4:2:0; the same arguments give the same frames.

    Args:
      path: File to write; its suffix chooses the container.
      frames: uint8 ``[T, H, W, 3]`` RGB; H and W even.
      fps: Frames per second.
      codec: Name of an FFmpeg encoder.
      options: Options of the encoder, for example ``{"crf": "18", "g": "12"}``. x264's macroblock tree is off unless
        they ask for it.

    Raises:
      ValueError: The frames have another shape, or an odd height or width.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"expected frames [T, H, W, 3] with even H and W, got shape {frames.shape}")
    with av.open(openable(path), "w") as container:
        options = REPEATABLE.get(codec, {}) | (options or {})
        stream = cast(av.VideoStream, container.add_stream(codec, rate=fps, options=options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # with several, rate control may depend on their timing
        for frame in frames:
            container.mux(stream.encode(VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _decode_files(video: FrameFiles, pick: Pick, short_side: int) -> tuple[np.ndarray, int]:
    indices = _check(pick(FrameCount(len(video))), len(video))
    unique, positions = np.unique(indices, return_inverse=True)
    first = video.decode(unique[0], short_side)
    _check_size(len(indices), *first.shape[:2])
    frames = [first, *(video.decode(index, short_side) for index in unique[1:].tolist())]
    if shapes := {frame.shape[:2] for frame in frames} - {first.shape[:2]}:
        raise DecodeError(f"the frames have several sizes, {first.shape[:2]} and {shapes.pop()} among them")
    return np.stack(frames)[positions], len(video)


def _fetch(source: str | bytes) -> str | bytes:
    """Return what FFmpeg is to open: a path, or the bytes of a file.

    It opens paths itself, but does not know buckets: a file in one is fetched whole. So is a small MP4 file, of which
    the sample table tells where in these bytes its packets are.
    """
    if isinstance(source, bytes):
        return source
    if source.startswith(BUCKETS):
        return epath.Path(source).read_bytes()
    if may_be_mp4(source) and not is_url(source) and _is_small_file(source):
        return pathlib.Path(source).read_bytes()
    return source


def _is_small_file(path: str) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False  # FFmpeg says what is wrong with it
    return stat.S_ISREG(status.st_mode) and status.st_size <= _KEPT_BYTES


def _check(indices: np.ndarray, total: int) -> np.ndarray:
    indices = np.asarray(indices).ravel()
    if not indices.size or indices.min() < 0 or indices.max() >= total:
        raise IndexError(f"picked frames {indices.tolist()} of a video of {total} frames")
    return indices


def _check_size(count: int, height: int, width: int) -> None:
    size = 3 * count * height * width
    if size > MAX_CLIP_BYTES:
        raise DecodeError(
            f"{count} frames of {width} x {height} pixels take {size / 1e9:.1f} GB, more than the "
            f"{MAX_CLIP_BYTES / 1e9:.1f} GB of a clip; take fewer frames, or make the videos smaller with 'dnr prepare "
            "--reencode access'"
        )


Decoded: TypeAlias = tuple[dict[int, VideoFrame], np.ndarray, int]
"""Frames by index, the indices wanted, the number of frames in the video."""


Read: TypeAlias = Callable[[int, int], Iterable[av.Packet]]
"""Returns the packets from one position to another, both included; called with rising positions."""


@dataclasses.dataclass(frozen=True)
class _Packets:
    """The packets of a stream.

    Attributes:
      keys: Positions of keyframes.
      order: Positions of packets in the order of their frames; empty where the packets do not tell.
      rate: Frames per second, on average; 0 where nothing tells.
      delay: How many packets a decoder has to be fed before it can give the first of their frames.
      kept: The packets, where they take little memory; ``None`` of those of large files, and of those with an index.
      read: What reads them by a sample table, where there is one.
    """

    keys: Sequence[int]
    order: Sequence[int]
    rate: float
    delay: int
    kept: Sequence[av.Packet] | None = None
    read: Read | None = None


def _index(content: bytes) -> PacketIndex | None:
    with open_video(content) as (container, stream), contextlib.ExitStack() as stack:
        decoder = Decoder.of(stream.codec_context)
        found = _list_packets(container, stream)
        if not found.order or found.delay > decoder.settings["reorder_depth"]:
            return None
        packets: Iterable[av.Packet] | None = found.kept
        if packets is None:
            packets = demux(*stack.enter_context(open_video(content)))
        return index_of(content, packets, decoder, found.rate, found.delay, found.order, found.keys)


def _decodes_alike(content: bytes, index: PacketIndex, pick: Pick) -> bool:
    """Return whether frames come out alike with an index and without."""
    expected = _decode_stored(content, pick)
    try:
        found = _decode_indexed(content, index, pick)
    except Doubt as doubt:
        _logger.debug("no index: %s", doubt)
        return False
    if expected is None or expected[2] != found[2]:
        return False
    ways, other_ways = ([orientation(frame) for frame in frames.values()] for frames, _, _ in (found, expected))
    return ways == other_ways and np.array_equal(_to_rgb(*found[:2]), _to_rgb(*expected[:2]))


def _list_samples(media: str | bytes, container: InputContainer, stream: av.VideoStream) -> _Packets | None:
    """List the packets by the sample table of the file; ``None`` where it has none that can be relied on."""
    samples = sample_table(media, container, stream) if isinstance(media, bytes) else None
    pictures = picture_order(stream.codec_context)
    if samples is None or pictures is None:
        return None
    pictures.add(samples.views)
    order = (pictures.order() if samples.keys[:1] == [0] else None) or ()
    rate = average_rate(container, stream)
    return _Packets(samples.keys, order, rate, _delay(order), read=samples.read)


def _list_packets(container: InputContainer, stream: av.VideoStream) -> _Packets:
    codec = stream.codec_context
    codec.options = {"err_detect": "explode"}  # a picture patched up from others depends on which were decoded
    pictures = picture_order(codec)
    checks_end = pictures is not None and not pictures.tells_cuts and not _tells_sizes(container)
    tail: list[av.Packet] = []
    kept: list[av.Packet] | None = []
    keys: list[int] = []
    times: list[int | None] = []
    discarded: set[int] = set()
    size, doubtful = 0, pictures is None
    for packets in _batches(demux(container, stream)):
        start = len(times)
        starts = [place for place, packet in enumerate(packets) if packet.is_keyframe]
        keys += [start + place for place in starts]
        doubtful |= any(packets[place].has_sidedata("new_extradata") for place in starts if start + place)
        doubtful |= True in [packet.is_corrupt for packet in packets]
        if True in [packet.is_discard for packet in packets]:  # cut off by an edit list
            discarded |= {start + place for place, packet in enumerate(packets) if packet.is_discard}
        times += [time_of(packet) for packet in packets]
        if pictures is not None and not doubtful:
            pictures.add(packets)
        if checks_end:
            tail = packets[starts[-1] :] if starts else tail + packets
        if kept is not None:
            kept += packets
            size += sum([packet.size for packet in packets])
            if size > _KEPT_BYTES:
                kept = None
    doubtful |= keys[:1] != [0]  # what comes before the first keyframe may not be decoded
    if pictures is not None and not pictures.tells_losses:
        doubtful |= has_gap([time for time in times if time is not None])
    order = (pictures.order() if pictures is not None and not doubtful else None) or ()
    shown = [position for position in order if position not in discarded] if discarded else order
    if tail and shown and not _gives(codec, tail, sum(position >= keys[-1] for position in shown)):
        shown = ()
    return _Packets(keys, shown, average_rate(container, stream, times), _delay(order), kept)


def _batches(packets: Iterable[av.Packet]) -> Iterator[list[av.Packet]]:
    """Yield packets many at a time, for which fewer steps of Python are needed, and yet few of a large file."""
    batch: list[av.Packet] = []
    size = 0
    for packet in packets:
        batch.append(packet)
        size += packet.size
        if size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _tells_sizes(container: InputContainer) -> bool:
    """Return whether a file of this kind that is cut off gives no part of a packet, or says that it is one."""
    return any(name in container.format.name for name in ("mp4", "matroska"))


def _gives(codec: av.VideoCodecContext, packets: Sequence[av.Packet], count: int) -> bool:
    """Return whether so many frames come of some packets, and no error."""
    errors: list[str] = []
    found = sum(1 for packet in (*packets, None) for _ in decode_packet(codec, packet, errors))
    return found == count and not errors


def _delay(order: Sequence[int]) -> int:
    positions = np.asarray(order)
    return int((np.sort(positions).searchsorted(positions) - np.arange(len(positions))).max(initial=0))


class _TooFarReordered(Doubt):
    """The decoder does not know how far frames are reordered."""


def _decode_stored(media: str | bytes, pick: Pick) -> Decoded | None:
    """Decode from what is known about the file; return ``None`` where nothing is, or it turns out to be wrong."""
    if isinstance(media, StoredVideo) and media.counted:
        return _decode_counting(media, pick, media.counted)
    ways: list[Callable[[], Decoded]] = [lambda: _decode_sparse(media, pick, probe=False)]
    if isinstance(media, StoredVideo) and media.packets:
        ways.insert(0, lambda: _decode_indexed(media, PacketIndex.from_bytes(media.packets), pick))
    for way in ways:
        try:
            try:
                return way()
            except _TooFarReordered:
                return _decode_sparse(media, pick, probe=True)
        except Doubt as doubt:
            _logger.debug("%s", doubt)
    return None


def _decode_indexed(content: bytes, index: PacketIndex, pick: Pick) -> Decoded:
    """Decode only what the wanted frames need, by an index.

    Raises:
      Doubt: The index is not one of this video, or the decoder gives other frames than it says.
    """
    if index.size != len(content):
        raise Doubt(f"the index is one of {index.size} bytes, the video has {len(content)}")
    total = len(index.order)
    indices = _check(pick(FrameCount(total, index.rate)), total)
    packets = _Packets(index.keys.tolist(), index.order.tolist(), index.rate, index.delay)
    return _decode_runs(index.decoder.open(), packets, functools.partial(index.read, content), indices), indices, total


def _decode_sparse(media: str | bytes, pick: Pick, probe: bool) -> Decoded:
    """Decode only what the wanted frames need.

    Raises:
      Doubt: The packets do not tell which frames they hold, or the decoder gives others.
    """
    with open_video(media, probe) as (container, stream), contextlib.ExitStack() as stack:
        packets = _list_samples(media, container, stream) or _list_packets(container, stream)
        total = len(packets.order)
        if not total:
            raise Doubt("the packets do not tell their frames")
        indices = _check(pick(FrameCount(total, packets.rate)), total)
        read = packets.read
        if read is None:
            source: Iterable[av.Packet] | None = packets.kept
            if source is None:
                container, stream = stack.enter_context(open_video(media, probe))
                source = demux(container, stream)
            read = _read_from(source)
        return _decode_runs(stream.codec_context, packets, read, indices), indices, total


def _read_from(packets: Iterable[av.Packet]) -> Read:
    """Return what reads packets that come one after the other."""
    remaining, position = iter(packets), 0

    def read(first: int, last: int) -> Iterable[av.Packet]:
        nonlocal position
        skipped, position = first - position, last + 1
        return itertools.islice(remaining, skipped, skipped + last + 1 - first)

    return read


def _decode_runs(
    codec: av.VideoCodecContext, packets: _Packets, read: Read, indices: np.ndarray
) -> dict[int, VideoFrame]:
    """Decode the packets that the wanted frames depend on, and return these frames by index."""
    codec.options = {"err_detect": "explode"}  # also where the file was opened a second time
    rank = {position: index for index, position in enumerate(packets.order)}
    wanted = {packets.order[index] for index in indices.tolist()}
    frames: dict[int, VideoFrame] = {}
    for first, last in _runs(packets.keys, rank, wanted):
        codec.flush_buffers()
        latest = -1
        for frame in _decode_run(codec, enumerate(read(first, last), first), rank, wanted):
            if frame.pts is None or frame.pts <= latest or frame.is_corrupt:
                raise Doubt(f"frame {frame.pts} came after frame {latest}, or with errors")
            latest = frame.pts
            if packets.order[latest] in wanted:
                frames[latest] = frame
                _check_size(len(indices), frame.height, frame.width)
    if codec.reorder_depth < packets.delay:
        raise _TooFarReordered(f"frames are reordered by {packets.delay}, the decoder expects {codec.reorder_depth}")
    if len(frames) < len(wanted):
        raise Doubt("frames are missing")
    return frames


def _decode_run(
    codec: av.VideoCodecContext, run: Iterable[tuple[int, av.Packet]], rank: Mapping[int, int], wanted: Set[int]
) -> Iterator[VideoFrame]:
    """Decode packets one after the other; the time of a frame is its index."""
    errors: list[str] = []
    for position, packet in run:
        packet.pts = rank.get(position)
        codec.skip_frame = "DEFAULT" if position in wanted else "NONREF"
        yield from decode_packet(codec, packet, errors)
    yield from decode_packet(codec, None, errors)
    if errors:
        raise Doubt(errors[0])


def _runs(keys: Sequence[int], rank: Mapping[int, int], wanted: Set[int]) -> list[tuple[int, int]]:
    """Return ranges of positions, ends included, that decode to the wanted frames; touching ranges are merged.

    A frame's range starts at the last keyframe that comes before it in the file and is not shown after it: the leading
    frames of an open group of pictures follow its keyframe in the file, but refer to the group before.
    """
    starts = {}
    for position in wanted:
        place = bisect.bisect_right(keys, position) - 1
        while place > 0 and rank.get(keys[place], 0) > rank[position]:
            place -= 1
        starts[position] = keys[max(place, 0)]
    runs: list[tuple[int, int]] = []
    for last in sorted(wanted, key=lambda position: (starts[position], position)):
        if runs and starts[last] <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((starts[last], last))
    return runs


def _decode_counting(media: str | bytes, pick: Pick, counted: int) -> Decoded:
    """Decode everything and count: slow, and right for every file.

    Where it is known how many frames there are, ``counted``, what comes after the last frame wanted is left out.
    """
    with open_video(media) as (container, stream):
        listed = () if counted and states_rate(container) else demux(container, stream)
        times = [time_of(packet) for packet in listed if not packet.is_discard]
        rate, total = average_rate(container, stream, times), counted or len(times)
    while total:
        indices = _check(pick(FrameCount(total, rate)), total)
        frames, count = _read(media, indices, to_the_end=not counted)
        if count == (indices.max() + 1 if counted else total):
            return frames, indices, total
        total = counted = count  # choose again among those that came out
    raise DecodeError("no frame could be decoded")


def _read(media: str | bytes, indices: np.ndarray, to_the_end: bool) -> tuple[dict[int, VideoFrame], int]:
    """Return the wanted frames by index, and how many frames were decoded."""
    frames: dict[int, VideoFrame] = {}
    wanted, last, count = set(indices.tolist()), indices.max(), 0
    for count, frame in enumerate(decode_in_order(media), start=1):
        if count - 1 in wanted:
            _check_size(len(indices), frame.height, frame.width)
            frames[count - 1] = frame
        if count > last and not to_the_end:
            break
    return frames, count


def _to_rgb(frames: Mapping[int, VideoFrame], indices: np.ndarray) -> np.ndarray:
    """Convert frames to one uint8 array ``[n, H, W, 3]``; all take the size and the orientation of the first."""
    first = frames[indices[0]]
    height, width, way = first.height, first.width, orientation(first)
    output = np.empty((len(indices), *way.apply(np.empty((height, width))).shape, 3), np.uint8)
    for index, frame in frames.items():
        # A frame that keeps its size takes FFmpeg's fast unscaled path.
        plane = _thread.reformatter.reformat(frame, width, height, "rgb24", threads=1).planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        output[indices == index] = way.apply(rows[:, : 3 * width].reshape(height, width, 3))
    return output
