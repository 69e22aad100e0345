"""Sentences that finished runs bear, of which ``docs/when_dnr_helps.md`` and the results in ``README.md`` are made.

Each is true whatever its figures are: what a difference means is said by the verdict of its claim, and by nothing else.
A sentence is empty where no run says it.
"""

from collections.abc import Sequence
from typing import get_args

import numpy as np

from dnr_jax.reproduce import cases, statistics
from dnr_jax.reproduce.experiments import knobs_of
from dnr_jax.reproduce.figures import NAMES, Figures, listed, longer, number
from dnr_jax.reproduce.results import Result, by_key
from dnr_jax.reproduce.statistics import Contrast
from dnr_jax.reproduce.tables import BEATS, DATA, FAR, KNOBS, LENGTHS, TABLES, name_of
from dnr_jax.reproduce.verdicts import Verdict, verdicts
from dnr_jax.reproduce.wording import figure, interval, points

REAL = ("ut", "hockey")
"""Tables of the four arms on real videos."""
PROMPTED = 0
"""The seed that was seen before Table ``far`` was added."""
_MODULES = {"tsm": "TSM", "tanet": "TANet", "tdn": "TDN"}
_SPATIAL = {"slowfast": "SlowFast", "r2plus1d": "R(2+1)D"}
_BEGIN = "begin with batch normalisation and interlacing, and take DNR only where it beats that on data of your own"


def verdict_on(found: Sequence[Result], table: str, row: str, against: str, data: str = DATA) -> Verdict | None:
    """Return what became of the claim that a row beats another one; None where the table has none, or no run of it."""
    weights = {row: 1, against: -1}
    judged = [one for one in verdicts(TABLES[table], found) if one.claim.weights == weights and one.data == data]
    return judged[0] if judged and judged[0].found else None


def _said(verdict: Verdict | None) -> str:
    """Return the figures of a claim with its verdict."""
    return f"{points(verdict.found, verdict.claim.per)}, *{verdict.verdict}*" if verdict and verdict.found else ""


def tally(found: Sequence[Result], chosen: Sequence[cases.Case], against: str) -> str:
    """Return in how many cases DNR is better and worse beyond doubt.

    Args:
      found: finished runs.
      chosen: cases.
      against: what DNR is compared with, in words.
    """
    said: dict[str, list[str]] = {verdict: [] for verdict in get_args(statistics.Verdict)}
    for one in cases.compare(chosen, found):
        said[one.verdict.verdict].append(f"{points(one.found)} on *{one.case.name}*")
    count = sum(map(len, said.values()))
    if not count:
        return ""
    parts = [
        f"significantly {word} in {len(said[verdict])}{f' ({listed(said[verdict])})' if said[verdict] else ''}"
        for verdict, word in (("supported", "better"), ("contradicted", "worse"))
    ]
    unclear, few = len(said["not seen here"]), len(said["open"])
    parts += [f"not significantly different in {unclear}"] if unclear else []
    parts += [f"run with too few seeds in {few}"] if few else []
    return f"Of {number(count, 'comparison')} with {against}, DNR was {listed(parts)}."


def advice(found: Sequence[Result]) -> str:
    """Return what to do, by the verdicts on DNR against BN with interlacing."""
    compared = cases.compare(cases.INTERLACED, found)
    better = [f"*{one.case.name}*" for one in compared if one.verdict.verdict == "supported"]
    if better:
        return (
            f"Where data and training are like {listed(better)}, try DNR, with the baseline beside it. "
            f"Elsewhere {_BEGIN}."
        )
    if all(one.verdict.verdict == "open" for one in compared):
        return f"There are not seeds enough for advice; {_BEGIN}."
    return f"So {_BEGIN}."


def interlacing(found: Sequence[Result]) -> str:
    """Return what interlacing alone changes for batch normalisation."""
    places = [("arms", DATA), *((key, data) for key in REAL for data in TABLES[key].data)]
    changes = []
    for key, data in places:
        figures = Figures(found, key, data=data)
        change = figures.margin("bn_interlace", "bn")
        if change and figures.has_all_folds("bn_interlace", "bn"):
            changes.append(f"{points(change)} on {name_of(data)}")
    return f"Interlacing alone changes BN by {listed(changes)}." if changes else ""


def start(found: Sequence[Result]) -> str:
    """Return what a start near 1 changes."""
    figures = Figures(found, "why").shared("dnr,gain=4", "dnr", "bn_interlace")
    top1 = figures.top1("dnr,gain=4")
    if not top1:
        return ""
    change, fair = (verdict_on(found, "why", "dnr,gain=4", against) for against in ("dnr", "bn_interlace"))
    return (
        "With predicted scales that start near 1 (`model.norm.gain=4`, which the paper does not have) DNR has "
        f"{interval(top1)}: against DNR as published {_said(change)}; against BN with interlacing {_said(fair)}."
    )


