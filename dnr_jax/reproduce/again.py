"""A section on runs that were done again: how far an accuracy depends on the machine and the version of the code."""

from collections.abc import Iterator, Sequence

import numpy as np

from dnr_jax.reproduce.experiments import Run, is_generated, knobs_of
from dnr_jax.reproduce.results import Result, by_key
from dnr_jax.reproduce.statistics import estimate
from dnr_jax.reproduce.tables import DATA, TABLES, Row, name_of
from dnr_jax.reproduce.verdicts import runs_in
from dnr_jax.reproduce.wording import interval

Pair = tuple[Result, Result]
"""The line of a run before, and that of the same run when it was done again."""


def again_section(found: Sequence[Result], earlier: Sequence[Result]) -> str:
    """Return a section ``## Runs that were done again``; empty where there are none.

    Args:
      found: the lines that count.
      earlier: those that counted before.
    """
    now = by_key(found)
    pairs = [(before, now[before.key]) for before in earlier if before.key in now]
    return "\n".join(_section(pairs)) + "\n" if pairs else ""


def _section(pairs: Sequence[Pair]) -> Iterator[str]:
    """Yield the lines of the section."""
    change = np.mean([100 * abs(again.top1 - before.top1) for before, again in pairs])
    yield "## Runs that were done again\n"
    commits = sorted({again.versions.get("commit", "one that is not known") for _, again in pairs})
    yield (
        f"{len(pairs)} runs were done again, at commit {', '.join(commits)}. What is declared and the seed are the "
        "same; code, packages and processor may not be, which changes at least how sums are rounded. "
        f"The mean absolute difference is {change:.1f} points.\n"
    )
    grouped = _by_row(pairs)
    yield "| row | seed | before | again | videos that were right in one of them alone |\n|---|---|---|---|---|"
    for name, group in grouped:
        yield from (_line(name, *pair) for pair in group)
    yield "\n| row | runs | mean before | mean again |\n|---|---|---|---|"
    for name, group in grouped:
        means = [interval(estimate([100 * pair[one].top1 for pair in group])) for one in (0, 1)]
        yield f"| {name} | {len(group)} | {means[0]} | {means[1]} |"


def _by_row(pairs: Sequence[Pair]) -> list[tuple[str, list[Pair]]]:
    """Return the pairs of each row by seed, behind its name, in the order of the tables."""
    names = _names()
    rows: dict[str, list[Pair]] = {fingerprint: [] for fingerprint in names}
    for pair in sorted(pairs, key=lambda pair: pair[0].seed):
        rows.setdefault(pair[0].fingerprint, []).append(pair)
    return [(names.get(fingerprint, fingerprint), group) for fingerprint, group in rows.items() if group]


def _line(name: str, before: Result, again: Result) -> str:
    differ = sum(a != b for a, b in zip(before.correct, again.correct, strict=True))
    figures = f"{100 * before.top1:.1f} | {100 * again.top1:.1f}"
    return f"| {name} | {before.seed} | {figures} | {differ} of {again.videos} |"


def _names() -> dict[str, str]:
    """Return what the first table that has a run calls it, by fingerprint and in the order of the tables."""
    names: dict[str, str] = {}
    for table in TABLES.values():
        for row, run in runs_in(table):
            names.setdefault(run.fingerprint, _name(row, run))
    return names


def _name(row: Row, run: Run) -> str:
    said = name_of(run.data) in row.label() or (is_generated(run.data) and knobs_of(run.data) == knobs_of(DATA))
    place = "" if said else f", {name_of(run.data)}"
    return f"{row.label()}{place}{f', fold {run.fold}' if run.fold else ''}"
