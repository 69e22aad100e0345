"""``report.html``: one page a run, with everything that it shows in itself."""

import dataclasses
import json
import logging
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jinja2
import numpy as np
from markupsafe import Markup

from dnr_jax.config import ExperimentConfig
from dnr_jax.evaluation import outputs
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.evaluation.intervals import wilson
from dnr_jax.evaluation.metrics import confusion_matrix, ranking
from dnr_jax.report import charts, measures
from dnr_jax.report.clips import Strip, Strips, Videos, data_url, first_clips, open_videos
from dnr_jax.report.maps import MapStrip, map_strips
from dnr_jax.report.recipe import changes, commands, versions
from dnr_jax.report.relays import RelayMaps
from dnr_jax.runs.folder import METRICS_FILE, Run, comparable_validations, read_metrics

_logger = logging.getLogger(__name__)

PAGE_FILE = "report.html"

_PAIRS, _CLIPS_OF_PAIR, _NAMES_OF_PAIR = 30, 4, 20
"""Confused pairs; clips of a pair, videos of it by name."""
_CLIPS = 12
"""Hardest videos, and most confidently wrong ones."""
_STRIP_BUDGET = 7_000_000
"""Bytes of all film strips, so that the page stays below 10 MB whatever the videos show."""
_MATRIX = 30
"""Up to so many classes the confusion matrix is shown as a table."""
_NAMES = 50
"""So many undecoded videos are named."""
_MAPS = 6
"""Grad-CAM strips."""
_RELAY_CLIPS = 8
"""Clips over which the relays are averaged."""


@dataclasses.dataclass(frozen=True)
class ShownClip:
    """A video as a page shows it.

    Attributes:
      name: of the video.
      strip: some frames of it, where they can be read.
      true: its class.
      score: the probability of that.
      best: the best classes with their probabilities.
    """

    name: str
    strip: Strip | None
    true: str
    score: float
    best: tuple[tuple[str, float], ...]


def write_page(
    report: Report,
    config: ExperimentConfig,
    workdir: str | os.PathLike[str],
    run: Run | None = None,
    path: str | os.PathLike[str] = "",
) -> pathlib.Path:
    """Write the page of a run: one file that needs no other and no network, below 10 MB.

    What cannot be shown, such as clips of videos that were moved, is left out, and the page says why.

    Args:
      report: the evaluation of its network.
      config: the run's.
      workdir: its folder, of which the rows and ``evaluation.json`` are read.
      run: the trained network, for what it takes to run it, such as the relays; None: without that. Its variables are
        all in this process.
      path: where the page goes; default: ``report.html`` in the folder.

    Returns:
      The path of the page.

    Raises:
      OSError: the page cannot be written.
    """
    folder = pathlib.Path(workdir)
    out = pathlib.Path(path or folder / PAGE_FILE)
    videos = open_videos(config)
    html = render("page.html", _content(report, config, folder, videos, run))
    out.write_bytes(html.encode("utf-8", "replace"))  # names of files need not be valid text
    return out


