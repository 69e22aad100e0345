"""Results that no run has made, for tests of what is done with them."""

import numpy as np

from dnr_jax.reproduce.experiments import Run, runs_of
from dnr_jax.reproduce.results import Result
from dnr_jax.reproduce.tables import TABLES


def result(run: Run, right: np.ndarray | list[int]) -> Result:
    """A finished run that had these videos right."""
    return Result(
        fingerprint=run.fingerprint,
        declared=run.declared(),
        seed=run.seed,
        top1=float(np.mean(right)),
        videos=len(right),
        correct="".join(str(int(r)) for r in right),
        steps=10,
        seconds=36.0,
        finished="2026-01-01T00:00:00+00:00",
        device="1 x cpu",
        versions={"dnr_jax": "1", "jax": "2"},
    )


SHARES = {"bn": 0.4, "bn_interlace": 0.8, "dnr_no_interlace": 0.5, "dnr": 0.6}
"""Of the videos that each arm has right."""


def runs(table: str, seeds: int, shares: dict[str, float]) -> list[Result]:
    """Results of 200 videos of the rows that have a share, which is that of the second seed; a point more each seed."""
    rng = np.random.default_rng(0)
    return [
        result(run, rng.permutation(200) < round(200 * share) + 2 * (run.seed % 100) - 2)
        for row in TABLES[table].all_rows()
        if (share := shares.get(row.name)) is not None
        for run in runs_of(TABLES[table], row, seeds)
    ]


def fine_tuned() -> list[Result]:
    """Five seeds of Table 4's rows on its first data, where DNR has twice as many of 100 videos right."""
    table, rng = TABLES["4"], np.random.default_rng(0)
    return [
        result(run, rng.permutation(100) < (80 if row.name == "sthv1+dnr" else 40) + run.seed)
        for row in table.rows
        if row.name.startswith("sthv1")
        for run in runs_of(table, row, 5)
    ]
