"""Exact random access to the frames of a video file, and a small encoder.

:func:`decode_frames` returns the frames that decoding the whole file in order would return, but feeds the decoder only
what it needs: demuxing is cheap (about 1 ms a clip), so all packets are listed first, sorted by presentation time, and
each group of pictures is decoded from its keyframe to the last frame wanted. Frames that nothing refers to and nobody
asked for are skipped (``skip_frame = NONREF``), which saves a third of the work on Kinetics-like files. Where the list
of packets cannot be trusted (AVI, damaged files), output frames are counted from the start instead.

A folder of JPEG frames is a video too, and so is an archive of them (see :class:`JpegFrames`): of these only the files
of the wanted frames are read, by OpenCV, and at a reduced size where they are much larger than needed.
"""

import contextlib
import io
import logging
import os
import re
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from etils import epath

from dnr_jax.data.annotations import VIDEO_SUFFIXES

_logger = logging.getLogger(__name__)


class FrameCount(int):
    """The number of frames of a video.

    Attributes:
      rate: Frames per second, on average; 0 where nothing tells, as in a folder of JPEG frames.
    """

    rate: float

    def __new__(cls, frames: int, rate: float = 0.0) -> "FrameCount":
        """Attaches the rate to the number."""
        count = super().__new__(cls, frames)
        count.rate = rate
        return count


Pick: TypeAlias = Callable[[FrameCount], np.ndarray]

# Containers whose packets carry real presentation times, by parts of FFmpeg's format names.
_TIMED_CONTAINERS = ("mp4", "matroska", "mpegts")
_BUCKETS = ("gs://", "s3://")

# Of the encoders. With AVX-512, x264's macroblock tree reads memory that nothing wrote, and the frames depend on it.
REPEATABLE = {"libx264": {"mbtree": "0"}}

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg"})
"""Of files that are frames."""
# Files that lie beside the frames where optical flow was extracted.
_NOT_FRAMES = ("flow_",)
_ZIP_MAGIC = b"PK\x03\x04"
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError)

# OpenCV's flags by the factor that each divides the size by, rounding up. Its IMREAD_REDUCED_COLOR_* ask for BGR.
_REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
}

# Titles in an unknown encoding are no reason to lose a video; PyAV 19 replaces what it cannot read by itself.
_OPEN_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class _ThreadState(threading.local):
    """One reformatter a thread: it keeps its conversion tables from frame to frame, and must not be shared."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()


_thread = _ThreadState()


class DecodeError(Exception):
    """A video could not be decoded; the message names it and says why."""


def decode_frames(source: str | bytes, pick: Pick, short_side: int = 0) -> tuple[np.ndarray, int]:
    """Decodes chosen frames of a video.

    Args:
      source: Path (local, or in a bucket that etils.epath can read) of a video file or of a folder of JPEG frames, or
        the bytes of a video file or of an archive of JPEG frames.
      pick: Called with the number of frames in the video, a :class:`FrameCount`; returns the indices wanted, in
        presentation order from 0, as an integer array of any shape. Repeated and unsorted indices are allowed. Called
        again with a smaller number if the file turns out to hold fewer frames than its container says.
      short_side: How many pixels are needed. JPEG frames are decoded at the smallest of a half, a quarter and an eighth
        of their size whose short side is not below; 0, and for video files: their full size.

    Returns:
      The frames, uint8 ``[n, H, W, 3]`` RGB, rotated as the file's metadata asks, and the number of frames in the
      video.

    Raises:
      DecodeError: The file is missing, is not a video, or holds no frame that can be decoded; there is no JPEG file in
        the folder or archive, a wanted one is damaged, or they have several sizes.
      IndexError: ``pick`` returned an index out of range.
    """
    name = source if isinstance(source, str) else f"video of {len(source)} bytes"
    try:
        if has_jpeg_frames(source):
            return _decode_jpegs(JpegFrames(source), pick, short_side)
        media = _read_remote(source)
        frames, indices, total = (
            _decode_sparse(media, pick, probe=False)
            or _decode_sparse(media, pick, probe=True)
            or _decode_counting(media, pick)
        )
    except (av.FFmpegError, OSError, DecodeError) as error:
        raise DecodeError(f"{name}: {error}") from error
    return _to_rgb(frames, indices), total


def average_rate(stream: av.VideoStream) -> float:
    """Average frames per second of a video stream; 0 where nothing tells."""
    return float(stream.average_rate or stream.guessed_rate or 0.0)


def has_jpeg_frames(source: str | bytes) -> bool:
    """Whether a path is a folder, or bytes are an archive: what :class:`JpegFrames` reads, and no video file."""
    if isinstance(source, bytes):
        return source.startswith(_ZIP_MAGIC)
    path = epath.Path(source)
    # The suffix of a video file saves a look-up, which takes long where the file is in a bucket.
    return path.suffix.lower() not in VIDEO_SUFFIXES and path.is_dir()


class JpegFrames:
    """The frames of a video that are JPEG files, in a folder or in an archive (a ZIP file), each read alone.

    Attributes:
      names: Of the files, in the order of the frames: as a person sorts them, ``2.jpg`` before ``10.jpg``. Pictures of
        optical flow (``flow_*.jpg``) are none.
    """

    def __init__(self, source: str | bytes):
        """Lists the files.

        Args:
          source: Path of the folder, or bytes of the archive.

        Raises:
          DecodeError: There is no such folder, it is no archive, or there is no JPEG file in it.
        """
        self._read: Callable[[str], bytes]
        try:
            if isinstance(source, bytes):
                archive = zipfile.ZipFile(io.BytesIO(source))
                found, self._read = archive.namelist(), archive.read
            else:
                folder = epath.Path(source)
                # epath makes an object of each file, which takes longer than reading those that are wanted.
                remote = source.startswith(_BUCKETS)
                found = [file.name for file in folder.iterdir()] if remote else os.listdir(source)
                self._read = lambda name: (folder / name).read_bytes()
        except (OSError, *_ZIP_ERRORS) as error:
            raise DecodeError(str(error)) from error
        self.names = _in_order(found)
        if not self.names:
            raise DecodeError("there are no JPEG files")

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.names)

    def read(self, index: int) -> bytes:
        """The content of a file.

        Raises:
          DecodeError: It cannot be read.
        """
        name = self.names[index]
        try:
            return self._read(name)
        except (OSError, *_ZIP_ERRORS) as error:
            raise DecodeError(f"{name}: {error}") from error

    def decode(self, index: int, short_side: int = 0) -> np.ndarray:
        """One frame, uint8 ``[H, W, 3]`` RGB, upright as its EXIF data asks.

        Args:
          index: Which one.
          short_side: As for :func:`decode_frames`.

        Raises:
          DecodeError: It is not a JPEG file, or not a whole one.
        """
        content = self.read(index)
        flags = _reduction(content, short_side) if short_side else cv2.IMREAD_COLOR_RGB
        frame = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
        if frame is None:
            raise DecodeError(f"{self.names[index]}: not a whole JPEG file")
        return cast(np.ndarray, frame)


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
      options: Options of the encoder, for example ``{"crf": "18", "g": "12"}``. x264's macroblock tree is off unless
        they ask for it.

    Raises:
      ValueError: The frames have another shape, or an odd height or width.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"expected frames [T, H, W, 3] with even H and W, got shape {frames.shape}")
    with av.open(path, "w") as container:
        options = REPEATABLE.get(codec, {}) | (options or {})
        stream = cast(av.VideoStream, container.add_stream(codec, rate=fps, options=options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # with several, rate control may depend on their timing
        for frame in frames:
            container.mux(stream.encode(VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _in_order(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are frames; numbers in them are compared as numbers."""
    frames = [name for name in names if f".{name.rpartition('.')[2].lower()}" in FRAME_SUFFIXES]
    frames = [name for name in frames if not name.startswith(_NOT_FRAMES)]
    return sorted(frames, key=_natural)


