"""What follows from the results: ``docs/when_dnr_helps.md``, ``docs/claims.md`` and a section of ``README.md``.

The words stand in ``docs/results/*.in``, with a name in double braces where figures belong. Whatever depends on a run
is made here, from the finished runs: figures, verdicts, and sentences that are said only where the figures bear them.
"""

import dataclasses
import functools
import itertools
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import get_args

from dnr_jax.config import ConfigError
from dnr_jax.reproduce import accelerators, cases, report, results, sentences, statistics
from dnr_jax.reproduce.experiments import knobs_of, protocol_of
from dnr_jax.reproduce.figures import NAMES, Figures, counted, longer
from dnr_jax.reproduce.results import Result
from dnr_jax.reproduce.sentences import REAL
from dnr_jax.reproduce.tables import (
    ARMS,
    BEATS,
    DATA,
    LENGTHS,
    RATES,
    TABLES,
    Claim,
    Table,
    name_of,
)
from dnr_jax.reproduce.verdicts import Verdict, blocks, runs_in, verdicts
from dnr_jax.reproduce.wording import interval, points

SECTION = "README.md.in"
MARKS = ("<!-- results: made by dnr reproduce --report -->\n", "<!-- end of results -->\n")
"""What stands around the section of ``README.md``."""

_SAID = {
    "supported": "supported",
    "contradicted": "contradicted: it was the other way round",
    "not seen here": "not seen here",
    "open": "open",
}
NOTHING = "Nothing so far."
PANELS = {
    "DNR - BN, both with interlacing": cases.INTERLACED,
    "DNR - BN, neither with interlacing": cases.ALONE,
}
"""Titles of the picture's panels."""
FAIR = BEATS[1]
"""The claim on which the advice depends: interlacing is nearly free, so that it belongs to the baseline."""


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
      others: of the claims about the same runs that have another, behind it.
    """

    table: Table
    verdict: Verdict
    same: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()

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
    """Return what became of the claims of all tables, those that are about the same runs once for each verdict."""
    every = [Judgement(table, verdict) for table in TABLES.values() for verdict in verdicts(table, found)]
    about: dict[object, list[Judgement]] = {}
    for one in every:
        about.setdefault((_runs_of(one), one.claim.own), []).append(one)
    judged = []
    for one in every:
        group = about[_runs_of(one), one.claim.own]
        alike = [other for other in group if other.verdict.verdict == one.verdict.verdict]
        if alike[0] is one:
            others = tuple((other.verdict.verdict, other.name) for other in group if other not in alike)
            judged.append(dataclasses.replace(one, same=tuple(other.name for other in alike[1:]), others=others))
    return judged


def _runs_of(one: Judgement) -> frozenset[tuple[str, float]]:
    """Return which runs a claim is about, by fingerprint, with their weights."""
    prints: dict[str, list[str]] = {}
    for row, run in runs_in(one.table):
        prints.setdefault(f"{row.name}@{run.data}", []).append(run.fingerprint)
    places = "" if one.table.sweep else f"@{one.verdict.data}"
    return frozenset((print_, weight) for name, weight in one.claim.weights.items() for print_ in prints[name + places])


def claims(judgements: Sequence[Judgement], verdict: str) -> str:
    """Return the paper's claims with a verdict, as a list."""
    said = [_line(one, one.name) for one in judgements if one.verdict.verdict == verdict and not one.claim.own]
    return bullets(said, "None." if verdict == "open" else NOTHING)


def questions(judgements: Sequence[Judgement]) -> str:
    """Return what the reproduction asks beside the paper's claims, each with its verdict, as a list a table."""
    asked = itertools.groupby((one for one in judgements if one.claim.own), lambda one: one.where)
    return "\n\n".join(
        f"**{where}**\n\n{bullets([_line(one, one.claim.text, f', *{_SAID[one.verdict.verdict]}*') for one in some])}"
        for where, some in asked
    )


def _line(one: Judgement, name: str, said: str = "") -> str:
    """Return a claim below a name, with its figures and all that has to be known with them."""
    found = one.verdict.found
    figures = points(found, one.claim.per) if found else "begun" if one.verdict.folds else "not run yet"
    folds = f" (folds: {one.verdict.folds})" if one.verdict.folds else ""
    known = report.caveat(one.verdict) if found else ""
    further = [f"*But* {known}"] if known else []
    further += [f"The same runs: {'; '.join(one.same)}"] if one.same else []
    for verdict in get_args(statistics.Verdict):
        if names := [name for said_there, name in one.others if said_there == verdict]:
            further.append(
                f"The same runs, corrected for another number of contrasts, are *{verdict}*: {'; '.join(names)}"
            )
    return ". ".join([f"{name}: {figures}{said}{folds}", *further]) + "." * bool(further)


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
                cells = " | ".join(counted(figures.top1(row.name)) for row in ARMS)
                folds = f" (folds: {verdict.folds})" if verdict.folds else ""
                margin, said = points(verdict.found), _SAID[verdict.verdict]
                lines.append(f"| {name_of(verdict.data)} | {cells} | {margin}{folds} | {said} |")
    return "\n".join(lines) if len(lines) > 2 else NOTHING


