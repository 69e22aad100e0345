"""The service with a network that is none, and readers in this process: nothing is compiled, no process is started."""

import concurrent.futures
import io
import pathlib
import tempfile
import threading
import time
import types
import zipfile

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

import anyio
import httpx2
from fastapi.testclient import TestClient

from dnr_jax.config import ExperimentConfig
from dnr_jax.data.clips.decode import encode_video
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.evaluation.predict import Predictor
from dnr_jax.serve import decoding, service
from dnr_jax.serve.decoding import Limits, Readers, check_video, read_views
from dnr_jax.serve.service import create_app
from dnr_jax.training import loop
from tests.serve import broken
from tests.training import tiny

LIMITS = Limits(megabytes=0.2, duration=5, seconds=20, waiting=2, readers=1)


class Stub:
    """Stands for a predictor whose classes are told apart by brightness."""

    classes = ("dark", "grey", "light")
    top = 2

    def __init__(self) -> None:
        config = ExperimentConfig()
        config.data.sampler, config.data.short_side, config.data.crop_size = Segments(4), 0, 16
        self.run = types.SimpleNamespace(config=config, classes=self.classes, step=7)
        self.evaluation = config.evaluation
        self.release = threading.Event()
        self.release.set()

    def warm_up(self) -> None:
        pass

    def score(self, views: np.ndarray) -> np.ndarray:
        assert self.release.wait(10) and views.shape == (1, 1, 4, 16, 16, 3)
        light = views.mean() / 255
        return np.array([[0.1 * (1 - light), 0.1 * light, 0.9]], np.float32)


class ThreadReaders(Readers):
    """Reads in a thread."""

    def __init__(self, *settings) -> None:
        self._settings, self._limits = settings, settings[-1]
        self._pool, self._started = concurrent.futures.ThreadPoolExecutor(1), []

    def read(self, path):
        return self._pool.submit(read_views, path, *self._settings)

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    return encoded(tmp_path_factory.mktemp("video") / "a.mp4", np.full((6, 32, 32, 3), 200, np.uint8))


def encoded(path: pathlib.Path, frames: np.ndarray, **settings) -> bytes:
    encode_video(str(path), frames, options={"preset": "ultrafast"}, **settings)
    return path.read_bytes()


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def client(stub, temporary, monkeypatch):
    monkeypatch.setattr(service, "Readers", ThreadReaders)
    with TestClient(create_app(stub, LIMITS)) as client:
        yield client


def test_a_video_is_labelled_as_the_body_and_as_a_part_of_a_form(client, video, temporary):
    for sent in ({"content": video}, {"files": {"file": ("a.mp4", video)}}):
        answer = client.post("/predict", **sent)
        assert answer.status_code == 200
        first, second = answer.json()["labels"]
        assert first == {"label": "light", "score": pytest.approx(0.9)}
        assert second["label"] == "grey"
        assert set(answer.json()["seconds"]) == {"receive", "read", "score"}
    assert len(client.post("/predict?top=3", content=video).json()["labels"]) == 3
    assert len(client.post("/predict?top=99", content=video).json()["labels"]) == 3
    assert not list(temporary.iterdir())


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("1.jpg", b"no picture")
    return content.getvalue()


FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("content", "headers", "status", "sentence"),
    [
        (b"", {}, 400, "the video is empty"),
        (b"no video", {}, 422, "this is no video file that is read here"),
        (b"<!DOCTYPE html><html></html>", {}, 422, "this is no video file that is read here"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", {}, 422, "this is no video file"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", {}, 422, "this is no video file"),
        (b"\0" * 1000, {}, 422, "this is no video file"),
        (archive(), {}, 422, "this is no video file"),
        (b"x" * 200_001, {}, 413, "larger than 0.2 MB, which is the limit here"),
        (b"--x\r\n", FORM, 400, "the form"),
        (b"no form at all", FORM, 400, "the form cannot be read"),
        (b"--x--\r\n", FORM, 400, "the form has no file"),
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--\r\n", FORM, 400, "the form has no file"),
        (b"--x\r\n\r\nb\r\n--x--\r\n", FORM, 400, "the form cannot be read"),
        (b"abc", {"content-type": "multipart/form-data"}, 400, "the form cannot be read"),
        (b"abc", {"content-type": b"multipart/form-data; boundary=\xff"}, 400, "the form cannot be read"),
    ],
)
def test_what_is_no_video_is_answered_with_a_sentence(client, video, temporary, content, headers, status, sentence):
    answer = client.post("/predict", content=content, headers=headers)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"] and str(temporary) not in answer.text
    assert client.post("/predict", content=video).status_code == 200
    assert not list(temporary.iterdir())


def test_a_body_is_refused_where_it_turns_out_to_be_too_large(client):
    """One whose size is not told before it comes."""
    answer = client.post("/predict", content=iter([b"x" * 100_000] * 5))
    assert answer.status_code == 413


