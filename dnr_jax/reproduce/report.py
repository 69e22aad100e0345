"""The page of results: tables, verdicts and pictures, of the lines of finished runs and of nothing else."""

import dataclasses
import itertools
import math
import pathlib
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from dnr_jax.config import ConfigError
from dnr_jax.reproduce import results, statistics
from dnr_jax.reproduce.accelerators import accelerators_section
from dnr_jax.reproduce.experiments import FOLDS, Run, is_generated, knobs_of, protocol_of, runs_of
from dnr_jax.reproduce.results import Result
from dnr_jax.reproduce.statistics import Contrast, Estimate, Outcome
from dnr_jax.reproduce.tables import ARMS, TABLES, Claim, Row, Table

PAGE = "results.md"
IMAGES = "images"
COLOURS = ("#1f5a96", "#c46a1b", "#2a7f3f", "#7a3f9d", "#444444")
"""Of the rows of a sweep."""
FIRST_TUNING_SEED = 100
"""Seeds from here on choose learning rates and difficulty, and count in the tables that name them alone."""

SCALES = {
    "mini": ("", ""),
    "quick": (", on easy data", " --quick"),
    "paper": (", at the paper's scale", " --scale paper"),
}
"""What headings and commands say of each scale."""

HEAD = """\
# Results

Made by `dnr reproduce` of the finished runs in `results.jsonl`. Top-1 is in per cent: the mean over seeds, with its
95% t interval. `docs/reproduction.md` of the project has the protocol and the rule of the verdicts.
"""
PROJECT_HEAD = """\
# Results

Made by `dnr reproduce --report` of the lines in `docs/results/`, each of which is a finished run; the sections at the
end are what was measured before. [reproduction.md](reproduction.md) has the protocol and the rule of the verdicts,
which was there before the runs; [when_dnr_helps.md](when_dnr_helps.md) says what follows for a user. Top-1 is in per
cent: the mean over seeds, with its 95% t interval. What nobody has run is not here.
"""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a claim on one data set.

    Attributes:
      claim: of the paper.
      found: the contrast; None where no seed has all rows.
      adjusted: p-value after Holm's correction.
      verdict: by the rule.
    """

    claim: Claim
    found: Contrast | None
    adjusted: float
    verdict: statistics.Verdict


@dataclasses.dataclass(frozen=True)
class Block:
    """A table on one data set, as far as it has been run.

    Attributes:
      data: name of the data set.
      rows: by name: accuracies in per cent, one a seed.
      verdicts: of the table's claims.
      folds: of the data set that were run.
    """

    data: str
    rows: Mapping[str, Sequence[float]]
    verdicts: Sequence[Verdict]
    folds: int = 1


def blocks(table: Table, found: Sequence[Result], scale: str = "mini") -> list[Block]:
    """Return a table on each of its data sets on which a run is finished, beside those that it shares with the arms.

    The quick form has no claims.
    """
    places = by_place(table, found, scale)
    claims = () if table.sweep or scale == "quick" else table.claims
    pairs = [(place, claim) for place in places for claim in claims if set(claim.weights) <= set(places[place])]
    verdicts = _judge([(claim, places[place]) for place, claim in pairs])
    measured = {
        place: Block(
            place,
            {name: accuracies(outcome) for name, outcome in rows.items() if outcome},
            [verdict for (other, _), verdict in zip(pairs, verdicts, strict=True) if other == place],
            len({fold for outcome in rows.values() for _, fold in outcome}),
        )
        for place, rows in places.items()
        if any(rows.values())
    }
    has_own = any(places[place].get(row.name) for place in measured for row in _own_rows(table, place, scale))
    return list(measured.values()) if has_own else []


def trends(table: Table, found: Sequence[Result]) -> list[Verdict]:
    """Return what became of the claims of a sweep, which are about all of its data sets together; of others none."""
    if not table.sweep:
        return []
    named = {
        f"{name}@{place}": outcome
        for place, rows in by_place(table, found).items()
        for name, outcome in rows.items()
        if outcome
    }
    return _judge([(claim, named) for claim in table.claims])


def by_place(table: Table, found: Sequence[Result], scale: str = "mini") -> dict[str, dict[str, Outcome]]:
    """Return which videos the rows of a table had right, by data set and name of the row."""
    done: dict[str, list[Result]] = {}
    for result in found:
        done.setdefault(result.fingerprint, []).append(result)
    seeds = table.seeds or range(FIRST_TUNING_SEED)
    places: dict[str, dict[str, Outcome]] = {}
    for row, run in _runs(table, scale):
        finished = [result for result in done.get(run.fingerprint, ()) if result.seed in seeds]
        outcome = {(result.seed, run.fold): result.right() for result in finished}
        rows = places.setdefault(run.data, {})
        rows[row.name] = {**rows.get(row.name, {}), **outcome}
    return places


def _runs(table: Table, scale: str) -> Iterator[tuple[Row, Run]]:
    """Yield the rows of a table with their runs at a scale, of one seed each."""
    for row in table.all_rows():
        if row.config or scale != "paper":
            yield from ((row, run) for run in runs_of(table, row, 1, scale))


def _judge(claims: Sequence[tuple[Claim, Mapping[str, Outcome]]]) -> list[Verdict]:
    """Return the verdicts on the claims of a table, each beside the outcomes that it is about."""
    contrasts = [statistics.contrast(rows, claim.weights) for claim, rows in claims]
    adjusted = statistics.holm([contrast.p if contrast else 1.0 for contrast in contrasts])
    return [
        Verdict(claim, contrast, p, statistics.verdict(contrast, p))
        for (claim, _), contrast, p in zip(claims, contrasts, adjusted, strict=True)
    ]


def _own_rows(table: Table, place: str, scale: str) -> Sequence[Row]:
    """Return the rows that no table before it has on a data set; of the first there without any, all of them."""
    if table.sweep:  # where a knob is at the value that was chosen, the rows are those of other tables
        return [] if table.arms and knobs_of(place) == knobs_of("generated") else table.all_rows()
    before = itertools.takewhile(lambda other: other is not table, TABLES.values())
    there = [other for other in before if any(run.data == place for _, run in _runs(other, scale))]
    known = [row.setting for other in there if other.seeds == table.seeds for row, _ in _runs(other, scale)]
    known += [row.setting for row in ARMS if not table.seeds and scale != "paper"]
    own = [row for row in table.rows if row.start or row.setting not in known]
    return own if own or there else table.all_rows()


def accuracies(outcome: Outcome) -> list[float]:
    """Return the accuracy of each seed in per cent, over the videos of all folds that it has."""
    seeds = sorted({seed for seed, _ in outcome})
    videos = [[right for (other, _), right in outcome.items() if other == seed] for seed in seeds]
    return [100.0 * sum(int(r.sum()) for r in rights) / sum(len(r) for r in rights) for rights in videos]


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
            parts.append("\n".join(_section(table, scale, measured, trends(table, found))) + "\n")
    parts.append(_origin(found))
    return "\n".join([*parts, *sections])


def _section(table: Table, scale: str, measured: Sequence[Block], over_all: Sequence[Verdict]) -> Iterator[str]:
    """Yield the lines of a table; ``over_all`` are the verdicts about all data sets of a sweep."""
    title, (where, flags) = f"{table.title[0].lower()}{table.title[1:]}", SCALES[scale]
    number = (f"Table {table.key}: {title}" if table.paper_data else table.title) + where
    yield f"## {number}\n"
    if table.paper_data and scale != "paper":
        yield f"The paper's figures are of {table.paper_data}; ours, of the mini scale, compare among themselves.\n"
    yield f"```bash\ndnr reproduce --table {table.key}{flags}\n```\n"
    if table.sweep:
        yield from _sweep(table, measured)
        if over_all:
            yield "The points are from one value of the knob to the next.\n"
            yield from _claims(over_all)
            yield f"Holm's correction is for {len(over_all)} contrasts.\n"
        yield f"![{number}]({IMAGES}/{picture_name(table)})\n"
        return
    for block in measured:
        some = (
            f" So far {block.folds} of its {FOLDS[block.data]} folds." if block.folds < FOLDS.get(block.data, 1) else ""
        )
        yield f"{describe(block.data, scale)}{some}\n"
        yield from _rows(table, block)
        if block.verdicts:
            yield from _claims(block.verdicts)
        place = f" on {block.data}" if scale == "mini" else ""
        yield f"![{number}{place}]({IMAGES}/{picture_name(table, block.data)})\n"
    if count := sum(len(block.verdicts) for block in measured):
        yield f"Holm's correction is for {count} contrasts."


def _rows(table: Table, block: Block) -> Iterator[str]:
    """Yield the accuracies of a table, beside the paper's where it has some."""
    yield "| row | top-1 | seeds |" + " top-1, paper |" * bool(table.paper_data)
    yield "|---|---|---|" + "---|" * bool(table.paper_data)
    for row in table.all_rows():
        if values := block.rows.get(row.name):
            paper = (f" {row.accuracy[0]:.2f} |" if row.accuracy else " |") if table.paper_data else ""
            yield f"| {row.name} | {interval(statistics.estimate(values))} | {len(values)} |{paper}"
    yield ""