def render(template: str, content: Mapping[str, Any]) -> str:
    """Return a page: a template of ``templates/``, in which all that is filled in is text and no markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)


def _content(
    report: Report, config: ExperimentConfig, folder: pathlib.Path, videos: Videos, run: Run | None
) -> dict[str, Any]:
    """Return what the template is filled with."""
    details, rows = outputs.read_numbers(folder), read_metrics(folder / METRICS_FILE)
    strips = Strips(videos, _STRIP_BUDGET)
    told = measures.calibration(report.scores, report.labels)
    no_maps: list[MapStrip] = []
    relays, shown_relays = _tried("relays", lambda: _relays(report, videos, run), ("", 0))
    return {
        "title": folder.absolute().name,
        "folder": str(folder.absolute()),
        "summary": _summary(report, config, details, rows, told.error),
        "curves": _curves(rows),
        "classes": measures.by_class(report.scores, report.labels, report.classes),
        "absent": len(report.classes) - len(np.unique(report.labels)),
        "taken_for": _taken_for(report),
        "matrix": _matrix(report),
        "pairs": _pairs(report, strips),
        "hardest": _shown(report, strips, measures.hardest(report.scores, report.labels, _CLIPS)),
        "confident": _shown(report, strips, measures.most_confidently_wrong(report.scores, report.labels, _CLIPS)),
        "missing": videos.missing,
        "calibration": told,
        "reliability": charts.reliability(told) if told.bins else "",
        "views": _views(report),
        "quantities": _by_facts(report, videos),
        "undecoded": report.undecoded[:_NAMES],
        "undecoded_count": len(report.undecoded),
        "undecoded_training": _undecoded_training(folder)[:_NAMES],
        "maps": _tried("Grad-CAM", lambda: _maps(report, videos, run), no_maps),
        "relays": relays,
        "relay_clips": shown_relays,
        "recipe": changes(config),
        "versions": details.get("versions") or versions(),
        "commands": commands(str(folder.absolute()), str(details.get("views", "1x1"))),
    }


def _summary(
    report: Report, config: ExperimentConfig, details: Mapping[str, Any], rows: Sequence[dict[str, Any]], ece: float
) -> list[tuple[str, str, str]]:
    """Return name, value and remark of what matters most."""
    low, high = (float(end) for end in wilson(np.array(report.correct), np.array(len(report.labels))))
    best = max(comparable_validations(rows), key=lambda row: (row["top1"], row["step"]), default=None)
    seconds = sum(row.get("time", {}).get("seconds", 0.0) for row in rows if row["kind"] == "train")
    views = details.get("views", "")
    network = type(config.model).__name__
    return [
        ("top-1", f"{report.top1:.1%}", f"95% interval {low:.1%} to {high:.1%}"),
        ("top-5", f"{report.top5:.1%}", ""),
        ("mean class accuracy", f"{report.mean_class_accuracy:.1%}", "every class counts alike"),
        ("loss", f"{report.loss:.3f}", "cross-entropy, nats"),
        ("calibration error", f"{ece:.3f}", "0: probabilities are honest"),
        (
            "validation videos",
            f"{len(report.labels):,}",
            f"{len(report.undecoded)} more could not be decoded" if report.undecoded else "",
        ),
        ("classes", f"{len(report.classes):,}", ""),
        ("network", network, _norms(config)),
        ("step", f"{details.get('step', '')}", f"views {views}" if views else ""),
        ("best during training", f"{best['top1']:.1%}" if best else "", f"at step {best['step']}" if best else ""),
        ("training time", _duration(seconds), ""),
    ]


def _norms(config: ExperimentConfig) -> str:
    spec = config.model.norm.spec()
    base = config.model.norm.base.label()
    return base if set(spec.kinds) == {"static"} else f"DNR ({', '.join(spec.kinds)}) on {base}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _curves(rows: Sequence[dict[str, Any]]) -> list[Markup]:
    """Return the charts of a metrics file; those of which it has nothing are left out."""

    def series(name: str, kind: str, key: str, marked: bool = False) -> charts.Series:
        told = [(row["step"], (row | row.get("time", {})).get(key)) for row in rows if row["kind"] == kind]
        found = [(step, value) for step, value in told if isinstance(value, int | float)]
        return charts.Series(name, [step for step, _ in found], [value for _, value in found], marked=marked)

    drawn = [
        charts.lines(
            "loss", [series("training", "train", "loss"), series("validation", "validation", "loss", True)], "step"
        ),
        charts.lines(
            "top-1",
            [series("training", "train", "accuracy"), series("validation", "validation", "top1", True)],
            "step",
            (0, 1),
            is_share=True,
        ),
        charts.lines("learning rate", [series("", "train", "learning_rate")], "step"),
        charts.lines("clips a second", [series("", "train", "clips_per_second")], "step"),
    ]
    return [chart for chart in drawn if chart]


def _taken_for(report: Report) -> dict[str, str]:
    """Return by the name of a class what it is taken for most, and how often."""
    confusion = confusion_matrix(report.scores, report.labels)
    off = confusion * ~np.eye(len(confusion), dtype=bool)
    return {
        name: f"{report.classes[int(row.argmax())]} ({int(row.max())})"
        for name, row in zip(report.classes, off, strict=True)
        if row.any()
    }


@dataclasses.dataclass(frozen=True)
class _Cell:
    """A cell of the confusion matrix: how many videos, their share of the class, and the pair that shows them."""

    videos: int
    share: float
    pair: str


def _matrix(report: Report) -> list[tuple[str, list[_Cell]]]:
    """Return the rows of the confusion matrix by their classes; none where there are too many classes for a table."""
    if len(report.classes) > _MATRIX:
        return []
    confusion = confusion_matrix(report.scores, report.labels)
    pairs = {(pair.true, pair.predicted) for pair in measures.confused_pairs(report.scores, report.labels, _PAIRS)}
    return [
        (
            name,
            [
                _Cell(int(videos), float(videos / max(row.sum(), 1)), _pair_id(i, j) if (i, j) in pairs else "")
                for j, videos in enumerate(row)
            ],
        )
        for i, (name, row) in enumerate(zip(report.classes, confusion, strict=True))
    ]


def _pair_id(true: int, predicted: int) -> str:
    return f"pair-{true}-{predicted}"


@dataclasses.dataclass(frozen=True)
class _ShownPair:
    """A pair of confused classes with its videos: some as clips, more by name, the others as a number."""

    id: str
    true: str
    predicted: str
    videos: int
    of: int
    clips: list[ShownClip]
    names: list[str]


def _pairs(report: Report, strips: Strips) -> list[_ShownPair]:
    shown = []
    for pair in measures.confused_pairs(report.scores, report.labels, _PAIRS):
        names = [report.names[i] for i in pair.videos[_CLIPS_OF_PAIR:_NAMES_OF_PAIR]]
        clips = _shown(report, strips, pair.videos[:_CLIPS_OF_PAIR])
        true, predicted = report.classes[pair.true], report.classes[pair.predicted]
        identity = _pair_id(pair.true, pair.predicted)
        shown.append(_ShownPair(identity, true, predicted, len(pair.videos), pair.of, clips, names))
    return shown


def _shown(report: Report, strips: Strips, videos: Iterable[int]) -> list[ShownClip]:
    shown = []
    for i in videos:
        scores, label = report.scores[i], int(report.labels[i])
        best = tuple((report.classes[j], float(scores[j])) for j in ranking(scores[None], 3)[0].tolist())
        name = report.names[i]
        shown.append(ShownClip(name, strips[name], report.classes[label], float(scores[label]), best))
    return shown


def _views(report: Report) -> Markup:
    """Return the chart of the accuracy over the number of views; empty where there is one view, or that is unknown."""
    if report.by_views is None or report.by_views.shape[1] < 2 or not len(report.labels):
        return Markup("")
    right = np.mean(report.by_views == report.labels[:, None], axis=0)
    low, high = wilson(right * len(report.labels), np.full(len(right), len(report.labels)))
    half = np.maximum(high - right, right - low).tolist()
    counts = list(range(1, len(right) + 1))
    margin = 0.02
    bounds = (math.floor(20 * (low.min() - margin)) / 20, math.ceil(20 * (high.max() + margin)) / 20)
    series = [charts.Series("with the 95% interval", counts, right.tolist(), half, marked=True)]
    bounds = (max(bounds[0], 0), min(bounds[1], 1))
    return charts.lines("top-1 by the number of views", series, "views", bounds, is_share=True)


def _by_facts(report: Report, videos: Videos) -> list[Markup]:
    """Return the charts of the accuracy by the videos' duration and resolution, as far as these are known."""
    facts = videos.facts(report.names)
    right = ranking(report.scores, 1)[:, 0] == report.labels if len(report.labels) else np.zeros(0, bool)
    chosen = [(facts[name], right[i]) for i, name in enumerate(report.names) if name in facts]
    if not chosen:
        return []
    correct = np.array([is_right for _, is_right in chosen])
    durations, sides = (np.array(column, np.float64) for column in zip(*(fact for fact, _ in chosen), strict=True))
    known = durations > 0
    drawn = [("duration", durations[known], correct[known], "s"), ("short side", sides, correct, "px")]
    return [_by_quantity(name, values.round(2), hits, unit) for name, values, hits, unit in drawn if len(values)]


