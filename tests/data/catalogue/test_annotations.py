import pytest
from etils import epath

from dnr_jax.data.catalogue import annotations
from dnr_jax.data.catalogue.annotations import Entry


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
        ("\npath,label\nx.mp4,run\n", [("x.mp4", "run")]),
        ("# a comment\n# version 2\n#x.mp4 0\n# y.mp4 1\n", [("#x.mp4", 0)]),  # HMDB51's names begin with "#", too
        ('"a b.mp4" 3\nc.mp4 0\n', [("a b.mp4", 3), ("c.mp4", 0)]),
        ('"a, b.mp4","3"\n"say ""hi"".mp4",0\n', [("a, b.mp4", 3), ('say "hi".mp4', 0)]),
        ('"a b" 120 3\nc 7 0\n', [("a b", 3), ("c", 0)]),
        ("a.mp4;3\nb c.mp4 ; 0\nd.mp4|1\n", [("a.mp4", 3), ("b c.mp4", 0), ("d.mp4", 1)]),
        ("a.mp4,3,,\nb.mp4,0,\n", [("a.mp4", 3), ("b.mp4", 0)]),
        ("path label\na b.mp4 3\n", [("a b.mp4", 3)]),
        ("path frames label\na 120 3\nb 7 0\n", [("a", 3), ("b", 0)]),
        ("Class Name ; Video-Path;x\nrun; a b.mp4;1\n", [("a b.mp4", "run")]),
        ("path,label\nx.mp4,2.0\ny.mp4,0\n", [("x.mp4", 2), ("y.mp4", 0)]),  # pandas
        ("path,label\nx.mp4,001\ny.mp4,002\n", [("x.mp4", "001"), ("y.mp4", "002")]),  # names, by their zeros
    ],
)
def test_lists_of_ones_own(write, text, expected):
    assert pairs(annotations.video_list(write(text))) == expected


def test_a_folder_of_frames_may_be_called_like_a_file(write):
    file = write("jump/v_x.avi 3 0\nrun/v_y 3 1\n")
    assert pairs(annotations.video_list(file, lambda name: name == "jump/v_x.avi")) == [
        ("jump/v_x.avi", 0),
        ("run/v_y", 1),
    ]
    with pytest.raises(ValueError, match="txt:1: 'jump/v_x.avi 3 0'; expected 'path label'"):
        annotations.video_list(file)


@pytest.mark.parametrize(
    "text",
    [
        "jump\nrun, fast\n",
        'id,name\n0,jump\n1,"run, fast"\n',
        "Name ; ID\nrun, fast;1\njump;0\n",
        'label,class\n0,jump\n1,"run, fast"\n',
        "label\tid\njump\t0\nrun, fast\t1\n",
        ',name\n0,jump\n1,"run, fast"\n',
        "id name\n1 run, fast\n0 jump\n",
        "# classes\n1 run, fast\n0 jump\n\n",
        "0: jump\n1: run, fast\n",
        "1=run, fast\n0=jump\n",
        "1 -> run, fast\n0 -> jump\n",
        "run, fast => 1\njump => 0\n",
        'jump,0\n"run, fast",1\n',
        "jump 0\nrun, fast 1\n",
        'jump\n"run, fast"\n',
        '["jump", "run, fast"]',
        '{"run, fast": 1, "jump": 0}',
        '{"run, fast": "1", "jump": "0"}',
        '{"1": "run, fast", "0": "jump"}',
    ],
)
def test_label_maps(write, text):
    assert annotations.label_map(write(text)) == annotations.LabelMap(("jump", "run, fast"))


def test_label_maps_that_count_from_1_say_so(write, caplog):
    assert annotations.label_map(write("1 jump\n2 run\n")) == annotations.LabelMap(("jump", "run"), first=1)
    assert "the classes are numbered from 1, so label 1 is 'jump'" in caplog.text


def test_a_header_without_a_column_of_numbers_is_no_class(write, caplog):
    assert annotations.label_map(write("name\njump\nrun\n")).names == ("jump", "run")
    assert "txt:1: 'name' is taken for the header, not for a class" in caplog.text


@pytest.mark.parametrize("names", [["gesture 1", "gesture 2"], ["3 point shot", "dunk"], ["[Something] falling", "x"]])
def test_names_of_classes_may_hold_numbers(write, names):
    assert annotations.label_map(write("\n".join(names))).names == tuple(names)


