"""Uploads read in processes of their own, so that one that crashes or hangs its decoder costs nobody else's."""

import concurrent.futures
import dataclasses
import multiprocessing
import pathlib
import signal
from collections.abc import Callable
from typing import Annotated, Any

import av
import numpy as np
from annotated_types import Ge, Gt
from pebble import ProcessExpired, ProcessPool

from dnr_jax.config import DataConfig, EvaluationConfig
from dnr_jax.data.clips.decode import DecodeError
from dnr_jax.data.clips.pipeline import load_clip

FORMATS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "gif", "ivf", "mxf", "dv", "nut"),
    *("h264", "hevc", "av1", "obu", "m4v", "mjpeg", "rm", "wtv", "yuv4mpegpipe"),
)
"""FFmpeg's names of the formats that are read. Playlists are none: they name other files, of this machine even."""
VIDEOS_EACH = 1000
"""Videos that a process reads before another takes its place: its memory grows slowly (by a fifth in 3,000 videos)."""
MAX_PIXELS = 8192 * 4320
"""Of a frame: a small file can hold frames that take more memory than there is."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an upload may cost.

    Attributes:
      megabytes: of the file, in millions of bytes.
      duration: of the video, in seconds, as far as the file tells it.
      seconds: for receiving the file, and as many again for reading its frames.
      waiting: requests that are received, read or scored at the same time; those beyond are sent away.
      readers: processes that read videos.
    """

    megabytes: Annotated[float, Gt(0)] = 100.0
    duration: Annotated[float, Gt(0)] = 600.0
    seconds: Annotated[float, Gt(0)] = 30.0
    waiting: Annotated[int, Ge(1)] = 16
    readers: Annotated[int, Ge(1)] = 1

    @property
    def bytes(self) -> int:
        """Largest size of a file."""
        return int(self.megabytes * 1e6)


def check_video(path: pathlib.Path, limits: Limits) -> None:
    """Refuse a file that is of no format for uploads, or larger than the limits in what its header says.

    Raises:
      DecodeError: where it is; the message does not name the file, which nobody but the service knows.
    """
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    try:
        with av.open(str(path), options=options, metadata_errors="replace") as container:
            videos = container.streams.video
            if not videos:
                raise DecodeError("there is no video in this file, only other streams")
            seconds = (container.duration or 0) / av.time_base
            sizes = [(stream.width, stream.height) for stream in videos]
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(
            "this is no video file that is read here: MP4, MOV, WebM, MKV, AVI, MPEG and other usual formats are"
        ) from error
    if seconds > limits.duration:
        raise DecodeError(f"the video takes {seconds:.0f} seconds; at most {limits.duration:g} are read")
    for width, height in sizes:
        if width * height > MAX_PIXELS:
            raise DecodeError(f"its frames have {width} x {height} pixels; at most {MAX_PIXELS} pixels are read")


def read_views(path: pathlib.Path, data: DataConfig, evaluation: EvaluationConfig, limits: Limits) -> np.ndarray:
    """Read the views of an upload: uint8 ``[V, T, H, W, 3]``.

    Raises:
      DecodeError: where it cannot be read, or must not be; the message does not name the file.
    """
    check_video(path, limits)
    try:
        return load_clip(str(path), data, evaluation)
    except DecodeError as error:
        raise DecodeError(str(error).removeprefix(f"{path}: ").replace(str(path), "the file")) from error
    except Exception as error:  # whatever a hostile file makes of the decoder concerns its sender
        raise DecodeError(f"its frames cannot be read ({type(error).__name__})") from error


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the service, which ends its readers


UNREADABLE = (DecodeError, ProcessExpired, concurrent.futures.TimeoutError)
"""What the futures of :class:`Readers` raise where a file is at fault; :meth:`Readers.why` has the sentence."""


class Readers:
    """Processes that read uploads, and are replaced where a file ends them."""

    def __init__(self, data: DataConfig, evaluation: EvaluationConfig, limits: Limits):
        """Start the processes.

        Args:
          data: which frames are read, and what is done to them.
          evaluation: views of a video.
          limits: of an upload.
        """
        self._settings = (data, evaluation, limits)
        self._limits = limits
        # Spawned: threads of this process do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(limits.readers, max_tasks=VIDEOS_EACH, initializer=_start, context=context)
        self._started = [self._pool.schedule(_start) for _ in range(limits.readers)]

    def wait(self) -> None:
        """Wait until the processes have imported what they need, so that the first upload need not."""
        concurrent.futures.wait(self._started)

    def read(self, path: pathlib.Path, how: Callable[..., Any] | None = None) -> "concurrent.futures.Future[Any]":
        """Read a file in one of the processes.

        Args:
          path: of the file.
          how: a function of a module, called as ``how(path, data, evaluation, limits)``; default: :func:`read_views`.

        Returns:
          A future of what the function returns or raises.
        """
        return self._pool.schedule(how or read_views, args=(path, *self._settings), timeout=self._limits.seconds)

    def why(self, error: BaseException) -> str:
        """Return a sentence on a file that could not be read, of what the future raised."""
        if isinstance(error, concurrent.futures.TimeoutError):
            return f"reading the video took longer than {self._limits.seconds:g} seconds"
        return "the file makes its decoder crash" if isinstance(error, ProcessExpired) else str(error)

    def close(self) -> None:
        """End the processes, whatever they do."""
        self._pool.stop()
        self._pool.join()