def tuned(found: Sequence[Result]) -> str:
    """Return how both arms compare at twice the learning rate, and at the rates that were chosen for each."""
    rows = ("dnr,rate=2", "dnr", "bn_interlace")
    figures = Figures(found, "tuned").shared(*rows)
    top1, change, fair = figures.top1(rows[0]), figures.margin(*rows[:2]), figures.margin(rows[0], rows[2])
    if not top1 or not change or not fair:
        return ""
    chosen = verdict_on(found, "tuned", "dnr,rate=2", "bn_interlace,rate=0.5")
    each = f", and where that has half the rate, {_said(chosen)}" if chosen else ""
    return (
        f"At twice the learning rate DNR has {interval(top1)}: against DNR at the other tables' rate {points(change)}, "
        f"against BN with interlacing {points(fair)}{each}."
    )


def _at_length(figures: Figures, length: int) -> str:
    """Return how DNR and BN with interlacing compare in some times the steps, over the seeds that both have."""
    dnr, baseline = longer("dnr", length), longer("bn_interlace", length)
    both = figures.shared(dnr, baseline)
    tops, margin = [both.top1(row) for row in (dnr, baseline)], both.margin(dnr, baseline) if both.rows else None
    if not margin or not all(tops):
        return ""
    had = f"DNR has {interval(tops[0])} and BN with interlacing {interval(tops[1])}"  # type: ignore[arg-type]
    return f"{had}, a difference of {points(margin)}"


def longest(found: Sequence[Result]) -> str:
    """Return the margin over BN with interlacing in the longest training, and how it changed with the length."""
    figures = Figures(found, "schedule")
    texts = {length: text for length in LENGTHS if (text := _at_length(figures, length))}
    if not texts:
        return ""
    length = max(texts)
    trend, *_ = (one for one in verdicts(TABLES["schedule"], found) if one.claim.per)
    change = margin_change(figures)
    grown = f" The margin changes by {points(change)}" if change else ""
    said = f"; that it grows with the steps is *{trend.verdict}*" if grown and trend.found else ""
    return f"In {length} times the steps {texts[length]}.{grown}{said}{'.' * bool(grown)}"


def margin_change(figures: Figures) -> Contrast | None:
    """Return how the margin changes to the longest training that was run, over seeds that have both lengths."""
    run = [length for length in LENGTHS if figures.margin(longer("dnr", length), longer("bn_interlace", length))]
    if not run:
        return None
    dnr, baseline = longer("dnr", max(run)), longer("bn_interlace", max(run))
    return figures.contrast({dnr: 1, baseline: -1, "dnr": -1, "bn_interlace": 1})


def far(found: Sequence[Result]) -> str:
    """Return how the arms compare where order is told far apart, seed by seed, and in longer training."""
    figures = Figures(found, "far", data=FAR)
    if not (first := _at_length(figures, 1)):
        return ""
    verdict = verdict_on(found, "far", "dnr", "bn_interlace", FAR)
    both = figures.shared("dnr", "bn_interlace")
    seeds = [f"{NAMES[row]} {listed(_each(both, row))}" for row in ("dnr", "bn_interlace")]
    text = f"With {_gap()} frames between the two poses that tell the order {first}"
    text += f", *{verdict.verdict}*; seed by seed {listed(seeds)}." if verdict else "."
    for length in LENGTHS:
        if later := _at_length(figures, length):
            judged = verdict_on(found, "far", longer("dnr", length), longer("bn_interlace", length), FAR)
            text += f" In {length} times the steps {later}{f', *{judged.verdict}*' if judged else ''}."
    rest = figures.of_seeds(seed for seed in figures.seeds("dnr") if seed != PROMPTED).margin("dnr", "bn_interlace")
    if not rest or PROMPTED not in both.seeds("dnr"):
        return text
    return (
        f"{text} Seed {PROMPTED}, which prompted these runs, is counted; without it the difference is {points(rest)}."
    )


def _gap() -> str:
    return f"{knobs_of(FAR)['gap']:.0f}"


def _each(figures: Figures, row: str) -> list[str]:
    """Return the accuracy of each seed of a row."""
    tops = [figures.of_seeds([seed]).top1(row) for seed in figures.seeds(row)]
    return [figure(top1.mean) for top1 in tops if top1]


def gaps(found: Sequence[Result]) -> str:
    """Return how the arms compare over all gaps, of the seeds that have all."""
    figures = {gap: Figures(found, "knobs", data=f"{DATA}:gap={gap:g}") for gap in KNOBS["gap"]}
    have = [set(figure.seeds(row)) for figure in figures.values() for row in ("dnr", "bn_interlace")]
    common = sorted(set.intersection(*have))
    if not common:
        return ""
    some = {gap: figure.of_seeds(common) for gap, figure in figures.items()}
    margins = [points(margin) for figure in some.values() if (margin := figure.margin("dnr", "bn_interlace"))]
    baselines = [interval(top1) for figure in some.values() if (top1 := figure.top1("bn_interlace"))]
    return (
        f"At gaps of {listed(map(str, KNOBS['gap']))} frames, of seed{'s' * (len(common) > 1)} "
        f"{listed(map(str, common))}, DNR - BN with interlacing is {listed(margins)}, and BN with "
        f"interlacing has {listed(baselines)}: a network that does not see order has at most 50 in expectation."
    )


