import contextlib
import dataclasses
import errno
import io
import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from dnr_jax import cli
from dnr_jax.config import Catalogue, VideoSource
from dnr_jax.data.catalogue import check, records, sources
from dnr_jax.data.clips.decode import encode_video
from tests.data.miniatures import MINIATURES
from tests.data.videos import moving_frames, write_frames


@pytest.fixture
def faulty(tmp_path) -> pathlib.Path:
    """A folder of videos in which everything is wrong that can be."""
    root = tmp_path / "root"
    for number, name in enumerate(["train/jump/good", "train/walk/good", "train/walk/cut", "val/jump/good"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        options = {"preset": "ultrafast", "movflags": "faststart"}
        encode_video(str(root / f"{name}.mp4"), moving_frames(9, seed=number), options=options)
    cut = root / "train" / "walk" / "cut.mp4"
    cut.write_bytes(cut.read_bytes()[:-2000])
    encode_video(str(root / "train" / "jump" / "short.mp4"), moving_frames(4, seed=9))
    encode_video(str(root / "train" / "walk" / "odd.mkv"), moving_frames(9, seed=11), codec="ffv1")
    (root / "train" / "jump" / "empty.mp4").touch()
    (root / "train" / "jump" / "text.mp4").write_text("no video")
    write_frames(root / "train" / "walk" / "frames", moving_frames(9, seed=10))
    (root / "train" / "walk" / "frames" / "00003.jpg").write_bytes(b"no picture")
    shutil.copy(root / "train" / "jump" / "good.mp4", root / "val" / "jump" / "again.mp4")
    shutil.copy(root / "train" / "walk" / "good.mp4", root / "train" / "jump" / "walks.mp4")
    (root / "val" / "swim").mkdir()
    shutil.copy(root / "val" / "jump" / "good.mp4", root / "val" / "swim" / "x.mp4")
    return root


FOUND = {
    ("unknown class", "val", "swim/x.mp4"),
    ("empty", "train", "jump/empty.mp4"),
    ("short", "train", "jump/short.mp4"),
    ("broken", "train", "jump/text.mp4"),
    ("broken", "train", "walk/cut.mp4"),
    ("broken", "train", "walk/frames"),
    ("slow", "train", "walk/odd.mkv"),
    ("mislabelled", "train", "walk/good.mp4"),
    ("duplicate", "val", "jump/again.mp4"),
}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_everything_that_is_wrong_is_found(faulty, tmp_path, capsys, workers):
    report = tmp_path / "report.jsonl"
    assert cli.main(["check", str(faulty), "--report", str(report), "--workers", workers]) == 1
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert {(row["kind"], row["split"], row["name"]) for row in rows} == FOUND and len(rows) == len(FOUND)
    details = {row["name"]: row["detail"] for row in rows}
    assert details["jump/short.mp4"] == "4 frames; expected at least 8"
    assert details["walk/frames"] == "1 damaged packets; 8 frames could be decoded"
    assert "'dnr prepare --reencode access' mends it" in details["walk/odd.mkv"]
    assert details["jump/again.mp4"] == "the content of train/jump/good.mp4"
    assert details["walk/good.mp4"].endswith("with the label 'walk' instead of 'jump'")
    printed = capsys.readouterr().out.splitlines()
    assert "short: train/jump/short.mp4: 4 frames; expected at least 8" in printed
    assert printed[-4:-2] == ["train: 9 videos", "val: 2 videos"]
    assert printed[-2].startswith("3 broken") and printed[-1] == f"the list is in {report}"


def test_a_sound_data_set_has_no_problem(tmp_path, capsys):
    MINIATURES["kinetics400"][1](tmp_path / "root")
    report = str(tmp_path / "report.jsonl")
    arguments = ["--root", str(tmp_path / "root"), "--min-frames", "3", "--report", report, "--workers", "1"]
    assert cli.main(["check", "kinetics400", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["train: 3 videos, 2 annotated videos are missing", "val: 2 videos", "nothing wrong"]
    assert pathlib.Path(report).read_text() == ""


def test_what_is_wrong_with_lists_and_names_is_found(tmp_path, capsys):
    """A video with two labels, one that is listed twice, a class without a video, a name in Latin-1."""
    for number, name in enumerate([b"a.mp4", b"b.mp4", b"\xe9.mp4"]):
        path = os.path.join(os.fsencode(tmp_path), name)
        encode_video(os.fsdecode(path), moving_frames(4, seed=number), options={"preset": "ultrafast"})
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 1\n./a.mp4 1\nb.mp4 1\n")
    (tmp_path / "val.txt").write_bytes(b"\xe9.mp4 0\n")
    (tmp_path / "label_map.txt").write_text("id,name\n0,jump\n1,run\n2,swim\n")
    report = tmp_path / "report.jsonl"
    assert cli.main(["check", str(tmp_path), "--report", str(report), "--min-frames", "5", "--workers", "1"]) == 1
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(row["kind"], row["split"], row["name"]) for row in rows if row["kind"] != "short"] == [
        ("mislabelled", "train", "a.mp4"),
        ("repeated", "train", "b.mp4"),
    ]
    assert rows[0]["detail"] == f"'jump' at {tmp_path}/train.txt:1, 'run' at {tmp_path}/train.txt:3"
    printed = capsys.readouterr().out.splitlines()
    assert "short: val/\u00e9.mp4: 4 frames; expected at least 5" in printed
    assert "train: 4 videos, 1 of 3 classes have none: swim" in printed and "val: 1 videos" in printed


def test_annotated_videos_of_an_unknown_class_are_found(tmp_path):
    miniature = MINIATURES["mini_kinetics200"][1](tmp_path)
    catalogue = sources.source_at("mini_kinetics200", str(tmp_path)).open()
    problems = check.check(catalogue, str(tmp_path / "report.jsonl"), min_frames=1)
    assert [(problem.kind, problem.split, problem.name) for problem in problems] == [
        ("unknown class", "val", "notlabelled")
    ]
    assert len(catalogue.splits["val"]) == len(miniature.splits["val"])


@pytest.mark.parametrize("case", ["records", "lists", "classes", "splits"])
def test_a_folder_of_any_kind_can_be_checked(case, tmp_path, capsys):
    root = tmp_path / "root"
    MINIATURES["pyslowfast" if case == "lists" else "folder"][1](root)
    expected, target = {"train": 2 if case == "lists" else 3, "val": 1}, root
    if case == "records":
        assert (
            cli.main(["prepare", "folder", "--root", str(root), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
        )
        target = tmp_path / "out"
    if case == "classes":
        target, expected = root / "train", {"all": 3}
    catalogue = sources.source_at(str(target)).open()
    assert {split: len(source) for split, source in catalogue.splits.items()} == expected
    assert check.check(catalogue, str(tmp_path / "report.jsonl"), min_frames=4) == []


def test_what_cannot_be_checked_is_one_line(tmp_path, capsys):
    for target, message in [
        (
            "kinetics9",
            "'kinetics9' is no folder, no list, and no data set (did you mean 'kinetics700'?); those are kinetics400,",
        ),
        ("ucf101", "ucf101 is a data set; --root has to name the folder of its videos"),
        (str(tmp_path), "no video found"),
    ]:
        assert cli.main(["check", target]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_an_interrupted_check_goes_on_where_it_was(video_folder, tmp_path, monkeypatch):
    catalogue = sources.Folder(str(video_folder)).open()
    report = tmp_path / "report.jsonl"
    decoded: list[str] = []

    def inspect(video: str) -> check.Verdict:
        decoded.append(video)
        if len(decoded) == 6:
            raise KeyboardInterrupt
        return check.Verdict(len(decoded), "", video, 1)

    monkeypatch.setattr(check, "inspect", inspect)
    with pytest.raises(KeyboardInterrupt):
        check.check(catalogue, str(report))
    partial = tmp_path / "report.jsonl.partial"
    partial.write_text(partial.read_text()[:-5])  # the last line was cut off
    problems = check.check(catalogue, str(report))
    assert len(decoded) == 16 + 2  # the one that was interrupted and the one that was cut off came twice
    assert [problem.detail for problem in problems] == [f"{n} frames; expected at least 8" for n in (1, 2, 3, 4, 7)]
    assert not partial.exists()


def test_what_was_replaced_since_is_decoded_again(tmp_path, monkeypatch):
    """Files, and records that were prepared again."""
    (tmp_path / "jump").mkdir()
    (tmp_path / "jump" / "a.mp4").write_bytes(b"no video")
    (tmp_path / "jump" / "b.mp4").write_bytes(b"none either")
    report = str(tmp_path / "report.jsonl")

    def seen(catalogue: Catalogue, fails_at: int) -> list[str | bytes]:
        decoded: list[str | bytes] = []

        def inspect(video: str | bytes) -> check.Verdict:
            decoded.append(video)
            if len(decoded) == fails_at:
                raise KeyboardInterrupt
            return check.Verdict(9, "", str(video), 1)

        monkeypatch.setattr(check, "inspect", inspect)
        with pytest.raises(KeyboardInterrupt) if fails_at else contextlib.nullcontext():
            check.check(catalogue, report)
        return [os.path.basename(video) if isinstance(video, str) else video for video in decoded]

    catalogue = sources.Folder(str(tmp_path)).open()
    assert seen(catalogue, 2) == ["a.mp4", "b.mp4"]
    (tmp_path / "jump" / "a.mp4").write_bytes(b"better")
    assert seen(catalogue, 2) == ["a.mp4", "b.mp4"]
    assert seen(catalogue, 0) == ["b.mp4"]

    (tmp_path / "index_train.jsonl").write_text("first")
    stored = VideoSource(("0", "1"), np.zeros(2, np.int32), ("0", "1"), ("jump",))
    for text, decoded in (("first", 2), ("first", 1), ("second", 2)):
        (tmp_path / "index_train.jsonl").write_text(text)
        reader = records.RecordReader(str(tmp_path), "train")
        monkeypatch.setattr(type(reader), "__getitem__", lambda self, i: b"a record")
        prepared = Catalogue("x", ("jump",), {"train": dataclasses.replace(stored, records=reader)})
        assert len(seen(prepared, 2 if decoded == 2 and text == "first" else 0)) == decoded


def test_notes_of_other_videos_are_not_taken(video_folder, tmp_path):
    """Something-Something and Jester both call their videos by numbers."""
    catalogue = sources.Folder(str(video_folder)).open()
    verdict = '{"frames": 0, "error": "of another data set", "fingerprint": "", "bytes": 0}'
    partial = tmp_path / "report.jsonl.partial"
    partial.write_text('"another hash"\n' + f'["train", "{catalogue.splits["train"].names[0]}", {verdict}]\n')
    problems = check.check(catalogue, str(tmp_path / "report.jsonl"), min_frames=1)
    assert not [problem for problem in problems if problem.kind in ("broken", "empty")]


@pytest.fixture
def one_problem(tmp_path) -> pathlib.Path:
    (tmp_path / "videos" / "jump").mkdir(parents=True)
    (tmp_path / "videos" / "jump" / "empty.mp4").touch()
    return tmp_path / "videos"


def test_problems_are_printed_where_no_report_can_be_written(one_problem, capsys):
    command = ["check", str(one_problem), "--workers", "1", "--report", "/proc/none/report.jsonl"]
    assert cli.main(command) == 1
    captured = capsys.readouterr()
    assert "empty: all/jump/empty.mp4" in captured.out and "the list is in" not in captured.out
    assert "nothing can be written to '/proc/none'" in captured.err.splitlines()[0]


def test_a_report_that_fails_at_the_end_loses_nothing(one_problem, tmp_path, caplog, capsys):
    (tmp_path / "report").mkdir()
    (problem,) = check.check(sources.source_at(str(one_problem)).open(), str(tmp_path / "report"))
    assert problem.kind == "empty"
    assert "the problems cannot be written to" in caplog.text
    assert not check.is_written(str(tmp_path / "report"), [problem])
    command = ["check", str(one_problem), "--workers", "1", "--report", str(tmp_path / "report")]
    assert cli.main(command) == 1
    assert "the list is in" not in capsys.readouterr().out


class FullDisk(io.StringIO):
    """A file that keeps what it found no room for, as a buffered one does, and fails once more when it is closed."""

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self):
        super().close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_loses_nothing_of_a_check(one_problem, tmp_path, monkeypatch, caplog):
    catalogue = sources.source_at(str(one_problem)).open()
    with monkeypatch.context() as patch:
        path = type(check.epath.Path(tmp_path))
        opened = path.open
        patch.setattr(
            path, "open", lambda self, mode, **more: FullDisk() if mode == "a" else opened(self, mode, **more)
        )
        assert [problem.kind for problem in check.check(catalogue, str(tmp_path / "report"))] == ["empty"]
        assert not caplog.records

    def no_room(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(check.records, "write_text", no_room)
    assert [problem.kind for problem in check.check(catalogue, str(tmp_path / "other"))] == ["empty"]
    assert "(No space left on device): an interrupted check would begin anew" in caplog.text
