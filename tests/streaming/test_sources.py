import contextlib
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from dnr_jax.data.clips.container import DecodeError
from dnr_jax.data.clips.decode import decode_frames
from dnr_jax.data.clips.transforms import resize_short_side
from dnr_jax.streaming import sources
from dnr_jax.streaming.sources import Clock, Pictures, Reader, Source, source_of, webcam
from tests.data.videos import irregular_video
from tests.streaming.conftest import write_scenes


@contextlib.contextmanager
def served(*pieces: bytes | float) -> Iterator[str]:
    """The address of a program that sends bytes to the first who connects; a number is a pause in seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(ConnectionError):
                for piece in pieces:
                    if isinstance(piece, bytes):
                        connection.sendall(piece)
                    else:
                        gone.wait(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            gone.set()
            thread.join()


@pytest.fixture
def transport_stream(tmp_path) -> bytes:
    return write_scenes(tmp_path / "live.ts", [("dark", 20), ("light", 20)]).read_bytes()


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not condition() and time.monotonic() < limit:
        time.sleep(0.005)


def test_frames_come_once_and_in_order_with_their_times(tmp_path):
    path = write_scenes(tmp_path / "a.mp4", [("dark", 7), ("light", 33)])
    with Reader(source_of(str(path))) as reader:
        assert (reader.rate, reader.duration) == (10.0, 4.0)
        frames = list(reader)
    assert [frame.number for frame in frames] == list(range(40))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(40) / 10, atol=1e-3)
    assert (reader.dropped, reader.damaged, reader.reason) == (0, 0, "")
    whole, _ = decode_frames(str(path), lambda total: np.arange(total))
    np.testing.assert_array_equal(np.stack([frame.pixels() for frame in frames]), whole)
    np.testing.assert_array_equal(frames[7].pixels(16), resize_short_side(whole[7:8], 16)[0])


@pytest.mark.parametrize(("kind", "live"), [("matroska", False), ("mpegts", True)])
def test_the_rate_of_irregular_frames_is_their_average(tmp_path, kind, live):
    """FFmpeg says 30 and 2000; of what comes as it comes, the first frames tell."""
    times = np.cumsum(np.random.default_rng(0).integers(60, 120, 100)).tolist()
    (tmp_path / "a").write_bytes(irregular_video(kind, "libx264", times))
    with Reader(Source("a", str(tmp_path / "a"), live)) as reader:
        assert reader.rate == pytest.approx(99_000 / (times[-1] - times[0]), rel=0.1 if live else 0.011)
        frames = list(reader)
    assert len(frames) + reader.dropped == 100


def test_what_is_no_video_is_refused_by_name(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError, match="a.mp4: .*Invalid data"):
        Reader(source_of(str(tmp_path / "a.mp4")))
    with pytest.raises(DecodeError, match="none.mp4: .*No such file"):
        Reader(source_of(str(tmp_path / "none.mp4")))
    with pytest.raises(DecodeError, match="a folder, whose frames have no times"):
        source_of(str(tmp_path))


def test_what_an_address_is():
    assert source_of("rtsp://camera/1").live and source_of("udp://@:1234").live
    assert not source_of("https://x/a.mp4").live and source_of("https://x/live.m3u8", live=True).live
    assert source_of("https://x/a.mp4").timeout == source_of("rtsp://camera/1").timeout == sources.TIMEOUT
    assert source_of("rtsp://camera/1", timeout=3.0).timeout == 3.0
    local, piped = source_of("a.mp4"), source_of("-")
    assert (local.file, local.live, local.timeout) == ("file:a.mp4", False, None)
    assert (piped.file, piped.live) == ("pipe:0", False)
    assert source_of("file:///a%20b.mp4").file == "file:/a b.mp4"


def test_a_camera_that_is_not_there(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(DecodeError, match="webcam 71: there is no /dev/video71; cameras of this machine: "):
        webcam("71")
    monkeypatch.setattr("sys.platform", "sunos5")
    with pytest.raises(DecodeError, match="webcam 0: this PyAV reads no cameras"):
        webcam("0")


def test_a_camera_is_read_as_a_device(monkeypatch):
    """FFmpeg's generator of test pictures stands in for the camera, which is a device to FFmpeg as well."""
    monkeypatch.setattr("sys.platform", "linux")
    generator = "testsrc2=size=64x48:rate=25:duration=1.2"
    monkeypatch.setitem(sources._DEVICES, "linux", ("lavfi", lambda name: f"{generator},setpts=PTS+{name}/TB"))
    source = webcam("2")
    assert (source.name, source.live, source.timeout) == ("webcam 2", True, sources.TIMEOUT)
    with Reader(source) as reader:
        frames = list(reader)
    assert len(frames) + reader.dropped == 30 and frames[0].pixels().shape == (48, 64, 3)


