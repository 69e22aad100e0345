"""What a run prints: its first lines, a bar or lines now and then, a line an evaluation, the last line."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import jax
import optax
from jax.sharding import Mesh

from dnr_jax.config import ExperimentConfig
from dnr_jax.data.clips.failures import FailureLog
from dnr_jax.evaluation.evaluate import Report, undecoded_note
from dnr_jax.progress import Progress
from dnr_jax.runs.devices import state_devices
from dnr_jax.training.hooks import Hook, Row
from dnr_jax.training.optimizer import rates_note
from dnr_jax.training.report import Records

if TYPE_CHECKING:
    from dnr_jax.training.trainer import Trainer


class Screen(Hook):
    """Prints results on the standard output, and how far the run is on the standard error stream."""

    def __init__(self, records: Records, failures: FailureLog):
        """Tell the best validation of ``records``, and at the end what ``failures`` names."""
        self._records, self._failures = records, failures
        self._shown = contextlib.ExitStack()
        self._bar = Progress(0, "", "", show=False)

    def start(self, trainer: Trainer) -> None:
        """Begin to show progress."""
        clips = trainer.config.train.batch_size
        bar = Progress(
            trainer.total_steps * clips,
            "training",
            "clip",
            initial=trainer.step * clips,
            first="compiling the first step, which takes about a minute the first time",
            show=trainer.step < trainer.total_steps,
        )
        self._bar = self._shown.enter_context(bar)

    def say(self, text: str, file: TextIO) -> None:
        """Print a text that stays, above the bar."""
        self._bar.print(text, file)

    def after_step(self, trainer: Trainer) -> None:
        """Show that a step was taken."""
        self._bar.update(trainer.config.train.batch_size)

    def after_row(self, trainer: Trainer, row: Row) -> None:
        """Show the latest numbers beside the progress."""
        if row.kind == "train":
            loss, accuracy = row.metrics["loss"], row.metrics["accuracy"]
            self._bar.note(step=str(row.step), loss=f"{loss:.3f}", accuracy=f"{accuracy:.1%}")

    def after_evaluation(self, trainer: Trainer, report: Report) -> None:
        """Print the outcome with the best so far."""
        best = self._records.best
        if best:
            best_so_far = "the best so far" if best.step == trainer.step else f"best: {best}"
            self._bar.print(f"step {trainer.step}: {report}, loss {report.loss:.3f}; {best_so_far}")

    def trained(self, trainer: Trainer) -> None:
        """Take the bar away: the final evaluation shows its own."""
        self._shown.close()

    def end(self, trainer: Trainer, report: Report) -> None:
        """Print the result, before files are written: nothing that fails then takes it away."""
        for note in (undecoded_note(self._failures.names), undecoded_note(report.undecoded)):
            print(note, end="\n" if note else "")
        print(f"{report}{self._better_checkpoint()}", flush=True)

    def _better_checkpoint(self) -> str:
        """Return what the last line of a run adds where an earlier checkpoint did better on one view of each video."""
        best, last = self._records.best, self._records.last
        if best is None or last is None or best.top1 <= last.top1:
            return ""
        return f"; the best checkpoint had {best}: --checkpoint best takes it"

    def close(self) -> None:
        """Take the bar away."""
        self._shown.close()


def describe(
    config: ExperimentConfig,
    videos: tuple[int, int],
    classes: Sequence[str],
    params: optax.Params,
    steps: int,
    mesh: Mesh,
) -> str:
    """Return what matters of a run, a line each, for the screen: data, clips, network, devices, length.

    Args:
      config: the experiment.
      videos: numbers of training and validation videos.
      classes: names of the classes.
      params: the network's parameters.
      steps: steps of the whole run.
      mesh: the devices.
    """
    data, model, train = config.data, config.model, config.train
    frames, height, width, _ = data.clip_shape
    sampler = type(data.sampler).__name__
    source = f"{type(data.source).__name__} {data.source.place}".rstrip()
    shown = f"{', '.join(classes[:4])}{', ...' if len(classes) > 4 else ''}"
    is_dnr = set(model.norm.spec().kinds) != {"static"}
    base = model.norm.base.label()
    norms = f"DNR ({', '.join(model.norm.spec().kinds)}) on {base}" if is_dnr else base
    own = vars(model)
    depth = f", depth {own['depth']}" if "depth" in own else ""
    device = mesh.devices.flat[0]
    kind = device.platform if device.device_kind == device.platform else f"{device.platform}, {device.device_kind}"
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    sharded = f"; the state sharded over {state_devices(mesh)}" if state_devices(mesh) > 1 else ""
    epochs = steps * train.batch_size / videos[0]
    lines = {
        "data": f"{source}: {videos[0]} training and {videos[1]} validation videos",
        "classes": f"{len(classes)}: {shown}",
        "clips": f"{frames} frames of {height} x {width} pixels, sampler {sampler}; {train.batch_size} a step",
        "network": f"{type(model).__name__}{depth}, norms {norms}{', interlaced' if own.get('interlace') else ''}; "
        f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters, {model.dtype}",
        "devices": f"{mesh.size} x {kind}{processes}{sharded}",
        "length": f"{steps} steps, {epochs:.1f} epochs",
    }
    if rates := rates_note(config.optimizer, params):
        lines["rates"] = rates
    if config.init_from:
        lines["weights"] = config.init_from
    return "\n".join(f"{name:<14} {text}" for name, text in lines.items())
