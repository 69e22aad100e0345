"""What is done to whole videos before training: looking into them, checking every frame, and encoding them anew.

A video is a file or a folder of JPEG or PNG frames. Such a folder becomes one record as an archive: a ZIP file, without
further compression, of the files as they are. So training from records decodes the very same bytes as training
from the folder, each frame can still be read alone, and any tool can open the record.
"""

import dataclasses
import fractions
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from typing import Any, cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from etils import epath

from dnr_jax.data.clips.container import (
    DecodeError,
    Orientation,
    decode_in_order,
    measured_rate,
    open_video,
    orientation,
    why_unreadable,
)
from dnr_jax.data.clips.decode import REPEATABLE, FrameCount, decode_frames, told_frames
from dnr_jax.data.clips.frame_files import FrameFiles, has_frame_files

# Decodes eight times faster than x264's defaults at the same size: short groups of pictures, and seven of eight frames
# that no other frame refers to, so that they need not be decoded unless they are wanted.
_ACCESS_OPTIONS = REPEATABLE["libx264"] | {
    "preset": "veryfast",
    "tune": "fastdecode",
    "crf": "21",
    "g": "32",
    "bf": "7",
    "b_strategy": "0",
    "b-pyramid": "none",
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a video is.

    Attributes:
      frames: Number of frames.
      height: In pixels, upright.
      width: In pixels, upright.
      duration: In seconds; 0 where nothing tells.
      codec: FFmpeg's name of the codec.
      bytes: Size of the file, or of all files.
      counted: Whether it takes decoding the whole file to tell its frames, so that ``frames`` is worth keeping.
    """

    frames: int
    height: int
    width: int
    duration: float
    codec: str
    bytes: int
    counted: bool = False


@dataclasses.dataclass(frozen=True)
class Reencoding:
    """How videos are encoded anew.

    Attributes:
      short_side: Frames with a longer short side are scaled down to it; 0 keeps the size.
      size: Height and width instead, whatever the aspect ratio; ``None`` where ``short_side`` says it.
    """

    short_side: int = 256
    size: tuple[int, int] | None = None

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width, both even as the codec needs them, that a frame is given."""
        if self.size:
            return self.size
        short = min(height, width)
        scale = self.short_side / short if 0 < self.short_side < short else 1.0
        return _even(height * scale), _even(width * scale)


def read_media(path: str) -> bytes:
    """Read a video file, or pack a folder of frames into an archive.

    Raises:
      DecodeError: There is nothing at ``path``, or no frame in the folder.
    """
    try:
        source = epath.Path(path)
    except KeyError:  # a scheme that no storage is known for
        what = "only files and buckets (gs://, s3://) can be checked and prepared; download it"
        raise DecodeError(f"{path}: {what}") from None
    try:
        return pack_frames(path) if source.is_dir() else source.read_bytes()
    except OSError as error:
        raise DecodeError(f"{path}: {why_unreadable(path, error)}") from error


def readable(path: str) -> str | bytes:
    """Return what the functions here read a video from: the path of a local file, the bytes of all others.

    Raises:
      DecodeError: As :func:`read_media` raises it.
    """
    return path if os.path.isfile(path) else read_media(path)


def size(media: str | bytes) -> int:
    """Return the size of a local file or of bytes."""
    return len(media) if isinstance(media, bytes) else os.path.getsize(media)


def pack_frames(folder: str) -> bytes:
    """Pack a folder of frames into an archive; the same files give the same bytes.

    Args:
      folder: Its frames are those of :class:`dnr_jax.data.clips.frame_files.FrameFiles`.

    Raises:
      DecodeError: There is no frame.
    """
    try:
        frames = FrameFiles(folder)
    except DecodeError as error:
        raise DecodeError(f"{folder}: {error}") from error
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for index, name in enumerate(frames.names):
            archive.writestr(zipfile.ZipInfo(name), frames.read(index))  # with a constant date
    return packed.getvalue()


def probe(media: bytes, frame_rate: float = 0.0) -> Facts:
    """Look into a video without decoding more than its first frame.

    Args:
      media: The bytes of a file, or an archive of frames.
      frame_rate: Of an archive, frames per second; 0 if it is not known.

    Raises:
      DecodeError: It is not a video, or its first frame cannot be decoded.
    """
    counts: list[FrameCount] = []

    def first_frame(count: FrameCount) -> np.ndarray:
        counts.append(count)
        return np.zeros(1, np.int64)

    first, frames = decode_frames(media, first_frame)
    height, width = first.shape[1:3]
    if has_frame_files(media):
        suffix = FrameFiles(media).names[0].rpartition(".")[2].lower()
        codec, rate = "png" if suffix == "png" else "mjpeg", frame_rate
    else:
        codec, rate = _codec(media), counts[-1].rate
    counted = told_frames(media) != frames
    return Facts(frames, height, width, round(frames / rate, 3) if rate else 0.0, codec, len(media), counted)


def count_frames(media: str | bytes) -> tuple[int, int]:
    """Decode every frame, one after the other.

    Args:
      media: Path or bytes of a file, or an archive of frames.

    Returns:
      How many frames could be decoded, and how many packets (of an archive: files) were damaged.

    Raises:
      DecodeError: It is not a video.
    """
    damaged: list[str] = []
    return sum(1 for _ in _stream(media, damaged)), len(damaged)


def reencode(media: bytes, settings: Reencoding, frame_rate: float = 0.0) -> bytes:
    """Encode a video anew, for sparse access: an MP4 file with H.264 and no sound, upright.

    The frames keep their number and their order; times become regular, at the average frame rate. The same
    bytes give the same bytes.

    Args:
      media: The bytes of a file, or an archive of frames.
      settings: Size of the frames.
      frame_rate: Of an archive, frames per second; 0: 12, that of Something-Something and Jester.

    Raises:
      DecodeError: The video cannot be decoded, or holds no frame.
    """
    is_archive = has_frame_files(media)
    rate = (frame_rate or 12.0) if is_archive else (measured_rate(media) or 25.0)
    output = io.BytesIO()
    with av.open(output, "w", format="mp4") as container:
        stream: av.VideoStream | None = None
        for number, frame in enumerate(_stream(media, [])):
            if stream is None:
                stream = _add_stream(container, frame, settings, rate)
            container.mux(stream.encode(_convert(frame, number, stream)))
        if stream is None:
            raise DecodeError("no frame could be decoded")
        container.mux(stream.encode())
    return output.getvalue()


def fingerprint(media: str | bytes) -> str:
    """Return a hash of the content, equal for equal bytes, of which a local file's are read bit by bit."""
    if isinstance(media, bytes):
        return hashlib.sha256(media).hexdigest()
    with open(media, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add_stream(container: Any, first: VideoFrame, settings: Reencoding, rate: float) -> av.VideoStream:
    """Return the output stream, with the colours of the first frame."""
    limited = fractions.Fraction(rate).limit_denominator(1001)
    stream = cast(av.VideoStream, container.add_stream("libx264", rate=limited, options=_ACCESS_OPTIONS))
    stream.height, stream.width = settings.shape(first.height, first.width)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1  # videos are encoded in parallel
    stream.codec_context.color_range = 1  # limited, as players expect it
    stream.codec_context.colorspace = first.colorspace
    return stream


def _convert(frame: VideoFrame, number: int, stream: av.VideoStream) -> VideoFrame:
    converted = frame.reformat(
        stream.width,
        stream.height,
        "yuv420p",
        dst_colorspace=frame.colorspace,
        dst_color_range=1,
        interpolation=Interpolation.AREA,
    )
    converted.pts, converted.time_base = number, 1 / fractions.Fraction(stream.codec_context.framerate)
    converted.pict_type = 0  # a keyframe is where the encoder wants it, not where it was
    return converted


def _stream(media: str | bytes, damaged: list[str]) -> Iterator[VideoFrame]:
    """Yield all frames in order, upright; packets that cannot be decoded are noted in ``damaged``."""
    if has_frame_files(media):
        yield from _stream_files(media, damaged)
        return
    try:
        yield from map(_upright, decode_in_order(media, damaged))
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(why_unreadable(media, error)) from error


def _stream_files(media: str | bytes, damaged: list[str]) -> Iterator[VideoFrame]:
    frames = FrameFiles(media)
    for index in range(len(frames)):
        try:
            yield VideoFrame.from_ndarray(frames.decode(index), format="rgb24")
        except DecodeError as error:
            damaged.append(str(error))


def _upright(frame: VideoFrame) -> VideoFrame:
    way = orientation(frame)
    if way is Orientation.UPRIGHT:
        return frame
    pixels = way.apply(frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False))
    return VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")


def _codec(media: bytes) -> str:
    """Return FFmpeg's name of the codec of a file that has been decoded before."""
    with open_video(media) as (_, stream):
        return stream.codec_context.name


def _even(side: float) -> int:
    return max(round(side / 2) * 2, 2)
