"""Every data set in little: the official folders, file names and annotation formats, and videos of a few frames."""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from dnr_jax.data.clips.decode import encode_video
from tests.data.videos import moving_frames, write_frames

Labelled: TypeAlias = list[tuple[str, str]]
"""Path relative to the root, name of the class."""


@dataclasses.dataclass(frozen=True)
class Miniature:
    """What a miniature holds.

    Attributes:
      splits: The videos on the disk, in the order of the annotations.
      classes: In the order of their labels.
      missing: Annotated videos that are not on the disk: split -> name, class.
      arguments: Further arguments of ``dnr prepare``.
    """

    splits: Mapping[str, Labelled]
    classes: Sequence[str]
    missing: Mapping[str, Labelled] = dataclasses.field(default_factory=dict)
    arguments: Sequence[str] = ()


class _Videos:
    """Writes videos below a root, each with a content of its own."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.count = 0

    def frames(self) -> np.ndarray:
        self.count += 1
        return moving_frames(4 + self.count % 5, seed=self.count)

    def add(self, *paths: str) -> None:
        codecs = {".mp4": "libx264", ".avi": "mpeg4", ".webm": "libvpx"}
        for path in paths:
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            options = {"preset": "ultrafast"} if file.suffix == ".mp4" else {}
            encode_video(str(file), self.frames(), codec=codecs[file.suffix], options=options)

    def add_folders(self, *paths: str, name: str = "{:05d}.jpg") -> None:
        for path in paths:
            write_frames(self.root / path, self.frames(), name)


def _write(root: pathlib.Path, path: str, *lines: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def _write_kinetics_csv(root: pathlib.Path, path: str, columns: str, rows: Sequence[Sequence[object]]) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    with (root / path).open("w", newline="") as file:
        csv.writer(file).writerows([columns.split(","), *rows])


def kinetics400(root: pathlib.Path) -> Miniature:
    """The Kinetics crawler's CSV files; videos named by identifier and times, in folders by split and class."""
    columns = "label,youtube_id,time_start,time_end,split,is_cc"
    train = [
        ("air drumming", "-3-OEq9bZWI", 5, 15, "train", 0),
        ("abseiling", "0347ZoDXyP0", 95, 105, "train", 0),
        ("waxing legs", "gone_0000_A", 0, 10, "train", 1),
        ("abseiling", "-gone_0000B", 3, 13, "train", 0),
        ("waxing legs", "__NrybzYzUg", 415, 425, "train", 1),
    ]
    val = [("abseiling", "0wR5jVB-WPk", 417, 427, "val", 0), ("waxing legs", "3caPS4FHFF8", 36, 46, "val", 0)]
    _write_kinetics_csv(root, "annotations/kinetics-400_train.csv", columns, train)
    _write_kinetics_csv(root, "annotations/kinetics-400_val.csv", columns, val)
    test = [("--6bJUbfpnQ", 17, 27, "test")]
    _write_kinetics_csv(root, "annotations/kinetics-400_test.csv", "youtube_id,time_start,time_end,split", test)
    splits = {
        "train": [
            ("train/air drumming/-3-OEq9bZWI_000005_000015.mp4", "air drumming"),
            ("train/abseiling/0347ZoDXyP0_000095_000105.mp4", "abseiling"),
            ("train/waxing legs/__NrybzYzUg_000415_000425.mp4", "waxing legs"),
        ],
        "val": [
            ("val/abseiling/0wR5jVB-WPk_000417_000427.mp4", "abseiling"),
            ("val/waxing legs/3caPS4FHFF8_000036_000046.mp4", "waxing legs"),
        ],
    }
    _Videos(root).add(*(path for listed in splits.values() for path, _ in listed))
    missing = {"train": [("gone_0000_A", "waxing legs"), ("-gone_0000B", "abseiling")]}
    return Miniature(splits, ("abseiling", "air drumming", "waxing legs"), missing)


