"""Where frames come from: files, addresses, the standard input, webcams and live streams, decoded once and in order."""

import contextlib
import dataclasses
import glob
import itertools
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from etils import epath

from dnr_jax.config import expand_path
from dnr_jax.data.clips.container import (
    OPEN_OPTIONS,
    DecodeError,
    average_rate,
    best_video,
    decode_packet,
    openable,
    orientation,
    states_rate,
    time_of,
    why_unreadable,
)
from dnr_jax.data.clips.transforms import resize_short_side
from dnr_jax.evaluation.inputs import NO_PATH, STANDARD_INPUT, as_frame, scheme_of

TIMEOUT = 10.0
"""Seconds without a frame after which a live source or an address is given up."""

_FILES = ("", "file", "gs", "s3")
_PULLED = ("http", "https", "ftp", "ftps", "sftp")
"""Addresses that wait for whoever reads them; all others are live."""
_AHEAD = 16
"""Decoded frames that wait to be looked at."""
_TIMED, _TIMED_LIVE = 256, 16
"""Packets whose times tell the frame rate, of what waits for its reader and of what does not."""
PLAUSIBLE_RATE = 240.0
"""Frames per second; more are the clock's that times are told by, and not those of pictures."""


@dataclasses.dataclass(frozen=True)
class Source:
    """What is read, and how.

    Attributes:
      name: for people.
      file: what FFmpeg opens: a name, or an open file.
      live: frames come when they come: what is not looked at in time is dropped, and counted.
      timeout: seconds without a frame after which it is given up; None: never.
      format: FFmpeg's name of the format or kind of device; None: recognised.
      options: FFmpeg's.
    """

    name: str
    file: Any
    live: bool = False
    timeout: float | None = None
    format: str | None = None
    options: dict[str, str] = dataclasses.field(default_factory=dict)


def is_live(path: str) -> bool:
    """Return whether an address is one whose frames come when they come, and only once."""
    return path != STANDARD_INPUT and scheme_of(path) not in (*_FILES, *_PULLED)


def source_of(path: str, live: bool = False, timeout: float | None = None) -> Source:
    """Return a file, an address that FFmpeg reads, or the standard input (``-``) as a source.

    Args:
      path: what a person wrote.
      live: frames of whatever it is are dropped rather than looked at late; addresses that are no files always are.
      timeout: seconds; default: 10 for addresses, none for files and the standard input.

    Raises:
      DecodeError: for a folder, and for an empty path.
    """
    if not path:
        raise DecodeError(NO_PATH)
    scheme = scheme_of(path)
    if path == STANDARD_INPUT:
        return Source(path, "pipe:0", live, timeout)
    if scheme in ("gs", "s3"):
        return Source(path, epath.Path(path).open("rb"), live, timeout)
    if scheme in _FILES:
        file = expand_path(path) if scheme else path
        if os.path.isdir(file):
            raise DecodeError(f"{path}: a folder, whose frames have no times; expected a video file, or a live source")
        return Source(path, openable(file), live, timeout)
    live = live or is_live(path)
    options = {"rtsp_flags": "prefer_tcp"} if scheme in ("rtsp", "rtsps") else {}
    if live:
        options["analyzeduration"] = (
            "2000000"  # microseconds; FFmpeg would look at it for longer before the first frame
        )
    return Source(path, path, live, TIMEOUT if timeout is None else timeout, options=options)


def webcam(name: str, timeout: float | None = None) -> Source:
    """Return a camera of this machine as a source.

    Args:
      name: its number, from 0, or its name as FFmpeg knows it.
      timeout: seconds without a frame after which it is given up; default: 10.

    Raises:
      DecodeError: where there is no such camera, or nothing that reads one.
    """
    kind, file = _DEVICES.get(sys.platform, ("", lambda name: name))
    if not any(kind in known.split(",") for known in av.formats_available):
        raise DecodeError(
            f"webcam {name}: this PyAV reads no cameras ({kind or sys.platform}); an address of one is read"
        )
    options = {"framerate": "30"} if kind == "avfoundation" else {}
    return Source(f"webcam {name}", file(name), True, TIMEOUT if timeout is None else timeout, kind, options)


