import logging
import os
import shutil

import numpy as np
import pytest

from dnr_jax.config import ConfigError, DataConfig
from dnr_jax.data.catalogue import sources
from tests.data.miniatures import MINIATURES


@pytest.fixture
def kinetics(tmp_path):
    """Three videos (empty files: only their names matter here), a label map and a list."""
    for name in ("a/one.mp4", "a/with a space.mp4", "b/two.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    (tmp_path / "labels.txt").write_text("abseiling\nair drumming\nwaxing legs\n\n")
    (tmp_path / "list.txt").write_text("a/one.mp4 0\n\n  \na/with a space.mp4 0\nb/two.mp4\t2\n")
    return tmp_path


def read(folder, **kwargs):
    return sources.read_list(str(folder / "list.txt"), str(folder / "videos"), **kwargs)


def test_read_list(kinetics):
    source = read(kinetics, label_map=str(kinetics / "labels.txt"))
    assert len(source) == 3
    assert source.names == ("a/one.mp4", "a/with a space.mp4", "b/two.mp4")
    assert source.paths == tuple(str(kinetics / "videos" / name) for name in source.names)
    assert source.classes == ("abseiling", "air drumming", "waxing legs")
    assert source.labels.dtype == np.int32
    np.testing.assert_array_equal(source.labels, [0, 0, 2])


def test_read_list_without_label_map_calls_classes_by_number(kinetics):
    assert read(kinetics).classes == ("0", "1", "2")


def test_read_list_takes_absolute_paths_as_they_are(kinetics):
    path = kinetics / "videos" / "a" / "one.mp4"
    (kinetics / "list.txt").write_text(f"{path} 1\n")
    assert sources.read_list(str(kinetics / "list.txt"), "/elsewhere").paths == (str(path),)


@pytest.mark.parametrize("line", ["b/two.mp4", "b/two.mp4 walk", "b/two.mp4 -1", "7"])
def test_read_list_names_the_malformed_line(kinetics, line):
    (kinetics / "list.txt").write_text(f"a/one.mp4 0\n\n{line}\n")
    with pytest.raises(ValueError, match=rf"list\.txt:3: '{line}'; expected 'path label'"):
        read(kinetics)


def test_read_list_rejects_labels_outside_the_map(kinetics):
    (kinetics / "list.txt").write_text("a/one.mp4 0\nb/two.mp4 3\n")
    with pytest.raises(ValueError, match=r"list\.txt:2: label 3 is out of range; .* names 3 classes.* 0 to 2"):
        read(kinetics, label_map=str(kinetics / "labels.txt"))


def test_read_list_leaves_out_missing_videos_and_says_so(kinetics, caplog):
    (kinetics / "list.txt").write_text("a/gone.mp4 0\nb/two.mp4 2\n")
    with caplog.at_level(logging.WARNING):
        source = read(kinetics)
    assert source.names == ("b/two.mp4",)
    np.testing.assert_array_equal(source.labels, [2])
    assert "1 of 2 videos are missing" in caplog.text and "a/gone.mp4" in caplog.text


def test_read_list_does_not_look_for_files_in_buckets(kinetics):
    source = sources.read_list(str(kinetics / "list.txt"), "gs://bucket/videos")
    assert source.paths[0] == "gs://bucket/videos/a/one.mp4"


def test_read_list_raises_when_nothing_is_there(kinetics):
    (kinetics / "list.txt").write_text("".join(f"{number}.mp4 0\n" for number in range(9)))
    with pytest.raises(
        FileNotFoundError, match=r"none of the 9 videos .* 0\.mp4, 1\.mp4, 2\.mp4, \.\.\.; set data\.source\.root"
    ):
        read(kinetics)


def test_read_list_raises_where_all_names_are_hidden(kinetics):
    (kinetics / "list.txt").write_text("@anna/1.mp4 0\n.x.mp4 1\n")
    with pytest.raises(FileNotFoundError, match=r"hidden names .*: 2, such as \.x\.mp4; there is no other video"):
        read(kinetics)


def test_read_list_of_an_empty_or_missing_file(kinetics):
    (kinetics / "list.txt").write_text("\n")
    with pytest.raises(ValueError, match="is empty; expected one 'path label' a line"):
        read(kinetics)
    with pytest.raises(FileNotFoundError, match="no such annotation file"):
        sources.read_list(str(kinetics / "other.txt"), "")
    (kinetics / "list.txt").write_text("a/one.mp4 0\n")
    with pytest.raises(FileNotFoundError, match="no such label map"):
        read(kinetics, label_map="nowhere.txt")


def test_scan_folder(kinetics):
    (kinetics / "videos" / "a" / "notes.txt").touch()
    (kinetics / "videos" / "a" / "LOUD.AVI").touch()
    source = sources.scan_folder(str(kinetics / "videos"))
    assert source.names == ("a/LOUD.AVI", "a/one.mp4", "a/with a space.mp4", "b/two.mp4")
    assert source.paths[-1] == str(kinetics / "videos" / "b" / "two.mp4")
    assert source.classes == ("a", "b")
    assert source.labels.dtype == np.int32
    np.testing.assert_array_equal(source.labels, [0, 0, 0, 1])


def test_scan_folder_with_given_classes_keeps_their_order(kinetics):
    source = sources.scan_folder(str(kinetics / "videos"), ["b", "empty", "a"])
    np.testing.assert_array_equal(source.labels, [0, 2, 2])
    with pytest.raises(ValueError, match="folders 'b' are none of the training classes 'a', 'c'"):
        sources.scan_folder(str(kinetics / "videos"), ["a", "c"])


def test_scan_folder_takes_the_first_folder_for_the_class(tmp_path, caplog):
    for name in ("run/g1/a.mp4", "run/g2/deep/b.mp4", "jump/c.mp4", "top.mp4", "empty/notes.txt", ".git/x.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    source = sources.scan_folder(str(tmp_path))
    assert source.classes == ("empty", "jump", "run")
    assert source.names == ("jump/c.mp4", "run/g1/a.mp4", "run/g2/deep/b.mp4")
    assert source.labels.tolist() == [1, 2, 2]
    assert source.classes_without_videos() == ["empty"]
    left_out, deep = (record.getMessage() for record in caplog.records)
    assert left_out.startswith(f"{tmp_path}: left out: hidden names")
    assert left_out.endswith("1, such as .git; videos in no folder of a class: 1, such as top.mp4")
    assert deep.endswith("whose class is taken to be the first folder: 2, such as run/g1/a.mp4")


def test_scan_folder_refuses_frames_in_the_folder_of_a_class(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "1.jpg").touch()
    with pytest.raises(ValueError, match="run holds frames itself; expected a folder for each video"):
        sources.scan_folder(str(tmp_path))


def test_scan_folder_names_classes_that_differ_in_letter_case_or_spaces_only(tmp_path, caplog):
    for name in ("Run/a.mp4", "run /b.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert sources.scan_folder(str(tmp_path)).classes == ("Run", "run ")
    assert "classes that differ in letter case or spaces only: 'Run', 'run '" in caplog.text
    with pytest.raises(
        ValueError, match="folders 'Run', 'run ' are none of the training classes 'RUN'; 'RUN' is written with other"
    ):
        sources.scan_folder(str(tmp_path), ["RUN"])


def test_names_in_any_encoding_are_one_class_that_can_be_printed(tmp_path):
    """In Latin-1, in UTF-8, and with accents taken apart as macOS does."""
    spelled = [b"d\xe9j\xe0", "d\u00e9j\u00e0".encode(), "de\u0301ja\u0300".encode(), b"a\nb"]
    for number, name in enumerate(spelled):
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(folder)
        open(os.path.join(folder, b"%d.mp4" % number), "wb").close()
    source = sources.scan_folder(str(tmp_path))
    assert source.classes == ("a\\nb", "d\u00e9j\u00e0")
    assert sorted(source.names) == ["a\\nb/3.mp4", *(f"d\u00e9j\u00e0/{number}.mp4" for number in range(3))]
    assert all(map(os.path.exists, source.paths))


def test_scan_folder_without_videos(tmp_path):
    with pytest.raises(FileNotFoundError, match="no video found"):
        sources.scan_folder(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        sources.scan_folder(str(tmp_path / "nowhere"))


def test_load_sources_of_folders(data):
    train, val = sources.load_sources(data)
    assert (len(train), len(val)) == (11, 5)
    assert train.classes == val.classes == ("jump", "run", "walk")
    np.testing.assert_array_equal(val.labels, [0, 0, 0, 1, 1])


def test_load_sources_of_lists(kinetics):
    (kinetics / "val.txt").write_text("a/one.mp4 1\n")
    config = DataConfig(sources.Lists(str(kinetics / "videos"), str(kinetics / "list.txt"), str(kinetics / "val.txt")))
    train, val = sources.load_sources(config)
    assert train.classes == val.classes == ("0", "1", "2")
    (kinetics / "val.txt").write_text("a/one.mp4 5\n")
    with pytest.raises(
        ValueError, match=r"val\.txt:1: label 5 is out of range; .* names 3 classes.*data\.source\.label_map"
    ):
        sources.load_sources(config)


def write_lists(folder, train: str, val: str) -> DataConfig:
    (folder / "list.txt").write_text(train)
    (folder / "val.txt").write_text(val)
    return DataConfig(sources.Lists(str(folder / "videos"), str(folder / "list.txt"), str(folder / "val.txt")))


def test_a_video_with_two_labels_is_refused_with_the_places(kinetics):
    config = write_lists(kinetics, "a/one.mp4 0\nb/two.mp4 1\n./a/one.mp4 1\n", "b/two.mp4 1\n")
    with pytest.raises(ValueError, match=r"two labels.*: 1: a/one\.mp4 is '0' at .*list\.txt:1, '1' at .*list\.txt:3$"):
        sources.load_sources(config)
    shutil.copy(kinetics / "val.txt", kinetics / "val_list.txt")
    shutil.copy(kinetics / "list.txt", kinetics / "train_list.txt")
    catalogue = sources.Lists.of_folder(str(kinetics), str(kinetics / "videos")).open()
    assert [(problem.kind, problem.split, problem.name) for problem in catalogue.problems] == [
        ("mislabelled", "train", "a/one.mp4")
    ]
    with pytest.raises(ValueError, match="list: videos with two labels"):
        catalogue.require_one_label()


def test_videos_that_are_listed_again_are_counted(kinetics, caplog):
    train, val = sources.load_sources(
        write_lists(kinetics, "a/one.mp4 0\nb/two.mp4 1\n./a/one.mp4 0\n", "b/two.mp4 0\n")
    )
    assert (train.names, val.names) == (("a/one.mp4", "b/two.mp4", "a/one.mp4"), ("b/two.mp4",))
    again, both, empty = (record.getMessage() for record in caplog.records)
    assert "list.txt: lines that name the video of another line with the same label, and count as well: 1" in again
    assert both.startswith("1 of the 1 validation videos are training videos as well, 1 of them with another label")
    assert empty == "1 of 2 classes have no validation video: 1"


def test_classes_without_a_video_are_named(kinetics, caplog):
    config = write_lists(kinetics, "a/one.mp4 1\nb/two.mp4 3\n", "a/one.mp4 1\n")
    sources.load_sources(config)
    assert "2 of 4 classes have no training video: 0, 2" in caplog.text


def test_numbers_and_names_of_classes_are_not_mixed(kinetics):
    config = write_lists(kinetics, "path,label\na/one.mp4,run\nb/two.mp4,jump\n", "a/one.mp4 1\n")
    with pytest.raises(ValueError, match="one names classes, the other gives numbers; expected the same in both"):
        sources.load_sources(config)
    (kinetics / "labels.txt").write_text("id,name\n0,jump\n1,run\n")
    config.source.label_map = str(kinetics / "labels.txt")
    train, val = sources.load_sources(config)
    assert (train.labels.tolist(), val.labels.tolist()) == ([1, 0], [1])


def test_hidden_lists_are_none(kinetics):
    (kinetics / "k_train_list_videos.txt").write_text("a/one.mp4 0\n")
    (kinetics / "._k_train_list_videos.txt").write_bytes(b"\0\5\26\7")
    assert sources.Lists.found_in(str(kinetics))
    assert len(sources.Lists.of_folder(str(kinetics), str(kinetics / "videos")).open(["train"]).splits["train"]) == 1


def test_the_home_folder_may_be_written_as_a_tilde(kinetics, monkeypatch):
    monkeypatch.setenv("HOME", str(kinetics))
    (kinetics / "list.txt").write_text("a/one.mp4 0\n")
    assert sources.read_list("~/list.txt", "~/videos", "~/labels.txt").paths == (str(kinetics / "videos/a/one.mp4"),)
    assert len(sources.scan_folder("~/videos")) == 3


def test_load_sources_of_the_demo(tmp_path):
    config = DataConfig(sources.Demo(16, 8, str(tmp_path)))
    train, val = sources.load_sources(config)
    assert len(train.classes) == 8
    np.testing.assert_array_equal(np.bincount(train.labels), [2] * 8)
    np.testing.assert_array_equal(np.bincount(val.labels), [1] * 8)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (sources.Folder(), "data.source.root: is empty; Folder needs a folder with train/<class> and val/<class>"),
        (sources.Lists("", "x"), "data.source.train_list: there is no file 'x'.*\ndata.source.val_list: is empty"),
        (sources.Records("x"), "data.source.root: there is no folder 'x'; expected what 'dnr prepare' wrote"),
    ],
)
def test_load_sources_says_what_is_missing(source, message):
    with pytest.raises(ConfigError, match=message):
        sources.load_sources(DataConfig(source))


def source_of(names, labels=(0, 0, 1), classes=("a", "b"), root="/data") -> sources.VideoSource:
    paths = tuple(f"{root}/{name}" for name in names)
    return sources.VideoSource(paths, np.array(labels, np.int32), tuple(names), tuple(classes))


def test_the_fingerprint_of_a_source_tells_its_content_and_not_its_place():
    names = ("a/1.mp4", "a/2.mp4", "b/3.mp4")
    content = source_of(names).fingerprint()
    assert content == source_of(names, root="/elsewhere").fingerprint()
    different = [
        source_of(("a/1.mp4", "a/2.mp4", "b/4.mp4")),
        source_of((names[1], names[0], names[2])),
        source_of(names, labels=(0, 1, 1)),
        source_of(names, classes=("b", "a")),
        source_of(names[:2], labels=(0, 0)),
    ]
    assert len({content, *(source.fingerprint() for source in different)}) == 6


def test_the_fingerprint_of_absolute_names_counts_from_the_folder_that_they_share():
    here, there = (
        source_of([f"{root}/{name}" for name in ("a/1.mp4", "a/2.mp4", "b/3.mp4")]) for root in ("/x", "/y/z")
    )
    assert here.fingerprint() == there.fingerprint()
    moved_inside = source_of(["/x/b/1.mp4", "/x/a/2.mp4", "/x/b/3.mp4"])
    assert moved_inside.fingerprint() != here.fingerprint()
    undecodable = source_of(["d\udce9j/1.mp4", "d\udce9j/2.mp4", "b/3.mp4"])
    assert undecodable.fingerprint() != source_of(["d\udce0j/1.mp4", "d\udce0j/2.mp4", "b/3.mp4"]).fingerprint()


@pytest.mark.parametrize("case", ["sthv1", "sthv2", "jester", "jester_kaggle"])
def test_a_split_without_labels_is_refused(case, tmp_path):
    name, write = MINIATURES[case]
    write(tmp_path)
    with pytest.raises(ValueError, match="the annotations of the split 'test' tell no class of any video"):
        sources.Dataset(name, str(tmp_path)).open(("train", "test"))


def test_a_split_is_read_without_the_others(kinetics, tmp_path):
    lists = sources.Lists(str(kinetics / "videos"), val_list=str(kinetics / "list.txt"))
    assert lists.load_split("val").classes == ("0", "1", "2")
    (kinetics / "videos").rename(tmp_path / "test")
    folder = sources.Folder(str(tmp_path))
    assert folder.load_split("test").names == ("a/one.mp4", "a/with a space.mp4", "b/two.mp4")
    for split, message in [("test", "has no split 'test'"), ("train", "data.source.train_list is empty")]:
        with pytest.raises(ValueError, match=message):
            sources.Lists().load_split(split)


def test_a_split_of_a_public_data_set_is_read_without_the_others(tmp_path):
    annotations, make = MINIATURES["kinetics400"][:2]
    make(tmp_path)
    dataset = sources.Dataset("kinetics400", str(tmp_path))
    train, val = sources.load_sources(DataConfig(dataset))
    assert dataset.load_split("val").names == val.names
    assert dataset.load_split("train").names == train.names


@pytest.mark.parametrize(
    ("files", "target", "expected"),
    [
        (["train/a/x.mp4"], "", sources.Folder("{}")),
        (["a/x.mp4"], "", sources.Folder("{}")),
        (["a/x.mp4", "train.csv", "val.txt", "label_map.txt"], "", "lists"),
        (["a/x.mp4", "mine.txt"], "mine.txt", sources.Lists("{}", "", "{}/mine.txt")),
        (["1.0.0/dataset_info.json", "1.0.0/label.labels.txt", "train/a/x.mp4"], "", sources.Records("{}/1.0.0")),
    ],
)
def test_what_a_path_is_tells_itself(files, target, expected, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"name": "x"}' if name.endswith(".json") else "a/x.mp4 0\n")
    if expected == "lists":
        expected = sources.Lists("{}", "{}/train.csv", "{}/val.txt", "{}/label_map.txt")
    found = sources.source_at(str(tmp_path / target))
    assert type(found) is type(expected)
    assert vars(found) == {name: value.format(tmp_path) for name, value in vars(expected).items()}


def test_what_a_name_is_and_what_it_does_not_take(kinetics):
    root = str(kinetics)
    assert sources.source_at("ucf101", root, "lists", 2) == sources.Dataset("ucf101", root, "lists", 2)
    assert sources.source_at("folder", root) == sources.source_at("Folder", root) == sources.Folder(root)
    (kinetics / "list.txt").rename(kinetics / "train_list.txt")
    lists = sources.source_at("list", str(kinetics / "videos"), root)
    assert lists == sources.Lists(str(kinetics / "videos"), str(kinetics / "train_list.txt"))
    assert sources.source_at(root, str(kinetics / "videos")) == lists
    assert len(lists.open().splits["train"]) == 3
    for target, given, message in [
        ("ucf101", {}, "--root has to name the folder of its videos"),
        ("folder", {"root": root, "fold": 2}, "--fold: folder has no such setting"),
        ("list", {"root": root, "fold": 2}, "--fold: list has no such setting"),
        (str(kinetics / "videos"), {"root": root}, "--root: '.*' has no such setting"),
        (root, {"annotations": "x"}, "--annotations: '.*' has no such setting"),
        ("Records", {"root": root, "annotations": "x"}, "--annotations: Records has no such setting"),
    ]:
        with pytest.raises(ConfigError, match=message):
            sources.source_at(target, **given)


def test_a_list_alone_is_checked_as_the_split_that_it_is(kinetics):
    catalogue = sources.source_at(str(kinetics / "list.txt"), str(kinetics / "videos")).open()
    assert {split: len(source) for split, source in catalogue.splits.items()} == {"val": 3}
