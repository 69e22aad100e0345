"""Exact random access to the frames of a video file, and a small encoder.

:func:`decode_frames` returns the frames that decoding the whole file in order would return, but feeds the decoder only
what it needs: demuxing is cheap (about 1 ms a clip), so all packets are listed first, sorted by presentation time, and
each group of pictures is decoded from its keyframe to the last frame wanted. Frames that nothing refers to and nobody
asked for are skipped (``skip_frame = NONREF``), which saves a third of the work on Kinetics-like files. Where the list
of packets cannot be trusted (AVI, damaged files), output frames are counted from the start instead.
"""

import contextlib
import io
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from etils import epath

_logger = logging.getLogger(__name__)

Pick: TypeAlias = Callable[[int], np.ndarray]

# Containers whose packets carry real presentation times, by parts of FFmpeg's format names.
_TIMED_CONTAINERS = ("mp4", "matroska", "mpegts")
_BUCKETS = ("gs://", "s3://")

# Titles in an unknown encoding are no reason to lose a video; PyAV 19 replaces what it cannot read by itself.
_OPEN_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class _ThreadState(threading.local):
    """One reformatter a thread: it keeps its conversion tables from frame to frame, and must not be shared."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()


_thread = _ThreadState()


class DecodeError(Exception):
    """A video could not be decoded; the message names it and says why."""


def decode_frames(source: str | bytes, pick: Pick) -> tuple[np.ndarray, int]:
    """Decodes chosen frames of a video.

    Args:
      source: Path (local, or in a bucket that etils.epath can read), or the file's bytes.
      pick: Called with the number of frames in the video; returns the indices wanted, in presentation order from 0, as
        an integer array of any shape. Repeated and unsorted indices are allowed. Called again with a smaller number if
        the file turns out to hold fewer frames than its container says.

    Returns:
      The frames, uint8 ``[n, H, W, 3]`` RGB, rotated as the file's metadata asks, and the number of frames in the
      video.

    Raises:
      DecodeError: The file is missing, is not a video, or holds no frame that can be decoded.
      IndexError: ``pick`` returned an index out of range.
    """
    name = source if isinstance(source, str) else f"video of {len(source)} bytes"
    try:
        media = _read_remote(source)
        frames, indices, total = _decode_sparse(media, pick) or _decode_counting(media, pick)
    except (av.FFmpegError, OSError, DecodeError) as error:
        raise DecodeError(f"{name}: {error}") from error
    return _to_rgb(frames, indices), total


def encode_video(
    path: str,
    frames: np.ndarray,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> None:
    """Writes a video file in YUV 4:2:0; the same arguments give the same frames.

    Args:
      path: File to write; its suffix chooses the container.
      frames: uint8 ``[T, H, W, 3]`` RGB; H and W even.
      fps: Frames per second.
      codec: Name of an FFmpeg encoder.
      options: Options of the encoder, for example ``{"crf": "18", "g": "12"}``.

    Raises:
      ValueError: The frames have another shape, or an odd height or width.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"expected frames [T, H, W, 3] with even H and W, got shape {frames.shape}")
    with av.open(path, "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=fps, options=options or {}))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # with several, rate control may depend on their timing
        for frame in frames:
            container.mux(stream.encode(VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _read_remote(source: str | bytes) -> str | bytes:
    """FFmpeg opens paths itself, but does not know buckets: a file in one is fetched whole."""
    in_bucket = isinstance(source, str) and source.startswith(_BUCKETS)
    return epath.Path(source).read_bytes() if in_bucket else source


@contextlib.contextmanager
def _open(media: str | bytes) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """Opens a file and its first video stream."""
    file = io.BytesIO(media) if isinstance(media, bytes) else media
    with av.open(file, "r", **_OPEN_OPTIONS) as container:
        if not container.streams.video or container.streams.video[0].codec_context is None:
            raise DecodeError("there is no video stream, or no decoder for it")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # clips are decoded in parallel; frame threads cost 10 to 25% more in all
        yield container, stream


def _demux(container: InputContainer, stream: av.VideoStream) -> list[av.Packet]:
    """The stream's packets in decoding order; a file that breaks off keeps those before the break."""
    packets: list[av.Packet] = []
    try:
        packets.extend(packet for packet in container.demux(stream) if packet.size)
    except av.FFmpegError as error:
        _logger.debug("%s ends early: %s", container.name, error)
    return packets


def _decode_packets(codec: av.VideoCodecContext, packets: Sequence[av.Packet | None]) -> Iterator[VideoFrame]:
    """Decodes packets in order; a damaged one costs its own frame and not the video. ``None`` flushes."""
    for packet in packets:
        try:
            yield from codec.decode(packet)
        except av.FFmpegError as error:
            _logger.debug("damaged packet: %s", error)


def _check(indices: np.ndarray, total: int) -> np.ndarray:
    indices = np.asarray(indices).ravel()
    if not indices.size or indices.min() < 0 or indices.max() >= total:
        raise IndexError(f"picked frames {indices.tolist()} of a video of {total} frames")
    return indices


Decoded: TypeAlias = tuple[dict[int, VideoFrame], np.ndarray, int]
"""Frames by index, the indices wanted, the number of frames in the video."""


def _decode_sparse(media: str | bytes, pick: Pick) -> Decoded | None:
    """Decodes only what the wanted frames need; ``None`` where the packets do not tell which frames they hold."""
    with _open(media) as (container, stream):
        if not any(name in container.format.name for name in _TIMED_CONTAINERS):
            return None
        packets = _demux(container, stream)
        total = _count_shown(packets)
        timed = {packet.pts: n for n, packet in enumerate(packets) if packet.pts is not None and not packet.is_discard}
        if not total or len(timed) < total:  # frames without a time, or several at the same
            return None
        order = sorted(timed)
        indices = _check(pick(total), total)
        times = {index: order[index] for index in np.unique(indices).tolist()}
        found = _decode_times(stream.codec_context, packets, {timed[time]: time for time in times.values()})
    frames = {index: found[time] for index, time in times.items() if time in found}
    return (frames, indices, total) if len(frames) == len(times) else None


def _count_shown(packets: Sequence[av.Packet]) -> int:
    """The number of packets that are not cut off by an edit list."""
    return sum(not packet.is_discard for packet in packets)


def _decode_times(
    codec: av.VideoCodecContext, packets: Sequence[av.Packet], wanted: Mapping[int, int]
) -> dict[int, VideoFrame]:
    """Decodes wanted packets, given as position -> presentation time; returns their frames by presentation time."""
    times = set(wanted.values())
    frames: dict[int, VideoFrame] = {}
    for first, last in _runs(packets, wanted):
        codec.flush_buffers()
        for n in range(first, last + 1):
            codec.skip_frame = "DEFAULT" if n in wanted else "NONREF"
            frames.update((frame.pts, frame) for frame in _decode_packets(codec, [packets[n]]) if frame.pts in times)
        frames.update((frame.pts, frame) for frame in _decode_packets(codec, [None]) if frame.pts in times)
    return frames


def _runs(packets: Sequence[av.Packet], wanted: Mapping[int, int]) -> list[tuple[int, int]]:
    """Ranges of positions, ends included, that decode to the wanted frames; touching ranges are merged.

    A frame's range starts at the last keyframe that comes before it in the file and is not shown after it: the leading
    frames of an open group of pictures follow its keyframe in the file, but refer to the group before.
    """
    keys = [(n, packet.pts) for n, packet in enumerate(packets) if packet.is_keyframe and packet.pts is not None]
    starts = {n: max((k for k, key in keys if k <= n and key <= time), default=0) for n, time in wanted.items()}
    runs: list[tuple[int, int]] = []
    for last in sorted(wanted, key=lambda n: (starts[n], n)):
        if runs and starts[last] <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((starts[last], last))
    return runs


def _decode_counting(media: str | bytes, pick: Pick) -> Decoded:
    """Decodes from the start and counts: slower, and right for every container."""
    with _open(media) as (container, stream):
        total = _count_shown(_demux(container, stream))
    while total:
        indices = _check(pick(total), total)
        wanted = set(indices.tolist())
        frames, count = _read_until(media, wanted)
        if len(frames) == len(wanted):
            return frames, indices, total
        total = count  # fewer frames came out than packets went in: choose again among those
    raise DecodeError("no frame could be decoded")


def _read_until(media: str | bytes, wanted: set[int]) -> tuple[dict[int, VideoFrame], int]:
    """Returns the wanted frames by index, and how many frames were decoded to get the last of them."""
    frames: dict[int, VideoFrame] = {}
    count, last = 0, max(wanted)
    with _open(media) as (container, stream):
        for frame in _decode_packets(stream.codec_context, [*_demux(container, stream), None]):
            if count in wanted:
                frames[count] = frame
            count += 1
            if count > last:
                break
    return frames, count


def _to_rgb(frames: Mapping[int, VideoFrame], indices: np.ndarray) -> np.ndarray:
    """Converts frames to one uint8 array ``[n, H, W, 3]``; all take the size and the rotation of the first."""
    first = frames[indices[0]]
    height, width, turns = first.height, first.width, first.rotation // 90
    shape = (width, height) if turns % 2 else (height, width)
    output = np.empty((len(indices), *shape, 3), np.uint8)
    for index, frame in frames.items():
        # A frame that keeps its size takes FFmpeg's fast unscaled path.
        plane = _thread.reformatter.reformat(frame, width, height, "rgb24", threads=1).planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        output[indices == index] = np.rot90(rows[:, : 3 * width].reshape(height, width, 3), turns)
    return output
