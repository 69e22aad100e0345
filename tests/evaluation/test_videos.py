"""Which videos are scored, by what a run was trained on and what the command line says."""

import pathlib
import types

import pytest

from dnr_jax.config import ConfigError, DataConfig, ExperimentConfig, Source
from dnr_jax.data.catalogue.sources import Dataset, Demo, Folder, Lists, Records
from dnr_jax.evaluation.videos import open_data


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
    """One class, in folders, in lists and as records, whose videos are empty files."""
    for split in ("train", "val", "test"):
        (tmp_path / "folder" / split / "a").mkdir(parents=True)
        (tmp_path / "folder" / split / "a" / f"{split}.mp4").touch()
    (tmp_path / "map.txt").write_text("a\n")
    (tmp_path / "list.txt").write_text("val/a/val.mp4 0\n")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "dataset_info.json").write_text('{"name": "x"}')
    (tmp_path / "records" / "label.labels.txt").write_text("a\n")
    (tmp_path / "records" / "index_val.jsonl").write_text('{"name": "recorded", "label": 0}\n')
    return tmp_path


def scored(
    trained: Source, split: str = "val", kind: str | None = None, **paths: str
) -> tuple[Source, tuple[str, ...]]:
    """The source that is scored, and the names of its videos."""
    config = ExperimentConfig(data=DataConfig(trained))
    run = types.SimpleNamespace(config=config, classes=("a",), workdir=pathlib.Path("run"))
    videos = open_data(run, split, kind, paths)
    return config.data.source, videos.names


@pytest.mark.parametrize(
    ("trained", "given", "source", "name"),
    [
        (Folder("{}/folder"), {}, Folder("{}/folder"), "a/val.mp4"),
        (Folder("{}/folder"), {"split": "test"}, Folder("{}/folder"), "a/test.mp4"),
        (Folder("/gone"), {"root": "{}/folder"}, Folder("{}/folder"), "a/val.mp4"),
        (Folder("/gone"), {"root": "{}/records"}, Records("{}/records"), "recorded"),
        (Records("/gone"), {"root": "{}/folder"}, Folder("{}/folder"), "a/val.mp4"),
        (Demo(), {"root": "{}/folder"}, Folder("{}/folder"), "a/val.mp4"),
        (Dataset("ucf101", "/gone"), {"root": "{}/records", "kind": "Records"}, Records("{}/records"), "recorded"),
        (
            Folder("{}/folder"),
            {"val_list": "{}/list.txt", "label_map": "{}/map.txt"},
            Lists("{}/folder", "", "{}/list.txt", "{}/map.txt"),
            "val/a/val.mp4",
        ),
        (
            Lists("/gone", "/gone.txt", "{}/list.txt", "{}/map.txt"),
            {"root": "{}/folder"},
            Lists("{}/folder", "/gone.txt", "{}/list.txt", "{}/map.txt"),
            "val/a/val.mp4",
        ),
    ],
)
def test_what_is_scored_follows_from_the_run_and_what_is_given(trained, given, source, name, root):
    def placed(part: Source) -> Source:
        values = {name: value.format(root) if isinstance(value, str) else value for name, value in vars(part).items()}
        return type(part)(**values)

    given = {name: value.format(root) for name, value in given.items()}
    assert scored(placed(trained), **given) == (placed(source), (name,))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"annotations": "x"}, "--annotations: Folder has no such setting; --source says what else the data is"),
        ({"kind": "Records", "label_map": "x"}, "--label-map: Records has no such setting"),
        ({"kind": "folder"}, r"no Source is called 'folder' \(did you mean 'Folder'\?\)"),
        ({"split": "test", "val_list": "x"}, "leave out --split"),
        ({"root": "none"}, "'.*none' is no folder, no list, and no data set"),
        ({"split": "dev"}, "no such folder; .* --root, --list, --label-map and --annotations say where the data is"),
    ],
)
def test_what_cannot_be_scored_is_refused(given, message, root):
    with pytest.raises(ConfigError, match=message):
        scored(Folder(str(root / "folder")), **given)
