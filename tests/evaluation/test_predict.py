"""What is handed to predict, with a network that is none: nothing is compiled."""

import contextlib
import functools
import http.server
import pathlib
import threading
import types
from collections.abc import Iterator

import numpy as np
import pytest

from dnr_jax.config import ExperimentConfig
from dnr_jax.data.clips.decode import DecodeError
from dnr_jax.evaluation import predict as module
from dnr_jax.evaluation.predict import Prediction, find_videos, predict

pytestmark = pytest.mark.compat


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    for name in ("b.mp4", "a/c d.MKV", "a/notes.txt", ".hidden/x.mp4", "@eaDir/b.mp4", "frames/1.jpg", "empty/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"video")
    return tmp_path


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Stub decoder and network; return the contents that were scored, and fail in several ways."""
    contents = []

    def load_clip(path: str, data: object, evaluation: object) -> np.ndarray:
        if "broken" in path:
            raise DecodeError(f"{path}: no frame")
        if "odd" in path:
            raise KeyError(path)
        content = pathlib.Path(path).read_text() if pathlib.Path(path).is_file() else "frames"
        if content == "not a video":
            raise DecodeError(f"{path}: invalid data in '{path}'")
        contents.append(content)
        return np.zeros((1, 1, 1, 1, 3), np.uint8)

    run = types.SimpleNamespace(config=ExperimentConfig(), classes=("jump", "run"), model=None, variables={})
    monkeypatch.setattr(module, "load_run", lambda *arguments: run)
    monkeypatch.setattr(module, "load_clip", load_clip)
    monkeypatch.setattr(module, "make_eval_step", lambda *a: lambda *b: {"scores": np.array([[0.25, 0.75]])})
    return contents


@pytest.fixture
def site(tmp_path) -> Iterator[str]:
    """The address of a server of this machine that lends the files of a folder."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with contextlib.closing(types.SimpleNamespace(close=server.shutdown)):
            yield f"http://127.0.0.1:{server.server_port}"
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def test_a_folder_stands_for_the_videos_in_it(folder):
    assert find_videos([folder]) == [str(folder / name) for name in ("a/c d.MKV", "b.mp4", "frames")]
    given = [folder / "b.mp4", folder / "frames", folder / "empty", "http://x/y.mp4", "none.mp4"]
    assert find_videos(given) == list(map(str, given))


def test_whatever_is_wrong_with_one_costs_none_of_the_others(folder, read):
    paths = ["broken.mp4", "odd.mp4", "rtsp://camera/1", folder / "empty", folder / "frames", folder / "b.mp4"]
    *failed, frames, last = predict("run", paths)
    assert [prediction.error for prediction in failed] == [
        "broken.mp4: no frame",
        "odd.mp4: KeyError: 'odd.mp4'",
        "rtsp://camera/1: rtsp:// is not read; expected a file, http://, https://, gs:// or s3://",
        f"{folder}/empty: a folder without videos; expected video files or frames in it",
    ]
    assert frames.labels == ("run", "jump")
    assert last == Prediction(str(folder / "b.mp4"), ("run", "jump"), (0.75, 0.25))


def test_a_web_address_is_fetched(folder, site, read):
    (folder / "bad.mp4").write_text("not a video")
    good, page, missing, bad = predict(
        "run", [f"{site}/b.mp4?token=1", f"{site}/a/", f"{site}/x.mp4", f"{site}/bad.mp4"]
    )
    assert (good.path, good.labels, read) == (f"{site}/b.mp4?token=1", ("run", "jump"), ["video"])
    assert page.error == f"{site}/a/: this is a web page and no video file"
    assert missing.error == f"{site}/x.mp4: HTTP Error 404: File not found"
    assert bad.error == f"{site}/bad.mp4: invalid data in '{site}/bad.mp4'"