def _sweep(table: Table, measured: Sequence[Block]) -> Iterator[str]:
    """Yield a line for each data set, with a column for each row."""
    names = [row.name for row in table.all_rows()]
    yield f"{_training(measured[0].data)}; the number of seeds is behind each mean.\n"
    yield f"| data | {' | '.join(names)} |\n|{'---|' * (1 + len(names))}"
    for block in measured:
        cells = [_cell(block.rows.get(name, ())) for name in names]
        yield f"| {block.data.partition(':')[2].replace(',', ', ')} | {' | '.join(cells)} |"
    yield ""


def _cell(values: Sequence[float]) -> str:
    return f"{interval(statistics.estimate(values))}; {len(values)}" if values else ""


def _claims(verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield "| claim | points, over seeds | points, over videos | seeds | p | p, corrected | verdict |"
    yield "|---|---|---|---|---|---|---|"
    for verdict in verdicts:
        if verdict.found is None:
            yield f"| {verdict.claim.text} | | | 0 | | | {verdict.verdict} |"
            continue
        seeds, videos = verdict.found.over_seeds, verdict.found.over_videos
        yield (
            f"| {verdict.claim.text} | {interval(seeds, '+')} | {interval(videos, '+')} | {seeds.count} "
            f"| {_p(verdict.found.p)} | {_p(verdict.adjusted)} | {verdict.verdict} |"
        )
    yield ""


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def interval(value: Estimate, sign: str = "") -> str:
    """Return a mean with its interval, or alone where there is one value; a zero has no minus."""
    mean, low, high = (f"{bound:{sign}z.1f}" for bound in (value.mean, value.low, value.high))
    return mean if math.isnan(value.half) else f"{mean} ({low} to {high})"


def describe(data: str, scale: str = "mini") -> str:
    """Return a sentence about a data set and the training on it."""
    if scale == "paper":
        return f"**{data}**. Networks and training are those of `configs/`."
    if not is_generated(data):
        name, _, count = data.replace("_", " ").partition(":")
        return f"**{name}**{count and f', {count} training videos'}. {_training(data)}."
    knobs = ", ".join(f"{name} {value:g}" for name, value in knobs_of(data).items())
    return f"**Generated videos** ({knobs}). {_training(data)}."


def _training(data: str) -> str:
    protocol = protocol_of(data)
    return f"{protocol.steps} steps of {protocol.batch} clips of 8 frames of {protocol.size} x {protocol.size} pixels"


def _origin(found: Sequence[Result]) -> str:
    """Return what the runs have in common: how many, how long, where."""
    hours = sum(result.seconds / result.together for result in found) / 3600
    devices = sorted({result.device for result in found})
    versions = sorted({", ".join(f"{name} {version}" for name, version in result.versions.items()) for result in found})
    return f"""\
## Runs

{len(found)} runs, {hours:.1f} hours of training and validation in all, on {"; ".join(devices) or "nothing yet"}.
Versions: {"; ".join(versions) or "none"}.
"""


def picture_name(table: Table, data: str = "") -> str:
    """Return the file name of a table's picture, on one data set or, of a sweep, on all."""
    return f"results_{re.sub(r'[-:=, ]', '_', table.key + (data and '_' + data))}.png"


def draw(block: Block, file: pathlib.Path) -> None:
    """Draw accuracies of the rows with their intervals and seeds, and the contrasts beside them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    verdicts = [verdict for verdict in block.verdicts if verdict.found]
    height = 1.2 + max(0.3 * len(block.rows), 0.5 * len(verdicts))
    figure = Figure(figsize=(10 if verdicts else 6, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 if verdicts else 1, squeeze=False)[0]
    for place, values in enumerate(block.rows.values()):
        _point(axes[0], place, statistics.estimate(values), values, "#1f5a96")
    _label(axes[0], list(block.rows), "top-1, %", "rows: mean, 95% interval, seeds")
    for place, verdict in enumerate(verdicts):
        assert verdict.found
        colour = {"supported": "#2a7f3f", "contradicted": "#b03030"}.get(verdict.verdict, "#555555")
        _point(axes[1], place, verdict.found.over_seeds, (), colour)
    if verdicts:
        axes[1].axvline(0, color="black", linewidth=0.8)
        texts = [f"{textwrap.fill(verdict.claim.text, 34)}\n{verdict.verdict}" for verdict in verdicts]
        _label(axes[1], texts, "points of top-1", "paired contrasts over seeds")
    _save(figure, file)


def draw_sweep(table: Table, measured: Sequence[Block], file: pathlib.Path) -> None:
    """Draw accuracies over data sets, a colour a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.4 + 0.35 * len(measured)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = [row.name for row in table.all_rows() if any(row.name in block.rows for block in measured)]
    for number, name in enumerate(names):
        shift, colour = 0.15 * (number - (len(names) - 1) / 2), COLOURS[number % len(COLOURS)]
        axes.plot([], [], "o", color=colour, label=name)
        for place, block in enumerate(measured):
            if values := block.rows.get(name):
                _point(axes, place + shift, statistics.estimate(values), (), colour)
    labels = [block.data.partition(":")[2].replace(",", ", ") for block in measured]
    _label(axes, labels, "top-1, %", f"{table.title}: mean, 95% interval")
    figure.legend(loc="outside right upper", fontsize=8)
    _save(figure, file)


def _point(axes, place: float, value: Estimate, values: Sequence[float], colour: str) -> None:  # type: ignore[no-untyped-def]
    half = 0.0 if math.isnan(value.half) else value.half
    axes.plot(values, [place] * len(values), "|", color=colour, alpha=0.5, markersize=9)
    axes.errorbar(value.mean, place, xerr=half, fmt="o", color=colour, capsize=3, markersize=5)


def _label(axes, names: Sequence[str], unit: str, title: str) -> None:  # type: ignore[no-untyped-def]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(unit, fontsize=9)
    axes.set_title(title, fontsize=9)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _save(figure, file: pathlib.Path) -> None:  # type: ignore[no-untyped-def]
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def write(
    folder: pathlib.Path, found: Sequence[Result], sections: Sequence[str] = (), head: str = HEAD
) -> list[pathlib.Path]:
    """Write the page, as :func:`page` makes it, and its pictures into a folder; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / PAGE]
    for scale, table in itertools.product(SCALES, TABLES.values()):
        measured = blocks(table, found, scale)
        if measured and table.sweep:
            files.append(folder / IMAGES / picture_name(table))
            draw_sweep(table, measured, files[-1])
            continue
        for block in measured:
            files.append(folder / IMAGES / picture_name(table, block.data))
            draw(block, files[-1])
    files[0].write_text(page(found, sections, head))
    return files


def committed(docs: pathlib.Path) -> tuple[list[Result], list[str]]:
    """Return the lines and the sections that are kept in ``docs/results``.

    Sections are pieces of Markdown, and one of what ``benchmarks/accelerator.py`` wrote: ``accelerator_<device>.json``.

    Raises:
      ConfigError: where there is no such folder.
    """
    folder = docs / "results"
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder '{folder}'; 'dnr reproduce --report' is given in a checkout of the project"
        )
    sections = [file.read_text() for file in sorted(folder.glob("*.md.part"))]
    if measured := accelerators_section(sorted(folder.glob("accelerator_*.json"))):
        sections.append(measured)
    return results.read(*sorted(folder.glob("*.jsonl"))), sections
