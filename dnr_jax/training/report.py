"""What a run leaves in its folder for people and programs: ``metrics.jsonl``, the curve, the evaluation, the page."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import jax
from matplotlib.figure import Figure

from dnr_jax.evaluation.evaluate import Report, views
from dnr_jax.progress import stage
from dnr_jax.report.recipe import versions
from dnr_jax.runs.checkpoint import evaluated_videos
from dnr_jax.runs.folder import METRICS_FILE, Run, comparable_validations, read_metrics
from dnr_jax.training.hooks import Hook, Row

if TYPE_CHECKING:
    from dnr_jax.training.trainer import Trainer

_logger = logging.getLogger(__name__)

CURVE_FILE = "training_curve.png"


@dataclasses.dataclass(frozen=True)
class Validation:
    """What a validation during training came to.

    Attributes:
      step: steps taken.
      top1: top-1 in [0, 1].
    """

    step: int
    top1: float

    def __str__(self) -> str:
        """Top-1, and when."""
        return f"{self.top1:.1%} at step {self.step}"


class Records(Hook):
    """Writes every row of a run into ``metrics.jsonl``; two runs can be compared without what is under ``time``."""

    def __init__(self, workdir: pathlib.Path, start_step: int = 0, validation: str | None = None):
        """Keep the rows that are there until ``start_step``; the run is about to write the others again.

        ``validation`` is the fingerprint of the validation videos, with which their rows are marked.
        """
        self._workdir = workdir
        self._marks = {"fingerprint": validation} if validation else {}
        self.rows = [row for row in read_metrics(workdir / METRICS_FILE) if row["step"] <= start_step]
        self._file: TextIO | None = None

    def start(self, trainer: Trainer) -> None:
        """Open the file, without the rows that are to come again."""
        partial = self._workdir / f"{METRICS_FILE}.partial"
        partial.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        os.replace(partial, self._workdir / METRICS_FILE)
        self._file = (self._workdir / METRICS_FILE).open("a")

    def after_row(self, trainer: Trainer, row: Row) -> None:
        """Write a row; it is on its way to the disk when the call returns, even if the process is killed."""
        self.rows.append(row.as_json() | (self._marks if row.kind == "validation" else {}))
        if self._file:
            self._file.write(json.dumps(self.rows[-1]) + "\n")
            self._file.flush()

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Mark the validations of an older run, whose rows do not say of which videos they are."""
        if videos := evaluated_videos(progress):
            for row in self.rows:
                if row["kind"] == "validation":
                    row.setdefault("fingerprint", videos)

    @property
    def validations(self) -> list[Validation]:
        """The validations so far of the same videos, in order, those before the run was stopped included."""
        return [Validation(row["step"], row["top1"]) for row in comparable_validations(self.rows)]

    @property
    def last(self) -> Validation | None:
        """The latest validation."""
        return self.validations[-1] if self.validations else None

    @property
    def best(self) -> Validation | None:
        """The validation with the best top-1, the later of equals: that of the checkpoint called ``best``."""
        return max(self.validations, key=lambda found: (found.top1, found.step), default=None)

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


class Curve(Hook):
    """Draws the training curve anew with each evaluation."""

    def __init__(self, workdir: pathlib.Path, records: Records):
        """Draw the rows of ``records`` into a picture in ``workdir``."""
        self._workdir, self._records = workdir, records

    def after_evaluation(self, trainer: Trainer, report: Report) -> None:
        """Draw the curve as it is now."""
        plot_curve(self._records.rows, self._workdir / CURVE_FILE)

    def end(self, trainer: Trainer, report: Report) -> None:
        """Draw it once more: a finished run may have lost its picture."""
        plot_curve(self._records.rows, self._workdir / CURVE_FILE)


class WriteReport(Hook):
    """Writes the final evaluation into the folder of the run: see :mod:`dnr_jax.evaluation.outputs`."""

    def __init__(self, workdir: pathlib.Path, validation: str | None = None):
        """Write into ``workdir``; ``validation`` is the fingerprint of the videos."""
        self._workdir, self._marks = workdir, {"fingerprint": validation} if validation else {}

    def end(self, trainer: Trainer, report: Report) -> None:
        """Write the files."""
        config = trainer.config
        protocol = views(config.evaluation, config.data.crop_size)
        report.write(self._workdir, step=trainer.step, views=protocol, versions=versions(), **self._marks)


class WritePage(Hook):
    """Writes ``report.html`` at the end of a run, see :mod:`dnr_jax.report.page`; what fails costs the page alone."""

    def __init__(self, workdir: pathlib.Path):
        """Write into ``workdir``, the run's folder."""
        self._workdir = workdir

    def end(self, trainer: Trainer, report: Report) -> None:
        """Write the page, in one process of a run."""
        if jax.process_index():
            return
        from dnr_jax.report.page import PAGE_FILE, write_page

        try:
            with stage(f"writing {PAGE_FILE}"):
                variables = jax.device_get(dict(trainer.evaluated))
                run = Run(trainer.config, report.classes, trainer.model, variables, trainer.step, self._workdir)
                write_page(report, trainer.config, self._workdir, run)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            _logger.warning("%s was not written (%s); dnr report tries again", self._workdir / PAGE_FILE, problem)


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
    loss.plot(steps, [row["loss"] for row in train], label="training clips")
    measured = [row for row in validation if "loss" in row]
    loss.plot(
        [row["step"] for row in measured], [row["loss"] for row in measured], marker="o", label="validation videos"
    )
    loss.set(title="loss", xlabel="step", ylim=(0, None))
    loss.legend(loc="upper right")
    accuracy.plot(steps, [row["accuracy"] for row in train], label="training clips")
    scored = [row["step"] for row in validation]
    accuracy.plot(scored, [row["top1"] for row in validation], marker="o", label="validation videos")
    accuracy.set(title="top-1", xlabel="step", ylim=(0, 1.02))
    accuracy.legend(loc="lower right")
    figure.savefig(path, dpi=120)
