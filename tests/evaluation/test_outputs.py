"""The files of an evaluation."""

import csv
import json
import pathlib

import numpy as np
import pytest
from matplotlib.figure import Figure

from dnr_jax.evaluation import outputs
from dnr_jax.evaluation.evaluate import Report, read_report
from dnr_jax.evaluation.outputs import FILES, plot_confusion, read_numbers, write

CLASSES = ("jump, high", 'say "go"', "löpa 日本\nrun", "unseen")
SCORES = np.array([[0.7, 0.2, 0.1, 0], [0.1, 0.6, 0.3, 0], [0.1, 0.3, 0.6, 0], [0.05, 0.85, 0.1, 0]], np.float32)
LABELS = np.array([0, 1, 2, 2], np.int32)
NAMES = ("a/x.mp4", "b/ü,1.mp4", "c/\udcff.mp4", "c/$1$.mp4")


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    write(tmp_path, {"step": 5}, SCORES, LABELS, NAMES, CLASSES)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    return tmp_path


def rows(file: pathlib.Path) -> list[list[str]]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
        return list(csv.reader(opened))


def test_every_prediction_can_be_read_back(folder):
    header, *videos = rows(folder / "predictions.csv")
    assert header == ["video", "label", *(f"{what}_{i}" for i in range(1, 5) for what in ("class", "score"))]
    assert [(row[0], row[1]) for row in videos] == [
        (name, CLASSES[label]) for name, label in zip(NAMES, LABELS, strict=True)
    ]
    assert videos[3][2:6] == [CLASSES[1], "0.850000", CLASSES[2], "0.100000"]


def test_at_most_five_classes_are_told(tmp_path):
    scores = np.full((1, 7), 1 / 7, np.float32)
    write(tmp_path, {}, scores, np.zeros(1, np.int32), ("v",), tuple("abcdefg"))
    assert [len(row) for row in rows(tmp_path / "predictions.csv")] == [12, 12]


def test_the_confusion_has_its_numbers_and_names(folder):
    (_, *predicted), *counts = rows(folder / "confusion.csv")
    assert tuple(predicted) == CLASSES == tuple(row[0] for row in counts)
    assert [list(map(int, row[1:])) for row in counts] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_classes_are_sorted_by_accuracy_and_those_without_videos_come_last(folder):
    assert rows(folder / "per_class.csv") == [
        ["class", "accuracy", "correct", "videos", "most_confused_with", "times"],
        [CLASSES[2], "0.5000", "1", "2", CLASSES[1], "1"],
        [CLASSES[0], "1.0000", "1", "1", "", "0"],
        [CLASSES[1], "1.0000", "1", "1", "", "0"],
        [CLASSES[3], "", "0", "0", "", "0"],
    ]
    content = json.loads((folder / "evaluation.json").read_text())
    assert (content["step"], content["classes"][CLASSES[2]]) == (5, {"correct": 1, "videos": 2})


def test_what_cannot_be_written_is_named_and_costs_nothing_else(tmp_path):
    for name in ("evaluation.json", "per_class.csv", "confusion_matrix.png"):
        (tmp_path / name).mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write(tmp_path, {}, SCORES, LABELS, NAMES, CLASSES)
    named = [str(tmp_path / name) for name in ("per_class.csv", "confusion_matrix.png", "evaluation.json")]
    assert caught.value.filename == ", ".join(named) and caught.value.strerror == "Is a directory"
    assert len(rows(tmp_path / "predictions.csv")) == len(rows(tmp_path / "confusion.csv")) == 5


def drawn(monkeypatch, confusion: np.ndarray, classes: tuple[str, ...]) -> Figure:
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: figures.append(figure))
    plot_confusion(confusion, classes, "unused.png")
    return figures[0]


