"""The files of an evaluation: numbers as JSON and CSV, scores as arrays, the picture of the confusion matrix."""

import contextlib
import csv
import io
import json
import pathlib
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from dnr_jax.evaluation import metrics

REPORT_FILE = "evaluation.json"
PREDICTIONS_FILE = "predictions.csv"
CONFUSION_FILE = "confusion.csv"
CLASSES_FILE = "per_class.csv"
PICTURE_FILE = "confusion_matrix.png"
SCORES_FILE = "scores.npz"
FILES = (REPORT_FILE, PREDICTIONS_FILE, CONFUSION_FILE, CLASSES_FILE, PICTURE_FILE, SCORES_FILE)
"""What :func:`write` writes."""

_NUMBERED, _NAMED = 30, 50
"""Up to so many classes a matrix has room for numbers, and for names."""
_PAIRS = 25
"""Confused pairs in the picture, where there are more classes than that."""


def write(
    folder: pathlib.Path,
    content: dict[str, Any],
    scores: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    classes: Sequence[str],
    by_views: np.ndarray | None = None,
) -> None:
    """Write :data:`FILES`; ``evaluation.json`` is missing until the others are complete, of whatever was there before.

    Args:
      folder: where they go.
      content: what ``evaluation.json`` begins with; the videos and correct ones of each class follow.
      scores: probabilities float32 ``[videos, classes]``.
      labels: int32 ``[videos]``.
      names: names of the videos.
      classes: names of the classes.
      by_views: best class of each video by its first views: int32 ``[videos, views]``, where that is known.

    Raises:
      OSError: some cannot be written, which the error names; all others are.
    """
    confusion = metrics.confusion_matrix(scores, labels)
    per_class = {
        name: {"correct": int(row[label]), "videos": int(row.sum())}
        for label, (name, row) in enumerate(zip(classes, confusion, strict=True))
    }
    text = json.dumps(content | {"classes": per_class}, indent=2) + "\n"
    writers: dict[str, Callable[[pathlib.Path], object]] = {
        PREDICTIONS_FILE: lambda file: _write_csv(file, _prediction_rows(scores, labels, names, classes)),
        CONFUSION_FILE: lambda file: _write_csv(file, _confusion_rows(confusion, classes)),
        CLASSES_FILE: lambda file: _write_csv(file, _class_rows(confusion, classes)),
        PICTURE_FILE: lambda file: plot_confusion(confusion, classes, file),
        SCORES_FILE: lambda file: _write_scores(file, scores, labels, names, classes, by_views),
        REPORT_FILE: lambda file: file.write_text(text, encoding="utf-8"),
    }
    with contextlib.suppress(OSError):  # what cannot be removed cannot be written either, and is named then
        (folder / REPORT_FILE).unlink()
    failed: dict[str, OSError] = {}
    for name, write_to in writers.items():
        try:
            write_to(folder / name)
        except OSError as error:
            failed[str(folder / name)] = error
    if failed:
        first = next(iter(failed.values()))
        raise OSError(first.errno, first.strerror or str(first), ", ".join(failed)) from first


def _write_csv(path: pathlib.Path, rows: Iterable[Sequence[object]]) -> None:
    # Names that are no valid text on this system come out as the bytes that they went in as.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _write_scores(
    path: pathlib.Path,
    scores: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    classes: Sequence[str],
    by_views: np.ndarray | None,
) -> None:
    views = np.zeros((len(labels), 0), np.int32) if by_views is None else by_views
    texts = _as_bytes(names), _as_bytes(classes)
    with path.open("wb") as file:  # of a path, NumPy would change the name
        np.savez(file, scores=scores, labels=labels, names=texts[0], classes=texts[1], by_views=views)


def _as_bytes(names: Sequence[str]) -> np.ndarray:
    """Return names as bytes of JSON: an array of texts has room for the longest in each of its entries."""
    return np.frombuffer(json.dumps(list(names)).encode(), np.uint8)


Scored = tuple[np.ndarray, np.ndarray, tuple[str, ...], tuple[str, ...], np.ndarray | None]
"""Scores, labels, names, classes and ``by_views``, as :func:`write` takes them."""


