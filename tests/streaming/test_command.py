"""What ``dnr predict --stream`` prints and writes, with a predictor that reads brightness."""

import json
import os
import signal
import time

import av
import pytest

from dnr_jax.cli import main
from dnr_jax.streaming import command
from dnr_jax.streaming import stream as stream_module
from tests.streaming.conftest import write_scenes
from tests.streaming.test_sources import served


@pytest.fixture(autouse=True)
def network(monkeypatch, predictor):
    monkeypatch.setattr(command, "Predictor", lambda *arguments, **settings: predictor)
    monkeypatch.setattr("dnr_jax.runs.devices.enable_compilation_cache", lambda: None)


@pytest.fixture
def video(tmp_path) -> str:
    return str(write_scenes(tmp_path / "a.mp4", [("dark", 30), ("light", 30)]))


def test_a_timeline_is_printed_and_written(video, tmp_path, capsys):
    files = [str(tmp_path / f"out.{suffix}") for suffix in ("json", "csv", "srt", "vtt")]
    flags = [word for file in files for word in ("--out", file)]
    assert main(["predict", "run", video, "--stream", "--window", "1", *flags]) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head == f"{video}: windows of 1 s every 0.5 s at 10 frames a second"
    assert [line.split()[-1] for line in lines] == ["dark", "light"]
    assert lines[-1].startswith("  0:00:03.2 - 0:00:06.0")
    assert "0:00:06.0 of video in" in err and "0 frames dropped" in err and f"wrote {files[0]}" in err
    written = json.loads((tmp_path / "out.json").read_text())
    assert [segment["label"] for segment in written["segments"]] == ["dark", "light"]
    assert (written["video"], written["window"], written["enter"]) == (video, 1.0, 0.5)
    assert all(os.path.getsize(file) for file in files)


def test_programs_get_a_line_an_event(video, capsys):
    assert main(["predict", "run", video, "--stream", "--window", "1", "--json", "--top", "2"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert kinds.count("segment") == 2 and kinds.count("window") == events[-1]["windows"] == 12
    window = events[1]
    assert (window["video"], window["start"], window["labels"][0]) == (video, 0.0, "dark")
    assert {"scores", "latency", "lag"} < set(window)


def test_a_bad_video_costs_none_of_the_others(video, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    assert main(["predict", "run", str(broken), video, "--stream", "--window", "1", "--json"]) == 1
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert (events[0]["event"], events[0]["video"], events[-1]["event"]) == ("error", str(broken), "end")
    assert f"cannot label {broken}: " in err


def test_a_live_source_that_stalls_is_labelled_until_then(video, tmp_path, capsys):
    content = write_scenes(tmp_path / "live.ts", [("dark", 40)]).read_bytes()
    with served(content, 60.0) as address:
        status = main(["predict", "run", address, "--stream", "--window", "1", "--timeout", "0.5", "--json"])
    *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert status == 1
    assert last["ended"] == "no frame for 0.5 s"
    assert last["windows"] >= 1


def test_ctrl_c_writes_what_is_known(video, tmp_path, monkeypatch, capsys):
    count = 0

    def labelled(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        return original(*arguments)

    original = stream_module.Stream._labelled
    monkeypatch.setattr(stream_module.Stream, "_labelled", labelled)
    out, burnt = tmp_path / "out.json", tmp_path / "out.mp4"
    flags = ["--stream", "--window", "1", "--batch-size", "1", "--out", str(out), "--burn", str(burnt)]
    assert main(["predict", "run", video, *flags]) == 130
    assert [segment["label"] for segment in json.loads(out.read_text())["segments"]] == ["dark"]
    assert burnt.stat().st_size > 500
    assert "interrupted" in capsys.readouterr().err


def test_a_video_that_cannot_be_encoded_is_named(video, tmp_path, monkeypatch, capsys):
    def burn(*arguments: object) -> None:
        raise av.FFmpegError(1, "there is no encoder")

    monkeypatch.setattr(command, "burn", burn)
    burnt = str(tmp_path / "out.mp4")
    assert main(["predict", "run", video, "--stream", "--window", "1", "--burn", burnt]) == 1
    assert f"{burnt} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--window", "2"], "--window needs --stream"),
        (["--out", "a.json"], "--out needs --stream"),
        (["--enter", "0.6"], "--enter needs --stream"),
        (["--webcam", "0"], "--webcam is the source, and so is "),
        (["--stream", "--out", "a.txt"], "'a.txt' ends in none of .json, .csv, .srt, .vtt, .png"),
        (["--stream", "--burn", "a.avi"], "'a.avi' is no MP4 file"),
        (["--stream", "--burn", "a.mp4", "--live"], "record it first"),
        (["--stream", "--burn", "a.mp4", "more.mp4"], "are files of one video, and there are 2"),
        (["--stream", "--views", "10x3"], "a window is one clip; expected 1x3"),
        (["--stream", "--enter", "0.2"], "expected 0 <= leave <= enter <= 1"),
        (["--stream", "--window", "0"], "'0' is no time such as 2.5, 90s, 10m or 2h"),
        (["--stream", "--leave", "30"], "'30' is no probability"),
        (["--stream", "--out", "/proc/none/a.json"], "nothing can be written to '/proc/none'"),
    ],
)
def test_flags_that_contradict_one_another_are_refused_before_anything_is_loaded(
    video, flags, told, capsys, monkeypatch
):
    monkeypatch.setattr(command, "Predictor", None)
    try:
        status = main(["predict", "run", video, *flags])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "name"), [("--burn", "a.mp4"), ("--out", "a.png")])
def test_the_video_itself_is_not_overwritten(tmp_path, flag, name, capsys):
    path = tmp_path / name
    path.write_bytes(b"video")
    assert main(["predict", "run", str(path), "--stream", flag, str(path)]) == 2
    assert "is the video itself" in capsys.readouterr().err
    assert path.read_bytes() == b"video"


@pytest.mark.parametrize("source", ["rtsp://camera/1", "-"])
def test_what_comes_once_is_not_burnt_into(source, capsys):
    assert main(["predict", "run", source, "--stream", "--burn", "out.mp4"]) == 2
    assert "record it first" in capsys.readouterr().err


def test_a_run_and_a_video_are_needed(capsys):
    for words in (["predict"], ["predict", "run"], ["predict", "--workdir", "run"]):
        assert main(words) == 2
        assert "expected the work directory of a run and a video" in capsys.readouterr().err


def test_videos_stand_before_between_and_behind_the_flags(video, capsys):
    for words in (
        ["run", "--stream", video],
        ["--workdir", "run", video, "--stream"],
        ["--stream", "run", "--json", video],
    ):
        assert main(["predict", *words, "--window", "1"]) == 0
        assert "light" in capsys.readouterr().out


def test_behind_two_dashes_no_name_is_a_flag(video, monkeypatch, capsys):
    monkeypatch.chdir(os.path.dirname(video))
    os.rename(video, "-a.mp4")
    assert main(["predict", "run", "--stream", "--window", "1", "--", "-a.mp4"]) == 0
    assert "light" in capsys.readouterr().out


def test_a_missing_camera_is_told(capsys):
    assert main(["predict", "run", "--webcam", "71"]) == 1
    assert "cannot label webcam 71" in capsys.readouterr().err
