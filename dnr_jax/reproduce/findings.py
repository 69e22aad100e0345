"""What follows from the results: ``docs/when_dnr_helps.md``, ``docs/claims.md`` and a section of ``README.md``.

The words stand in ``docs/results/*.in``, with a name in double braces where figures belong. Whatever depends on a run
is made here, from the finished runs: figures, verdicts, and sentences that are said only where the figures bear them.
"""

import dataclasses
import functools
import itertools
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import get_args

from dnr_jax.config import ConfigError
from dnr_jax.reproduce import cases, report, statistics
from dnr_jax.reproduce.experiments import knobs_of, protocol_of
from dnr_jax.reproduce.results import Result
from dnr_jax.reproduce.statistics import Contrast, Estimate, Outcome
from dnr_jax.reproduce.tables import (
    ARMS,
    BEATS,
    BEATS_TUNED,
    DATA,
    FAR,
    KNOBS,
    LENGTHS,
    RATES,
    TABLES,
    Claim,
    Table,
    name_of,
    trend,
)
from dnr_jax.reproduce.verdicts import Verdict, accuracies, blocks, by_place, runs_in, verdicts
from dnr_jax.reproduce.wording import interval, points

SECTION = "README.md.in"
MARKS = ("<!-- results: made by dnr reproduce --report -->\n", "<!-- end of results -->\n")
"""What stands around the section of ``README.md``."""

NAMES = {
    "bn": "BN",
    "bn_interlace": "BN with interlacing",
    "dnr_no_interlace": "DNR without interlacing",
    "dnr": "DNR",
    "dnr,gain=4": "DNR that starts near 1",
    "dnr_no_interlace,gain=4": "DNR that starts near 1, without interlacing",
}
_SAID = {
    "supported": "supported",
    "contradicted": "contradicted: it was the other way round",
    "not seen here": "not seen here",
    "open": "open",
}
NOTHING = "Nothing so far."
REAL = ("ut", "hockey")
"""Tables of the four arms on real videos."""
PROMPTED = 0
"""The seed that was seen before Table ``far`` was added."""
PANELS = {
    "DNR - BN, both with interlacing": cases.INTERLACED,
    "DNR - BN, neither with interlacing": cases.ALONE,
}
"""Titles of the picture's panels."""
FAIR = BEATS[1]
"""The claim on which the advice depends: interlacing is nearly free, so that it belongs to the baseline."""


class Figures:
    """What finished runs say about the rows of tables on one data set."""

    def __init__(self, found: Sequence[Result], *tables: str, data: str = DATA):
        """Look the rows up; without a name of the data, on the generated ones at the chosen difficulty."""
        self.rows: dict[str, Outcome] = {}
        for table in tables:
            self.rows |= by_place(TABLES[table], found)[data]

    def top1(self, row: str) -> Estimate | None:
        """Return the accuracy of a row in per cent; None where no run is finished."""
        values = accuracies(self.rows.get(row, {}))
        return statistics.estimate(values) if values else None

    def margin(self, row: str, against: str) -> Contrast | None:
        """Return the paired difference of two rows in points; None where no seed has both."""
        return self.contrast({row: 1, against: -1})

    def contrast(self, weights: Mapping[str, float]) -> Contrast | None:
        """Return a weighted sum of rows in points; None where no seed has all."""
        return statistics.contrast(self.rows, weights)

    def of_seeds(self, wanted: Callable[[int], bool]) -> "Figures":
        """Return the figures of some seeds alone."""
        some = Figures([])
        for row, outcome in self.rows.items():
            some.rows[row] = {run: right for run, right in outcome.items() if wanted(run[0])}
        return some