def mini_kinetics200(root: pathlib.Path) -> Miniature:
    """Lists of identifiers, whose labels and times Kinetics-400's files tell; those videos, in one folder a class."""
    columns = "label,youtube_id,time_start,time_end,split,is_cc"
    train = [
        ("belly dancing", "kIRmvrmc2nM", 0, 10, "train", 0),
        ("not in mini", "AAAAAAAAAAA", 0, 10, "train", 0),
        ("archery", "2B65vtRd5Ck", 20, 30, "train", 0),
    ]
    val = [
        ("archery", "zkyy5cC7SL4", 0, 10, "val", 0),
        ("belly dancing", "-7tDxxH2g6I", 16, 26, "val", 0),
    ]
    _write_kinetics_csv(root, "kinetics400/train.csv", columns, train)
    _write_kinetics_csv(root, "kinetics400/validate.csv", columns, val)
    _write(root, "train_ytid_list.txt", "kIRmvrmc2nM", "2B65vtRd5Ck")
    _write(root, "val_ytid_list.txt", "zkyy5cC7SL4", "-7tDxxH2g6I", "notlabelled")
    splits = {
        "train": [("belly_dancing/kIRmvrmc2nM.mp4", "belly dancing"), ("archery/2B65vtRd5Ck.mp4", "archery")],
        "val": [("archery/zkyy5cC7SL4.mp4", "archery"), ("belly_dancing/-7tDxxH2g6I.mp4", "belly dancing")],
    }
    videos = _Videos(root)
    videos.add(*(path for listed in splits.values() for path, _ in listed), "not_in_mini/AAAAAAAAAAA.mp4")
    return Miniature(splits, ("archery", "belly dancing"))


def kinetics600(root: pathlib.Path) -> Miniature:
    """The crawler's CSV files beside the videos; class folders with underscores, as MMAction2 renames them."""
    columns = "label,youtube_id,time_start,time_end,split"
    rows = {
        "train": [("acting in play", "yq_M1PMw2hY", 38, 48, "train"), ("abseiling", "7pRfb0t34uo", 158, 168, "train")],
        "val": [("abseiling", "XaH22IFN81Y", 56, 66, "val")],
    }
    for split, listed in rows.items():
        _write_kinetics_csv(root, f"kinetics-600_{split}.csv", columns, listed)
    splits = {
        "train": [
            ("videos_train/acting_in_play/yq_M1PMw2hY_000038_000048.mp4", "acting in play"),
            ("videos_train/abseiling/7pRfb0t34uo_000158_000168.mp4", "abseiling"),
        ],
        "val": [("videos_val/abseiling/XaH22IFN81Y_000056_000066.mp4", "abseiling")],
    }
    _Videos(root).add(*(path for listed in splits.values() for path, _ in listed))
    return Miniature(splits, ("abseiling", "acting in play"))


def kinetics700(root: pathlib.Path) -> Miniature:
    """DeepMind's archive of CSV files; a video that is in two clips, told apart by their times."""
    columns = "label,youtube_id,time_start,time_end,split"
    rows = {
        "train": [("yoga", "aaaaaaaaaaa", 0, 10, "train"), ("zumba", "aaaaaaaaaaa", 20, 30, "train")],
        "val": [("zumba", "bbbbbbbbbbb", 0, 10, "validate")],
    }
    _write_kinetics_csv(root, "kinetics700/train.csv", columns, rows["train"])
    _write_kinetics_csv(root, "kinetics700/validate.csv", columns, rows["val"])
    splits = {
        "train": [
            ("train/yoga/aaaaaaaaaaa_000000_000010.mp4", "yoga"),
            ("train/zumba/aaaaaaaaaaa_000020_000030.mp4", "zumba"),
        ],
        "val": [("val/zumba/bbbbbbbbbbb_000000_000010.mp4", "zumba")],
    }
    _Videos(root).add(*(path for listed in splits.values() for path, _ in listed))
    return Miniature(splits, ("yoga", "zumba"))


def kinetics700_mmaction2(root: pathlib.Path) -> Miniature:
    """The same with the files as MMAction2 renames them."""
    miniature = kinetics700(root)
    (root / "annotations").mkdir()
    (root / "kinetics700" / "train.csv").rename(root / "annotations" / "kinetics_train.csv")
    (root / "kinetics700" / "validate.csv").rename(root / "annotations" / "kinetics_val.csv")
    return miniature


