"""Paths as people write them, and what is wrong with those of an experiment."""

import pathlib

import pytest

from dnr_jax.config import (
    DataConfig,
    ExperimentConfig,
    expand_path,
    from_json,
    locations,
    make_paths_absolute,
    validate,
)
from dnr_jax.data.catalogue.sources import Dataset, Demo, Folder, Lists, Records
from tests.config.experiments import problems, valid_config


def test_paths_are_looked_for(tmp_path):
    config = ExperimentConfig()
    config.data.source = Lists(str(tmp_path / "videos"), str(tmp_path / "train.txt"))
    lines = problems(config).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"data.source.{name}" for name in ("root", "train_list", "val_list")
    ]
    assert lines[1].endswith("; expected an annotation file with 'path label' lines")
    (tmp_path / "train.txt").touch()
    (tmp_path / "videos" / "train").mkdir(parents=True)
    config.data.source.val_list = config.data.source.train_list
    validate(config)
    config.data.source = Folder(str(tmp_path / "videos"))
    message = (
        f"data.source.root: there is no folder '{tmp_path}/videos/val'; expected <class>/<video> in it. Move about a "
    )
    assert problems(config).startswith(message)


@pytest.mark.parametrize(
    ("there", "offer"),
    [
        ([], "It holds nothing; 'dnr prepare' reads public data sets"),
        (["a.mp4", "b.mp4"], "It holds 2 files and no folder"),
        (["jump/a.mp4", "run/b.mp4", ".cache/x", "@eaDir/x"], "It holds 2 folders (jump, run): if these are classes"),
        (["training/jump/a.mp4", "val/jump/b.mp4"], "It holds 'training': rename that to 'train'"),
        (["train/jump/a.mp4", "test/jump/b.mp4"], "It holds 'test': rename that to 'val'"),
        (
            ["videos/a.mp4", "train_list.txt", "val_list.txt"],
            "It holds what Lists reads: --config.data.source=Lists --config.data.source.root={root} "
            "--config.data.source.train_list={root}/train_list.txt --config.data.source.val_list={root}/val_list.txt",
        ),
        (["train_list.txt", "train.txt", "kinetics_train_list_videos.txt"], "It holds what Lists reads"),
        (["train.txt", "a_train_list_videos.txt", "b_train_list_videos.txt"], "It holds 3 files"),
        (["a/1.0.0/dataset_info.json", "b/1.0.0/dataset_info.json"], "It holds 2 folders (a, b)"),
    ],
)
def test_a_folder_without_splits_is_offered_what_it_holds(there, offer, tmp_path):
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    config = valid_config()
    config.data.source = Folder(str(tmp_path))
    (line,) = problems(config).splitlines()
    assert offer.format(root=tmp_path) in line


def test_the_records_of_a_folder_are_offered(tmp_path):
    (tmp_path / "folder" / "1.0.0").mkdir(parents=True)
    (tmp_path / "folder" / "1.0.0" / "dataset_info.json").write_text('{"name": "folder"}')
    (tmp_path / "folder" / "1.0.0" / "label.labels.txt").write_text("jump\nrun\n")
    config = valid_config()
    config.data.source = Folder(str(tmp_path))
    offer = (
        f"It holds what Records reads: --config.data.source=Records --config.data.source.root={tmp_path}/folder/1.0.0"
    )
    assert offer in problems(config)


def test_the_folder_of_a_data_set_is_looked_for(tmp_path):
    config = valid_config()
    config.data.source = Dataset()
    assert problems(config) == "data.source.name: is empty; Dataset needs a name, such as 'kinetics400'"
    config.data.source.name = "ucf101"
    assert problems(config) == "data.source.root: is empty; Dataset needs the folder of the data set"
    config.data.source = Dataset("ucf101", str(tmp_path), str(tmp_path / "lists"))
    assert problems(config).startswith(f"data.source.annotations: there is no folder '{tmp_path}/lists'; expected the")
    (tmp_path / "lists").mkdir()
    validate(config)
    config.data.source = Records(str(tmp_path / "none"))
    assert problems(config).startswith(
        f"data.source.root: there is no folder '{tmp_path}/none'; expected what 'dnr prep"
    )
    config.data.source.root = str(tmp_path)
    validate(config)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            Dataset("ufc101"),
            "data.source.name: there is no data set 'ufc101' (did you mean 'ucf101'?); expected one of",
        ),
        (Dataset("ucf101", fold=0), "data.source.fold: is 0; expected at least 1"),
        (Dataset("ucf101", fold=4), "data.source.fold: is 4, which ucf101 does not have; expected 1 to 3"),
        (Dataset("jester", fold=2), "data.source.fold: is 2, which jester does not have; expected 1, because there is"),
        (Demo(7), "data.source.train_videos: is 7; expected at least 8"),
    ],
)
def test_what_a_source_does_not_have_is_refused(source, problem):
    config = valid_config()
    config.data.source = source
    assert problems(config).startswith(problem)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", ""),
        ("/", "/"),
        ("videos/", "videos"),
        ("~/my videos//", "/home/me/my videos"),
        ("a~b", "a~b"),
        ("file:///data/my%20videos/", "/data/my videos"),
        ("file://localhost/data", "/data"),
        ("gs://bucket/videos/", "gs://bucket/videos"),
        ("$HOME/videos", "$HOME/videos"),
        ("2021-05-03T12:30:00.mp4", "2021-05-03T12:30:00.mp4"),
        (pathlib.Path("a") / "b", "a/b"),
    ],
)
def test_paths_are_read_as_people_write_them(written, read, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_path(written) == read


def test_every_field_that_is_a_path_is_expanded_whoever_sets_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = ExperimentConfig(init_from="~/w.pth", data=DataConfig(Lists("~", "~/x")))
    config.data.source.root = "~/y/"
    config.data.source.val_list = pathlib.Path("~/z")
    assert config.init_from == "/home/me/w.pth"
    assert config.data.source == Lists("/home/me/y", "/home/me/x", "/home/me/z")
    text = '{"data": {"source": {"class": "Demo", "cache_dir": "~"}}}'
    assert from_json(text).data.source.cache_dir == "/home/me"


def test_paths_of_a_run_do_not_depend_on_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = ExperimentConfig(init_from="w.pth", data=DataConfig(Lists("", "a.txt", "gs://bucket/b.txt")))
    make_paths_absolute(config)
    assert config.init_from == f"{tmp_path}/w.pth"
    assert config.data.source == Lists(str(tmp_path), f"{tmp_path}/a.txt", "gs://bucket/b.txt", "")
    names = {f"data.source.{name}" for name in ("root", "train_list", "val_list", "label_map")}
    assert set(locations(config)) == names


def test_a_variable_that_the_shell_did_not_replace_is_pointed_out(monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    config = valid_config()
    config.data.source = Folder("$DATA/videos")
    assert "no folder '$DATA/videos' (the shell puts in the value of $DATA, but not within single quotes)" in problems(
        config
    )