def _v4l2(name: str) -> str:
    device = f"/dev/video{name}" if name.isdecimal() else name
    if not os.path.exists(device):
        there = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
        raise DecodeError(f"webcam {name}: there is no {device}; cameras of this machine: {there}")
    return device


def _dshow(name: str) -> str:
    names = [device.name for device in av.device.enumerate_input_devices("dshow")]
    if name.isdecimal():
        if int(name) >= len(names):
            raise DecodeError(f"webcam {name}: cameras of this machine, from 0: {', '.join(names) or 'none'}")
        name = names[int(name)]
    return f"video={name}"


_DEVICES: dict[str, tuple[str, Callable[[str], str]]] = {
    "linux": ("v4l2", _v4l2),
    "darwin": ("avfoundation", lambda name: name),
    "win32": ("dshow", _dshow),
}


class _ThreadState(threading.local):
    """One reformatter a thread: a new one for each frame would start threads and make tables each time."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()


_thread = _ThreadState()


def converted(picture: VideoFrame, pixels: str) -> VideoFrame:
    """Return a frame in another format of pixels, in its own size."""
    return _thread.reformatter.reformat(picture, picture.width, picture.height, pixels, threads=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """A frame that was decoded, and not yet looked at.

    Attributes:
      number: which one of the source, from 0; those that were dropped are counted.
      time: seconds from the first frame.
      arrived: when it was decoded, by ``time.monotonic``.
      picture: what the decoder gave, or pixels.
    """

    number: int
    time: float
    arrived: float
    picture: VideoFrame | np.ndarray

    def pixels(self, side: int = 0) -> np.ndarray:
        """Return uint8 ``[h, w, 3]`` RGB, upright, with this short side; 0: in full size."""
        picture = self.picture
        if isinstance(picture, VideoFrame):
            picture = orientation(picture).apply(converted(picture, "rgb24").to_ndarray())
        return resize_short_side(np.ascontiguousarray(picture)[None], side)[0]


def shown_at(picture: VideoFrame, stream: av.VideoStream) -> float | None:
    """Return when the container says that a frame is shown, in seconds; None where it says nothing."""
    # A frame that the decoder gives at the end has no unit of time of its own.
    return None if picture.pts is None or stream.time_base is None else float(picture.pts * stream.time_base)


class Clock:
    """Turns the times of frames into rising seconds from the first one; guesses those that are missing or run back."""

    def __init__(self, rate: float):
        """Start before the first frame of a video of this rate, in frames a second."""
        self._step = 1 / rate if rate else 0.04
        self._first: float | None = None
        self._last = -self._step

    def __call__(self, seconds: float | None) -> float:
        """Return the time of the next frame, whose container says ``seconds``."""
        if seconds is not None and self._first is None:
            self._first = seconds
        time = self._last + self._step if seconds is None or self._first is None else seconds - self._first
        if time <= self._last:  # a camera that was started anew, or times of another file behind this one
            time = self._last + self._step
            self._first = seconds - time if seconds is not None else self._first
        self._last = time
        return time


class Reader(Iterator[Frame]):
    """Decodes a source in a thread of its own, at most some frames ahead of whoever iterates.

    Where the source is live and the reader behind, the oldest frames that wait are dropped.

    Attributes:
      source: what is read.
      rate: frames per second, on average; 0: not known.
      duration: seconds of the video; 0: not known.
      dropped: frames that nobody looked at.
      damaged: packets that could not be decoded.
      reason: why it ended before its end; empty where it did not.
    """

    def __init__(self, source: Source):
        """Open the source.

        Raises:
          DecodeError: it cannot be opened, is no video, or does not answer.
        """
        self.source = source
        self.rate = self.duration = 0.0
        self.dropped = self.damaged = 0
        self.reason = ""
        self._frames: queue.Queue[Frame | None] = queue.Queue(_AHEAD)
        self._opened: queue.Queue[str] = queue.Queue(1)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()
        try:
            problem = self._opened.get(timeout=None if source.timeout is None else source.timeout + 5)
        except queue.Empty:
            problem = self._silence()
        if problem:
            self._stopped.set()
            raise DecodeError(f"{source.name}: {problem}")

    def _silence(self) -> str:
        return f"no frame for {self.source.timeout:g} s"

    def _run(self) -> None:
        try:
            with self._open() as container:
                stream = best_video(container)
                packets = self._prepare(container, stream)
                self._opened.put("")
                self._decode(stream, packets)
        except Exception as error:  # whatever it is, whoever iterates has to know
            self.reason = (
                self._silence() if isinstance(error, av.ExitError) else why_unreadable(self.source.name, error)
            )
        with contextlib.suppress(queue.Full):
            self._opened.put_nowait(self.reason or "no frame could be decoded")
        self._put(None)

    def _open(self) -> InputContainer:
        source = self.source
        settings: dict[str, Any] = dict(OPEN_OPTIONS)
        if isinstance(source.file, str) and source.timeout is not None:
            settings["timeout"] = source.timeout
        return av.open(source.file, "r", format=source.format, options=source.options, **settings)

    def _prepare(self, container: InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
        """Find out about the video, and return its packets; a live source is waited for only where it has to be."""
        packets = container.demux(stream)
        told = average_rate(container, stream)
        trusted = states_rate(container) or (self.source.live and 0 < told <= PLAUSIBLE_RATE)
        first = [] if trusted else list(itertools.islice(packets, _TIMED_LIVE if self.source.live else _TIMED))
        self.rate = average_rate(container, stream, [time_of(packet) for packet in first])
        self.duration = container.duration / av.time_base if container.duration and not self.source.live else 0.0
        # Threads that decode several frames at once would each hold one back.
        stream.thread_type = "SLICE" if self.source.live else "AUTO"
        return itertools.chain(first, packets)

    def _decode(self, stream: av.VideoStream, packets: Iterator[av.Packet]) -> None:
        clock, numbers = Clock(self.rate), itertools.count()
        for packet in itertools.chain(packets, [None]):
            if packet is not None and not packet.size:
                continue
            damaged: list[str] = []
            for picture in decode_packet(stream.codec_context, packet, damaged):
                self._put(Frame(next(numbers), clock(shown_at(picture, stream)), time.monotonic(), picture))
            self.damaged += len(damaged)
            if self._stopped.is_set():
                return

    def _put(self, frame: Frame | None) -> None:
        while not self._stopped.is_set():
            try:
                return self._frames.put(frame, timeout=0 if self.source.live else 0.1)
            except queue.Full:
                if self.source.live:
                    with contextlib.suppress(queue.Empty):
                        self._frames.get_nowait()
                        self.dropped += 1

    def __next__(self) -> Frame:
        """Return the next frame; ends where the source does, or where it gives none for too long."""
        try:
            frame = self._frames.get(timeout=self.source.timeout)
        except queue.Empty:
            self.reason = self._silence()
            frame = None
        if frame is None:
            self.close()
            raise StopIteration
        return frame

    def close(self) -> None:
        """Stop decoding, as soon as the source lets go."""
        self._stopped.set()

    def __enter__(self) -> "Reader":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop decoding."""
        self.close()


class Pictures(Iterator[Frame]):
    """Frames of a program, with the attributes of a :class:`Reader`."""

    dropped = damaged = 0
    reason = ""

    def __init__(self, frames: Iterable[np.ndarray], rate: float):
        """Number the frames.

        Args:
          frames: yields uint8 ``[H, W, 3]`` RGB.
          rate: frames per second.
        """
        if rate <= 0:
            raise ValueError(f"rate is {rate}; expected frames per second, above 0")
        self.source = Source("frames", None)
        self.rate, self.duration = rate, 0.0
        self._frames = iter(frames)
        self._numbers = itertools.count()
        self._shape: tuple[int, ...] = ()

    def __next__(self) -> Frame:
        """Return the next frame; raises ValueError where it is none."""
        number = next(self._numbers)
        picture = as_frame(next(self._frames), number, self._shape)
        self._shape = picture.shape
        return Frame(number, number / self.rate, time.monotonic(), picture)

    def close(self) -> None:
        """Do nothing: the frames belong to the program."""
