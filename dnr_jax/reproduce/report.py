"""The page of results: tables, verdicts and pictures, of the lines of finished runs and of nothing else."""

import itertools
import pathlib
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from dnr_jax.config import ConfigError
from dnr_jax.reproduce import drawing, results, statistics
from dnr_jax.reproduce.accelerators import accelerators_section
from dnr_jax.reproduce.again import again_section
from dnr_jax.reproduce.experiments import FOLDS, is_generated, knobs_of, protocol_of
from dnr_jax.reproduce.results import Result
from dnr_jax.reproduce.tables import DATA, TABLES, Row, Table, name_of
from dnr_jax.reproduce.verdicts import Block, Verdict, blocks, verdicts
from dnr_jax.reproduce.wording import interval, percent_bounds, points

PAGE = "results.md"
IMAGES = "images"
COLOURS = ("#1f5a96", "#c46a1b", "#2a7f3f", "#7a3f9d", "#444444")
"""Of the rows of a sweep."""
EARLIER = "mini-earlier.jsonl"
"""Lines of runs that were done again, which count no more."""
MEANINGS = {
    "rate": "factor of the learning rate",
    "steps": "factor of the number of steps",
    "warmup": "factor of the steps of the warm-up",
    "decay": "factor of the weight decay",
    "cells": "factor of the learning rate of the relays' cells",
    "gain": "factor of the predicted scale",
    "precise": "batches from which running statistics are estimated anew for evaluation",
}
"""Of what stands in front of ``=`` in names of rows."""
NOTES = {"weizmann4_order": " Its 34 validation clips are of three people, and so not independent of each other."}
"""What is to be known of data sets."""

SCALES = {
    "mini": ("", ""),
    "quick": (", on easy data", " --quick"),
    "paper": (", at the paper's scale", " --scale paper"),
}
"""What headings and commands say of each scale."""

READING = """\
A rerun of one seed on another processor, package version or commit may differ by several points, because rounding
differs and the difference grows: that rows are paired by seed removes little. All seeds have the same training videos;
what other videos would change is not in the intervals over seeds. Under "top-1, paper", *none* stands where the paper
has no such row, *?* behind a figure of a garbled part of our copy of its text, and *illegible* where that has none.
"""
HEAD = f"""\
# Results

Made by `dnr reproduce` of the finished runs in `results.jsonl`. Top-1 is in per cent: the mean over seeds, with its
95% t interval. `docs/reproduction.md` of the project has the protocol and the rule of the verdicts.

{READING}"""
PROJECT_HEAD = f"""\
# Results

Made by `dnr reproduce --report` of the lines in `docs/results/`, each of which is a finished run; the sections at the
end are what was measured before. [reproduction.md](reproduction.md) has the protocol and the rule of the verdicts,
which was there before the runs; [when_dnr_helps.md](when_dnr_helps.md) says what follows for a user, and
[claims.md](claims.md) lists all claims by their verdicts. Top-1 is in per cent: the mean over seeds, with its 95% t
interval. What nobody has run is not here.

{READING}"""


def page(found: Sequence[Result], sections: Sequence[str] = (), head: str = HEAD) -> str:
    """Return the page.

    Args:
      found: finished runs.
      sections: Markdown that stands behind the tables.
      head: what stands in front of them.
    """
    parts = [head]
    for scale, table in itertools.product(SCALES, TABLES.values()):
        if measured := blocks(table, found, scale):
            over_all = verdicts(table, found) if table.sweep else []
            parts.append("\n".join(_section(table, scale, measured, over_all)) + "\n")
    parts.append(_origin(found))
    return "\n".join([*parts, *sections])