def bullets(lines: Sequence[str], none: str = NOTHING) -> str:
    """Return a Markdown list, or what to say where there is nothing."""
    return "\n".join(f"- {line}" for line in lines) or none


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What became of a claim of a table.

    Attributes:
      table: of the claim.
      verdict: of the claim, with its data set and figures.
      same: names of the claims that are about the same runs, with those of their tables, and have the same verdict.
    """

    table: Table
    verdict: Verdict
    same: tuple[str, ...] = ()

    @property
    def claim(self) -> Claim:
        """The claim."""
        return self.verdict.claim

    @property
    def where(self) -> str:
        """Where the claim stands, and on which data it was measured where these are not the main ones."""
        return _where(self.table, self.verdict.data)

    @property
    def name(self) -> str:
        """:attr:`where`, and what the claim says."""
        return f"{self.where}: {self.claim.text}"


def judge(found: Sequence[Result]) -> list[Judgement]:
    """Return what became of the claims of all tables, those that are about the same runs once."""
    judged: dict[object, Judgement] = {}
    for table in TABLES.values():
        for verdict in verdicts(table, found):
            one = Judgement(table, verdict)
            key = (_runs_of(one), verdict.verdict, verdict.claim.own)
            first = judged.setdefault(key, one)
            if first is not one:
                judged[key] = dataclasses.replace(first, same=(*first.same, one.name))
    return list(judged.values())


def _runs_of(one: Judgement) -> frozenset[tuple[str, float]]:
    """Return which runs a claim is about, by fingerprint, with their weights."""
    prints: dict[str, list[str]] = {}
    for row, run in runs_in(one.table):
        prints.setdefault(f"{row.name}@{run.data}", []).append(run.fingerprint)
    places = "" if one.table.sweep else f"@{one.verdict.data}"
    return frozenset((print_, weight) for name, weight in one.claim.weights.items() for print_ in prints[name + places])


def claims(judgements: Sequence[Judgement], verdict: str) -> str:
    """Return the paper's claims with a verdict, as a list."""
    return bullets([_line(one, one.name) for one in judgements if one.verdict.verdict == verdict and not one.claim.own])


def questions(judgements: Sequence[Judgement]) -> str:
    """Return what the reproduction asks beside the paper's claims, each with its verdict, as a list a table."""
    asked = itertools.groupby((one for one in judgements if one.claim.own), lambda one: one.where)
    return "\n\n".join(
        f"**{where}**\n\n{bullets([_line(one, one.claim.text, f', *{_SAID[one.verdict.verdict]}*') for one in some])}"
        for where, some in asked
    )


def _line(one: Judgement, name: str, said: str = "") -> str:
    """Return a claim below a name, with its figures and all that has to be known with them."""
    figures = points(one.verdict.found) if one.verdict.found else "begun" if one.verdict.folds else "not run yet"
    folds = f" (folds: {one.verdict.folds})" if one.verdict.folds else ""
    same = f" The same runs: {'; '.join(one.same)}." if one.same else ""
    known = report.caveat(one.verdict) if one.verdict.found else ""
    return f"{name}: {figures}{said}{folds}{known and f'. *But* {known}.'}{same if known or not same else f'.{same}'}"


def _where(table: Table, data: str) -> str:
    """Return which table, and which data where these are not the main ones and its name does not say it."""
    name = f"Table {table.key}" if table.heading != table.title else table.title.partition(":")[0]
    return name if data == DATA or name_of(data) in name else f"{name}, on {name_of(data)}"


def arms(found: Sequence[Result]) -> str:
    """Return the accuracies of the four arms as a table."""
    figures = Figures(found, "arms")
    lines = ["| | top-1, % | seeds |", "|---|---|---|"]
    for row in ARMS:
        if top1 := figures.top1(row.name):
            lines.append(f"| {NAMES[row.name]} | {interval(top1)} | {top1.count} |")
    return "\n".join(lines)


def summary(judgements: Sequence[Judgement]) -> str:
    """Return what became of the claims that DNR beats its baselines, as a list."""
    about_arms = [one for one in judgements if one.table.key == "arms" and one.verdict.found]
    return bullets(
        [
            f"{one.claim.text}: {points(one.verdict.found)}, *{_SAID[one.verdict.verdict]}*"
            for one in about_arms
            if one.verdict.found
        ]
    )


