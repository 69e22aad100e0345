"""Two programs on the loopback address: FFmpeg sends a video in real time, as a camera would; the reader labels it."""

import contextlib
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from dnr_jax.data.clips.container import DecodeError
from dnr_jax.streaming.segments import Segment
from dnr_jax.streaming.sources import Reader, source_of
from dnr_jax.streaming.stream import Labelled, Stream, StreamSettings
from tests.streaming.conftest import CLASSES, write_scenes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("ffmpeg"), reason="there is no ffmpeg that sends a video"),
]


@contextlib.contextmanager
def camera(path: pathlib.Path, timeout: float) -> Iterator[tuple[subprocess.Popen[bytes], Reader]]:
    """A program that sends a video at its own pace to the first who connects, and a reader that has connected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    flags = ["-loglevel", "error", "-re", "-i", str(path), "-c", "copy", "-f", "mpegts", f"{address}?listen=1"]
    with subprocess.Popen(["ffmpeg", "-nostdin", *flags]) as program:
        try:
            with connected(address, timeout) as reader:
                yield program, reader
        finally:
            program.kill()


def connected(address: str, timeout: float) -> Reader:
    limit = time.monotonic() + 60
    while True:
        try:
            return Reader(source_of(address, timeout=timeout))
        except DecodeError as error:
            if "refused" not in str(error) or time.monotonic() > limit:
                raise
            time.sleep(0.05)  # it does not listen yet


def test_a_camera_is_labelled_while_it_sends_to_its_end(predictor, tmp_path):
    path = write_scenes(tmp_path / "a.mp4", [("dark", 40), ("light", 40)])
    with camera(path, timeout=30) as (_, reader):
        events = list(Stream(predictor, reader, StreamSettings(window=1.0)))
    segments = [CLASSES[event.label] for event in events if isinstance(event, Segment)]
    assert segments == ["dark", "light"]
    assert reader.reason == ""
    windows = [event for event in events if isinstance(event, Labelled)]
    assert all(event.lag >= 0 and event.latency >= 0 for event in windows)


def test_a_camera_that_stalls_is_given_up(predictor, tmp_path):
    path = write_scenes(tmp_path / "a.mp4", [("dark", 600)])
    with camera(path, timeout=2.0) as (program, reader):
        events = iter(Stream(predictor, reader, StreamSettings(window=1.0)))
        next(events)
        program.send_signal(signal.SIGSTOP)
        rest = list(events)
    assert reader.reason == "no frame for 2 s"
    assert [CLASSES[event.label] for event in rest if isinstance(event, Segment)] == ["dark"]
