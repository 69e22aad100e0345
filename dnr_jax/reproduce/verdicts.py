"""What finished runs say about the claims of the tables."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

from dnr_jax.reproduce import statistics
from dnr_jax.reproduce.experiments import FOLDS, Run, knobs_of, runs_of
from dnr_jax.reproduce.results import Result
from dnr_jax.reproduce.statistics import Contrast, Outcome
from dnr_jax.reproduce.tables import ARMS, DATA, TABLES, Claim, Row, Table

FIRST_TUNING_SEED = 100
"""Seeds from here on choose learning rates and difficulty, and count in the tables that name them alone."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a claim on one data set.

    Attributes:
      data: name of the data set; of a sweep, whose claims are about all of its data sets, the generated one.
      claim: of the table; without what is to be known at mini scale alone, where it is of the paper's.
      found: the contrast; None where no seed has all rows.
      adjusted: p-value after Holm's correction.
      verdict: by the rule.
      corrected: for how many contrasts the correction is: all of the table, on all its data sets, run or not.
      folds: which folds its rows have, where these are not all of the data set; empty: nothing is missing.
      beside: the contrasts that :attr:`Claim.beside` names, as far as they were run, each behind what it compares.
    """

    data: str
    claim: Claim
    found: Contrast | None
    adjusted: float
    verdict: statistics.Verdict
    corrected: int
    folds: str = ""
    beside: tuple[tuple[str, Contrast], ...] = ()


@dataclasses.dataclass(frozen=True)
class Block:
    """A table on one data set, as far as it has been run.

    Attributes:
      data: name of the data set.
      rows: by name: accuracies in per cent, one a seed.
      verdicts: of the table's claims.
      folds: by name of the row, those of the data set that count.
    """

    data: str
    rows: Mapping[str, Sequence[float]]
    verdicts: Sequence[Verdict]
    folds: Mapping[str, Sequence[int]]


def blocks(table: Table, found: Sequence[Result], scale: str = "mini") -> list[Block]:
    """Return a table on each of its data sets on which a run is finished, beside those that it shares with the arms."""
    places = by_place(table, found, scale)
    judged = [] if table.sweep else verdicts(table, found, scale)
    measured = {
        place: Block(
            place,
            {name: values for name, outcome in rows.items() if (values := accuracies(outcome))},
            [verdict for verdict in judged if verdict.data == place],
            {name: folds_of(outcome) for name, outcome in rows.items() if outcome},
        )
        for place, rows in places.items()
        if any(rows.values())
    }
    has_own = any(places[place].get(row.name) for place in measured for row in _own_rows(table, place, scale))
    return list(measured.values()) if has_own else []


def verdicts(table: Table, found: Sequence[Result], scale: str = "mini") -> list[Verdict]:
    """Return what became of all claims of a table on all its data sets; the quick form has no claims."""
    if scale == "quick" or (table.sweep and scale != "mini"):
        return []
    places = by_place(table, found, scale)
    if table.sweep:
        named = {f"{name}@{place}": outcome for place, rows in places.items() for name, outcome in rows.items()}
        places = {DATA: named}
    asked = [
        (place, claim if scale == "mini" else dataclasses.replace(claim, caveat="", beside=()))
        for place, rows in places.items()
        for claim in table.claims
        if set(claim.weights) <= set(rows)
    ]
    contrasts = [statistics.contrast(places[place], claim.weights) for place, claim in asked]
    adjusted = statistics.holm([contrast.p if contrast else 1.0 for contrast in contrasts])
    return [
        Verdict(
            place,
            claim,
            contrast,
            p,
            statistics.verdict(contrast, p, folds=FOLDS.get(place, 1)),
            len(asked),
            _folds_missing(places[place], claim, contrast, FOLDS.get(place, 1)),
            _beside(claim, found),
        )
        for (place, claim), contrast, p in zip(asked, contrasts, adjusted, strict=True)
    ]


def _folds_missing(rows: Mapping[str, Outcome], claim: Claim, contrast: Contrast | None, folds: int) -> str:
    """Return :attr:`Verdict.folds`."""
    there = {name: sorted({fold for _, fold in rows[name]}) for name in claim.weights}
    if (contrast and len(contrast.folds) == folds) or not any(0 < len(some) < folds for some in there.values()):
        return ""
    return "; ".join(f"{name} {', '.join(map(str, some)) or 'none'}" for name, some in there.items()) + f"; of {folds}"


def _beside(claim: Claim, found: Sequence[Result]) -> tuple[tuple[str, Contrast], ...]:
    """Return :attr:`Verdict.beside`."""
    contrasts = ((one.text, _contrast_in(one.table, one.weights, found)) for one in claim.beside)
    return tuple((text, contrast) for text, contrast in contrasts if contrast)


def _contrast_in(key: str, weights: Mapping[str, float], found: Sequence[Result]) -> Contrast | None:
    """Return a weighted sum of rows of a table on its first data set; None where no seed has all."""
    return statistics.contrast(by_place(TABLES[key], found)[TABLES[key].data[0]], weights)


def by_place(table: Table, found: Sequence[Result], scale: str = "mini") -> dict[str, dict[str, Outcome]]:
    """Return which videos the rows of a table had right, by data set and name of the row."""
    done: dict[str, list[Result]] = {}
    for result in found:
        done.setdefault(result.fingerprint, []).append(result)
    seeds = table.seeds or range(FIRST_TUNING_SEED)
    places: dict[str, dict[str, Outcome]] = {}
    for row, run in runs_in(table, scale):
        finished = [result for result in done.get(run.fingerprint, ()) if result.seed in seeds]
        outcome = {(result.seed, run.fold): result.right() for result in finished}
        rows = places.setdefault(run.data, {})
        rows[row.name] = {**rows.get(row.name, {}), **outcome}
    return places


def runs_in(table: Table, scale: str = "mini") -> Iterator[tuple[Row, Run]]:
    """Yield the rows of a table with their runs at a scale, of one seed each."""
    for row in table.all_rows():
        if row.config or scale != "paper":
            yield from ((row, run) for run in runs_of(table, row, 1, scale))


def _own_rows(table: Table, place: str, scale: str) -> Sequence[Row]:
    """Return the rows that no table before it has on a data set; of the first there without any, all of them."""
    if table.sweep:  # where a knob is at the value that was chosen, the rows are those of other tables
        return [] if table.arms and knobs_of(place) == knobs_of("generated") else table.all_rows()
    before = itertools.takewhile(lambda other: other is not table, TABLES.values())
    there = [other for other in before if any(run.data == place for _, run in runs_in(other, scale))]
    known = [row.setting for other in there if other.seeds == table.seeds for row, _ in runs_in(other, scale)]
    known += [row.setting for row in ARMS if not table.seeds and scale != "paper"]
    own = [row for row in table.rows if row.start or row.setting not in known]
    return own if own or there else table.all_rows()


def folds_of(outcome: Outcome) -> list[int]:
    """Return the folds that any seed of a row has."""
    return sorted({fold for _, fold in outcome})


def accuracies(outcome: Outcome) -> list[float]:
    """Return the accuracy of each seed in per cent, over the videos of all folds; of the seeds that have all of them.

    Which folds these are, :func:`folds_of` says.
    """
    folds = folds_of(outcome)
    seeds = [seed for seed in sorted({seed for seed, _ in outcome}) if all((seed, fold) in outcome for fold in folds)]
    videos = [[outcome[seed, fold] for fold in folds] for seed in seeds]
    return [100.0 * sum(int(r.sum()) for r in rights) / sum(len(r) for r in rights) for rights in videos]