def read_scores(path: pathlib.Path) -> Scored:
    """Return what :func:`write` wrote into :data:`SCORES_FILE`.

    Raises:
      FileNotFoundError: where there is no such file.
      ValueError: where it is damaged.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            names, classes = (tuple(json.loads(arrays[name].tobytes())) for name in ("names", "classes"))
            by_views = arrays["by_views"]
            scored = arrays["scores"], arrays["labels"], names, classes, by_views if by_views.shape[1] else None
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"'{path}' is damaged ({error}); dnr evaluate writes it anew") from error
    if scored[0].shape != (len(names), len(classes)) or scored[1].shape != (len(names),):
        raise ValueError(f"'{path}' is damaged (its arrays do not fit together); dnr evaluate writes it anew")
    return scored


def read_numbers(folder: pathlib.Path) -> dict[str, Any]:
    """Return the content of ``evaluation.json``; empty where it is missing or damaged."""
    try:
        content = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _prediction_rows(
    scores: np.ndarray, labels: np.ndarray, names: Sequence[str], classes: Sequence[str]
) -> Iterable[Sequence[object]]:
    """Yield one row a video: its label, and the best five classes with their probabilities."""
    best = metrics.ranking(scores, 5)
    yield ["video", "label", *(f"{what}_{i + 1}" for i in range(best.shape[1]) for what in ("class", "score"))]
    for name, label, row, ranked in zip(names, labels, scores, best, strict=True):
        yield [name, classes[label], *(cell for i in ranked for cell in (classes[i], f"{row[i]:.6f}"))]


def _confusion_rows(confusion: np.ndarray, classes: Sequence[str]) -> Iterable[Sequence[object]]:
    """Yield one row a true class, one column a predicted one: numbers of videos."""
    yield ["true class / predicted class", *classes]
    yield from ([name, *row.tolist()] for name, row in zip(classes, confusion, strict=True))


def _class_rows(confusion: np.ndarray, classes: Sequence[str]) -> Iterable[Sequence[object]]:
    """Yield one row a class, the least accurate first: what is right of it, and what it is taken for most."""
    accuracies, videos = metrics.class_accuracies(confusion), confusion.sum(axis=1)
    yield ["class", "accuracy", "correct", "videos", "most_confused_with", "times"]
    for label in np.lexsort((-videos, accuracies)).tolist():  # classes without videos, of NaN, come last
        others = np.where(np.arange(len(classes)) == label, -1, confusion[label])
        times = int(others.max())
        confused = [classes[int(others.argmax())], times] if times > 0 else ["", 0]
        accuracy = f"{accuracies[label]:.4f}" if videos[label] else ""
        yield [classes[label], accuracy, int(confusion[label, label]), int(videos[label]), *confused]


def plot_confusion(confusion: np.ndarray, classes: Sequence[str], path: str | pathlib.Path | IO[bytes]) -> None:
    """Draw a confusion matrix, its rows coloured by shares of the class.

    Few classes have their numbers of videos in the cells. Where there are many, the pairs that are confused most stand
    beside the matrix, by name.

    Args:
      confusion: int64 ``[classes, classes]``, true classes in rows.
      classes: their names.
      path: the picture to write; its suffix is the format. Or a file that is open for writing, for a PNG.
    """
    names = [_readable(name) for name in classes]
    count = len(names)
    side = min(max(0.28 * count, 2.5), 9) + 2
    figure = Figure(figsize=(side + (7 if count > _NUMBERED else 1), side), layout="constrained")
    if count > _NUMBERED:
        matrix, pairs = figure.subplots(1, 2, width_ratios=(side, 6))
        _draw_pairs(pairs, confusion, names)
    else:
        matrix = figure.subplots()
    _draw_matrix(figure, matrix, confusion, names)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # drawn as a box
        figure.savefig(path, dpi=120)


def _readable(name: str) -> str:
    """Return a name as it can be drawn: on one line, not too long."""
    text = name.encode("utf-8", "replace").decode()
    return textwrap.shorten(text, 32, placeholder=" ...") if " " in text else text[:32]


def _draw_matrix(figure: Figure, axes: Axes, confusion: np.ndarray, names: Sequence[str]) -> None:
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # A root, so that single mistakes among many videos can be seen.
    norm = PowerNorm(0.5 if len(names) > _NUMBERED else 1.0, vmin=0, vmax=1)
    image = axes.imshow(shares, norm=norm, cmap="Blues", interpolation="none")
    figure.colorbar(image, ax=axes, label="share of the class's videos", shrink=0.8)
    if len(names) <= _NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
    if len(names) <= _NUMBERED:
        for true, predicted in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[true, predicted] > 0.5 else "black"
            text = str(confusion[true, predicted])
            axes.text(predicted, true, text, ha="center", va="center", color=colour, fontsize=9 if len(text) < 4 else 6)
    axes.set(xlabel="predicted", ylabel="true")


def _draw_pairs(axes: Axes, confusion: np.ndarray, names: Sequence[str]) -> None:
    pairs = metrics.most_confused(confusion, _PAIRS)
    videos = [confusion[pair] for pair in pairs]
    bars = axes.barh(range(len(pairs)), videos, color="tab:blue")
    labels = [f"{count} of {confusion[true].sum()}" for count, (true, _) in zip(videos, pairs, strict=True)]
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.set_yticks(
        range(len(pairs)), [f"{names[true]} \N{RIGHTWARDS ARROW} {names[other]}" for true, other in pairs], fontsize=8
    )
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set(title="most confused: true \N{RIGHTWARDS ARROW} predicted", xlabel="videos")
    axes.margins(x=0.15)
    axes.invert_yaxis()