def real(found: Sequence[Result]) -> str:
    """Return the four arms on each set of real videos as a table, with the verdict on the fair claim."""
    lines = [
        f"| | {' | '.join(NAMES[row.name] for row in ARMS)} | DNR - BN with interlacing | verdict |",
        f"|{'---|' * (3 + len(ARMS))}",
    ]
    for key in REAL:
        for verdict in verdicts(TABLES[key], found):
            if verdict.found and verdict.claim == FAIR:
                figures = Figures(found, key, data=verdict.data)
                cells = " | ".join(_counted(figures.top1(row.name)) for row in ARMS)
                folds = f" (folds: {verdict.folds})" if verdict.folds else ""
                margin, said = points(verdict.found), _SAID[verdict.verdict]
                lines.append(f"| {name_of(verdict.data)} | {cells} | {margin}{folds} | {said} |")
    return "\n".join(lines) if len(lines) > 2 else NOTHING


_ADVICE = {
    "supported": "On the generated videos DNR beats the baseline that is nearly free, BN with interlacing: try it "
    "where order matters, and keep the baseline beside it.",
    "contradicted": "On the generated videos, in this budget, BN with interlacing is the better choice: it is nearly "
    "free, and more accurate than DNR. Take DNR only where it beats that baseline on data of your own.",
    "not seen here": "Between DNR and BN with interlacing these runs show no difference that would bear a choice; the "
    "second is nearly free. Take DNR only where it beats that baseline on data of your own.",
    "open": "There are not seeds enough for advice. BN with interlacing is nearly free: take DNR only where it beats "
    "that baseline on data of your own.",
}


_TUNED_ADVICE = {
    "supported": " With each at the learning rate that was chosen for it, DNR was better.",
    "contradicted": " So it is with each at the learning rate that was chosen for it.",
}
_FAR_ADVICE = {
    "supported": " Where what tells the order lies far apart in time, DNR was better in training of this length: "
    "there it is worth its cost.",
    "contradicted": " That what tells the order lies far apart in time made no case for DNR either.",
    "not seen here": " Where what tells the order lies far apart in time, these runs show no difference that would "
    "bear a choice either.",
    "open": "",
}
_GROWS = (
    " DNR's margin is larger where what tells the order lies far apart in time, though at the largest gap the "
    "difference itself is not significant after the correction: in training of this length such data are where it "
    "may pay."
)


def advice(judgements: Sequence[Judgement]) -> str:
    """Return what to do, by the verdicts on DNR against BN with interlacing: as published, tuned, and far apart."""
    fair = {one.table.key: one.verdict for one in judgements if one.claim in (FAIR, BEATS_TUNED)}
    said: dict[str, str] = {key: verdict.verdict for key, verdict in fair.items()}
    far_apart = said.get("far", "open")
    grows = any(one.verdict.verdict == "supported" and one.claim == trend("gap") for one in judgements)
    about_far = _GROWS if grows and far_apart == "not seen here" else _FAR_ADVICE[far_apart]
    return _ADVICE[said.get("arms", "open")] + _tuned_advice(fair.get("tuned")) + about_far


def _tuned_advice(verdict: Verdict | None) -> str:
    """Return how DNR stands to BN with interlacing, each at the rate chosen for it; empty where that is open."""
    if verdict is None or verdict.found is None or verdict.verdict != "not seen here":
        return _TUNED_ADVICE.get(verdict.verdict, "") if verdict else ""
    stands = "behind" if verdict.found.over_seeds.mean < 0 else "ahead"
    return (
        f" With each at the learning rate that was chosen for it, DNR is {stands}: the difference is "
        f"{points(verdict.found)}. This is not significant after the correction (p {verdict.adjusted:.3f}), "
        "which does not say that they are equal."
    )