def kinetics400_cvdf(root: pathlib.Path) -> Miniature:
    """The Common Visual Data Foundation's archives: a folder a split without classes, and whole videos for broken ones.

    Those of Kinetics-600 and 700 are alike, without replacements.
    """
    columns = "label,youtube_id,time_start,time_end,split"
    rows = {
        "train": [("yoga", "aaaaaaaaaaa", 0, 10, "train"), ("zumba", "_bb_bbbbbbb", 20, 30, "train")],
        "val": [("zumba", "ccccccccccc", 0, 10, "val"), ("yoga", "ddddddddddd", 0, 10, "val")],
        "test": [("yoga", "eeeeeeeeeee", 1, 11, "test")],
    }
    for split, listed in rows.items():
        _write_kinetics_csv(root, f"annotations/{split}.csv", columns, listed)
    replacements = "replacement/replacement_for_corrupted_k400"
    splits = {
        "train": [
            ("train/aaaaaaaaaaa_000000_000010.mp4", "yoga"),
            (f"{replacements}/_bb_bbbbbbb_000020_000030.mp4", "zumba"),
        ],
        "val": [
            (f"{replacements}/ccccccccccc_000000_000010.mp4", "zumba"),
            ("val/ddddddddddd_000000_000010.mp4", "yoga"),
        ],
    }
    _Videos(root).add(*(path for listed in splits.values() for path, _ in listed), "test/eeeeeeeeeee_000001_000011.mp4")
    for broken in ("train/_bb_bbbbbbb_000020_000030.mp4", "val/ccccccccccc_000000_000010.mp4"):
        (root / broken).write_bytes(b"broken")
    return Miniature(splits, ("yoga", "zumba"))


def sthv1(root: pathlib.Path) -> Miniature:
    """``id;class`` lines and folders of JPEG frames."""
    classes = ("Holding something", "Turning something upside down", "Moving something, a bit")
    _write(root, "annotations/something-something-v1-labels.csv", *classes)
    _write(root, "annotations/something-something-v1-train.csv", f"100218;{classes[1]}", f"48032;{classes[2]}")
    _write(root, "annotations/something-something-v1-validation.csv", f"9326;{classes[0]}")
    _write(root, "annotations/something-something-v1-test.csv", "777")
    folder = "20bn-something-something-v1"
    splits = {
        "train": [(f"{folder}/100218", classes[1]), (f"{folder}/48032", classes[2])],
        "val": [(f"{folder}/9326", classes[0])],
    }
    _Videos(root).add_folders(*(path for listed in splits.values() for path, _ in listed), f"{folder}/777")
    return Miniature(splits, classes)


def sthv2(root: pathlib.Path) -> Miniature:
    """JSON lists with templates, a JSON object of labels, and webm files."""
    classes = ("Approaching something with your camera", "Holding something next to something", "Hitting something")

    def item(number: str, template: str) -> dict[str, object]:
        label = template.replace("[something]", "a cup").lower()
        return {"id": number, "label": label, "template": template, "placeholders": ["a cup"]}

    content = {
        "labels": {name: str(number) for number, name in enumerate(classes)},
        "train": [
            item("78687", "Holding [something] next to [something]"),
            item("42326", "Approaching [something] with your camera"),
        ],
        "validation": [item("74225", "Hitting [something]")],
        "test": [{"id": "1420"}],
    }
    for name, value in content.items():
        _write(root, f"labels/something-something-v2-{name}.json", json.dumps(value))
    folder = "20bn-something-something-v2"
    splits = {
        "train": [(f"{folder}/78687.webm", classes[1]), (f"{folder}/42326.webm", classes[0])],
        "val": [(f"{folder}/74225.webm", classes[2])],
    }
    _Videos(root).add(*(path for listed in splits.values() for path, _ in listed), f"{folder}/1420.webm")
    return Miniature(splits, classes)


def ucf101(root: pathlib.Path, fold: int = 2) -> Miniature:
    """``classInd.txt``, three pairs of lists, and avi files by class."""
    classes = ("ApplyEyeMakeup", "HandstandPushups")
    _write(root, "ucfTrainTestlist/classInd.txt", *(f"{n} {name}" for n, name in enumerate(classes, start=1)))
    makeup = [f"UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g{n:02d}_c01.avi" for n in (1, 8, 15)]
    # The file names spell this class in another way than the folder does.
    pushups = [f"UCF-101/HandstandPushups/v_HandStandPushups_g{n:02d}_c01.avi" for n in (1, 8, 15)]
    _Videos(root).add(*makeup, *pushups)
    both = [(path, name) for paths, name in zip((makeup, pushups), classes, strict=True) for path in paths]
    splits: dict[str, Labelled] = {}
    for number in (1, 2, 3):
        test = [(path, name) for path, name in both if f"_g{(1, 8, 15)[number - 1]:02d}_" in path]
        train = [pair for pair in both if pair not in test]
        trained = [f"{path.removeprefix('UCF-101/')} {classes.index(name) + 1}" for path, name in train]
        _write(root, f"ucfTrainTestlist/trainlist{number:02d}.txt", *trained)
        _write(root, f"ucfTrainTestlist/testlist{number:02d}.txt", *(path.removeprefix("UCF-101/") for path, _ in test))
        if number == fold:
            splits = {"train": train, "val": test}
    return Miniature(splits, classes, arguments=("--fold", str(fold)))