@pytest.mark.parametrize(
    "text, message",
    [
        ("\n\n", "there are no names of classes in it"),
        ("jump\n\nrun\n", "txt:2: the line is blank; expected a class"),
        ("\njump\nrun\n", "txt:1: the line is blank; expected a class"),
        ("jump\nrun\njump\n", "txt:3: the class 'jump' is there twice, at"),
        ("id,name\n0,jump\n1,jump\n", "txt:3: the class 'jump' is there twice, at"),
        ("id,name\n0,jump\n2,run\n", "the labels are not 0 to 1, each once (or 1 to 2)"),
        ("0 jump\n2 run\n", "the labels are not 0 to 1, each once"),
        ("0,jump\n0,run\n", "the labels are not 0 to 1, each once"),
        ("id,name\none,jump\n", "txt:2: 'one' and 'jump'; expected a number of 0 or more and the name of a class"),
        ("id,name\n-1,jump\n", "txt:2: '-1' and 'jump'; expected a number of 0 or more"),
        ("nr;klasse\n0;jump\n1;run\n", "txt:1: 'nr;klasse' is not numbered as the other lines are"),
        ("id name\njump\n", "txt:2: expected a number and a class in each line"),
        ('item {\n  name: "jump"\n  id: 1\n}\n', "a map in protobuf's text format"),
        ("names:\n  - jump\n  - run\n", "a map in YAML; expected one name a line"),
        ("- jump\n- run\n", "a map in YAML; expected one name a line"),
        ("class_name,remark\njump,x\nrun,y\n", "txt:1: 'class_name,remark' seems to be a header without a column of"),
        ("de\u0301ja\nd\u00e9ja\n", "txt:2: the class 'd\u00e9ja' is there twice, at"),
        ("id,name\n", "there are no names of classes in it"),
        ("[]", "there are no names of classes in it"),
        ('{"0": "1", "1": "0"}', "both sides are numbers"),
        ('{"a": "b"}', 'expected an object of "name": number'),
        ('{"a"', "not valid JSON"),
        ("[1, 2]", "expected a list of names"),
    ],
)
def test_label_maps_in_which_labels_could_move_are_refused(write, text, message):
    with pytest.raises(ValueError) as refused:
        annotations.label_map(write(text))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "parse, text, message",
    [
        (annotations.kinetics, "label,youtube_id\n", "the header has no column time_start, time_end"),
        (annotations.kinetics, "youtube_id,time_start,time_end\nx,1\n", "txt:2: the line is shorter than the header"),
        (annotations.kinetics, "youtube_id,time_start,time_end\nx,1,soon\n", "time_end is 'soon'; expected seconds"),
        (annotations.kinetics, "", "the header has no column youtube_id, time_start, time_end"),
        (annotations.something_v2, "[{}]", "item 0 has no id"),
        (annotations.something_v2, "[1]", "item 0 is no object; expected one with id"),
        (annotations.something_v2, "{}", "holds a JSON dict; expected a list"),
        (annotations.jester_classes, "label,label_id\na,0\na,1\n", "the class 'a' is there twice"),
        (annotations.jester_classes, "label,label_id\na,x\n", "txt:2: 'x' and 'a'; expected a number of 0 or more"),
        (annotations.diving48, "[", "not valid JSON"),
        (annotations.ucf101, "video.avi 1\n", "expected 'Class/video.avi'"),
        (lambda file: annotations.hmdb51(file, "1"), "video.avi 3\n", "expected 'video.avi' and 0, 1 or 2"),
        (annotations.numbered_classes, "1 a\n3 b\n", "txt:2: '3 b'; expected '2 Class'"),
        (annotations.class_object, '{"a": "0", "b": "2"}', "the labels are not 0 to 1, each once"),
        (annotations.video_list, "x.mp4 1 2\n", "expected 'path label'"),
        (annotations.video_list, "x.mp4 1 2\ny.mp4 0\n", "txt:1: 'x.mp4 1 2'; expected 'path label'"),
        (annotations.video_list, '"x.mp4 1\n', "txt:1: '\"x.mp4 1'; expected 'path label'"),
        (annotations.video_list, "x.mp4,run\n", "or a header with the columns path and label, separated by commas"),
        (annotations.video_list, "label path\n0 x.mp4\n", "txt:1: 'label path'; expected commas between columns"),
        (annotations.video_list, "path,label\nx.mp4,\n", "txt:2: the label is empty"),
        (annotations.video_list, "path,label\n,1\n", "txt:2: the path is empty"),
        (annotations.video_list, "path,label\nx.mp4,0\ny.mp4,-1\n", "txt:3: the label is -1; expected 0 or more"),
        (annotations.video_list, "path,label\na, b.mp4,1\n", "txt:2: the line has 3 fields, the header 2"),
        (annotations.class_lines, "a\n\nb\n", "txt:2: the line is blank"),
    ],
)
def test_malformed_content_is_named(write, parse, text, message):
    with pytest.raises(ValueError) as refused:
        parse(write(text))
    assert message in str(refused.value)