def test_damaged_videos_are_read_or_refused(client, video):
    rng = np.random.default_rng(0)
    for cut in (len(video) // 2, 100):
        damaged = bytearray(video[:cut])
        damaged[rng.integers(len(damaged))] ^= 255
        answer = client.post("/predict", content=bytes(damaged))
        assert answer.status_code in (200, 422) and (answer.status_code == 200 or answer.json()["detail"])


def test_arguments_routes_and_methods_that_there_are_not(client, video):
    for top in ("0", "-1", "many"):
        answer = client.post(f"/predict?top={top}", content=video)
        assert answer.status_code == 422 and answer.json()["detail"].startswith("top: Input should be")
    assert client.get("/predict").status_code == 405
    assert client.get("/nothing").status_code == 404


def test_long_and_large_videos_are_refused_by_their_headers(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    encoded(path, np.zeros((12, 32, 32, 3), np.uint8), fps=2)
    with pytest.raises(decoding.DecodeError, match="the video takes 6 seconds; at most 5 are read"):
        check_video(path, LIMITS)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    with pytest.raises(decoding.DecodeError, match="its frames have 32 x 32 pixels; at most 1000 pixels are read"):
        check_video(path, Limits())


def test_requests_beyond_the_limit_are_sent_away(client, stub, video):
    stub.release.clear()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        working = [pool.submit(client.post, "/predict", content=video) for _ in range(2)]
        deadline = time.monotonic() + 10
        while client.get("/health").json()["active"] < 2:
            assert time.monotonic() < deadline
        refused = client.post("/predict", content=video)
        stub.release.set()
        assert [future.result().status_code for future in working] == [200, 200]
    assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
    assert "2 requests are worked on already" in refused.json()["detail"]
    assert client.post("/predict", content=video).status_code == 200


def test_health_and_metrics(client, video):
    health = client.get("/health").json()
    assert health | {"version": ""} == {
        **{"status": "ok", "version": "", "active": 0, "network": "TSN", "classes": 3, "step": 7},
    }
    client.post("/predict", content=video)
    client.post("/predict", content=b"no video")
    client.post("/predict?top=0", content=video)
    text = client.get("/metrics").text
    assert 'dnr_predictions_total{status="200"} 1.0' in text and 'dnr_predictions_total{status="422"} 2.0' in text
    assert 'dnr_stage_seconds_count{stage="score"} 1.0' in text and "dnr_predictions_active 0.0" in text
    assert "process_resident_memory_bytes" in text


def test_a_sender_that_is_too_slow_or_gone(stub, temporary, monkeypatch):
    """Without a server: what it hands to the application."""
    monkeypatch.setattr(service, "Readers", ThreadReaders)
    quick = Limits(seconds=0.05)

    async def slow():
        yield b"x"
        await anyio.sleep(5)

    async def post(app, content):
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://service") as sender:
                return await sender.post("/predict", content=content)

    answer = anyio.run(post, create_app(stub, quick), slow())
    assert answer.status_code == 408 and "did not arrive within 0.05 seconds" in answer.json()["detail"]
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_a_file_that_ends_or_hangs_its_reader_costs_nobody_else(tmp_path, video, monkeypatch):
    path = tmp_path / "upload"
    path.write_bytes(video)
    stub = Stub()
    readers = Readers(stub.run.config.data, stub.evaluation, Limits(seconds=20, readers=1))
    try:
        assert readers.read(path).result().shape == (1, 4, 16, 16, 3)
        monkeypatch.setattr(decoding, "read_views", broken.crash)
        error = readers.read(path).exception()
        assert readers.why(error) == "the file makes its decoder crash"
        monkeypatch.setattr(decoding, "read_views", broken.hang)
        readers._limits = Limits(seconds=0.5)
        error = readers.read(path).exception()
        assert readers.why(error) == "reading the video took longer than 0.5 seconds"
        monkeypatch.setattr(decoding, "read_views", read_views)
        readers._limits = Limits(seconds=20)
        assert readers.read(path).result().shape == (1, 4, 16, 16, 3)
        (tmp_path / "text").write_text("no video")
        assert "no video file" in readers.why(readers.read(tmp_path / "text").exception())
    finally:
        readers.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_another_process_reads_after_a_number_of_videos(video, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "VIDEOS_EACH", 3)
    stub = Stub()
    readers = Readers(stub.run.config.data, stub.evaluation, Limits(seconds=20, readers=1))
    try:
        readers.wait()  # which is the first task
        first, second, third, fourth = (readers.read(tmp_path, broken.process).result() for _ in range(4))
        assert first == second != third == fourth
    finally:
        readers.close()


@pytest.mark.slow
def test_labels_are_those_of_the_predictor(tmp_path):
    """With a trained network, and readers that are processes."""
    videos = tiny.write_videos(tmp_path / "videos")
    with tiny.known():
        loop.train(tiny.tiny_config(videos, steps=2), tmp_path / "run", mesh=tiny.one_device())
        predictor = Predictor(tmp_path / "run")
    path = next((videos / "val/light").iterdir())
    expected = predictor(path)
    with TestClient(create_app(predictor)) as client:
        labels = client.post("/predict", content=path.read_bytes()).json()["labels"]
    assert tuple(entry["label"] for entry in labels) == expected.labels
    np.testing.assert_allclose([entry["score"] for entry in labels], expected.scores, rtol=1e-6)