def _natural(name: str) -> list[str | int]:
    parts = re.split(r"([0-9]+)", name)  # text and numbers in turn
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _decode_jpegs(video: JpegFrames, pick: Pick, short_side: int) -> tuple[np.ndarray, int]:
    indices = _check(pick(FrameCount(len(video))), len(video))
    unique, positions = np.unique(indices, return_inverse=True)
    frames = [video.decode(index, short_side) for index in unique.tolist()]
    if shapes := {frame.shape[:2] for frame in frames} - {frames[0].shape[:2]}:
        raise DecodeError(f"the frames have several sizes, {frames[0].shape[:2]} and {shapes.pop()} among them")
    return np.stack(frames)[positions], len(video)


def _reduction(content: bytes, short_side: int) -> int:
    """OpenCV's flags for the smallest size whose short side is not below ``short_side``."""
    short = min(_jpeg_size(content))
    return next(
        (flags for factor, flags in _REDUCED.items() if -(-short // factor) >= short_side), cv2.IMREAD_COLOR_RGB
    )


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Height and width that a JPEG file's frame header tells (ITU-T T.81, B.2.2); zeros where there is none."""
    start = 2
    while start + 9 <= len(content) and content[start] == 0xFF:
        marker = content[start + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # these three hold tables
            height, width = content[start + 5 : start + 7], content[start + 7 : start + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        # A marker may be preceded by any number of bytes 0xFF.
        start += 1 if marker == 0xFF else 2 + int.from_bytes(content[start + 2 : start + 4], "big")
    return 0, 0


def _read_remote(source: str | bytes) -> str | bytes:
    """FFmpeg opens paths itself, but does not know buckets: a file in one is fetched whole."""
    in_bucket = isinstance(source, str) and source.startswith(_BUCKETS)
    return epath.Path(source).read_bytes() if in_bucket else source


@contextlib.contextmanager
def _open(media: str | bytes, probe: bool = True) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """Opens a file and its first video stream.

    FFmpeg decodes the first frames of a file to guess what its headers leave out. Without ``probe`` it does not, which
    halves the time; a decoder that was not told how far frames are reordered may then leave some out.
    """
    file = io.BytesIO(media) if isinstance(media, bytes) else media
    with av.open(file, "r", options={} if probe else {"skip_frame": "all"}, **_OPEN_OPTIONS) as container:
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


def _decode_sparse(media: str | bytes, pick: Pick, probe: bool) -> Decoded | None:
    """Decodes only what the wanted frames need.

    Returns ``None`` where the packets do not tell which frames they hold, or a wanted frame does not come out.
    """
    with _open(media, probe) as (container, stream):
        if not any(name in container.format.name for name in _TIMED_CONTAINERS):
            return None
        packets = _demux(container, stream)
        total = _count_shown(packets)
        timed = {packet.pts: n for n, packet in enumerate(packets) if packet.pts is not None and not packet.is_discard}
        if not total or len(timed) < total:  # frames without a time, or several at the same
            return None
        order = sorted(timed)
        indices = _check(pick(FrameCount(total, average_rate(stream))), total)
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
        total, rate = _count_shown(_demux(container, stream)), average_rate(stream)
    while total:
        indices = _check(pick(FrameCount(total, rate)), total)
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