def test_a_table_of_parts_of_videos_or_of_several_splits_is_refused(write, caplog):
    """Times that say where a whole video came from are only mentioned."""
    with pytest.raises(ValueError, match=r":3: another part of 'a.mp4', by start and end; .*cut the parts"):
        annotations.video_list(write("path,start,end,label\na.mp4,0,5,0\na.mp4,5,9,1\n"))
    with pytest.raises(ValueError, match=r"several splits \(train, val\); expected a list for each"):
        annotations.video_list(write("path,label,split\na.mp4,0,train\nb.mp4,1,val\n"))
    with pytest.raises(ValueError, match=r"several splits \(Train, validation\); expected a list for each"):
        annotations.video_list(write("path,label,Subset\na.mp4,0,Train\nb.mp4,1,validation\n"))
    assert len(annotations.video_list(write("path,label,set\na.mp4,0,train\nb.mp4,1,trains and buses\n"))) == 2
    assert not caplog.records
    parts = annotations.video_list(write("path,time_start,label,split\na.mp4,7,0,val\nb.mp4,7,1,val\n"))
    assert [(entry.name, entry.label) for entry in parts] == [("a.mp4", 0), ("b.mp4", 1)]
    assert caplog.messages[0].endswith("not read: time_start; each row is the whole video")
    annotations.video_list(write("path,start,label\na.mp4,,0\na.mp4,,0\n"))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("missing", ["nan", "None", "<NA>"])
def test_a_number_that_is_missing_is_no_class(write, missing):
    with pytest.raises(ValueError, match=rf":3: the label is '{missing}', where others are numbers; expected a number"):
        annotations.video_list(write(f"path,label\na.mp4,1.0\nb.mp4,{missing}\n"))
    entries = annotations.video_list(write(f"path,label\na.mp4,7\nb.mp4,jump\nc.mp4,{missing}\n"))
    assert [entry.label for entry in entries] == ["7", "jump", missing]


def test_tables_may_differ_in_case_order_and_delimiter(write):
    (entry,) = annotations.kinetics(write("\n Time_End; time_start;YouTube_ID ;Label\n14;4;x;a\n"))
    assert (entry.name, entry.label, entry.start, entry.end) == ("x", "a", 4, 14)
    (entry,) = annotations.jester(write("Label_ID,Label,Video_ID\n3,Swipe,77\n"))
    assert (entry.name, entry.label) == ("77", "Swipe")


def test_json_may_begin_with_a_byte_order_mark_and_hold_numbers_as_names(write):
    (entry,) = annotations.something_v2(write('\ufeff[{"id": 1, "template": "Putting [something]"}]'))
    assert (entry.name, entry.label) == ("1", "Putting something")


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
    for file, count in {"kinetics400/label_map_k400.txt": 400, "kinetics600/label_map_k600.txt": 600}.items():
        assert len(annotations.label_map(folder / file).names) == count
    for file, count in {"sthv1": 174, "sthv2": 174}.items():
        assert len(annotations.label_map(folder / file / "label_map.txt").names) == count
    assert annotations.label_map(folder / "ucf101_splits" / "classInd.txt").first == 1
    mini = annotations.identifiers(folder / "mini_kinetics_200" / "val_ytid_list.txt")
    known = {entry.name: entry.label for entry in kinetics}
    assert len(mini) == 5000 and len({known[entry.name] for entry in mini}) == 200
