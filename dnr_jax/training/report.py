"""What a run tells of itself: its first lines on the screen, ``metrics.jsonl``, TensorBoard's scalars, the curve."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh
from matplotlib.figure import Figure
from tensorboardX import SummaryWriter

from dnr_jax.config import ExperimentConfig

METRICS_FILE = "metrics.jsonl"
CURVE_FILE = "training_curve.png"


def describe(
    config: ExperimentConfig, videos: tuple[int, int], classes: Sequence[str], parameters: int, steps: int, mesh: Mesh
) -> str:
    """Return what matters of a run, a line each, for the screen: data, clips, network, devices, length.

    Args:
      config: the experiment.
      videos: numbers of training and validation videos.
      classes: names of the classes.
      parameters: number of trained parameters.
      steps: steps of the whole run.
      mesh: the devices.
    """
    data, model, train = config.data, config.model, config.train
    frames, height, width, _ = data.clip_shape
    sampler = type(data.sampler).__name__
    source = f"{type(data.source).__name__} {data.source.place}".rstrip()
    shown = f"{', '.join(classes[:4])}{', ...' if len(classes) > 4 else ''}"
    is_dnr = set(model.norm.spec().kinds) != {"static"}
    norms = f"DNR ({', '.join(model.norm.spec().kinds)}) on {model.norm.base}" if is_dnr else model.norm.base
    own = vars(model)
    depth = f", depth {own['depth']}" if "depth" in own else ""
    device = mesh.devices.flat[0]
    kind = device.platform if device.device_kind == device.platform else f"{device.platform}, {device.device_kind}"
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    epochs = steps * train.batch_size / videos[0]
    lines = {
        "data": f"{source}: {videos[0]} training and {videos[1]} validation videos",
        "classes": f"{len(classes)}: {shown}",
        "clips": f"{frames} frames of {height} x {width} pixels, sampler {sampler}; {train.batch_size} a step",
        "network": f"{type(model).__name__}{depth}, norms {norms}{', interlaced' if own.get('interlace') else ''}; "
        f"{parameters:,} parameters, {model.dtype}",
        "devices": f"{mesh.size} x {kind}{processes}",
        "length": f"{steps} steps, {epochs:.1f} epochs",
    }
    if config.init_from:
        lines["weights"] = config.init_from
    return "\n".join(f"{name:<14} {text}" for name, text in lines.items())


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


class Recorder:
    """Writes the metrics of a run, each row to the file ``metrics.jsonl`` and to TensorBoard.

    A row has ``kind`` (``train`` or ``validation``), ``step``, the metrics, and under ``time`` whatever depends on the
    clock, so that two runs can be compared without it. In other processes than the first a recorder does nothing.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int = 0, active: bool = True):
        """Open the files, dropping the rows after ``start_step``, which the run is about to write again."""
        self._active = active
        self._rows: list[dict[str, Any]] = []
        if not active:
            return
        self._workdir = workdir
        self._rows = [row for row in read_metrics(workdir / METRICS_FILE) if row["step"] <= start_step]
        partial = workdir / f"{METRICS_FILE}.partial"
        partial.write_text("".join(json.dumps(row) + "\n" for row in self._rows))
        os.replace(partial, workdir / METRICS_FILE)
        self._file = (workdir / METRICS_FILE).open("a")
        # In the folder itself, so that TensorBoard calls the run as its folder is called.
        self._tensorboard = SummaryWriter(str(workdir), purge_step=start_step + 1)

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

    @property
    def validations(self) -> list[Validation]:
        """The validations so far, in order, those before the run was stopped included."""
        return [Validation(row["step"], row["top1"]) for row in self._rows if row["kind"] == "validation"]

    @property
    def last(self) -> Validation | None:
        """The latest validation."""
        return self.validations[-1] if self.validations else None

    @property
    def best(self) -> Validation | None:
        """The validation with the best top-1, the later of equals: that of the checkpoint called ``best``."""
        return max(self.validations, key=lambda found: (found.top1, found.step), default=None)

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