def test_a_live_source_that_ends(transport_stream):
    with served(transport_stream) as address, Reader(source_of(address, timeout=10.0)) as reader:
        frames = list(reader)
    assert 20 < len(frames) + reader.dropped <= 40
    assert reader.reason == ""


def test_a_live_source_that_stalls_is_given_up(transport_stream):
    with served(transport_stream, 60.0) as address, Reader(source_of(address, timeout=0.5)) as reader:
        begun = time.monotonic()
        frames = list(reader)
    assert frames
    assert reader.reason == "no frame for 0.5 s"
    assert time.monotonic() - begun < 10


def test_a_source_that_never_answers_is_refused():
    with served(60.0) as address, pytest.raises(DecodeError, match="tcp://127.0.0.1:.*: no frame for 0.3 s"):
        Reader(source_of(address, timeout=0.3))


def test_of_a_live_source_the_oldest_frames_are_dropped_and_counted(tmp_path):
    path = write_scenes(tmp_path / "a.mp4", [("dark", 60)])
    with Reader(source_of(str(path), live=True)) as reader:
        wait_for(lambda: reader.dropped >= 60 - sources._AHEAD + 1)  # the sign of the end takes a place too
        numbers = [frame.number for frame in reader]
    assert numbers == list(range(60 - len(numbers), 60))
    assert len(numbers) + reader.dropped == 60
    assert len(numbers) < sources._AHEAD


def test_of_a_file_no_frame_is_dropped_however_slow_its_reader_is(tmp_path):
    path = write_scenes(tmp_path / "a.mp4", [("dark", 60)])
    with Reader(source_of(str(path))) as reader:
        wait_for(lambda: reader._frames.full())
        assert [frame.number for frame in reader] == list(range(60))


def test_whoever_stops_looking_stops_the_decoder(tmp_path):
    path = write_scenes(tmp_path / "a.mp4", [("dark", 60)])
    with Reader(source_of(str(path))) as reader:
        next(reader)
    reader._thread.join(10)
    assert not reader._thread.is_alive()


def test_times_rise_whatever_the_container_says():
    clock = Clock(10.0)
    times = [clock(seconds) for seconds in (5.0, 5.1, None, 5.3, 5.3, 5.5, 0.0, 0.1, 3.0)]
    np.testing.assert_allclose(times, [0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 3.7])
    unknown = Clock(0.0)
    np.testing.assert_allclose([unknown(None), unknown(None)], [0.0, 0.04])


def test_frames_of_a_program():
    frames = Pictures([np.full((4, 6, 3), level, np.uint8) for level in range(3)], 2.0)
    assert [(frame.time, frame.pixels()[0, 0, 0]) for frame in frames] == [(0.0, 0), (0.5, 1), (1.0, 2)]
    with pytest.raises(ValueError, match="frame 0 is"):
        next(Pictures([np.zeros((3, 4, 4), np.uint8)], 2.0))
    with pytest.raises(ValueError, match="rate is 0"):
        Pictures([], 0)


def test_a_source_of_a_bucket_is_read_through_a_file(tmp_path):
    path = write_scenes(tmp_path / "a.mp4", [("dark", 5)])
    with pathlib.Path(path).open("rb") as file, Reader(Source("gs://bucket/a.mp4", file)) as reader:
        assert len(list(reader)) == 5