def _section(table: Table, scale: str, measured: Sequence[Block], over_all: Sequence[Verdict]) -> Iterator[str]:
    """Yield the lines of a table; ``over_all`` are the verdicts about all data sets of a sweep."""
    where, flags = SCALES[scale]
    yield f"## {table.heading}{where}\n"
    if table.paper_data and scale != "paper":
        yield f"The paper's figures are of {table.paper_data}; ours, of the mini scale, compare among themselves.\n"
    yield f"```bash\ndnr reproduce --table {table.key}{flags}\n```\n"
    if table.sweep:
        yield from _sweep(table, measured)
    for block in () if table.sweep else measured:
        yield f"{describe(block.data, scale)}\n"
        yield from _rows(table, block, scale)
        yield from _claims(block.verdicts)
        if is_worth_drawing([block]):
            place = f" on {name_of(block.data)}" if scale == "mini" else ""
            yield f"![{table.heading}{where}{place}]({IMAGES}/{picture_name(table, block.data)})\n"
    yield from _claims(over_all)
    yield from _correction([*over_all, *itertools.chain(*(block.verdicts for block in measured))])
    if table.sweep and is_worth_drawing(distinct(measured)):
        yield f"![{table.heading}{where}]({IMAGES}/{picture_name(table)})\n"


def _correction(shown: Sequence[Verdict]) -> Iterator[str]:
    """Yield for how many contrasts the p-values of a table are corrected."""
    if not shown:
        return
    count = shown[0].corrected
    absent = count - len(shown)
    rest = f", of which {absent} {'are' if absent > 1 else 'is'} about data without a run" if absent else ""
    yield f"Holm's correction is for {count} contrast{'s' * (count > 1)}{rest}.\n"


def _rows(table: Table, block: Block, scale: str) -> Iterator[str]:
    """Yield the accuracies of a table, beside the paper's where it has some, and what factors in names mean."""
    yield "| row | top-1 | seeds |" + " top-1, paper |" * bool(table.paper_data)
    yield "|---|---|---|" + "---|" * bool(table.paper_data)
    for row in table.all_rows():
        if values := block.rows.get(row.name):
            paper = f" {_paper(row)} |" if table.paper_data else ""
            name = f"{row.label(scale)}{_some_folds(block, row)}"
            yield f"| {name} | {interval(statistics.estimate(values))} | {len(values)} |{paper}"
    yield ""
    if meant := meanings(block.rows):
        yield f"{meant}\n"


def _paper(row: Row) -> str:
    """Return the paper's top-1 of a row, or why there is none."""
    return row.read_as or (f"{row.accuracy[0]:.2f}" if row.accuracy else "none")


def _some_folds(block: Block, row: Row) -> str:
    """Return which folds a row has, where these are not all of the data set."""
    folds, count = block.folds[row.name], FOLDS.get(block.data, 1)
    if len(folds) == count:
        return ""
    return f" (fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))} of {count})"


def meanings(names: Iterable[str]) -> str:
    """Return what factors in names of rows mean, as a sentence; empty where there are none."""
    there = {key for name in names for key in re.findall(r"(\w+)=", name)}
    meant = [f"`{key}`: {meaning}" for key, meaning in MEANINGS.items() if key in there]
    return f"In names: {'; '.join(meant)}." if meant else ""


def distinct(measured: Sequence[Block]) -> list[Block]:
    """Return the blocks of a sweep, those of the same runs once: where knobs are at the values that were chosen."""
    first: dict[tuple[float, ...], Block] = {}
    for block in measured:
        first.setdefault(tuple(knobs_of(block.data).values()), block)
    return list(first.values())


def _knob(data: str) -> str:
    """Return what a line of a sweep is of."""
    if knobs_of(data) == knobs_of(DATA):
        return f"as chosen: {', '.join(f'{name}={value:g}' for name, value in knobs_of(DATA).items())}"
    return data.partition(":")[2].replace(",", ", ")


def _sweep(table: Table, measured: Sequence[Block]) -> Iterator[str]:
    """Yield a line for each data set, with a column for each row."""
    names = [row.name for row in table.all_rows()]
    yield f"{_training(measured[0].data)}; the number of seeds is behind each mean.\n"
    yield f"| data | {' | '.join(names)} |\n|{'---|' * (1 + len(names))}"
    for block in distinct(measured):
        cells = [_cell(block.rows.get(name, ())) for name in names]
        yield f"| {_knob(block.data)} | {' | '.join(cells)} |"
    yield ""
    if meant := meanings(names):
        yield f"{meant}\n"