def lengths(found: Sequence[Result]) -> str:
    """Return the arms over the length of training as a table, and what follows."""
    figures, all_lengths = Figures(found, "schedule", "why"), (1, *LENGTHS)
    lines = [f"| | {' | '.join(f'{length} x' for length in all_lengths)} |", f"|{'---|' * (1 + len(all_lengths))}"]
    for arm, name in NAMES.items():
        cells = [figures.top1(_longer(arm, length)) for length in all_lengths]
        lines.append(f"| {name} | {' | '.join(_counted(cell) for cell in cells)} |")
    margins = [_margin_at(figures, length) for length in all_lengths]
    lines.append(f"| DNR - BN with interlacing | {' | '.join(points(one) if one else '' for one in margins)} |")
    return "\n".join([*lines, "", _about_change(_change(figures))])


def _longer(arm: str, length: int) -> str:
    """Return the row of an arm in some times the steps."""
    if length > 1:
        return f"{arm},steps={length}"
    return arm


def _counted(value: Estimate | None) -> str:
    return f"{interval(value)}; {value.count}" if value else ""


def _margin_at(figures: Figures, length: int) -> Contrast | None:
    """Return the margin of DNR over BN with interlacing in some times the steps."""
    return figures.margin(_longer("dnr", length), _longer("bn_interlace", length))


def _change(figures: Figures) -> Contrast | None:
    """Return how the margin changes to the longest training that was run, over seeds that have both lengths."""
    run = [length for length in LENGTHS if _margin_at(figures, length)]
    if not run:
        return None
    dnr, baseline = _longer("dnr", max(run)), _longer("bn_interlace", max(run))
    return figures.contrast({dnr: 1, baseline: -1, "dnr": -1, "bn_interlace": 1})


def far(found: Sequence[Result]) -> str:
    """Return how the arms compare where what tells the order lies far apart, as a sentence; empty without runs."""
    (data,) = TABLES["far"].data
    figures = Figures(found, "far", data=data)
    parts = [
        f"{'' if length == 1 else f'in {length} times the steps '}DNR has {interval(dnr)} and BN with interlacing "
        f"{interval(baseline)}, a difference of {points(margin)}"
        for length in (1, *LENGTHS)
        if (dnr := figures.top1(_longer("dnr", length)))
        and (baseline := figures.top1(_longer("bn_interlace", length)))
        and (margin := _margin_at(figures, length))
    ]
    if not parts:
        return ""
    gap = f"{knobs_of(data)['gap']:.0f}"
    text = f"With {gap} frames between the two poses that tell the order {'; '.join(parts)}."
    rest = figures.of_seeds(lambda seed: seed != PROMPTED).margin("dnr", "bn_interlace")
    if not rest or (PROMPTED, 0) not in figures.rows["dnr"]:
        return text
    return (
        f"{text} Seed {PROMPTED}, which prompted these runs, is counted; without it the difference is {points(rest)}."
    )


def gaps(found: Sequence[Result]) -> str:
    """Return how the arms compare over all gaps, of the seeds that have all, as a sentence; empty where none has."""
    figures = {gap: Figures(found, "knobs", data=f"{DATA}:gap={gap:g}") for gap in KNOBS["gap"]}
    both = [figure.rows.get(row, {}) for figure in figures.values() for row in ("dnr", "bn_interlace")]
    common = {seed for seed, _ in set.intersection(*map(set, both))}
    if not common:
        return ""
    some = {gap: figure.of_seeds(common.__contains__) for gap, figure in figures.items()}
    margins = [points(margin) for figure in some.values() if (margin := figure.margin("dnr", "bn_interlace"))]
    baselines = [interval(top1) for figure in some.values() if (top1 := figure.top1("bn_interlace"))]
    return (
        f"At gaps of {_listed(map(str, KNOBS['gap']))} frames, of seed{'s' * (len(common) > 1)} "
        f"{_listed(map(str, sorted(common)))}, DNR - BN with interlacing is {_listed(margins)}, and BN with "
        f"interlacing has {_listed(baselines)}: a network that does not see order has at most 50 in expectation."
    )