def test_an_evaluation_that_is_cut_short_leaves_no_numbers_beside_scores_of_others(folder, monkeypatch):
    assert read_numbers(folder)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs, "plot_confusion", killed)
    scored = read_report(folder)
    with pytest.raises(KeyboardInterrupt):
        scored.write(folder, step=9)
    assert read_numbers(folder) == {}


def test_few_classes_have_their_numbers_in_the_picture(monkeypatch):
    confusion = np.array([[7, 0], [12, 345]])
    matrix, _ = drawn(monkeypatch, confusion, ("x $", "y")).axes
    assert [(text.get_position(), text.get_text()) for text in matrix.texts] == [
        ((0, 0), "7"),
        ((0, 1), "12"),
        ((1, 1), "345"),
    ]
    assert [label.get_text() for label in matrix.get_yticklabels()] == ["x $", "y"]


@pytest.mark.parametrize("count", [31, 400])
def test_many_classes_have_the_most_confused_pairs_by_name(count, monkeypatch):
    confusion = 50 * np.eye(count, dtype=np.int64)
    confusion[3, 9], confusion[9, 3], confusion[5, 6] = 4, 8, 1
    _, pairs, _ = drawn(monkeypatch, confusion, tuple(f"class {i}" for i in range(count))).axes
    labels = [label.get_text() for label in pairs.get_yticklabels()]
    assert labels == ["class 9 → class 3", "class 3 → class 9", "class 5 → class 6"]
    assert [text.get_text() for text in pairs.texts] == ["8 of 58", "4 of 54", "1 of 51"]


@pytest.mark.parametrize("count", [1, outputs._NUMBERED + 1])
def test_a_perfect_network_has_a_picture_too(count, tmp_path):
    plot_confusion(np.eye(count, dtype=np.int64), tuple(f"$ _ {i} 日" for i in range(count)), tmp_path / "m.png")
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


def test_long_names_are_cut_and_odd_ones_drawn():
    assert outputs._readable("doing something with\nsomething for a long time") == "doing something with ..."
    assert outputs._readable("x" * 50) == "x" * 32
    assert outputs._readable("a\udcff") == "a?"


def test_scores_can_be_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "plot_confusion", lambda *arguments: None)
    report = Report(SCORES, LABELS, NAMES, CLASSES, ("broken.mp4",), np.zeros((4, 2), np.int32))
    report.write(tmp_path)
    found = read_report(tmp_path)
    assert (found.names, found.classes, found.undecoded) == (NAMES, CLASSES, ("broken.mp4",))
    for name in ("scores", "labels", "by_views"):
        np.testing.assert_array_equal(getattr(found, name), getattr(report, name))
    assert json.loads((tmp_path / "evaluation.json").read_text())["top1_by_views"] == [0.25, 0.25]
    Report(SCORES, LABELS, NAMES, CLASSES).write(tmp_path)
    assert read_report(tmp_path).by_views is None
    assert "top1_by_views" not in json.loads((tmp_path / "evaluation.json").read_text())


def test_damaged_scores_are_told_from_missing_ones(folder):
    with pytest.raises(FileNotFoundError):
        read_report(folder / "elsewhere")
    content = (folder / "scores.npz").read_bytes()
    (folder / "scores.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="scores.npz' is damaged .* dnr evaluate writes it anew"):
        read_report(folder)
    np.savez(folder / "scores.npz", scores=SCORES)
    with pytest.raises(ValueError, match="is damaged"):
        read_report(folder)
    (folder / "evaluation.json").write_text("[]")
    assert outputs.read_numbers(folder) == {}


def test_an_evaluation_of_which_no_video_could_be_decoded_has_no_accuracy(tmp_path):
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int32), ()
    report = Report(*nothing, CLASSES, undecoded=("a.mp4", "b.mp4"), by_views=np.zeros((0, 2), np.int32))
    assert str(report) == "validation top-1 is not known: none of the 2 videos could be decoded"
    report.write(tmp_path)
    assert read_report(tmp_path).undecoded == ("a.mp4", "b.mp4")
