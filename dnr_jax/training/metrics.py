"""The metrics of training steps, on their way from the devices to the records."""

import collections
import math
from collections.abc import Sequence

import jax
import numpy as np

from dnr_jax.training.step import Metrics


class NonFiniteError(FloatingPointError):
    """A loss, a gradient or a parameter is no longer a finite number."""


class MetricWindow:
    """The metrics of the steps since the last row of the metrics file.

    Values stay on the devices until somebody asks: fetching them at each step would make the devices wait. At most two
    steps are under way at a time, which bounds the memory that batches in waiting take.
    """

    def __init__(self, names: Sequence[str]):
        """Start empty; ``names`` are those of the training videos."""
        self._names = names
        self._pending: collections.deque[tuple[int, Metrics, np.ndarray]] = collections.deque()
        self._rows: list[dict[str, float]] = []

    def add(self, step: int, metrics: Metrics, index: np.ndarray) -> None:
        """Take the metrics of a step, on the devices, and the positions of its clips in the training videos."""
        self._pending.append((step, metrics, index))
        if len(self._pending) > 2:
            jax.block_until_ready(self._pending[-3][1])

    def check(self) -> None:
        """Fetch the metrics of all steps so far.

        Raises:
          NonFiniteError: for the first step whose loss or gradient is not finite, naming its clips.
        """
        fetched = jax.device_get([metrics for _, metrics, _ in self._pending])
        for (step, _, index), metrics in zip(self._pending, fetched, strict=True):
            row = {name: float(value) for name, value in metrics.items()}
            if not math.isfinite(row["loss"]) or not math.isfinite(row["grad_norm"]):
                raise NonFiniteError(self._message(step, row, index))
            self._rows.append(row)
        self._pending.clear()

    def _message(self, step: int, row: dict[str, float], index: np.ndarray) -> str:
        clips = ", ".join(self._names[i] for i in index)
        return (
            f"step {step}: the loss is {row['loss']} and the norm of its gradient {row['grad_norm']}, at learning rate "
            f"{row['learning_rate']:.6g}. The clips of the batch: {clips}. No checkpoint was written since; a smaller "
            "optimizer.learning_rate or a longer optimizer.warmup_steps may help, or one of the videos is damaged"
        )

    def take(self) -> dict[str, float]:
        """Return the mean of each metric, and of the learning rate the last value; then start anew.

        Raises:
          NonFiniteError: see :meth:`check`.
        """
        self.check()
        means = {name: math.fsum(row[name] for row in self._rows) / len(self._rows) for name in self._rows[0]}
        means["learning_rate"] = self._rows[-1]["learning_rate"]
        self._rows = []
        return means

    def state(self) -> list[dict[str, float]]:
        """Everything to go on from, as JSON can hold it; call :meth:`check` before.

        A copy: a checkpoint is written in the background, while further steps are added here.
        """
        return list(self._rows)

    def restore(self, state: list[dict[str, float]]) -> None:
        """Go on from what :meth:`state` returned."""
        self._rows = list(state)
