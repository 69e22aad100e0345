import logging
import os
import pathlib

import pytest

from dnr_jax.data.catalogue import folders


@pytest.fixture
def tree(tmp_path):
    """Makes empty files (only their names matter here), and folders where the name ends with a slash."""

    def make(*names: str | bytes) -> pathlib.Path:
        for name in names:
            path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
            os.makedirs(path if path.endswith(b"/") else os.path.dirname(path), exist_ok=True)
            if not path.endswith(b"/"):
                open(path, "wb").close()
        return tmp_path

    return make


def test_videos_are_found_at_any_depth_by_their_suffix(tree):
    suffixes = (
        ".mp4 .M2TS .vob .mxf .f4v .divx .h264 .hevc .ivf .y4m .nut .rmvb .3g2 .dv .wtv .ogg .m2v .qt .amv".split()
    )
    names = [f"a/b/c/{number:02d}{suffix}" for number, suffix in enumerate(suffixes)]
    media = folders.find_media(str(tree(*names, "top.avi", "empty/", "notes.txt", "a/list.csv")))
    assert media.videos == (*names, "top.avi")
    assert media.folders == ("a", "empty")
    assert str(media.left_out) == ""


def test_folders_of_frames_are_videos_whatever_their_names(tree):
    root = tree("a/v_x.avi/1.jpg", "a/id_0.0_10.0/1.JPEG", "a/plain/1.jpg", "a/plain/below/2.jpg", "a/v/flow_x/1.jpg")
    media = folders.find_media(str(root))
    assert media.videos == ("a/id_0.0_10.0", "a/plain", "a/v_x.avi")
    assert str(media.left_out) == (
        "folders of frames in a folder of as many: 1, such as a/plain/below; "
        "folders of optical flow: 1, such as a/v/flow_x"
    )


def test_a_picture_beside_videos_does_not_hide_them(tree):
    media = folders.find_media(str(tree("a/cover.jpg", "a/one.mp4", "a/two.mp4")))
    assert media.videos == ("a/one.mp4", "a/two.mp4")
    assert str(media.left_out) == "pictures that lie beside videos: 1, such as a/cover.jpg"


def test_a_picture_above_videos_does_not_hide_them(tree):
    """At any depth, above files and above folders of frames; flow is not what a picture lies above."""
    frames = [f"b/x/{number}.jpg" for number in range(3)]
    names = ("a/preview.jpg", "a/1/cover.png", "a/1/day/one.mp4", "a/2/two.mp4", "b/cover.jpg", "b/1.png", *frames)
    media = folders.find_media(str(tree(*names, "c/1.jpg", "c/flow/1.jpg", "c/flow/2.jpg")))
    assert media.videos == ("a/1/day/one.mp4", "a/2/two.mp4", "b/x", "c")
    assert str(media.left_out) == "pictures that lie beside videos: 4, such as a/preview.jpg"


def test_hidden_names_are_nothing(tree):
    hidden = ("a/._x.mp4", ".ipynb_checkpoints/x.mp4", "__MACOSX/a/x.mp4", "a/@eaDir/x.avi/1.jpg", "@eaDir/")
    media = folders.find_media(str(tree("a/x.avi", *hidden)))
    assert (media.videos, media.folders) == (("a/x.avi",), ("a",))
    assert str(media.left_out) == f"{folders.HIDDEN}: 5, such as .ipynb_checkpoints"


def test_what_explains_videos_is_no_video(tree):
    written = ("a/x.explained.mp4", "a/x.explained.gif", "a/x.explained.png", "frames.explained.png")
    media = folders.find_media(str(tree("a/x.mp4", "a/y.mp4", "frames/1.jpg", "frames/2.jpg", *written)))
    assert media.videos == ("a/x.mp4", "a/y.mp4", "frames")
    assert str(media.left_out) == "files that dnr explain wrote: 4, such as frames.explained.png"


def test_what_is_left_out_is_said_in_one_warning(tree, caplog):
    root = tree("a/1.dat", "a/2.dat", "a/3", "a/4.mp4.part", "a/5.mp4")
    with caplog.at_level(logging.WARNING):
        media = folders.find_media(str(root))
        media.left_out.warn(str(root))
        folders.LeftOut().warn("silent")
    assert media.videos == ("a/5.mp4",)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{root}: left out: files with the suffix .dat, which is no video's: 2, such as a/1.dat; "
        "files without a suffix: 1, such as a/3; "
        "files with the suffix .part, which is no video's: 1, such as a/4.mp4.part"
    )


def test_links_are_followed_but_not_in_circles(tree, tmp_path):
    root = tree("data/run/a.mp4", "data/run/deep/b.mp4", "elsewhere/c.mp4")
    (root / "data" / "jump").symlink_to(root / "elsewhere")
    for link, target in {
        "run/self": ".",
        "run/deep/up": "..",
        "run/deep/top": "../..",
        "jump/there": "../data",
    }.items():
        (root / "data" / link).symlink_to(target)
    (root / "data" / "run" / "gone.mp4").symlink_to("nowhere.mp4")
    media = folders.find_media(str(root / "data"))
    assert media.videos == ("jump/c.mp4", "run/a.mp4", "run/deep/b.mp4")
    assert {reason: sorted(paths) for reason, paths in media.left_out.reasons.items()} == {
        "links that lead back to a folder they lie in": ["jump/there", "run/deep/top", "run/deep/up", "run/self"],
        "links to files that are not there": ["run/gone.mp4"],
    }


def test_names_that_are_not_utf_8_are_found_and_can_be_printed(tree):
    media = folders.find_media(str(tree(b"d\xe9j\xe0/\xe0.mp4", b"d\xe9j\xe0/\xe9.dat")))
    assert list(map(os.fsencode, media.videos)) == [b"d\xe9j\xe0/\xe0.mp4"]
    assert str(media.left_out).endswith("such as déjà/é.dat")


def test_a_folder_that_may_not_be_read_is_left_out(tree, monkeypatch):
    def scandir(path: str):
        raise PermissionError(path)

    root = str(tree("a/x.mp4"))
    monkeypatch.setattr(os, "scandir", scandir)
    assert str(folders.find_media(root).left_out) == "folders that may not be read: 1, such as ."


def test_a_bucket_is_asked_no_more_than_needed(monkeypatch):
    asked = []

    class Path:
        def __init__(self, name: str):
            self.name = name.rpartition("/")[2]
            self.path, self.suffix = name, os.path.splitext(name)[1]

        def iterdir(self):
            names = {"gs://b/v": ["run", "x.mp4", "x.dat"], "gs://b/v/run": ["y.avi", "frames"]}
            return [Path(f"{self.path}/{name}") for name in names.get(self.path, ["1.jpg", "2.jpg"])]

        def is_dir(self):
            asked.append(self.name)
            return not self.suffix

    monkeypatch.setattr(folders.epath, "Path", Path)
    media = folders.find_media("gs://b/v")
    assert media.videos == ("run/frames", "run/y.avi", "x.mp4")
    assert asked == ["run", "x.dat", "frames"]