def _listed(texts: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def longest(found: Sequence[Result]) -> str:
    """Return the margin over BN with interlacing in the longest training, as a sentence; empty where there is none."""
    figures = Figures(found, "schedule")
    margins = {length: margin for length in LENGTHS if (margin := _margin_at(figures, length))}
    if not margins:
        return ""
    length, margin = max(margins.items())
    tops = {arm: figures.top1(_longer(arm, length)) for arm in ("dnr", "bn_interlace")}
    accuracies = ", ".join(f"{NAMES[arm]} {interval(top1)}" for arm, top1 in tops.items() if top1)
    return f"In {length} times the steps: {accuracies}; the difference is {points(margin)}."


def _about_change(change: Contrast | None) -> str:
    """Return the sentence that the change of the margin, from the shortest to the longest training, bears."""
    if change is None:
        return "Longer runs are not finished yet."
    seeds = change.over_seeds
    if seeds.count < 2:
        return f"Longer training changes the margin by {points(change)}; one seed is a hint and no proof."
    if seeds.low <= 0 <= seeds.high:
        return f"Longer training changes the margin by {points(change)}, an interval that has 0 in it."
    what = "DNR catches up with longer training" if seeds.mean > 0 else "Longer training is no help to DNR"
    return f"{what}: the margin changes by {points(change)}."


def reasons(found: Sequence[Result]) -> str:
    """Return what each suspected reason changes, the largest change first, with the verdict, and what names mean."""
    judged = verdicts(TABLES["why"], found)
    changes = [
        (row.name, one.found, one.verdict)
        for row in TABLES["why"].rows
        for one in judged
        if one.found and one.claim.weights == {row.name: 1, row.name.partition(",")[0]: -1}
    ]
    changes.sort(key=lambda change: -change[1].over_seeds.mean)
    listed = bullets([f"`{name}`: {points(margin)}, *{_SAID[said]}*" for name, margin, said in changes])
    meant = report.meanings(name for name, _, _ in changes)
    return f"{listed}\n\n{meant}" if meant else listed


def start(found: Sequence[Result]) -> str:
    """Return what a start near 1 changes, as a sentence; empty where no run says so."""
    figures = Figures(found, "why")
    top1, change = figures.top1("dnr,gain=4"), figures.margin("dnr,gain=4", "dnr")
    fair = figures.margin("dnr,gain=4", "bn_interlace")
    if not top1 or not change or not fair:
        return ""
    return (
        "With predicted scales that start near 1 (`model.norm.gain=4`, which the paper does not have) DNR has "
        f"{interval(top1)}: against DNR as published {points(change)}, against BN with interlacing {points(fair)}."
    )


def knobs(found: Sequence[Result]) -> str:
    """Return the margins over BN with interlacing for each value of the knobs that was run, as a table."""
    lines = ["| data | BN with interlacing | DNR - that | DNR that starts near 1 - that |", "|---|---|---|---|"]
    chosen, places = knobs_of(DATA), TABLES["knobs"].data
    at_chosen = [place for place in places if knobs_of(place) == chosen]
    for data in (at_chosen[0], *(place for place in places if place not in at_chosen)):
        figures = Figures(found, "knobs", data=data)
        baseline = figures.top1("bn_interlace")
        margins = [figures.margin(row, "bn_interlace") for row in ("dnr", "dnr,gain=4")]
        if baseline and any(margins):
            cells = " | ".join(points(margin) if margin else "" for margin in margins)
            name = "as above" if data in at_chosen else data.partition(":")[2]
            lines.append(f"| {name} | {_counted(baseline)} | {cells} |")
    return "\n".join(lines) if len(lines) > 2 else NOTHING


def rates(found: Sequence[Result]) -> str:
    """Return the accuracies of both arms over learning rates as a table."""
    figures = Figures(found, "rates")
    lines = [f"| | {' | '.join(f'{rate:g} x' for rate in RATES)} |", f"|{'---|' * (1 + len(RATES))}"]
    for arm in ("bn_interlace", "dnr"):
        found_here = [figures.top1(f"{arm},rate={rate:g}") for rate in RATES]
        if any(found_here):
            lines.append(f"| {NAMES[arm]} | {' | '.join(interval(top1) if top1 else '' for top1 in found_here)} |")
    return "\n".join([*lines, "", *_chosen_rates(figures)]) if len(lines) > 2 else NOTHING


def _chosen_rates(figures: Figures) -> Iterator[str]:
    """Yield which rate the rule of ``docs/reproduction.md`` chooses for each arm, as sentences of one paragraph."""
    for arm in ("bn_interlace", "dnr"):
        changes = {rate: figures.margin(f"{arm},rate={rate:g}", f"{arm},rate=1") for rate in RATES if rate != 1}
        better = {rate: change for rate, change in changes.items() if change and change.over_seeds.low > 0}
        if better:
            rate, change = max(better.items(), key=lambda item: item[1].over_seeds.mean)
            edge = ", the edge of what was tried" if rate in (min(RATES), max(RATES)) else ""
            yield f"{NAMES[arm]} is better at {rate:g} x{edge}, by more than seeds may differ: {points(change)}."
        elif any(changes.values()):
            yield f"For {NAMES[arm]} no rate is better than 1 x by more than seeds may differ."


def tuned(found: Sequence[Result]) -> str:
    """Return how both arms compare at twice the learning rate, as a sentence; empty where no run says so."""
    figures = Figures(found, "tuned")
    top1, change = figures.top1("dnr,rate=2"), figures.margin("dnr,rate=2", "dnr")
    fair = figures.margin("dnr,rate=2", "bn_interlace")
    if not top1 or not change or not fair:
        return ""
    chosen = figures.margin("dnr,rate=2", "bn_interlace,rate=0.5")
    each = f", and where that has half the rate, as the same rule chooses, {points(chosen)}" if chosen else ""
    return (
        f"At twice the learning rate, as tuning chooses, DNR has {interval(top1)}: against DNR at the other tables' "
        f"rate {points(change)}, against BN with interlacing {points(fair)}{each}."
    )


def relay(found: Sequence[Result]) -> str:
    """Return what the relay is worth where order is told far apart, as a sentence; empty where no run says so."""
    figures = Figures(found, "1d-far", data=FAR)
    with_relay, without = "method=dnr,relay=lstm", "method=dnr,relay=none"
    worth, top1 = figures.margin(with_relay, without), figures.top1(without)
    if not worth or not top1:
        return ""
    baseline = figures.margin(without, "bn_interlace")
    against = f", which against BN with interlacing is {points(baseline)}" if baseline else ""
    apart = f"Where what tells the order lies {knobs_of(FAR)['gap']:.0f} frames apart,"
    if worth.over_seeds.low <= 0:
        return f"{apart} the relay adds {points(worth)} to the network without it, which has {interval(top1)}{against}."
    return (
        f"{apart} it is the relay that helps: the same network that starts near 1 and predicts scale and shift, but "
        f"relays nothing, has {interval(top1)}{against}; the relay adds {points(worth)}."
    )


def interlacing(found: Sequence[Result]) -> str:
    """Return what interlacing alone changes for batch normalisation, as a sentence; empty where no run says so."""
    places = [("arms", DATA), *((key, data) for key in REAL for data in TABLES[key].data)]
    changes = [
        f"{points(change)} on {name_of(data)}"
        for key, data in places
        if (change := Figures(found, key, data=data).margin("bn_interlace", "bn"))
    ]
    return f"Interlacing alone, which is next to free, changes BN by {_listed(changes)}." if changes else ""


def alone(found: Sequence[Result]) -> str:
    """Return where DNR beats BN with neither interlaced, as sentences; empty where no run says so."""
    said: dict[str, list[cases.Compared]] = {}
    for one in cases.compare(cases.ALONE, found):
        said.setdefault(one.verdict.verdict, []).append(one)
    parts = [
        f"{verdict}: {_listed(f'{points(one.found)} on *{one.case.name}*' for one in said[verdict])}"
        for verdict in ("supported", "contradicted")
        if verdict in said
    ]
    parts += [f"{verdict} in {len(said[verdict])}" for verdict in ("not seen here", "open") if verdict in said]
    count = sum(map(len, said.values()))
    return f"With neither interlaced, that DNR beats BN is, of {count} cases, {'; '.join(parts)}." if parts else ""


def beside_bn(found: Sequence[Result], chosen: Sequence[cases.Case], baseline: str, dnr: str) -> str:
    """Return cases as a table, with the names of its columns."""
    compared = cases.compare(chosen, found)
    return cases.table(compared, baseline, dnr) if compared else NOTHING


def not_run(found: Sequence[Result]) -> str:
    """Return the tables without a finished run of their own, as a list."""
    absent = [table for table in TABLES.values() if not table.elsewhere and not blocks(table, found)]
    return bullets([table.heading for table in absent], "None: all were begun.")


def fields(found: Sequence[Result]) -> dict[str, Callable[[], str]]:
    """Return what makes each text that a page may ask for, by name."""
    judgements = functools.cache(lambda: judge(found))
    made: dict[str, Callable[[], str]] = {
        "steps": lambda: str(protocol_of(DATA).steps),
        "arms": lambda: arms(found),
        "summary": lambda: summary(judgements()),
        "real": lambda: real(found),
        "advice": lambda: advice(judgements()),
        "questions": lambda: questions(judgements()),
        "far": lambda: far(found),
        "gaps": lambda: gaps(found),
        "longest": lambda: longest(found),
        "lengths": lambda: lengths(found),
        "reasons": lambda: reasons(found),
        "start": lambda: start(found),
        "knobs": lambda: knobs(found),
        "rates": lambda: rates(found),
        "tuned": lambda: tuned(found),
        "relay": lambda: relay(found),
        "change": lambda: _about_change(_change(Figures(found, "schedule"))),
        "interlacing": lambda: interlacing(found),
        "alone": lambda: alone(found),
        "cases": lambda: beside_bn(found, cases.INTERLACED, NAMES["bn_interlace"], NAMES["dnr"]),
        "cases alone": lambda: beside_bn(found, cases.ALONE, NAMES["bn"], NAMES["dnr_no_interlace"]),
        "not run": lambda: not_run(found),
    }
    for verdict in get_args(statistics.Verdict):
        made[verdict] = lambda verdict=verdict: claims(judgements(), verdict)  # type: ignore[misc]
    return made


def fill(text: str, found: Sequence[Result]) -> str:
    """Return a text with its fields in place; raises ConfigError for one that there is not."""
    made = fields(found)

    def value(match: re.Match[str]) -> str:
        if match[1] not in made:
            raise ConfigError(f"{{{{{match[1]}}}}}: there is no such field; fields: {', '.join(made)}")
        return made[match[1]]()

    filled = re.sub(r"\{\{(.*?)\}\}", value, text)
    return re.sub(r"(?<=\.) +(?= |\n)", "", filled)  # where a sentence is not said, its space goes too


def between(text: str, section: str) -> str:
    """Return a page with another section between :data:`MARKS`; raises ConfigError where these are not in it."""
    before, first, rest = text.partition(MARKS[0])
    _, last, after = rest.partition(MARKS[1])
    if not first or not last:
        raise ConfigError(f"README.md has no place for the results: {MARKS[0].strip()} and {MARKS[1].strip()}")
    return f"{before}{first}{section}{last}{after}"


def write(docs: pathlib.Path, found: Sequence[Result]) -> list[pathlib.Path]:
    """Write what has a text in ``docs/results``; return the files."""
    written = []
    for source in sorted((docs / "results").glob("*.md.in")):
        text = fill(source.read_text(), found)
        page = docs.parent / "README.md" if source.name == SECTION else docs / source.name.removesuffix(".in")
        page.write_text(between(page.read_text(), text) if source.name == SECTION else text)
        written.append(page)
    groups = [(title, cases.compare(chosen, found)) for title, chosen in PANELS.items()]
    if any(compared for _, compared in groups):
        written.append(docs / report.IMAGES / cases.PICTURE)
        cases.draw(groups, written[-1])
    return written
