"""One way to open a video file: which stream is the video, and which way up its frames are."""

import contextlib
import enum
import io
import itertools
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame

_logger = logging.getLogger(__name__)

# What lies in a file beside its video: covers, and pictures for a player's time line.
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LONGEST_STEP = 10.0  # seconds from frame to frame; where parts were joined, times may jump by hours
_RATE_TOLERANCE = 0.01  # times in ms are rounded

# Titles in an unknown encoding are no reason to lose a video; PyAV 19 replaces what it cannot read by itself.
OPEN_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Of ``av.open``."""


class DecodeError(Exception):
    """A video could not be decoded; the message names it and says why."""


def why_unreadable(media: str | bytes, error: Exception) -> str:
    """Return why a file could not be read, as a person says it: without FFmpeg's number and its name of the file.

    Args:
      media: Path of a file, or its bytes.
      error: What opening or reading it raised.
    """
    if not media if isinstance(media, bytes) else os.path.isfile(media) and not os.path.getsize(media):
        return "the file has no content"
    return getattr(error, "strerror", None) or str(error)


def is_url(path: str) -> bool:
    """Return whether a path begins with a scheme, ``scheme://``; a colon elsewhere is part of a file's name."""
    return _URL.match(path) is not None


def openable(media: str | bytes) -> str | io.BytesIO:
    """Return what PyAV opens, to read or to write.

    FFmpeg takes what stands before a colon for a protocol, so a file's name is given one.
    """
    if isinstance(media, bytes):
        return io.BytesIO(media)
    return media if is_url(media) else f"file:{media}"


@contextlib.contextmanager
def open_video(media: str | bytes, probe: bool = True) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """Open a file and its best video stream that is no cover.

    FFmpeg decodes the first frames of a file to guess what its headers leave out. Without ``probe`` it does not, and of
    MP4 files, whose headers leave nothing out, reads no packet either, which takes a third of the time; a decoder that
    was not told how far frames are reordered may then leave some out.

    Args:
      media: Path or URL of a file, or its bytes.
      probe: Whether to guess.

    Raises:
      DecodeError: There is no video stream in it, none but pictures, or no decoder for it.
      av.FFmpegError: It is no file that FFmpeg knows.
    """
    with contextlib.ExitStack() as stack:
        container = None if probe else _open_quickly(media, stack)
        if container is None:
            container = stack.enter_context(_open(media, {}))
        stream = best_video(container)
        # Clips are decoded in parallel; frame threads cost 10 to 25% more in all.
        stream.codec_context.thread_count = 1
        yield container, stream


def best_video(container: InputContainer) -> av.VideoStream:
    """Return the best video stream that is no cover; raises DecodeError where there is none, or no decoder for it."""
    videos = _videos(container)
    return videos[0] if len(videos) == 1 else _best(container, videos)


def _open(media: str | bytes, options: dict[str, str]) -> InputContainer:
    return av.open(openable(media), "r", options=options, **OPEN_OPTIONS)


def _open_quickly(media: str | bytes, stack: contextlib.ExitStack) -> InputContainer | None:
    """Open a file without decoding its first frames; return ``None`` where they are needed to tell what is in it."""
    quick = {"skip_frame": "all"}
    if may_be_mp4(media):
        with contextlib.suppress(av.FFmpegError):
            container = stack.enter_context(_open(media, quick | {"probesize": "32"}))
            videos = container.streams.video
            if "mp4" in container.format.name and len(videos) == 1 and videos[0].average_rate:
                return container
            container.close()
    container = stack.enter_context(_open(media, quick))
    if len(_videos(container)) == 1:
        return container
    container.close()  # which stream is the best is known from its first frames
    return None


def may_be_mp4(media: str | bytes) -> bool:
    """Return whether a file is called like an MP4 file, or begins like one."""
    return media[4:8] == b"ftyp" if isinstance(media, bytes) else media.lower().endswith((".mp4", ".mov", ".m4v"))


def demux(container: InputContainer, stream: av.VideoStream, damaged: list[str] | None = None) -> Iterator[av.Packet]:
    """Yield the packets of a stream in decoding order; of a file that breaks off, those before the break.

    Args:
      container: As :func:`open_video` opened it.
      stream: Of the same.
      damaged: Takes the reason of a break.
    """
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.FFmpegError as error:
        _logger.debug("%s ends early: %s", container.name, error)
        if damaged is not None:
            damaged.append(str(error))


def decode_packet(
    codec: av.VideoCodecContext, packet: av.Packet | None, damaged: list[str] | None = None
) -> Sequence[VideoFrame]:
    """Return the frames that a packet makes the decoder give; a damaged one costs its own frame and not the video.

    Args:
      codec: The decoder.
      packet: The packet; ``None``: the end, after which the decoder gives what it holds.
      damaged: Takes the reason where the packet cannot be decoded.
    """
    try:
        return codec.decode(packet)
    # From PyAV 19 on, a decoder that its first packet could not open is an unknown one, a ValueError, to the others.
    except (av.FFmpegError, ValueError) as error:
        _logger.debug("damaged packet: %s", error)
        if damaged is not None:
            damaged.append(str(error))
        return ()


