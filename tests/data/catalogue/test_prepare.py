import contextlib
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from dnr_jax import cli
from dnr_jax.config import DataConfig
from dnr_jax.data.catalogue import media, records, sources
from dnr_jax.data.catalogue import prepare as preparation
from dnr_jax.data.clips.decode import decode_frames
from tests.data.miniatures import MINIATURES
from tests.paths import REPOSITORY


def run(name: str, root: pathlib.Path, out: pathlib.Path, *arguments: str) -> int:
    return cli.main(["prepare", name, "--root", str(root), "--out", str(out), "--workers", "1", *arguments])


def names_and_classes(source: sources.VideoSource) -> list[tuple[str, str]]:
    return [(path, source.classes[label]) for path, label in zip(source.names, source.labels, strict=True)]


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def everything(folder: pathlib.Path) -> tuple[dict[str, bytes], list[bytes]]:
    """All files and all records: in a shard's bytes, the order of a record's fields depends on the process."""
    splits = sources.Records(str(folder)).open(("train", "val")).splits.values()
    files = contents(folder)
    others = {name: content for name, content in files.items() if ".array_record" not in name}
    shards = {name: b"" for name in files.keys() - others.keys()}
    return others | shards, [source.media(index) for source in splits for index in range(len(source))]


@pytest.mark.parametrize("case", MINIATURES)
def test_a_miniature_of_every_data_set_is_prepared_and_read(case, tmp_path, capsys):
    """The records hold the files as they are, in the order of the annotations; files and records are the same data."""
    name, write = MINIATURES[case]
    root, out = tmp_path / "root", tmp_path / "out"
    miniature = write(root)
    assert run(name, root, out, *miniature.arguments) == 0
    assert f"records in {out}" in capsys.readouterr().out
    prepared = records.find(str(out))
    assert prepared.classes == tuple(miniature.classes)
    assert prepared.splits() == sorted(miniature.splits)
    catalogue = sources.Records(str(out)).open(("train", "val"))
    for split, expected in miniature.splits.items():
        source = catalogue.splits[split]
        assert [label for _, label in names_and_classes(source)] == [label for _, label in expected]
        for index, (path, _) in enumerate(expected):
            file = root / path
            assert path.removeprefix(f"{split}/" if name == "folder" else "") == source.names[index]
            if file.is_dir():
                with zipfile.ZipFile(io.BytesIO(source.media(index))) as archive:
                    content = {name: archive.read(name) for name in archive.namelist()}
                assert content == {f.name: f.read_bytes() for f in file.iterdir() if not f.name.startswith("flow")}
            else:
                assert source.media(index) == file.read_bytes()
            row = prepared.index(split).rows[index]
            frames, total = decode_frames(str(file), np.arange)
            assert (row["frames"], row["height"], row["width"]) == (total, *frames.shape[1:3])
            np.testing.assert_array_equal(decode_frames(source.media(index), np.arange)[0], frames)


@pytest.mark.parametrize("case", [case for case, (name, _) in MINIATURES.items() if name not in ("folder", "list")])
def test_a_data_set_is_read_from_the_disk_without_preparation(case, tmp_path):
    name, write = MINIATURES[case]
    miniature = write(tmp_path)
    fold = int(dict(zip(miniature.arguments[::2], miniature.arguments[1::2], strict=True)).get("--fold", 1))
    found = sources.load_sources(DataConfig(source=sources.Dataset(name, str(tmp_path), fold=fold)))
    for source, expected in zip(found, miniature.splits.values(), strict=True):
        assert names_and_classes(source) == expected
        assert source.paths == tuple(str(tmp_path / path) for path, _ in expected)


@pytest.mark.parametrize("case", [case for case in MINIATURES if case in ("kinetics400", "csv")])
def test_missing_videos_are_reported_by_class(case, tmp_path, capsys):
    name, write = MINIATURES[case]
    miniature = write(tmp_path / "root")
    assert run(name, tmp_path / "root", tmp_path / "out") == 0
    card = json.loads(next((tmp_path / "out").rglob("card.json")).read_text())
    printed = capsys.readouterr().out
    for split, listed in miniature.splits.items():
        missing = miniature.missing.get(split, [])
        of_class = {label: sum(label == other for _, other in missing) for _, label in missing}
        facts = card["splits"][split]
        assert (facts["videos"], facts["missing"]) == (len(listed), len(missing))
        assert facts["missing_of_class"] == of_class
        for label, count in of_class.items():
            there = sum(label == other for _, other in listed)
            assert f"| {label} | {there} | {count} |" in printed


