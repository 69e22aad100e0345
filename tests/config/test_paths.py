"""Paths as people write them, and what is wrong with those of an experiment."""

import dataclasses
import pathlib

import pytest

from dnr_jax.config import DataConfig, ExperimentConfig, expand_path, flatten, from_json, validate
from tests.config.experiments import problems, valid_config


def test_paths_are_looked_for(tmp_path):
    config = ExperimentConfig()
    config.data.train_list, config.data.root = str(tmp_path / "train.txt"), str(tmp_path / "videos")
    lines = problems(config).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["data.train_list", "data.val_list", "data.root"]
    (tmp_path / "train.txt").touch()
    (tmp_path / "videos" / "train").mkdir(parents=True)
    config.data.val_list = config.data.train_list
    validate(config)
    config.data.source = "folder"
    message = (
        f"data.root: there is no folder '{tmp_path}/videos/val'; expected <class>/<video> in it. Move about a fifth"
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
            "train_list={root}/train_list.txt --config.data.val_list=",
        ),
        (["ucf101/1.0.0/dataset_info.json"], "--config=configs/prepared.py"),
    ],
)
def test_a_folder_without_splits_is_offered_what_it_holds(there, offer, tmp_path):
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    config = valid_config()
    config.data.source, config.data.root = "folder", str(tmp_path)
    (line,) = problems(config).splitlines()
    assert offer.format(root=tmp_path) in line


def test_the_folder_of_a_data_set_is_looked_for(tmp_path):
    config = valid_config()
    config.data.source = "dataset"
    lines = ["data.root: is empty; data.source 'dataset' needs the folder of the data set"]
    name = "data.dataset: is empty; data.source 'dataset' needs a name, such as 'kinetics400'"
    assert problems(config).splitlines() == [*lines, name]
    config.data.root, config.data.dataset, config.data.annotations = str(tmp_path), "ucf101", str(tmp_path / "lists")
    assert problems(config) == f"data.annotations: there is no folder '{tmp_path}/lists'"
    (tmp_path / "lists").mkdir()
    validate(config)
    config.data.fold = 0
    assert problems(config).startswith("data.fold: is 0")
    config.data = dataclasses.replace(valid_config().data, source="records", root=str(tmp_path / "none"))
    assert problems(config) == f"data.root: there is no folder '{tmp_path}/none'"
    config.data.root = str(tmp_path)
    validate(config)


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
    paths = {name: "~/x" for name in DataConfig.PATHS}
    config = ExperimentConfig(init_from="~/w.pth", data=DataConfig(**paths))
    config.data.root = "~/y/"
    assert (config.init_from, config.data.val_list, config.data.root) == ("/home/me/w.pth", "/home/me/x", "/home/me/y")
    assert from_json('{"data": {"cache_dir": "~"}}').data.cache_dir == "/home/me"
    assert set(flatten(config)) >= {"init_from", *(f"data.{name}" for name in DataConfig.PATHS)}
    assert config.data.dataset == ""


def test_a_variable_that_the_shell_did_not_replace_is_pointed_out(monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    config = valid_config()
    config.data.source, config.data.root = "folder", "$DATA/videos"
    assert "no folder '$DATA/videos' (the shell puts in the value of $DATA, but not within single quotes)" in problems(
        config
    )
