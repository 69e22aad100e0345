import os
import unicodedata

import pytest

from dnr_jax.data.catalogue import lists


@pytest.fixture
def videos(tmp_path):
    """Videos (empty files: only their names matter here); ``run`` is a function that reads a list of them."""
    root = tmp_path / "videos"
    names = ["jump/a.mp4", "run/b c.mp4", unicodedata.normalize("NFD", "run/é.mp4"), os.fsdecode(b"run/d\xe9j\xe0.mp4")]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "frames" / "v_x.avi").mkdir(parents=True)
    return root


@pytest.fixture
def read(videos, tmp_path):
    def read_list(text: str | bytes, label_map: str = "", **arguments) -> lists.VideoList:
        (tmp_path / "list.txt").write_bytes(text.encode() if isinstance(text, str) else text)
        (tmp_path / "map.txt").write_text(label_map)
        mapped = str(tmp_path / "map.txt") if label_map else ""
        return lists.read_video_list(str(tmp_path / "list.txt"), str(videos), mapped, **arguments)

    return read_list


def test_a_video_is_located_however_the_list_writes_its_name(videos, monkeypatch):
    root = str(videos)
    for name in ("jump/a.mp4", "./jump//a.mp4", "jump\\a.mp4", ".\\jump\\a.mp4", f"{root}/jump/a.mp4"):
        assert lists.locate(root, name) == "jump/a.mp4"
    assert lists.locate(root, "run/é.mp4") == unicodedata.normalize("NFD", "run/é.mp4")
    assert lists.locate(root, "run/déjà.mp4") == os.fsdecode(b"run/d\xe9j\xe0.mp4")
    assert lists.locate(f"{root}/jump", "../run/b c.mp4") == "../run/b c.mp4"
    assert lists.locate(root, "run/../jump/a.mp4") == "jump/a.mp4"
    videos.with_name("link").symlink_to(videos)
    assert lists.locate(f"{root}/../link", f"{root}/jump/a.mp4") == "jump/a.mp4"
    monkeypatch.setenv("HOME", root)
    assert lists.locate("/elsewhere", "~/jump/a.mp4") == f"{root}/jump/a.mp4"
    assert lists.locate(root, "jump/gone.mp4") == ""
    assert lists.locate("gs://bucket", "jump/gone.mp4") == "jump/gone.mp4"
    assert lists.locate(root, "gs://bucket/a.mp4") == "gs://bucket/a.mp4"


def test_labels_are_positions_or_names(read):
    listed = read("jump/a.mp4 0\nrun/b c.mp4 2\n")
    assert (listed.classes, listed.by_number) == (("0", "1", "2"), True)
    assert [(video.path, video.label) for video in listed.videos] == [("jump/a.mp4", 0), ("run/b c.mp4", 2)]
    listed = read("path,label\njump/a.mp4,run\nrun/b c.mp4,jump\nfrom/x.mp4,run\n")
    assert (listed.classes, listed.by_number) == (("jump", "run"), False)
    assert [(video.path, video.label) for video in listed.videos] == [("jump/a.mp4", 1), ("run/b c.mp4", 0), ("", 1)]
    listed = read("jump/a.mp4 1\nrun/b c.mp4 2\n", "1 jump\n2 run\n")
    assert [video.label for video in listed.videos] == [0, 1]
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    assert read(f"path,label\njump/a.mp4,{apart}\n", classes=["x", composed]).videos[0].label == 1


def test_labels_outside_of_the_classes_are_refused_with_what_there_is(read):
    listed = read("jump/a.mp4 0\nrun/b c.mp4 2\n", "jump\nrun\n")
    assert [video.label for video in listed.videos] == [0, None]
    with pytest.raises(
        ValueError, match=r"list\.txt:2: label 2 is out of range; .*map\.txt names 2 classes, .* 0 to 1"
    ):
        listed.require_known()
    listed = read("jump/a.mp4 0\n", "1 jump\n2 run\n")
    with pytest.raises(ValueError, match="label 0 is out of range; .* so labels are 1 to 2"):
        listed.require_known()
    with pytest.raises(ValueError, match="'swim' is none of the classes; the training list names 1 classes: jump"):
        read("path,label\njump/a.mp4,swim\n", classes=["jump"]).require_known()
    read("jump/a.mp4 0\n").require_known()


def test_a_number_that_is_no_label_is_refused(read):
    with pytest.raises(ValueError, match=r"list\.txt:2: label 20231130 would mean 20231131 classes"):
        read("jump/a.mp4 0\nrun/b c.mp4 20231130\n")


def test_numbers_that_may_be_names_of_other_classes_are_refused(read):
    with pytest.raises(ValueError, match="label 1 may be a position, or the class called '1', which is label 0"):
        read("jump/a.mp4 1\nrun/b c.mp4 2\n", "1\n2\n3\n")
    assert read("jump/a.mp4 1\n", "0\n1\n").videos[0].label == 1


def test_what_other_software_left_there_is_left_out(read):
    listed = read("jump/a.mp4 0\njump/._a.mp4 0\n@eaDir/a.mp4 1\n./run/b c.mp4 1\n../videos/jump/a.mp4 0\n")
    assert listed.hidden == ("@eaDir/a.mp4", "jump/._a.mp4")
    assert [video.path for video in listed.videos] == ["jump/a.mp4", "run/b c.mp4", "jump/a.mp4"]


def test_a_folder_of_frames_may_be_called_like_a_file_and_a_file_has_one_label(read):
    listed = read("frames/v_x.avi 3 0\nframes/gone.avi 3 1\n")
    assert [(video.path, video.label) for video in listed.videos] == [("frames/v_x.avi", 0), ("", 1)]
    with pytest.raises(ValueError, match=r"list\.txt:2: 'jump/a\.mp4 3 1'; expected 'path label'"):
        read("frames/v_x.avi 3 0\njump/a.mp4 3 1\n")


@pytest.mark.parametrize(
    "names, message",
    [
        (["C:\\data\\a.mp4"], "paths of a Windows drive; write them relative to data.source.root"),
        (["/mnt/a.mp4"], "absolute paths, perhaps of another machine; write them relative to data.source.root"),
        (["videos/jump/a.mp4"], "set data.source.root to '{}', where they are"),
        (["a.mp4"], "set data.source.root to the folder that the list's paths are relative to"),
    ],
)
def test_advice_where_no_video_is_there(videos, names, message):
    assert message.format(videos.parent) in lists.advice(names, str(videos))
