"""What is handed to predict, with a network that is none: nothing is compiled."""

import contextlib
import functools
import http.server
import io
import itertools
import pathlib
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest

from dnr_jax.config import DataConfig, ExperimentConfig
from dnr_jax.data.clips.decode import DecodeError, encode_video
from dnr_jax.data.clips.sampling import Linspace, Segments
from dnr_jax.evaluation import inputs
from dnr_jax.evaluation import predict as module
from dnr_jax.evaluation.inputs import find_videos
from dnr_jax.evaluation.predict import Prediction, Predictor, predict
from dnr_jax.runs.folder import Run
from tests.data.videos import moving_frames

pytestmark = pytest.mark.compat


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    for name in ("b.mp4", "a/c d.MKV", "a/notes.txt", ".hidden/x.mp4", "@eaDir/b.mp4", "frames/1.jpg", "empty/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"video")
    return tmp_path


def stub_run(**data: Any) -> Any:
    config = ExperimentConfig(data=DataConfig(**data))
    return Run(config, classes=("jump", "run"), model=None, variables={}, step=1, workdir=pathlib.Path("run"))


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

    run = stub_run()
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
    def send_header(self, keyword: str, value: str) -> None:
        tells_more = keyword == "Content-Length" and "broken-off" in self.path
        super().send_header(keyword, str(int(value) + 7) if tells_more else value)

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_folder_stands_for_the_videos_in_it(folder):
    assert find_videos([folder]) == [str(folder / name) for name in ("a/c d.MKV", "b.mp4", "frames")]
    given = [folder / "b.mp4", folder / "frames", folder / "empty", "http://x/y.mp4", "none.mp4"]
    assert find_videos(given) == list(map(str, given))


def test_whatever_is_wrong_with_one_costs_none_of_the_others(folder, read):
    paths = ["broken.mp4", "odd.mp4", "", "rtsp://camera/1", folder / "empty", folder / "frames", folder / "b.mp4"]
    *failed, frames, last = predict("run", paths)
    assert [prediction.error for prediction in failed] == [
        "broken.mp4: no frame",
        "odd.mp4: KeyError: 'odd.mp4'",
        "'': an empty path, as an unset variable of a shell is; expected a video",
        "rtsp://camera/1: rtsp:// is not read as one video; expected a file, http://, https://, ftp://, gs:// or "
        "s3://. dnr predict --stream labels live sources",
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


def test_a_file_that_breaks_off_is_no_video(folder, site, read):
    (folder / "broken-off.mpg").write_text("video")
    (prediction,) = predict("run", [f"{site}/broken-off.mpg"])
    assert prediction.error == f"{site}/broken-off.mpg: the connection ended after 5 of 12 bytes"
    assert read == []


@pytest.mark.parametrize("name", ["käse.mp4", "a b.mp4", "a%20b.mp4"])
def test_an_address_may_hold_any_letters(folder, site, read, name):
    (folder / name.replace("%20", " ")).write_bytes(b"video")
    (prediction,) = predict("run", [f"{site}/{name}?q=ü"])
    assert (prediction.error, read) == ("", ["video"])


def test_standard_input_and_files_by_address(folder, read, monkeypatch):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"piped")))
    (folder / "#1?.mp4").write_bytes(b"video")
    given = ["-", (folder / "a/c d.MKV").as_uri(), f"file://{folder}/#1?.mp4", "https://x/live.m3u8"]
    piped, *local, playlist = predict("run", given)
    assert (piped.path, piped.label, read) == ("-", "run", ["piped", "video", "video"])
    assert [prediction.label for prediction in local] == ["run", "run"]
    assert playlist.error == "https://x/live.m3u8: a playlist and no video file; dnr predict --stream plays it"


