"""The records of a run: ``metrics.jsonl``, TensorBoard scalars, and the picture of the training curve."""

import json
import os
import pathlib
from typing import Any

from matplotlib.figure import Figure
from tensorboardX import SummaryWriter

METRICS_FILE = "metrics.jsonl"
CURVE_FILE = "training_curve.png"


def read_metrics(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics file; a last line that a killed run left half-written is ignored."""
    path = pathlib.Path(path)
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class Recorder:
    """Writes the metrics of a run, each row to the file ``metrics.jsonl`` and to TensorBoard.

    A row has ``kind`` (``train`` or ``validation``), ``step``, the metrics, and under ``time`` whatever depends on the
    clock, so that two runs can be compared without it. In other processes than the first a recorder does nothing.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int = 0, active: bool = True):
        """Open the files, dropping the rows after ``start_step``, which the run is about to write again."""
        self._active = active
        if not active:
            return
        self._workdir = workdir
        self._rows = [row for row in read_metrics(workdir / METRICS_FILE) if row["step"] <= start_step]
        partial = workdir / f"{METRICS_FILE}.partial"
        partial.write_text("".join(json.dumps(row) + "\n" for row in self._rows))
        os.replace(partial, workdir / METRICS_FILE)
        self._file = (workdir / METRICS_FILE).open("a")
        self._tensorboard = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)

    def write(self, kind: str, step: int, metrics: dict[str, float], time: dict[str, float]) -> None:
        """Add a row; it is on its way to the disk when the call returns, even if the process is killed.

        Args:
          kind: ``train`` or ``validation``.
          step: steps taken.
          metrics: what does not depend on the clock.
          time: what does.
        """
        if not self._active:
            return
        self._rows.append({"kind": kind, "step": step, **metrics, "time": time})
        self._file.write(json.dumps(self._rows[-1]) + "\n")
        self._file.flush()
        for name, value in (metrics | time).items():
            self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def plot(self) -> None:
        """Draw the training curve as it is now."""
        if self._active:
            plot_curve(self._rows, self._workdir / CURVE_FILE)

    def close(self) -> None:
        """Close the files."""
        if self._active:
            self._file.close()
            self._tensorboard.close()


def plot_curve(rows: list[dict[str, Any]], path: str | pathlib.Path) -> None:
    """Draw loss and accuracy over the steps.

    Args:
      rows: rows of a metrics file.
      path: the picture to write; its suffix is the format.
    """
    train = [row for row in rows if row["kind"] == "train"]
    validation = [row for row in rows if row["kind"] == "validation"]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    steps = [row["step"] for row in train]
    loss.plot(steps, [row["loss"] for row in train])
    loss.set(title="training loss", xlabel="step", ylim=(0, None))
    accuracy.plot(steps, [row["accuracy"] for row in train], label="training clips")
    scored = [row["step"] for row in validation]
    accuracy.plot(scored, [row["top1"] for row in validation], marker="o", label="validation videos")
    accuracy.set(title="top-1", xlabel="step", ylim=(0, 1.02))
    accuracy.legend(loc="lower right")
    figure.savefig(path, dpi=120)
