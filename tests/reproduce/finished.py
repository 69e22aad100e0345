"""Results that no run has made, for tests of what is done with them."""

import numpy as np

from dnr_jax.reproduce.experiments import Run
from dnr_jax.reproduce.results import Result


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