def _cell(values: Sequence[float]) -> str:
    return f"{interval(statistics.estimate(values))}; {len(values)}" if values else ""


def _claims(found: Sequence[Verdict]) -> Iterator[str]:
    """Yield the verdicts as a table, and below it what has to be known with them."""
    if not found:
        return
    yield "| claim | points, over seeds | points, over videos | seeds | p | p, corrected | verdict |"
    yield "|---|---|---|---|---|---|---|"
    for verdict in found:
        said = f"{verdict.verdict}{verdict.folds and f' (folds: {verdict.folds})'}"
        text = f"{verdict.claim.text}{verdict.claim.per and f' (points {verdict.claim.per})'}"
        if verdict.found is None:
            yield f"| {text} | | | 0 | | | {said} |"
            continue
        seeds, videos = verdict.found.over_seeds, verdict.found.over_videos
        yield (
            f"| {text} | {interval(seeds, '+')} | {interval(videos, '+')} | {seeds.count} "
            f"| {_p(verdict.found.p)} | {_p(verdict.adjusted)} | {said} |"
        )
    yield ""
    known: dict[str, list[str]] = {}
    for verdict in found:
        if verdict.found and caveat(verdict):
            known.setdefault(caveat(verdict), []).append(verdict.claim.text)
    if known:
        yield "To be known with these verdicts:\n"
        yield "\n".join(f"- {'; '.join(texts)}: {text}." for text, texts in known.items()) + "\n"


def caveat(verdict: Verdict) -> str:
    """Return what has to be known with a verdict, with the figures that tell how much it matters; empty: nothing."""
    figures = [f"{text} {points(contrast)}" for text, contrast in verdict.beside]
    return "; ".join(filter(None, (verdict.claim.caveat, *figures)))


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def describe(data: str, scale: str = "mini") -> str:
    """Return a sentence about a data set and the training on it."""
    if scale == "paper":
        return f"**{data}**. Networks and training are those of `configs/`."
    if not is_generated(data):
        return f"**{name_of(data)}**. {_training(data)}.{NOTES.get(data, '')}"
    knobs = ", ".join(f"{name} {value:g}" for name, value in knobs_of(data).items())
    return f"**Generated videos** ({knobs}). {_training(data)}."


def _training(data: str) -> str:
    protocol = protocol_of(data)
    return f"{protocol.steps} steps of {protocol.batch} clips of 8 frames of {protocol.size} x {protocol.size} pixels"


def _origin(found: Sequence[Result]) -> str:
    """Return what the runs have in common: how many, how long, where."""
    hours = sum(result.seconds / result.together for result in found) / 3600
    packages = [
        ", ".join(f"{name} {version}" for name, version in result.versions.items() if name != "commit")
        for result in found
    ]
    commits = [result.versions.get("commit", "not noted") for result in found]
    return f"""\
## Runs

{len(found)} runs, {hours:.1f} hours of training and validation in all, on {_tally(result.device for result in found)}.
Versions: {_tally(packages)}. Commits of this package: {_tally(commits)}.
"""


def _tally(values: Iterable[str]) -> str:
    """Return values, the most frequent first, each with its number of runs where there are several."""
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return "; ".join(f"{value} ({count} run{'s' * (count > 1)})" for value, count in counts) or "nothing yet"


def picture_name(table: Table, data: str = "") -> str:
    """Return the file name of a table's picture, on one data set or, of a sweep, on all."""
    return f"results_{re.sub(r'[-:=, ]', '_', table.key + (data and '_' + data))}.png"


def is_worth_drawing(measured: Sequence[Block]) -> bool:
    """Return whether blocks have more than one run, so that there is something to compare."""
    return sum(len(values) for block in measured for values in block.rows.values()) > 1