def decode_in_order(media: str | bytes, damaged: list[str] | None = None) -> Iterator[VideoFrame]:
    """Yield all frames of a file as decoding it from its start gives them: what every other way is measured by.

    Args:
      media: Path or bytes of a file.
      damaged: Takes the reasons why packets could not be decoded.

    Raises:
      DecodeError: As :func:`open_video` raises it.
      av.FFmpegError: As :func:`open_video` raises it.
    """
    with open_video(media) as (container, stream):
        codec = stream.codec_context
        for packet in demux(container, stream, damaged):
            yield from decode_packet(codec, packet, damaged)
        yield from decode_packet(codec, None, damaged)


def average_rate(container: InputContainer, stream: av.VideoStream, times: Sequence[int | None] = ()) -> float:
    """Return the average frames per second of a video stream; 0 where nothing tells.

    An MP4 file states how long each frame lasts. Of many others FFmpeg says how finely it was told the times, such as
    1000 of a browser's WebM file whose frames come irregularly. So there the times count where they tell another rate.

    Args:
      container: The file.
      stream: Of the same.
      times: Of packets, as many as are known, in units of the stream's time base and in any order.
    """
    told = float(stream.average_rate or stream.guessed_rate or 0.0)
    known = [time for time in times if time is not None]
    if states_rate(container) or not stream.time_base or len(known) < 2:
        return told
    steps = np.diff(np.unique(known)) * float(stream.time_base)
    steps = steps[steps < _LONGEST_STEP]
    measured = len(steps) / float(steps.sum()) if len(steps) else told
    return told if abs(measured - told) <= _RATE_TOLERANCE * told else measured


def measured_rate(media: str | bytes, packets: int | None = None) -> float:
    """Return :func:`average_rate` of a file, from the times of its first ``packets``, or of all.

    Raises:
      DecodeError: As :func:`open_video` raises it.
      av.FFmpegError: As :func:`open_video` raises it.
    """
    with open_video(media) as (container, stream):
        timed = () if states_rate(container) else itertools.islice(demux(container, stream), packets)
        return average_rate(container, stream, [time_of(packet) for packet in timed])


def states_rate(container: InputContainer) -> bool:
    """Return whether a file of this kind states how long each frame lasts, so that no times are needed."""
    return "mp4" in container.format.name


def time_of(packet: av.Packet) -> int | None:
    """Return when a packet is shown, else when it is decoded, in units of its stream's time base, as far as known."""
    return packet.dts if packet.pts is None else packet.pts


class Orientation(enum.Enum):
    """How a decoded picture is turned and mirrored to be upright: its rows and columns exchanged, then reversed.

    The value is (exchange rows and columns, reverse the rows, reverse the columns).
    """

    UPRIGHT = (False, False, False)
    MIRRORED = (False, False, True)
    FLIPPED = (False, True, False)
    HALF_TURN = (False, True, True)
    TRANSPOSED = (True, False, False)
    CLOCKWISE = (True, False, True)
    COUNTERCLOCKWISE = (True, True, False)
    TRANSVERSE = (True, True, True)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """Return a view of ``[H, W, ...]`` the right way up, ``[W, H, ...]`` where rows and columns are exchanged."""
        exchange, rows, columns = self.value
        turned = picture.swapaxes(0, 1) if exchange else picture
        return turned[:: -1 if rows else 1, :: -1 if columns else 1]


def orientation(frame: VideoFrame) -> Orientation:
    """Return what FFmpeg's own player does with a frame whose file has a display matrix.

    Mirrors are those that the matrix has, other angles the nearest right angle. A matrix that is none, of zeros, says
    nothing.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation.UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(cast(Any, matrix)), np.int32)[:5].tolist()
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:
        return Orientation.UPRIGHT
    # Clockwise, as the matrix turns what it is applied to.
    quarters = round(math.atan2(b / down, a / across) / (math.pi / 2)) % 4
    if quarters == 0:
        return Orientation.FLIPPED if d < 0 else Orientation.UPRIGHT
    if quarters == 1:
        return Orientation.TRANSPOSED if c > 0 else Orientation.CLOCKWISE
    if quarters == 2:
        return Orientation((False, d < 0, a < 0))
    return Orientation.TRANSVERSE if c < 0 else Orientation.COUNTERCLOCKWISE


def _videos(container: InputContainer) -> list[av.VideoStream]:
    streams = container.streams.video
    videos = [stream for stream in streams if not stream.disposition & _PICTURES]
    if streams and not videos:
        raise DecodeError("there is no video stream, only a cover picture")
    decodable = [stream for stream in videos if stream.codec_context is not None]
    if not decodable:
        raise DecodeError("there is no video stream, or no decoder for it")
    return decodable


def _best(container: InputContainer, videos: list[av.VideoStream]) -> av.VideoStream:
    """FFmpeg's choice, where that is a video; otherwise the one that is marked as the default, or the largest."""
    best = container.streams.best("video")
    return best if best in videos else max(videos, key=_prominence)


def _prominence(stream: av.VideoStream) -> tuple[bool, int]:
    return bool(stream.disposition & Disposition.default), stream.codec_context.width * stream.codec_context.height
