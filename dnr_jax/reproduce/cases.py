"""DNR beside the same network without it, over data and ways of training: what a reader who decides looks at first.

Each case is the verdict on one claim of a table. The tables of ``docs/when_dnr_helps.md`` and its picture are made of
the same cases.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence

from dnr_jax.reproduce import drawing, statistics
from dnr_jax.reproduce.results import Result
from dnr_jax.reproduce.statistics import Contrast, Estimate
from dnr_jax.reproduce.tables import DATA, FAR, SIZES, TABLES
from dnr_jax.reproduce.verdicts import Verdict, accuracies, by_place, verdicts
from dnr_jax.reproduce.wording import figure, interval

PICTURE = "when_dnr_helps.png"
HEAD = "| data | training | {baseline} | {dnr} | difference | seeds | verdict |\n|---|---|---|---|---|---|---|"


@dataclasses.dataclass(frozen=True)
class Case:
    """Two rows of a table between which a reader chooses.

    Attributes:
      data: what the videos are like, in words.
      training: in words; empty: as published, from scratch.
      table: key of the table.
      row: with DNR.
      against: without.
      place: data set.
      later: whether it was asked after the first runs with DNR had been seen.
    """

    data: str
    training: str
    table: str
    row: str
    against: str
    place: str = DATA
    later: bool = False

    @property
    def name(self) -> str:
        """What it is of, in words."""
        return f"{self.data}, {self.training}" if self.training else self.data

    @property
    def mark(self) -> str:
        """A dagger where the case was asked later."""
        return " †" if self.later else ""


_NEAR, _APART = "generated, order in adjacent frames", "generated, order 6 frames apart"
_UT, *_HOCKEY = (
    ("UT-Interaction", "ut", "ut_interaction"),
    *((f"hockey fights, {count} videos", "hockey", f"hockey_fights:{count}") for count in (100, 200, 400)),
)
_LONGER = "4 times the steps"
_START = "scales start near 1"


def _at_other_sizes(dnr: str, against: str) -> tuple[Case, ...]:
    data, _, place = _UT
    return tuple(
        Case(
            data, f"{size} x {size} pixels", "sizes", f"{dnr},size={size}", f"{against},size={size}", place, later=True
        )
        for size in SIZES
    )


INTERLACED = (
    Case(_NEAR, "", "arms", "dnr", "bn_interlace"),
    Case(_NEAR, "each at its own learning rate", "tuned", "dnr,rate=2", "bn_interlace,rate=0.5", later=True),
    Case(_NEAR, _START, "why", "dnr,gain=4", "bn_interlace", later=True),
    Case(_NEAR, _LONGER, "schedule", "dnr,steps=4", "bn_interlace,steps=4", later=True),
    Case(_NEAR, f"{_LONGER}, {_START}", "schedule", "dnr,gain=4,steps=4", "bn_interlace,steps=4", later=True),
    Case(_APART, "", "far", "dnr", "bn_interlace", FAR, later=True),
    Case(_APART, _START, "far", "dnr,gain=4", "bn_interlace", FAR, later=True),
    Case(_APART, _LONGER, "far", "dnr,steps=4", "bn_interlace,steps=4", FAR, later=True),
    *(Case(data, "", table, "dnr", "bn_interlace", place) for data, table, place in (_UT, *_HOCKEY)),
    *_at_other_sizes("dnr", "bn_interlace"),
)
"""DNR against batch normalisation, both interlaced."""
ALONE = (
    Case(_NEAR, "", "arms", "dnr_no_interlace", "bn"),
    Case(_NEAR, _LONGER, "schedule", "dnr_no_interlace,steps=4", "bn,steps=4", later=True),
    Case(_APART, "", "far", "dnr_no_interlace", "bn", FAR, later=True),
    *(Case(data, "", table, "dnr_no_interlace", "bn", place) for data, table, place in (_UT, *_HOCKEY)),
    *_at_other_sizes("dnr_no_interlace", "bn"),
)
"""The same with neither interlaced: what the relays do alone."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """A case with what its runs say."""

    case: Case
    baseline: Estimate
    dnr: Estimate
    found: Contrast
    verdict: Verdict


def compare(cases: Sequence[Case], found: Sequence[Result]) -> list[Compared]:
    """Return the cases that have a run of both rows, accuracies in per cent over the seeds that have both.

    Raises:
      LookupError: for a case of which its table has no claim.
    """
    compared = []
    for case in cases:
        table = TABLES[case.table]
        weights = {case.row: 1, case.against: -1}
        claimed = [one for one in verdicts(table, found) if one.data == case.place and one.claim.weights == weights]
        if not claimed:
            raise LookupError(f"table {case.table} has no claim about {case.row} and {case.against} on {case.place}")
        (verdict,) = claimed
        if verdict.found:
            rows = by_place(table, found)[case.place]
            common = set(rows[case.row]) & set(rows[case.against])
            against, dnr = (
                statistics.estimate(accuracies({run: rows[row][run] for run in common}))
                for row in (case.against, case.row)
            )
            compared.append(Compared(case, against, dnr, verdict.found, verdict))
    return compared


def table(compared: Sequence[Compared], baseline: str, dnr: str) -> str:
    """Return cases as a table in Markdown, with the names of its two columns of accuracies."""
    lines = [HEAD.format(baseline=baseline, dnr=dnr)]
    for one in compared:
        folds = f" (folds: {one.verdict.folds})" if one.verdict.folds else ""
        training = f"{one.case.training or 'as published'}{one.case.mark}"
        tops, seeds = f"{figure(one.baseline.mean)} | {figure(one.dnr.mean)}", one.found.over_seeds
        verdict = f"{one.verdict.verdict}{folds}"
        lines.append(f"| {one.case.data} | {training} | {tops} | {interval(seeds, '+')} | {seeds.count} | {verdict} |")
    return "\n".join(lines)


def draw(groups: Sequence[tuple[str, Sequence[Compared]]], file: pathlib.Path) -> None:
    """Draw the differences of cases with their intervals, a panel below the other, coloured by verdict.

    Args:
      groups: titles with cases; those without any are left out.
      file: PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [(title, compared) for title, compared in groups if compared]
    sizes = [len(compared) + 1.5 for _, compared in drawn]
    canvas = Figure(figsize=(10, 0.34 * sum(sizes)), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(len(drawn), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, (title, compared) in zip(panels, drawn, strict=True):
        for place, one in enumerate(compared):
            seeds = one.found.over_seeds
            colour = drawing.colour_of(one.verdict.verdict)
            drawing.point(axes, place, seeds.mean, (seeds.low, seeds.high), (), colour)
        axes.axvline(0, color="black", linewidth=0.8)
        names = [f"{one.case.name}{one.case.mark}  ({one.found.over_seeds.count})" for one in compared]
        drawing.label(axes, names, "", title)
    means = [abs(one.found.over_seeds.mean) for one in itertools.chain(*(compared for _, compared in drawn))]
    # An interval of two seeds may be wider than all others together: it runs out of the picture.
    limit = 1.4 * max(1.0, *means, *_ends(drawn))
    panels[-1].set_xlim(-limit, limit)
    panels[-1].set_xlabel("points of top-1 in favour of DNR: mean, 95% interval; behind the names: seeds", fontsize=9)
    drawing.save(canvas, file)


def _ends(drawn: Sequence[tuple[str, Sequence[Compared]]]) -> list[float]:
    """Return how far from 0 the intervals with a verdict reach."""
    seeds = [one.found.over_seeds for _, compared in drawn for one in compared if one.verdict.verdict != "open"]
    return [max(abs(one.low), abs(one.high)) for one in seeds]