def lengths(found: Sequence[Result]) -> str:
    """Return the arms over the length of training as a table, and what follows."""
    figures, all_lengths = Figures(found, "schedule", "why"), (1, *LENGTHS)
    lines = [f"| | {' | '.join(f'{length} x' for length in all_lengths)} |", f"|{'---|' * (1 + len(all_lengths))}"]
    for arm, name in NAMES.items():
        cells = [figures.top1(longer(arm, length)) for length in all_lengths]
        lines.append(f"| {name} | {' | '.join(counted(cell) for cell in cells)} |")
    margins = [figures.margin(longer("dnr", length), longer("bn_interlace", length)) for length in all_lengths]
    lines.append(f"| DNR - BN with interlacing | {' | '.join(points(one) if one else '' for one in margins)} |")
    return "\n".join([*lines, "", sentences.longest(found) or "Longer runs are not finished yet."])


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
            lines.append(f"| {name} | {counted(baseline)} | {cells} |")
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


def beside_bn(found: Sequence[Result], chosen: Sequence[cases.Case], baseline: str, dnr: str) -> str:
    """Return cases as a table, with the names of its columns."""
    compared = cases.compare(chosen, found)
    return cases.table(compared, baseline, dnr) if compared else NOTHING


def not_run(found: Sequence[Result]) -> str:
    """Return the tables without a finished run of their own, as a list."""
    absent = [table for table in TABLES.values() if not table.elsewhere and not blocks(table, found)]
    return bullets([table.heading for table in absent], "None: all were begun.")


def fields(
    found: Sequence[Result], earlier: Sequence[Result] = (), machines: Sequence[pathlib.Path] = ()
) -> dict[str, Callable[[], str]]:
    """Return what makes each text that a page may ask for, by name."""
    judgements = functools.cache(lambda: judge(found))
    made: dict[str, Callable[[], str]] = {
        "steps": lambda: str(protocol_of(DATA).steps),
        "arms": lambda: arms(found),
        "summary": lambda: summary(judgements()),
        "again": lambda: sentences.again(found, earlier),
        "real": lambda: real(found),
        "cases": lambda: beside_bn(found, cases.INTERLACED, NAMES["bn_interlace"], NAMES["dnr"]),
        "cases alone": lambda: beside_bn(found, cases.ALONE, NAMES["bn"], NAMES["dnr_no_interlace"]),
        "tally": lambda: sentences.tally(found, cases.INTERLACED, NAMES["bn_interlace"]),
        "tally alone": lambda: sentences.tally(found, cases.ALONE, "BN where neither is interlaced"),
        "questions": lambda: questions(judgements()),
        "lengths": lambda: lengths(found),
        "reasons": lambda: reasons(found),
        "knobs": lambda: knobs(found),
        "rates": lambda: rates(found),
        "not run": lambda: not_run(found),
        "accelerators": lambda: bullets(accelerators.costs(machines)),
    }
    for sentence in (
        sentences.advice,
        sentences.claims_tally,
        sentences.far,
        sentences.gaps,
        sentences.interlacing,
        sentences.knobs_range,
        sentences.longest,
        sentences.relay,
        sentences.start,
        sentences.temporal,
        sentences.tuned,
    ):
        made[sentence.__name__.replace("_", " ")] = functools.partial(sentence, found)
    for verdict in get_args(statistics.Verdict):
        made[verdict] = functools.partial(lambda verdict: claims(judgements(), verdict), verdict)
    return made


def fill(
    text: str, found: Sequence[Result], earlier: Sequence[Result] = (), machines: Sequence[pathlib.Path] = ()
) -> str:
    """Return a text with its fields in place; raises ConfigError for one that there is not.

    Args:
      text: with names of fields in double braces.
      found: the lines that count.
      earlier: those of the same runs that counted before.
      machines: files of ``benchmarks/accelerator.py``.
    """
    made = fields(found, earlier, machines)

    def value(match: re.Match[str]) -> str:
        if match[1] not in made:
            raise ConfigError(f"{{{{{match[1]}}}}}: there is no such field; fields: {', '.join(made)}")
        return made[match[1]]()

    filled = re.sub(r"\{\{(.*?)\}\}", value, text)
    filled = re.sub(r"(?m)^- *\n", "", filled)  # where a sentence is not said, its bullet goes
    return re.sub(r"(?<=\.) +(?= |\n)", "", filled)  # and its space


def between(text: str, section: str) -> str:
    """Return a page with another section between :data:`MARKS`; raises ConfigError where these are not in it."""
    before, first, rest = text.partition(MARKS[0])
    _, last, after = rest.partition(MARKS[1])
    if not first or not last:
        raise ConfigError(f"README.md has no place for the results: {MARKS[0].strip()} and {MARKS[1].strip()}")
    return f"{before}{first}{section}{last}{after}"


def write(docs: pathlib.Path, found: Sequence[Result]) -> list[pathlib.Path]:
    """Write what has a text in ``docs/results``; return the files."""
    written, earlier = [], results.read(docs / "results" / report.EARLIER)
    machines = sorted((docs / "results").glob("accelerator_*.json"))
    for source in sorted((docs / "results").glob("*.md.in")):
        text = fill(source.read_text(), found, earlier, machines)
        page = docs.parent / "README.md" if source.name == SECTION else docs / source.name.removesuffix(".in")
        page.write_text(between(page.read_text(), text) if source.name == SECTION else text)
        written.append(page)
    groups = [(title, cases.compare(chosen, found)) for title, chosen in PANELS.items()]
    if any(compared for _, compared in groups):
        written.append(docs / report.IMAGES / cases.PICTURE)
        cases.draw(groups, written[-1])
    return written