def hmdb51(root: pathlib.Path, fold: int = 1) -> Miniature:
    """A list for each class and split, 1 for training, 2 for testing and 0 for neither; avi files by class."""
    classes = ("brush_hair", "climb")
    use = {1: "120", 2: "201", 3: "012"}  # of a class's three videos in each split
    splits: dict[str, Labelled] = {"train": [], "val": []}
    videos = _Videos(root)
    for name in classes:
        files = [f"April_09_{name}_u_nm_np1_ba_goo_{n}.avi" for n in range(2)]
        files.append(f"winKen#8_&_tune_{name}_u_cm_np1_le_med_0.avi")
        videos.add(*(f"videos/{name}/{file}" for file in files))
        for number, digits in use.items():
            lines = [f"{file} {digit} " for file, digit in zip(files, digits, strict=True)]
            _write(root, f"testTrainMulti_7030_splits/{name}_test_split{number}.txt", *lines)
        for file, digit in zip(files, use[fold], strict=True):
            if digit != "0":
                splits["train" if digit == "1" else "val"].append((f"videos/{name}/{file}", name))
    return Miniature(splits, classes, arguments=("--fold", str(fold)))


def jester(root: pathlib.Path) -> Miniature:
    """``id;class`` lines and folders of JPEG frames."""
    classes = ("Swiping Left", "Swiping Right", "Doing other things")
    _write(root, "jester-v1-labels.csv", *classes)
    _write(root, "jester-v1-train.csv", f"34870;{classes[2]}", f"56557;{classes[0]}")
    _write(root, "jester-v1-validation.csv", f"9223;{classes[1]}")
    _write(root, "jester-v1-test.csv", "1")
    splits = {
        "train": [("20bn-jester-v1/34870", classes[2]), ("20bn-jester-v1/56557", classes[0])],
        "val": [("20bn-jester-v1/9223", classes[1])],
    }
    _Videos(root).add_folders(*(path for listed in splits.values() for path, _ in listed), "20bn-jester-v1/1")
    return Miniature(splits, classes)


def jester_kaggle(root: pathlib.Path) -> Miniature:
    """The copy on Kaggle: CSV files with a header and numbered labels, and a folder a split."""
    header = "video_id,label,frames,label_id,shape,format"
    shape = '"(176, 100)",.jpg'
    _write(root, "Train.csv", header, f"34870,Swiping Left,37,1,{shape}", f"56557,Doing other things,37,0,{shape}")
    _write(root, "Validation.csv", header, f"9223,Doing other things,37,0,{shape}")
    _write(root, "Test.csv", header.replace("video_id", "id"), f"1,,37,,{shape}")
    splits = {
        "train": [("Train/34870", "Swiping Left"), ("Train/56557", "Doing other things")],
        "val": [("Validation/9223", "Doing other things")],
    }
    _Videos(root).add_folders(*(path for listed in splits.values() for path, _ in listed), "Test/1")
    return Miniature(splits, ("Doing other things", "Swiping Left"))


def diving48(root: pathlib.Path) -> Miniature:
    """JSON lists with numbers as labels, a vocabulary of parts, and mp4 files."""
    vocabulary = [
        ["Back", "15som", "05Twis", "FREE"],
        ["Back", "15som", "NoTwis", "PIKE"],
        ["Forward", "25som", "2Twis", "PIKE"],
    ]
    _write(root, "Diving48_vocab.json", json.dumps(vocabulary))
    rows = {"train": [("0WGx7hTzYMM_00000", 2), ("0WGx7hTzYMM_00001", 0)], "test": [("-mSiKfXzM_k_00004", 1)]}
    classes = tuple("+".join(parts) for parts in vocabulary)
    splits: dict[str, Labelled] = {}
    for split, listed in rows.items():
        items = [{"vid_name": name, "label": label, "start_frame": 0, "end_frame": 5} for name, label in listed]
        _write(root, f"Diving48_V2_{split}.json", json.dumps(items))
        splits["train" if split == "train" else "val"] = [(f"rgb/{name}.mp4", classes[label]) for name, label in listed]
    _Videos(root).add(*(path for listed in splits.values() for path, _ in listed))
    return Miniature(splits, classes)


