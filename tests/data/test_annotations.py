import pytest
from etils import epath

from dnr_jax.data import annotations
from dnr_jax.data.annotations import Entry


@pytest.fixture
def write(tmp_path):
    def write_file(text: str, name: str = "file.txt") -> epath.Path:
        file = epath.Path(tmp_path) / name
        file.write_text(text)
        return file

    return write_file


def pairs(entries: list[Entry]) -> list[tuple[str, object]]:
    return [(entry.name, entry.label) for entry in entries]


def test_an_entry_knows_its_place(write):
    file = write("\n1;a\n\n2;b\n")
    assert [entry.place for entry in annotations.semicolons(file)] == [f"{file}:2", f"{file}:4"]


def test_kinetics_times_are_whole_seconds(write):
    file = write('label,youtube_id,time_start,time_end,split\n"a, b",x_-1,4.0,14.9,train\n')
    (entry,) = annotations.kinetics(file)
    assert (entry.name, entry.label, entry.start, entry.end) == ("x_-1", "a, b", 4, 14)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a b.mp4 3\nc.mp4 0\n", [("a b.mp4", 3), ("c.mp4", 0)]),
        ("a b.mp4,3\nc.mp4\t0\n", [("a b.mp4", 3), ("c.mp4", 0)]),
        ("folder/one 120 3\nfolder/two 7 0\n", [("folder/one", 3), ("folder/two", 0)]),
        ("folder/one 120 3\nfolder/two 0\n", [("folder/one 120", 3), ("folder/two", 0)]),  # a space in a name
        ("path,label\nx.mp4,2\n", [("x.mp4", 2)]),
        ("Label,Video\nrun,x.mp4\n3,y.mp4\n", [("x.mp4", "run"), ("y.mp4", "3")]),
        ("\ufeffpath,label\nx.mp4,run\n", [("x.mp4", "run")]),
    ],
)
def test_lists_of_ones_own(write, text, expected):
    assert pairs(annotations.video_list(write(text))) == expected


@pytest.mark.parametrize(
    "parse, text, message",
    [
        (annotations.kinetics, "label,youtube_id\n", "the header has no column time_start, time_end"),
        (annotations.kinetics, "youtube_id,time_start,time_end\nx,1\n", "txt:2: the line is shorter than the header"),
        (annotations.kinetics, "youtube_id,time_start,time_end\nx,1,soon\n", "time_end is 'soon'; expected seconds"),
        (annotations.something_v2, "[{}]", "item 0 has no id"),
        (annotations.something_v2, "{}", "holds a JSON dict; expected a list"),
        (annotations.diving48, "[", "not valid JSON"),
        (annotations.ucf101, "video.avi 1\n", "expected 'Class/video.avi'"),
        (lambda file: annotations.hmdb51(file, "1"), "video.avi 3\n", "expected 'video.avi' and 0, 1 or 2"),
        (annotations.numbered_classes, "1 a\n3 b\n", "txt:2: '3 b'; expected '2 Class'"),
        (annotations.class_object, '{"a": "0", "b": "2"}', "the labels are not 0 to 1, each once"),
        (annotations.video_list, "x.mp4 1 2\n", "expected 'path label'"),
        (annotations.video_list, "path,label\nx.mp4,\n", "txt:2: the label is empty"),
    ],
)
def test_malformed_content_is_named(write, parse, text, message):
    with pytest.raises(ValueError) as refused:
        parse(write(text))
    assert message in str(refused.value)


def test_suffixes_of_videos_only_are_stripped():
    names = {"a.mp4": "a", "a.b.AVI": "a.b", "v1.2": "v1.2", "a": "a", ".mp4": ""}
    assert {name: annotations.strip_suffix(name) for name in names} == names


def test_names_that_other_software_leaves_behind_are_hidden():
    hidden = ("._x.mp4", ".DS_Store", ".ipynb_checkpoints", "@eaDir", "@Recycle", "__MACOSX")
    assert all(map(annotations.is_hidden, hidden))
    assert not any(map(annotations.is_hidden, ("x.mp4", "a@b", "_x", "__macosx2", "x.")))


def test_the_real_files_are_read(shared):
    folder = epath.Path(shared / "annotations")
    classes = annotations.numbered_classes(folder / "ucf101_splits" / "classInd.txt")
    sizes = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}  # as UCF101's authors publish them
    for fold, (trained, tested) in sizes.items():
        train = annotations.ucf101(folder / "ucf101_splits" / f"trainlist{fold:02d}.txt")
        test = annotations.ucf101(folder / "ucf101_splits" / f"testlist{fold:02d}.txt")
        assert (len(train), len(test)) == (trained, tested)
        assert {entry.label for entry in train} == {entry.label for entry in test} == set(classes)
        lists = sorted((folder / "hmdb51_splits").glob(f"*_test_split{fold}.txt"))
        counts = [sum(len(annotations.hmdb51(file, use)) for file in lists) for use in ("1", "2")]
        assert (len(lists), *counts) == (51, 3570, 1530)
    kinetics = annotations.kinetics(folder / "kinetics400" / "kinetics-400_val.csv")
    assert (len(kinetics), len({entry.label for entry in kinetics})) == (19906, 400)
    assert len(annotations.kinetics(folder / "kinetics600" / "kinetics-600_val.csv")) == 30000
    mini = annotations.identifiers(folder / "mini_kinetics_200" / "val_ytid_list.txt")
    known = {entry.name: entry.label for entry in kinetics}
    assert len(mini) == 5000 and len({known[entry.name] for entry in mini}) == 200