def test_the_card_says_what_is_there(tmp_path):
    write = MINIATURES["sthv1"][1]
    miniature = write(tmp_path / "root")
    damaged = tmp_path / "root" / miniature.splits["train"][0][0] / "00001.jpg"
    damaged.write_bytes(b"no picture")
    assert run("sthv1", tmp_path / "root", tmp_path / "out") == 0
    (home,) = (tmp_path / "out" / "sthv1").iterdir()
    facts = json.loads((home / "card.json").read_text())["splits"]["train"]
    name, label = miniature.splits["train"][1]
    total = len(list((tmp_path / "root" / name).iterdir()))
    assert facts["frames"] == {"least": total, "median": total, "most": total}
    assert facts["seconds"]["most"] == pytest.approx(total / 12, abs=1e-3)
    assert (facts["videos"], facts["codecs"], facts["sizes"]) == (1, {"mjpeg": 1}, {"48x32": 1})
    assert facts["videos_of_class"] == {label: 1}
    ((left_out),) = facts["left_out"]
    assert left_out["name"] == miniature.splits["train"][0][0] and "00001.jpg" in left_out["error"]
    assert f"- `{left_out['name']}`: {left_out['error']}" in (home / "card.md").read_text()
    assert (home / "class_histogram.png").read_bytes().startswith(b"\x89PNG")
    assert records.find(str(home)).index("train").names == (name,)


def test_videos_are_encoded_anew_on_request(tmp_path):
    """Fewer pixels, the same frames: number, order and, at this quality, what is to be seen."""
    root, out = tmp_path / "root", tmp_path / "out"
    miniature = MINIATURES["folder"][1](root)
    assert run("folder", root, out, "--reencode", "access", "--size", "16") == 0
    source = sources.Records(str(out)).open(("train", "val")).splits["train"]
    for index, (path, _) in enumerate(miniature.splits["train"]):
        original, total = decode_frames(str(root / path), np.arange)
        frames, count = decode_frames(source.media(index), np.arange)
        assert count == total and frames.shape == (total, 16, 24, 3)
        small = original.reshape(total, 16, 2, 24, 2, 3).mean(axis=(2, 4))
        distances = [[np.abs(a - b).mean() for b in small] for a in frames.astype(float)]
        assert np.argmin(distances, axis=1).tolist() == list(range(total))
    assert {row["codec"] for row in records.find(str(out)).index("train").rows} == {"h264"}


def catalogue_of(root: pathlib.Path) -> sources.Catalogue:
    return sources.Folder(str(root)).open()


def test_an_interrupted_preparation_goes_on_where_it_was(video_folder, tmp_path, monkeypatch):
    whole = preparation.prepare(catalogue_of(video_folder), str(tmp_path / "whole"), shard_videos=2)
    reads: list[str] = []

    def read(path: str) -> bytes:
        reads.append(path)
        if len(reads) == 6:
            raise KeyboardInterrupt
        return pathlib.Path(path).read_bytes()

    monkeypatch.setattr(media, "read_media", read)
    with pytest.raises(KeyboardInterrupt):
        preparation.prepare(catalogue_of(video_folder), str(tmp_path / "twice"), shard_videos=2)
    with pytest.raises(FileNotFoundError, match="no prepared data set"):
        records.find(str(tmp_path / "twice"))
    preparation.prepare(catalogue_of(video_folder), str(tmp_path / "twice"), shard_videos=2)
    assert len(reads) == 6 + 16 - 4  # two shards of two were complete, one video of the third was read twice
    assert contents(tmp_path / "twice") == contents(tmp_path / "whole")
    assert len(list(pathlib.Path(whole.folder).glob("*train.array_record*"))) == 6