def folder(root: pathlib.Path) -> Miniature:
    """One's own: a folder for each class, with files and a folder of frames."""
    videos = _Videos(root)
    videos.add("train/jump/one.mp4", "train/walk/two.webm", "val/walk/three.avi")
    videos.add_folders("train/walk/zwei", name="frame_{}.jpeg")
    splits = {
        "train": [("train/jump/one.mp4", "jump"), ("train/walk/two.webm", "walk"), ("train/walk/zwei", "walk")],
        "val": [("val/walk/three.avi", "walk")],
    }
    return Miniature(splits, ("jump", "walk"))


def own_csv(root: pathlib.Path) -> Miniature:
    """One's own: a CSV with a header, and labels that are names."""
    splits = {
        "train": [("clips/a, b.mp4", "walk"), ("clips/two.mp4", "jump")],
        "val": [("clips/three.mp4", "walk")],
    }
    _Videos(root).add(*(path for listed in splits.values() for path, _ in listed))
    _write(root, "train.csv", "id,video,label", '7,"clips/a, b.mp4",walk', "8,clips/two.mp4,jump")
    _write(root, "val.csv", "id,video,label", "9,clips/three.mp4,walk", "10,clips/gone.mp4,jump")
    return Miniature(splits, ("jump", "walk"), missing={"val": [("clips/gone.mp4", "jump")]})


def mmaction2_videos(root: pathlib.Path) -> Miniature:
    """MMAction2's lists of videos, under its own names, with a label map."""
    splits = {"train": [("v/one.mp4", "b c"), ("v/with space.mp4", "a")], "val": [("v/three.mp4", "d")]}
    _Videos(root).add(*(path for listed in splits.values() for path, _ in listed))
    _write(root, "kinetics400_train_list_videos.txt", "v/one.mp4 1", "v/with space.mp4 0")
    _write(root, "kinetics400_val_list_videos.txt", "v/three.mp4 2")
    _write(root, "label_map.txt", "a", "b c", "d")
    return Miniature(splits, ("a", "b c", "d"))


def mmaction2_frames(root: pathlib.Path) -> Miniature:
    """MMAction2's lists of folders of frames: folder, number of frames, label."""
    splits = {"train": [("rawframes/one", "1"), ("rawframes/two", "0")], "val": [("rawframes/three", "1")]}
    _Videos(root).add_folders(*(path for listed in splits.values() for path, _ in listed), name="img_{:05d}.jpg")
    (root / "rawframes" / "one" / "flow_x_00001.jpg").write_bytes(b"flow")
    _write(root, "sthv1_train_list_rawframes.txt", "rawframes/one 5 1", "rawframes/two 6 0")
    _write(root, "sthv1_val_list_rawframes.txt", "rawframes/three 7 1")
    return Miniature(splits, ("0", "1"))


def pyslowfast(root: pathlib.Path) -> Miniature:
    """PySlowFast's ``train.csv`` and ``val.csv``: path and label without a header, separated by a space or a comma."""
    splits = {"train": [("one.mp4", "2"), ("sub/two.mp4", "0")], "val": [("three.mp4", "1")]}
    _Videos(root).add(*(path for listed in splits.values() for path, _ in listed))
    _write(root, "train.csv", "one.mp4 2", "sub/two.mp4 0")
    _write(root, "val.csv", "three.mp4,1")
    return Miniature(splits, ("0", "1", "2"))


MINIATURES: Mapping[str, tuple[str, Callable[[pathlib.Path], Miniature]]] = {
    "kinetics400": ("kinetics400", kinetics400),
    "mini_kinetics200": ("mini_kinetics200", mini_kinetics200),
    "kinetics600": ("kinetics600", kinetics600),
    "kinetics700": ("kinetics700", kinetics700),
    "kinetics700_mmaction2": ("kinetics700", kinetics700_mmaction2),
    "kinetics400_cvdf": ("kinetics400", kinetics400_cvdf),
    "sthv1": ("sthv1", sthv1),
    "sthv2": ("sthv2", sthv2),
    "ucf101": ("ucf101", ucf101),
    "hmdb51_split1": ("hmdb51", hmdb51),
    "hmdb51_split2": ("hmdb51", lambda root: hmdb51(root, 2)),
    "hmdb51_split3": ("hmdb51", lambda root: hmdb51(root, 3)),
    "jester": ("jester", jester),
    "jester_kaggle": ("jester", jester_kaggle),
    "diving48": ("diving48", diving48),
    "folder": ("folder", folder),
    "csv": ("list", own_csv),
    "mmaction2_videos": ("list", mmaction2_videos),
    "mmaction2_frames": ("list", mmaction2_frames),
    "pyslowfast": ("list", pyslowfast),
}
"""By case: the name that ``dnr prepare`` takes, and what writes the miniature below a root."""
