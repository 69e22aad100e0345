import pathlib

import pytest

from dnr_jax.config import DataConfig
from dnr_jax.data.catalogue.datasets import DATASETS, index_media, match
from dnr_jax.data.catalogue.sources import Dataset, load_sources
from tests.data.videos import moving_frames, write_frames


def write_ucf(root: pathlib.Path, *videos: str) -> None:
    (root / "classInd.txt").write_text("1 Run\n2 Jump_High\n")
    (root / "trainlist01.txt").write_text("Run/v.avi 1\nJump_High/v.avi 2\nSwim/w.avi 3\n")
    (root / "testlist01.txt").write_text("Run/t.avi\n")
    for video in videos:
        (root / video).parent.mkdir(parents=True, exist_ok=True)
        (root / video).touch()


def matched(root: pathlib.Path) -> dict[str, list[tuple[str, int | None, str]]]:
    _, found = match(DATASETS["ucf101"], str(root))
    return {split: [(m.name, m.label, m.path) for m in listed] for split, listed in found.items()}


def test_of_several_files_the_one_in_the_folder_of_the_class_is_taken(tmp_path):
    """Written with a space or an underscore, in any case, in any folder, with any suffix of a video."""
    write_ucf(tmp_path, "x/Run/v.avi", "x/jump high/v.mp4")
    assert matched(tmp_path) == {
        "train": [("v", 0, "x/Run/v.avi"), ("v", 1, "x/jump high/v.mp4"), ("w", None, "")],
        "val": [("t", 0, "")],
    }


def test_of_several_files_the_one_in_the_folder_of_the_split_is_taken(tmp_path):
    write_ucf(tmp_path, "a_val/Run/v.avi", "b_train/Run/v.avi", "a_train/Run/t.avi", "b_val/Run/t.avi")
    found = matched(tmp_path)
    assert found["train"][0] == ("v", 0, "b_train/Run/v.avi")
    assert found["val"] == [("t", 0, "b_val/Run/t.avi")]


def test_videos_are_files_and_folders_of_frames(tmp_path):
    write_frames(tmp_path / "deep" / "down" / "clip.1", moving_frames(2, seed=0))
    for name in ("b.mp4", "deep/b.WEBM", "notes.txt", ".hidden/x.mp4", "deep/cover.jpg.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert index_media(str(tmp_path)) == {"b": ["b.mp4", "deep/b.WEBM"], "clip.1": ["deep/down/clip.1"]}


def test_what_other_software_left_there_is_not_taken(tmp_path):
    """Synology keeps a folder beside each video that is called like it; macOS and Jupyter leave files."""
    hidden = (
        "Run/@eaDir/v.avi/1.jpg",
        "__MACOSX/Run/v.avi",
        "Run/._v.avi",
        ".ipynb_checkpoints/v.avi",
        "Jump_High/v.avi/x",
    )
    write_ucf(tmp_path, "Run/v.avi", *hidden)
    (tmp_path / "._trainlist01.txt").write_bytes(b"\0\5\26\7")
    assert matched(tmp_path)["train"][:2] == [("v", 0, "Run/v.avi"), ("v", 1, "Run/v.avi")]


def test_a_file_that_annotations_of_several_classes_find_is_told(tmp_path, caplog):
    write_ucf(tmp_path, "Run/v.avi", "Run/t.avi")
    (problem,) = Dataset("ucf101", str(tmp_path)).open().problems
    assert str(problem) == "ambiguous: train/Run/v.avi: 'Run' at v, 'Jump_High' at v"
    load_sources(DataConfig(source=Dataset("ucf101", str(tmp_path))))
    assert "ucf101: 1 videos have several labels or are annotated several times, for example ambiguous" in caplog.text


def test_a_picture_in_the_folder_of_a_class_does_not_hide_its_videos(tmp_path):
    write_ucf(tmp_path, "Run/v.avi", "Run/cover.jpg")
    assert index_media(str(tmp_path)) == {"v": ["Run/v.avi"]}


def test_what_is_missing_is_told_with_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder; expected the videos of Diving48"):
        match(DATASETS["diving48"], str(tmp_path / "none"))
    for name, dataset in DATASETS.items():
        with pytest.raises(FileNotFoundError) as refused:
            match(dataset, str(tmp_path))
        message = str(refused.value)
        assert message.startswith(f"{dataset.title}: the annotations of the split 'train' are missing; expected ")
        assert f"They come from {dataset.homepage}; --annotations" in message, name


def test_mini_kinetics_needs_the_annotations_of_kinetics(tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"{split}_ytid_list.txt").write_text("x\n")
    with pytest.raises(FileNotFoundError, match="the annotations of Kinetics-400 are missing"):
        match(DATASETS["mini_kinetics200"], str(tmp_path))