def _by_quantity(name: str, values: np.ndarray, correct: np.ndarray, unit: str) -> Markup:
    """Return the chart of the accuracy by a quantity, or a sentence where all videos have the same of it."""
    told = measures.by_quantity(values, correct, unit)
    if len(told) == 1:
        return Markup("<p>All videos have a {} of {}.</p>").format(name, told[0].name)
    return charts.accuracy_of(f"top-1 by {name}", told, float(correct.mean()))


def _undecoded_training(folder: pathlib.Path) -> list[tuple[str, str]]:
    """Return names and reasons of the training videos that could not be decoded."""
    found = []
    for file in sorted(folder.glob("undecoded*.jsonl")):
        for line in file.read_text().splitlines():
            try:
                row = json.loads(line)
                found.append((str(row["name"]), str(row["reason"])))
            except (ValueError, KeyError, TypeError):
                continue
    return found


def _relays(report: Report, videos: Videos, run: Run | None) -> tuple[str, int]:
    """Return the picture of the relays, and of how many clips; empty where there are none, no run or no clip."""
    clips = list(first_clips(videos, report.names, _RELAY_CLIPS).values()) if run else []
    if run is None or not clips:
        return "", 0
    drawn = RelayMaps(run.model, run.config).draw(run.variables, np.stack(clips))
    return (data_url(drawn, "image/png") if drawn else ""), len(clips)


def _maps(report: Report, videos: Videos, run: Run | None) -> list[MapStrip]:
    """Return Grad-CAM strips of the most confident mistakes and of the hardest videos; none without a run or a clip."""
    if run is None or not len(report.labels):
        return []
    wrong = measures.most_confidently_wrong(report.scores, report.labels, _MAPS)
    chosen = dict.fromkeys([*wrong, *measures.hardest(report.scores, report.labels, _MAPS)])
    taken_for = {report.names[i]: int(report.scores[i].argmax()) for i in chosen}
    clips = first_clips(videos, taken_for, _MAPS)
    return map_strips(run, [*clips.values()], [*clips], [taken_for[name] for name in clips]) if clips else []


_Part = TypeVar("_Part")


def _tried(what: str, make: Callable[[], _Part], otherwise: _Part) -> _Part:
    """Return a part of the page; where making it fails, whatever the reason, the page is made without it."""
    try:
        return make()
    except Exception as error:
        _logger.warning("the page is without %s (%s: %s)", what, type(error).__name__, error)
        return otherwise
