"""What finished runs say about the rows of tables: accuracies and paired differences, and how lists of them read."""

from collections.abc import Iterable, Mapping, Sequence

from dnr_jax.reproduce import statistics
from dnr_jax.reproduce.experiments import FOLDS
from dnr_jax.reproduce.results import Result
from dnr_jax.reproduce.statistics import Contrast, Estimate, Outcome
from dnr_jax.reproduce.tables import DATA, TABLES
from dnr_jax.reproduce.verdicts import accuracies, by_place, folds_of
from dnr_jax.reproduce.wording import interval

NAMES = {
    "bn": "BN",
    "bn_interlace": "BN with interlacing",
    "dnr_no_interlace": "DNR without interlacing",
    "dnr": "DNR",
    "dnr,gain=4": "DNR that starts near 1",
    "dnr_no_interlace,gain=4": "DNR that starts near 1, without interlacing",
}
"""What pages call the arms."""


class Figures:
    """What finished runs say about the rows of tables on one data set."""

    def __init__(self, found: Sequence[Result], *tables: str, data: str = DATA):
        """Look the rows up; without a name of the data, on the generated ones at the chosen difficulty."""
        self.rows: dict[str, Outcome] = {}
        self._folds = FOLDS.get(data, 1)
        for table in tables:
            self.rows |= by_place(TABLES[table], found)[data]

    def top1(self, row: str) -> Estimate | None:
        """Return the accuracy of a row in per cent; None where no run is finished."""
        values = accuracies(self.rows.get(row, {}))
        return statistics.estimate(values) if values else None

    def seeds(self, row: str) -> list[int]:
        """Return the seeds that a row has, in order."""
        return sorted({seed for seed, _ in self.rows.get(row, {})})

    def margin(self, row: str, against: str) -> Contrast | None:
        """Return the paired difference of two rows in points; None where no seed has both."""
        return self.contrast({row: 1, against: -1})

    def contrast(self, weights: Mapping[str, float]) -> Contrast | None:
        """Return a weighted sum of rows in points; None where no seed has all."""
        return statistics.contrast(self.rows, weights)

    def has_all_folds(self, *rows: str) -> bool:
        """Return whether rows have a run of each fold of the data set."""
        return all(len(folds_of(self.rows.get(row, {}))) == self._folds for row in rows)

    def shared(self, *rows: str) -> "Figures":
        """Return some rows alone, of the runs that all of them have, so that means and their differences agree."""
        common = set.intersection(*(set(self.rows.get(row, {})) for row in rows))
        return self._only({row: {run: self.rows[row][run] for run in sorted(common)} for row in rows if common})

    def of_seeds(self, wanted: Iterable[int]) -> "Figures":
        """Return the figures of some seeds alone."""
        some = set(wanted)
        kept = {
            row: {run: right for run, right in outcome.items() if run[0] in some} for row, outcome in self.rows.items()
        }
        return self._only(kept)

    def _only(self, rows: Mapping[str, Outcome]) -> "Figures":
        only = Figures([])
        only.rows, only._folds = dict(rows), self._folds
        return only


def longer(arm: str, length: int) -> str:
    """Return the row of an arm in some times the steps."""
    return f"{arm},steps={length}" if length > 1 else arm


def counted(value: Estimate | None) -> str:
    """Return an accuracy with its interval and its number of seeds; empty where there is none."""
    return f"{interval(value)}; {value.count}" if value else ""


def listed(texts: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def number(count: int, what: str) -> str:
    """Return ``1 seed`` or ``2 seeds``."""
    return f"{count} {what}{'s' * (count != 1)}"