def knobs_range(found: Sequence[Result]) -> str:
    """Return on how many other settings of the knobs, the gap aside, DNR is behind, and by how much."""
    chosen, means = knobs_of(DATA), []
    for data in TABLES["knobs"].data:
        knobs = knobs_of(data)
        if knobs != chosen and knobs["gap"] == chosen["gap"]:
            margin = Figures(found, "knobs", data=data).margin("dnr", "bn_interlace")
            means += [margin.over_seeds.mean] if margin else []
    if not means:
        return ""
    behind = sum(mean < 0 for mean in means)
    return (
        f"At {number(len(means), 'other setting')} of contrast, colour cast, exposure, noise and number of videos, the "
        f"mean difference is below 0 in {behind}, from {min(means):+.1f} to {max(means):+.1f} points."
    )


def relay(found: Sequence[Result]) -> str:
    """Return what the relay, and its being an LSTM, are worth where order is told far apart."""
    lstm, *others = (f"method=dnr,relay={relay}" for relay in ("lstm", "none", "se", "fc"))
    figures = Figures(found, "1d-far", data=FAR).shared(lstm, others[0])
    tops = [figures.top1(row) for row in (lstm, others[0])]
    without, *cells = (verdict_on(found, "1d-far", lstm, other, FAR) for other in others)
    if not all(tops) or not without:
        return ""
    had = f"{interval(tops[0])} with its relay and {interval(tops[1])} without"  # type: ignore[arg-type]
    text = f"With {_gap()} frames between the two poses and scales that start near 1, DNR has {had}: {_said(without)}. "
    named = [f"against {name} {_said(cell)}" for name, cell in zip(("SE", "FC"), cells, strict=True) if cell]
    return f"{text}The LSTM among the cells: {'; '.join(named)}." if named else text.rstrip()


def temporal(found: Sequence[Result]) -> str:
    """Return what DNR changes in networks with temporal modules of their own, and in 3D networks."""
    modules = _added(found, "6", _MODULES)
    spatial, later = (_added(found, table, _SPATIAL, end) for table, end in (("5", ""), ("5-long", ",steps=4")))
    changed = "In networks with temporal modules of their own, DNR changes top-1 by"
    of_modules = f"{changed} {listed(modules)}." if modules else ""
    of_longer = f"; in 4 times the steps, by {listed(later)}" if later else ""
    of_3d = f"In 3D networks, DNR changes top-1 by {listed(spatial)}{of_longer}." if spatial else ""
    return f"{of_modules} {of_3d}".strip()


def _added(found: Sequence[Result], table: str, networks: dict[str, str], suffix: str = "") -> list[str]:
    """Return what DNR adds to networks of a table, in words."""
    judged = {name: verdict_on(found, table, f"{key}+dnr{suffix}", f"{key}{suffix}") for key, name in networks.items()}
    return [f"{_said(one)} ({name})" for name, one in judged.items() if one]


def claims_tally(found: Sequence[Result]) -> str:
    """Return how many contrasts of the paper's claims have which verdict."""
    said = [one.verdict for table in TABLES.values() for one in verdicts(table, found) if not one.claim.own]
    counts = [f"{said.count(verdict)} {verdict}" for verdict in get_args(statistics.Verdict) if verdict in said]
    return f"Of {number(len(said), 'contrast')} in the paper's claims, {listed(counts)}."


def again(found: Sequence[Result], earlier: Sequence[Result]) -> str:
    """Return what an earlier set of the same runs said of the arms.

    Args:
      found: the lines that count.
      earlier: those that counted before.
    """
    now = by_key(found)
    changes = [100 * abs(now[one.key].top1 - one.top1) for one in earlier if one.key in now]
    before = {one.claim.text: one for one in verdicts(TABLES["arms"], earlier) if one.found}
    after = {one.claim.text: one for one in verdicts(TABLES["arms"], found) if one.found}
    texts = [
        f"{claim.text}: {_said(before[claim.text])} before, {_said(after[claim.text])} now"
        for claim in BEATS
        if claim.text in before and claim.text in after
    ]
    if not texts or not changes:
        return ""
    count = number(len(changes), "run")
    return (
        f"{count} of the four arms were done a second time, with a later version of the code, and count as they came "
        f"out then; the mean absolute change of a run was {np.mean(changes):.1f} points. {'; '.join(texts)}."
    )
