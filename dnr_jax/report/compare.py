"""Several runs side by side: those that differ in their seed alone are one group, of which means are told."""

import collections
import csv
import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from dnr_jax.config import ConfigError, ExperimentConfig, flatten
from dnr_jax.evaluation import outputs
from dnr_jax.evaluation.evaluate import views
from dnr_jax.evaluation.intervals import Estimate, estimate
from dnr_jax.report import charts
from dnr_jax.report.page import render
from dnr_jax.report.recipe import differing
from dnr_jax.runs.folder import CONFIG_FILE, METRICS_FILE, comparable_validations, read_config, read_metrics

_SEED = "train.seed"
_NAMED_FIELDS = 3
"""Groups are named by the fields in which they differ where these are so few, otherwise by a folder."""
_DEPTH = 3
"""So many folders below a given one are looked into for runs."""
_CURVES = 6
"""Groups of which curves are drawn, the best ones."""
_AT_THE_END = ("latest", "")
"""How a run is evaluated at its end: its latest checkpoint, with the views of its configuration."""
COLUMNS = ("run", "finished", "top-1", "top-5", "class mean", "loss", "best validation")


@dataclasses.dataclass(frozen=True, eq=False)
class RunRecord:
    """What the folder of a run says of it.

    Attributes:
      folder: the folder.
      config: its configuration.
      rows: of its ``metrics.jsonl``.
      numbers: of its ``evaluation.json``; empty where there is none.
      note: why these do not count; empty where they do.
    """

    folder: pathlib.Path
    config: ExperimentConfig
    rows: Sequence[Mapping[str, Any]]
    numbers: Mapping[str, Any]
    note: str = ""

    @property
    def finished(self) -> bool:
        """Whether it has ended, with an evaluation that counts."""
        return bool(self.numbers) and not self.note

    @property
    def best(self) -> float:
        """The best top-1 of its validations of the same videos; NaN where there was none that could read a video."""
        validations = [row for row in comparable_validations(self.rows) if row.get("videos", 1)]
        return max((row["top1"] for row in validations), default=math.nan)

    @property
    def reached(self) -> int:
        """The last step of which there is a row; where there are no rows, that of the evaluation."""
        return max((row["step"] for row in self.rows), default=self.numbers.get("step", 0))

    @property
    def length(self) -> int:
        """Steps of the run as it is configured; what it reached where only epochs are known, and not of how many."""
        train, row = self.config.train, next((row for row in self.rows if row.get("epoch")), None)
        if train.steps or row is None:
            return train.steps or self.reached
        return max(round(train.epochs * round(row["step"] / row["epoch"])), 1)

    @property
    def scored(self) -> tuple[str, str]:
        """Checkpoint and views of its evaluation."""
        return self.numbers.get("checkpoint", "latest"), self.numbers.get("views", self._own_views)

    @property
    def protocol(self) -> tuple[str, str]:
        """The same, of the views only what is otherwise than its configuration has it."""
        checkpoint, shown = self.scored
        size = self._own_views.partition(" of ")[2]
        return checkpoint, "" if shown == self._own_views else shown.removesuffix(f" of {size}")

    @property
    def _own_views(self) -> str:
        return views(self.config.evaluation, self.config.data.crop_size)

    @property
    def wanting(self) -> str:
        """Say that the evaluation is of no video, or of a run that has not ended; empty otherwise, or without one."""
        scored = self.numbers.get("step", self.length) if self.scored[0] == "latest" else self.length
        if not self.numbers.get("videos", 1):
            return "none of the videos of its evaluation could be decoded"
        if not self.numbers or min(scored, self.reached) >= self.length:
            return ""
        return (
            f"its evaluation is of step {self.numbers.get('step')}; the run has taken {self.reached} of {self.length}"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class RunGroup:
    """Runs that differ in their seed alone.

    Attributes:
      name: what tells the group from the others.
      settings: the fields in which the groups differ, with the values of this one.
      runs: the runs, by their seeds.
    """

    name: str
    settings: Mapping[str, Any]
    runs: Sequence[RunRecord]

    @property
    def finished(self) -> list[RunRecord]:
        """The runs that have ended, with an evaluation that counts."""
        return [run for run in self.runs if run.finished]

    def mean(self, number: str) -> Estimate | None:
        """Return the mean of a number of ``evaluation.json`` over the finished runs; None where there is none."""
        values = [float(run.numbers[number]) for run in self.finished if number in run.numbers]
        return estimate(values) if values else None

    def curve(self, kind: str, key: str) -> charts.Series:
        """Return the mean over the runs of a number of rows of a kind, with its interval where several have the row."""
        values: dict[int, list[float]] = {}
        for run in self.runs:
            for row in run.rows:
                if row["kind"] == kind and key in row:
                    values.setdefault(row["step"], []).append(row[key])
        means = [estimate(values[step]) for step in sorted(values)]
        return charts.Series("", sorted(values), [one.mean for one in means], [one.half for one in means])


def find_runs(folders: Sequence[str | os.PathLike[str]]) -> tuple[list[RunRecord], list[str]]:
    """Return the runs in folders, which are runs themselves or hold some, and why others are left out.

    A copy of a run is left out: it would count as another seed. An evaluation counts where it is of some video and of a
    run that has ended, and made as most of them are: with the views of each run's configuration or with the same other
    ones, of the latest or of the best checkpoint, and of the same videos as those of other runs with that data.

    Raises:
      ConfigError: where there is none.
    """
    found, left_out = [], []
    for folder in dict.fromkeys(map(pathlib.Path, folders)):
        inside = _runs_in(folder, _DEPTH)
        if not inside:
            left_out.append(f"'{folder}' holds no run")
        for run in inside:
            try:
                config, rows = read_config(run), read_metrics(run / METRICS_FILE)
                found.append(RunRecord(run, config, rows, outputs.read_numbers(run)))
            except ConfigError as error:
                left_out.append(str(error))
    if not found:
        raise ConfigError(f"there is nothing to compare: {'; '.join(left_out)}")
    firsts: list[RunRecord] = []
    for record in {one.folder: one for one in found}.values():
        if first := next((first for first in firsts if _is_copy(record, first)), None):
            left_out.append(f"'{record.folder}' is a copy of '{first.folder}'")
        else:
            firsts.append(record)
    return _judged(firsts), left_out


def _is_copy(run: RunRecord, first: RunRecord) -> bool:
    """Return whether two folders are of one run: a second run of a seed has other times in its rows."""
    return bool(run.rows) and run.rows == first.rows and run.config == first.config


def _judged(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs with notes where their evaluations do not count."""
    runs = [dataclasses.replace(run, note=run.wanting) for run in runs]
    finished = [run for run in runs if run.finished]
    # The usual protocol; of equally usual ones, that of the end of a run.
    counts = collections.Counter(run.protocol for run in finished)
    usual = max(counts, key=lambda protocol: (counts[protocol], protocol == _AT_THE_END), default=_AT_THE_END)
    likes = {run.scored for run in finished if run.protocol == usual}
    others = [run for run in finished if run.protocol != usual and run.scored not in likes]
    notes = {run.folder: "its evaluation is of the {} checkpoint, views {}".format(*run.scored) for run in others}
    return _judged_by_videos([dataclasses.replace(run, note=run.note or notes.get(run.folder, "")) for run in runs])


def _judged_by_videos(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs with notes where data changed: evaluated on other videos than most runs with the same source."""
    by_source: dict[str, list[RunRecord]] = {}
    for run in runs:
        if run.finished and run.numbers.get("fingerprint"):  # older evaluations do not say of which videos they are
            leaves = {name: value for name, value in flatten(run.config).items() if name.startswith("data.source")}
            by_source.setdefault(repr(leaves), []).append(run)
    notes: dict[pathlib.Path, str] = {}
    for alike in by_source.values():
        counts = collections.Counter(run.numbers["fingerprint"] for run in alike)
        usual = max(counts, key=lambda videos: counts[videos])  # of equally usual ones, that of the first run
        first = next(run for run in alike if run.numbers["fingerprint"] == usual)
        note = f"its evaluation is of other videos than that of {first.folder}; dnr evaluate makes it anew"
        notes |= {run.folder: note for run in alike if run.numbers["fingerprint"] != usual}
    return [dataclasses.replace(run, note=run.note or notes.get(run.folder, "")) for run in runs]


def _runs_in(folder: pathlib.Path, depth: int) -> list[pathlib.Path]:
    if (folder / CONFIG_FILE).is_file():
        return [folder]
    if not depth or not folder.is_dir():
        return []
    return [run for inner in sorted(folder.iterdir()) if inner.is_dir() for run in _runs_in(inner, depth - 1)]


def group_runs(runs: Sequence[RunRecord]) -> list[RunGroup]:
    """Return the runs in groups, the one with the best mean top-1 first and those that have not ended last."""
    by_setting: dict[str, list[RunRecord]] = {}
    for run in runs:
        leaves = {name: value for name, value in flatten(run.config).items() if name != _SEED}
        by_setting.setdefault(repr(leaves), []).append(run)
    firsts = [members[0] for members in by_setting.values()]
    fields = [name for name in differing([run.config for run in firsts]) if name != _SEED]
    groups = []
    for members in by_setting.values():
        leaves = flatten(members[0].config)
        settings = {name: leaves.get(name) for name in fields}
        ordered = sorted(members, key=lambda run: run.config.train.seed)
        groups.append(RunGroup(_name(settings, ordered), settings, ordered))
    return sorted(groups, key=lambda group: -one.mean if (one := group.mean("top1")) else 1.0)


def _name(settings: Mapping[str, Any], runs: Sequence[RunRecord]) -> str:
    if 0 < len(settings) <= _NAMED_FIELDS:
        return ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in settings.items())
    folder = runs[0].folder.absolute()
    return folder.name if len(runs) == 1 else f"{folder.parent.name}/{folder.name} and {len(runs) - 1} more"


def cells(group: RunGroup) -> tuple[str, ...]:
    """Return the line of a group in the table: see :data:`COLUMNS`. What is not known is empty."""
    best = [run.best for run in group.runs if not math.isnan(run.best)]
    shares = [_told(group.mean(number), percent=True) for number in ("top1", "top5", "mean_class_accuracy")]
    done = f"{len(group.finished)} of {len(group.runs)}"
    best_mean = _told(estimate(best), percent=True) if best else ""
    return group.name, done, *shares, _told(group.mean("loss"), percent=False), best_mean


def _told(value: Estimate | None, percent: bool) -> str:
    if value is None:
        return ""
    factor, digits = (100, 1) if percent else (1, 3)
    half = "" if math.isnan(value.half) else f" ± {factor * value.half:.{digits}f}"
    return f"{factor * value.mean:.{digits}f}{half}{'%' if percent else ''}"


def text(groups: Sequence[RunGroup]) -> str:
    """Return the table for a terminal, and the runs whose evaluations do not count."""
    rows = [COLUMNS, *map(cells, groups)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.append("means over the finished seeds, ± the 95% t interval where there are several")
    notes = [f"does not count: {run.folder} ({run.note})" for group in groups for run in group.runs if run.note]
    return "\n".join([*lines, *notes])


def write_csv(groups: Sequence[RunGroup], path: str | os.PathLike[str]) -> None:
    """Write a line for each run: its group, what came out, and the fields in which the groups differ."""
    fields = list(groups[0].settings)
    numbers = ("step", "top1", "top5", "mean_class_accuracy", "loss")
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["folder", "group", "seed", "finished", *numbers, "best_validation", "note", *fields])
        for group in groups:
            for run in group.runs:
                told = [run.numbers.get(number, "") if run.finished else "" for number in numbers]
                best = "" if math.isnan(run.best) else run.best
                which = [run.folder, group.name, run.config.train.seed, run.finished]
                writer.writerow([*which, *told, best, run.note, *group.settings.values()])


def write_html(groups: Sequence[RunGroup], path: str | os.PathLike[str]) -> None:
    """Write a page with the table, the curves and the fields in which the groups differ; it needs no other file."""
    content = {
        "title": f"{sum(len(group.runs) for group in groups)} runs in {len(groups)} groups",
        "columns": COLUMNS,
        "rows": [cells(group) for group in groups],
        "curves": _curves(groups[:_CURVES]),
        "undrawn": max(len(groups) - _CURVES, 0),
        "fields": list(groups[0].settings),
        "groups": groups,
    }
    pathlib.Path(path).write_bytes(render("compare.html", content).encode("utf-8", "replace"))


def _curves(groups: Sequence[RunGroup]) -> list[Markup]:
    drawn = [
        charts.lines("validation top-1", [group.curve("validation", "top1") for group in groups], "step", (0, 1), True),
        charts.lines("training loss", [group.curve("train", "loss") for group in groups], "step"),
    ]
    return [chart for chart in drawn if chart]