@pytest.mark.slow
def test_a_killed_preparation_goes_on_where_it_was(video_folder, tmp_path):
    """The signal that no process can handle, while worker processes read."""
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import sys, time\n"
        "from dnr_jax.data.catalogue import prepare, sources, tasks\n"
        "class Slowly(tasks.RecordWriter):\n"
        "    def write(self, *args):\n"
        "        time.sleep(0.3)\n"
        "        super().write(*args)\n"
        "if __name__ == '__main__':\n"
        "    tasks.RecordWriter = Slowly\n"
        "    prepare.prepare(sources.Folder(sys.argv[1]).open(), sys.argv[2], workers=2, shard_videos=2)\n"
    )
    out = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, slow, video_folder, out], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(out.glob(".*/*.jsonl"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(out.glob("folder/*/dataset_info.json"))
    preparation.prepare(catalogue_of(video_folder), str(out), shard_videos=2)
    preparation.prepare(catalogue_of(video_folder), str(tmp_path / "whole"), shard_videos=2)
    assert everything(out) == everything(tmp_path / "whole")


def test_shards_that_an_older_version_left_are_made_again(video_folder, tmp_path):
    """Their records have no index of packets, which those of a data set have or have not alike."""
    work = tmp_path / ".folder.incomplete"
    work.mkdir()
    for split in ("train", "val"):
        (work / f"{split}-00000.jsonl").write_text("")
        (work / f"{split}-00000.array_record").write_bytes(b"")
    prepared = preparation.prepare(catalogue_of(video_folder), str(tmp_path), limit=2)
    assert len(prepared.index("train").names) == 2 and not work.exists()


def test_a_complete_preparation_is_not_made_again(video_folder, tmp_path, monkeypatch):
    first = preparation.prepare(catalogue_of(video_folder), str(tmp_path))
    before = contents(tmp_path)
    monkeypatch.setattr(media, "read_media", None)
    assert preparation.prepare(catalogue_of(video_folder), str(tmp_path)) == first
    assert contents(tmp_path) == before
    with pytest.raises(ValueError, match="prepared from other videos or with other settings"):
        preparation.prepare(catalogue_of(video_folder), str(tmp_path), media.Reencoding(16))


@pytest.mark.parametrize("ended", [True, False])
def test_videos_that_were_mended_since_are_told(ended, video_folder, tmp_path, caplog, monkeypatch):
    """Neither a preparation that ended nor the complete parts of an interrupted one are made again."""
    root = pathlib.Path(shutil.copytree(video_folder, tmp_path / "root"))
    broken, other = sorted((root / "train").rglob("*.mp4"))[:2]
    whole = broken.read_bytes()
    broken.write_bytes(b"no video")
    with monkeypatch.context() as patch:
        if not ended:
            patch.setattr(preparation.Preparation, "_put_together", interrupt)
        with contextlib.suppress(KeyboardInterrupt):
            run("folder", root, tmp_path / "out")
    assert "was begun before" not in caplog.text
    broken.write_bytes(whole)
    other.write_bytes(other.read_bytes() + bytes(9))
    run("folder", root, tmp_path / "out")
    names = [video.relative_to(root / "train").as_posix() for video in (broken, other)]
    assert f"not read again: 1 videos that could not be read then, such as {names[0]}. To" in caplog.text
    assert f"not read again: 1 videos that have another size now, such as {names[1]}. To" in caplog.text


def interrupt(*_) -> None:
    raise KeyboardInterrupt


def test_workers_write_the_same_records(video_folder, tmp_path):
    for workers in (1, 2):
        preparation.prepare(catalogue_of(video_folder), str(tmp_path / str(workers)), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_limited_preparation_takes_evenly_spaced_videos(video_folder, tmp_path):
    prepared = preparation.prepare(catalogue_of(video_folder), str(tmp_path), limit=4)
    names = sources.Folder(str(video_folder)).open().splits["train"].names
    assert prepared.index("train").names == tuple(names[i] for i in (0, 2, 5, 8))
    assert len(prepared.index("val").names) == 4


def test_large_splits_get_larger_shards(video_folder, tmp_path, monkeypatch):
    """So that all shards of a split can be open at the same time."""
    monkeypatch.setattr(preparation, "_SHARD_VIDEOS", 1)
    monkeypatch.setattr(preparation, "_MAX_SHARDS", 4)
    prepared = preparation.prepare(catalogue_of(video_folder), str(tmp_path))
    shards = [len(list(pathlib.Path(prepared.folder).glob(f"*-{split}.array*"))) for split in ("train", "val")]
    assert shards == [4, 2]  # three videos each: 11 and 5


def test_a_split_without_a_video_that_can_be_read_ends_the_preparation(video_folder, tmp_path, capsys):
    root = tmp_path / "root"
    for split in ("train", "val"):
        (root / split / "a").mkdir(parents=True)
        (root / split / "a" / "x.mp4").write_bytes(b"no video")
    assert run("folder", root, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "no video of the split 'train' could be read; a/x.mp4: " in error and "To try them again, delete" in error


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["kinetics401"],
            "'kinetics401' is no folder, no list, and no data set (did you mean 'kinetics400'?); those are ",
        ),
        (["ucf101"], "UCF101: the annotations of the split 'train' are missing; expected trainlist01.txt in"),
        (["ucf101", "--fold", "4"], "fold: is 4, which ucf101 does not have; expected 1 to 3"),
        (["ucf101", "--split", "test"], "ucf101 has no split test; it has train, val"),
        (["list"], "no list of the split 'train'; expected one of train_list.txt, *train_list_videos.txt"),
        (["folder"], "no such folder; expected one with a folder for each class"),
    ],
)
def test_what_cannot_be_prepared_is_one_line(arguments, message, tmp_path, capsys):
    assert run(arguments[0], tmp_path, tmp_path / "out", *arguments[1:]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to_is_told(video_folder, capsys):
    assert run("folder", video_folder, "/proc/none") == 2
    assert "--out: nothing can be written to '/proc/none/.folder.incomplete'" in capsys.readouterr().err


def test_records_are_written_to_a_local_disk(video_folder, capsys):
    assert run("folder", video_folder, "gs://bucket/records") == 2
    assert "expected a folder on a local disk" in capsys.readouterr().err


def test_an_interruption_is_one_line(video_folder, tmp_path, capsys, monkeypatch):
    def interrupt(path: str) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(media, "read_media", interrupt)
    assert run("folder", video_folder, tmp_path) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "dnr prepare: interrupted; the same command goes on"


def test_a_list_that_gives_a_video_two_labels_is_not_prepared(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "train.txt").write_text("a.mp4 0\na.mp4 1\n")
    catalogue = sources.Lists.of_folder(str(tmp_path), str(tmp_path)).open(["train"])
    with pytest.raises(ValueError, match="videos with two labels"):
        preparation.prepare(catalogue, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def shards_of(root: pathlib.Path, out: pathlib.Path) -> preparation.Preparation:
    return preparation.Preparation(catalogue_of(root), str(out), shard_videos=2)


@pytest.fixture(scope="module")
def whole(video_folder, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("whole")
    shards_of(video_folder, out).run()
    return out


def shard_program(tmp_path: pathlib.Path, pause: float) -> list[str]:
    """A program that prepares a shard, as ``dnr prepare --shard`` does, in parts of two videos."""
    program = tmp_path / "shard.py"
    program.write_text(
        "import sys, time\n"
        "from dnr_jax.data.catalogue import media, prepare, sources\n"
        "read = media.read_media\n"
        f"media.read_media = lambda path: time.sleep({pause}) or read(path)\n"
        "root, out, number, count = sys.argv[1:]\n"
        "made = prepare.Preparation(sources.Folder(root).open(), out, shard_videos=2)\n"
        "print('begins', flush=True)\n"
        "made.run_shard((int(number), int(count)))\n"
    )
    return [sys.executable, str(program)]


def start(command: list[str], *arguments: object) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([*command, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_side_by_side_write_what_one_writes(video_folder, whole, tmp_path):
    out, program = tmp_path / "out", shard_program(tmp_path, pause=0.0)
    with start(program, video_folder, out, 1, 2) as one, start(program, video_folder, out, 2, 2) as other:
        assert (one.wait(timeout=300), other.wait(timeout=300)) == (0, 0)
    assert not (out / "folder").exists()
    prepared = shards_of(video_folder, out).merge()
    assert prepared.splits() == ["train", "val"]
    assert contents(out) == contents(whole)


@pytest.mark.slow
def test_a_killed_shard_goes_on_and_holds_nothing(video_folder, whole, tmp_path):
    out = tmp_path / "out"
    with start(shard_program(tmp_path, pause=0.2), video_folder, out, 1, 2) as killed:
        assert killed.stdout.readline() == "begins\n"
        deadline = time.monotonic() + 60
        while not list(out.glob(".*/*.jsonl")):
            assert killed.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(ValueError, match=f"is in use: process {killed.pid} on .* prepares folder there"):
            shards_of(video_folder, out).run_shard((1, 2))
        killed.kill()
        killed.wait()
    with pytest.raises(ValueError, match=r"of 9 parts of folder are not there, with \d+ videos: train-000"):
        shards_of(video_folder, out).merge()
    assert shards_of(video_folder, out).run_shard((1, 2))[0] == 9
    shards_of(video_folder, out).run_shard((2, 2))
    shards_of(video_folder, out).merge()
    assert contents(out) == contents(whole)


def test_nobody_else_works_on_the_same_videos(video_folder, whole, tmp_path, monkeypatch):
    """While shard 1/2 is at its first video."""
    refused: list[str] = []

    def read(path: str) -> bytes:
        monkeypatch.undo()
        made = [shards_of(video_folder, tmp_path) for _ in range(5)]
        same, overlapping = (lambda: made[0].run_shard((1, 2))), (lambda: made[1].run_shard((2, 3)))
        for work in (same, overlapping, made[2].run, made[3].merge):
            with pytest.raises(ValueError, match=f"is in use: process {os.getpid()} on .* prepares folder there"):
                work()
            refused.append(path)
        assert made[4].run_shard((2, 2)) == (7, 7)  # the other half is not concerned
        return pathlib.Path(path).read_bytes()

    monkeypatch.setattr(media, "read_media", read)
    assert shards_of(video_folder, tmp_path).run_shard((1, 2)) == (9, 16)
    assert len(refused) == 4
    shards_of(video_folder, tmp_path).merge()
    assert contents(tmp_path) == contents(whole)


def test_shards_in_folders_of_their_own_are_put_together(video_folder, whole, tmp_path):
    folders = [tmp_path / str(number) for number in (1, 2, 3)]
    for number, folder in enumerate(folders, 1):
        shards_of(video_folder, folder).run_shard((number, 3))
    first, *others = map(str, folders)
    with pytest.raises(ValueError, match="3 of 9 parts of folder are not there"):
        shards_of(video_folder, folders[0]).merge(others[:1])
    with pytest.raises(ValueError, match=f"'{whole}' holds no shard of folder"):
        shards_of(video_folder, folders[0]).merge([str(whole)])
    other = preparation.Preparation(catalogue_of(video_folder), str(tmp_path / "4"), limit=2)
    other.run_shard((1, 1))
    with pytest.raises(ValueError, match="4/.folder.incomplete' was prepared from other videos or with other settings"):
        shards_of(video_folder, folders[0]).merge([str(tmp_path / "4")])
    shards_of(video_folder, folders[0]).merge(others)
    assert contents(folders[0]) == contents(whole)
    assert shards_of(video_folder, folders[0]).run_shard((1, 3))[1] == 16  # complete, and not made again
    assert contents(folders[0]) == contents(whole)


@pytest.mark.parametrize("harm", [lambda content: content[: len(content) // 2], lambda content: b""])
def test_a_shard_that_was_not_wholly_copied_is_named(harm, video_folder, tmp_path):
    made = shards_of(video_folder, tmp_path)
    made.run_shard((1, 1))
    file = pathlib.Path(made.work) / "train-00001-2.array_record"
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(ValueError, match="train-00001-2.array_record' is damaged"):
        made.merge()
    assert not (tmp_path / "folder").exists()


def test_shards_from_the_command_line(video_folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("folder", video_folder, out, "--shard", "2/2") == 0
    assert "shard 2/2 with 5 videos is complete; 5 of all 16 are in" in capsys.readouterr().out
    assert run("folder", video_folder, out, "--merge") == 2
    assert "1 of 2 parts of folder are not there, with 11 videos: train-00000-2." in capsys.readouterr().err
    assert run("folder", video_folder, tmp_path / "other", "--shard", "1/2") == 0
    assert run("folder", video_folder, out, "--merge", str(tmp_path / "other")) == 0
    assert len(records.find(str(out)).index("train").names) == 11
    for text in ("0/2", "3/2", "1"):
        with pytest.raises(SystemExit):
            run("folder", video_folder, out, "--shard", text)
        assert f"argument --shard: '{text}' is not I/N, such as 1/4" in capsys.readouterr().err