class Seen:
    """A step that remembers the clips which it is given, and scores them alike."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **data: Any):
        self.clips: list[np.ndarray] = []
        self.inside = self.most = 0
        monkeypatch.setattr(module, "make_eval_step", lambda *arguments: self.step)
        self.predictor = Predictor(stub_run(sampler=Segments(num_frames=4), short_side=16, crop_size=16, **data), top=1)

    def step(self, variables: Any, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.001)
        self.clips.append(np.asarray(batch["video"])[0])
        self.inside -= 1
        return {"scores": np.array([[0.25, 0.75]], np.float32)}


@pytest.fixture
def seen(monkeypatch) -> Seen:
    return Seen(monkeypatch)


def test_a_video_is_the_same_as_path_bytes_array_and_iterator(seen, tmp_path):
    encode_video(str(tmp_path / "a.mp4"), moving_frames(10, seed=0), options={"crf": "0", "preset": "ultrafast"})
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    content = (tmp_path / "a.mp4").read_bytes()
    path, data, array, iterator, a_list = (
        seen.predictor(video)
        for video in (tmp_path / "a.mp4", content, frames, (frame for frame in frames), list(frames))
    )
    assert path == Prediction(str(tmp_path / "a.mp4"), ("run",), (0.75,))
    assert (path.label, path.score) == ("run", 0.75)
    names = [prediction.path for prediction in (data, array, iterator, a_list)]
    assert names == [
        f"video of {len(content)} bytes",
        "array (10, 32, 48, 3)",
        "frames of a generator",
        "frames of a list",
    ]
    first, *others = seen.clips
    assert first.shape == (1, 4, 16, 16, 3)
    assert len(others) == 4
    for clip in others:
        np.testing.assert_array_equal(clip, first)


@pytest.mark.parametrize(
    ("shape", "dtype", "told"),
    [
        ((8, 3, 32, 32), "uint8", r"frames are \[T, H, W, 3\], and this array is .*: np.moveaxis\(frames, 1, -1\)"),
        ((3, 8, 32, 32), "uint8", r"colours come last: np.moveaxis\(frames, 0, -1\)"),
        ((8, 32, 32, 4), "uint8", "leaves the transparency out"),
        ((8, 32, 32, 1), "uint8", r"grey frames: np.repeat\(frames, 3, axis=-1\)"),
        ((8, 32, 32), "uint8", r"grey frames: np.repeat\(frames\[..., None\], 3, axis=-1\)"),
        ((8, 32, 32, 2), "uint8", "the colours red, green and blue come last"),
        ((32, 32, 3), "uint8", r"frames\[None\] makes a video of one picture"),
        ((2, 8, 32, 32, 3), "uint8", "a list of arrays labels several videos"),
        ((8,), "uint8", "T frames of H x W pixels"),
        ((0, 32, 32, 3), "uint8", "have no pixels; expected at least one frame"),
        ((8, 32, 32, 3), "float32", r"dtype is float32; expected uint8, .*255 \* frames"),
        ((8, 32, 32, 3), "int64", r"dtype is int64; expected uint8, .*astype"),
    ],
)
def test_arrays_that_are_no_frames_are_told_what_to_do(seen, shape, dtype, told):
    with pytest.raises(ValueError, match=told):
        seen.predictor(np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        ([], "there are no frames"),
        (
            [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)],
            r"frame 1 is \(4, 6, 3\), and those before are",
        ),
        ([np.zeros((3, 4, 4), np.uint8)], r"frame 0 is \(3, 4, 4\); expected \[H, W, 3\]"),
        ([np.zeros((4, 4, 3))], "dtype is float64"),
        (["a.mp4"], r"frame 0 is a str; expected an array uint8 \[H, W, 3\]$"),
        ([av.VideoFrame(4, 4)], r"frame 0 is a VideoFrame; .*to_ndarray\(format='rgb24'\) is its array"),
    ],
)
def test_iterators_of_something_else_are_told_what_to_do(seen, frames, told):
    with pytest.raises(ValueError, match=told):
        seen.predictor(iter(frames))


def test_what_is_no_video_is_refused(seen):
    for video in (7, io.BytesIO(b"video")):
        with pytest.raises(ValueError, match="is no video; expected a path"):
            seen.predictor(video)
    with pytest.raises(ValueError, match="top is 0; expected at least 1 label"):
        Predictor(stub_run(), top=0)


def test_an_iterator_without_an_end_is_refused_before_memory_is_full(seen, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_CLIP_BYTES", 10 * 16 * 16 * 3)
    with pytest.raises(ValueError, match="11 frames of 16 x 16 pixels take more than"):
        seen.predictor(itertools.repeat(np.zeros((16, 16, 3), np.uint8)))


def test_frames_may_be_written_into_again(seen):
    def frames() -> Iterator[np.ndarray]:
        frame = np.zeros((16, 16, 3), np.uint8)
        for frame[:] in range(4):
            yield frame

    seen.predictor(frames())
    assert seen.clips[0][0, :, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_of_several_a_bad_one_costs_none_of_the_others(seen):
    frames = moving_frames(4, seed=0)
    good, floats, missing, last = seen.predictor([frames, frames / 255, "none.mp4", iter(frames)])
    assert (good.label, last.label) == ("run", "run")
    assert floats.error.startswith("array (4, 32, 48, 3): the dtype is float64; expected uint8")
    assert missing.error.startswith("none.mp4: ")
    assert seen.predictor([]) == []


def test_of_several_lists_of_frames_a_bad_one_costs_none_of_the_others(seen):
    frames = list(moving_frames(4, seed=0))
    bad, good = seen.predictor([[*frames, frames[0][:20]], frames])
    assert good.label == "run"
    assert "frame 4 is (20, 48, 3), and those before are (32, 48, 3)" in bad.error


def test_threads_share_a_predictor_and_the_device_scores_one_after_the_other(seen):
    videos = [np.full((4, 16, 16, 3), level, np.uint8) for level in range(12)]
    predictions = seen.predictor(videos)
    assert {prediction.label for prediction in predictions} == {"run"}
    assert sorted(clip[0, 0, 0, 0, 0] for clip in seen.clips) == list(range(12))
    assert seen.most == 1


def test_the_rate_of_frames_reaches_the_sampler(monkeypatch):
    seen = Seen(monkeypatch)
    seen.predictor.run.config.data.sampler = Linspace(num_frames=2, interval=1, target_fps=10.0)
    frames = np.arange(60, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2).repeat(3, 3)
    for rate, expected in ((0.0, [29, 30]), (200.0, [10, 49])):
        seen.predictor(frames, rate=rate)
        assert seen.clips.pop()[0, :, 0, 0, 0].tolist() == expected


def test_warming_up_scores_a_clip_of_the_shape_that_videos_have(seen):
    seen.predictor.warm_up()
    seen.predictor(moving_frames(4, seed=0))
    assert seen.clips[0].shape == seen.clips[1].shape