def draw(table: Table, block: Block, file: pathlib.Path, scale: str = "mini") -> None:
    """Draw accuracies of the rows with their intervals and seeds, and the contrasts beside them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    judged = [verdict for verdict in block.verdicts if verdict.found]
    height = 1.2 + max(0.3 * len(block.rows), 0.5 * len(judged))
    figure = Figure(figsize=(10 if judged else 6, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 if judged else 1, squeeze=False)[0]
    for place, values in enumerate(block.rows.values()):
        value = statistics.estimate(values)
        drawing.point(axes[0], place, value.mean, percent_bounds(value), values, "#1f5a96")
    labels = {row.name: row.label(scale) for row in table.all_rows()}
    of = f"{name_of(block.data)}: mean, 95% interval, seeds"
    drawing.label(axes[0], [textwrap.fill(labels[name], 44) for name in block.rows], "top-1, %", of)
    for place, verdict in enumerate(judged):
        assert verdict.found
        seeds = verdict.found.over_seeds
        drawing.point(axes[1], place, seeds.mean, (seeds.low, seeds.high), (), drawing.colour_of(verdict.verdict))
    if judged:
        axes[1].axvline(0, color="black", linewidth=0.8)
        texts = [f"{textwrap.fill(one.claim.text, 34)}\n{one.verdict}{' *' * bool(caveat(one))}" for one in judged]
        star = " (*: see the page)" if any(caveat(one) for one in judged) else ""
        drawing.label(axes[1], texts, "points of top-1", f"paired contrasts{star}")
    drawing.save(figure, file)


def draw_sweep(table: Table, measured: Sequence[Block], file: pathlib.Path) -> None:
    """Draw accuracies over data sets, a colour a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.4 + 0.45 * len(measured)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = [row.name for row in table.all_rows() if any(row.name in block.rows for block in measured)]
    for number, name in enumerate(names):
        shift, colour = 0.15 * (number - (len(names) - 1) / 2), COLOURS[number % len(COLOURS)]
        axes.plot([], [], "o", color=colour, label=name)
        for place, block in enumerate(measured):
            if values := block.rows.get(name):
                value = statistics.estimate(values)
                drawing.point(axes, place + shift, value.mean, percent_bounds(value), (), colour)
    labels = [textwrap.fill(_knob(block.data), 36) for block in measured]
    drawing.label(axes, labels, "top-1, %", f"{table.title}: mean, 95% interval")
    figure.legend(loc="outside right upper", fontsize=8)
    drawing.save(figure, file)


def write(
    folder: pathlib.Path, found: Sequence[Result], sections: Sequence[str] = (), head: str = HEAD
) -> list[pathlib.Path]:
    """Write the page, as :func:`page` makes it, and its pictures into a folder; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / PAGE]
    for scale, table in itertools.product(SCALES, TABLES.values()):
        measured = blocks(table, found, scale)
        if table.sweep and is_worth_drawing(distinct(measured)):
            files.append(folder / IMAGES / picture_name(table))
            draw_sweep(table, distinct(measured), files[-1])
        for block in () if table.sweep else measured:
            if is_worth_drawing([block]):
                files.append(folder / IMAGES / picture_name(table, block.data))
                draw(table, block, files[-1], scale)
    files[0].write_text(page(found, sections, head))
    return files


def committed(docs: pathlib.Path) -> tuple[list[Result], list[str]]:
    """Return the lines and the sections that are kept in ``docs/results``.

    Sections are pieces of Markdown, one of runs that were done again, whose earlier lines are in :data:`EARLIER`, and
    one of what ``benchmarks/accelerator.py`` wrote: ``accelerator_<device>.json``.

    Raises:
      ConfigError: where there is no such folder.
    """
    folder = docs / "results"
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder '{folder}'; 'dnr reproduce --report' is given in a checkout of the project"
        )
    found = results.read(*(file for file in sorted(folder.glob("*.jsonl")) if file.name != EARLIER))
    again = again_section(found, results.read(folder / EARLIER))
    sections = [again] * bool(again) + [file.read_text() for file in sorted(folder.glob("*.md.part"))]
    if measured := accelerators_section(sorted(folder.glob("accelerator_*.json"))):
        sections.append(measured)
    return found, sections
