"""Training in a folder: from a configuration to a trained network, with everything that a run leaves behind.

The folder of a run holds ``config.json``, ``classes.txt``, ``checkpoints/``, ``metrics.jsonl``, TensorBoard's events,
``training_curve.png``, ``init_report.txt`` where it started from given weights, ``run.lock``, and at the end the files
of :mod:`dnr_jax.evaluation.outputs`. The same call again goes on from the latest checkpoint; the outcome is the same,
bit for bit, as if the run had never stopped.
"""

import contextlib
import functools
import logging
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from etils import epath
from jax.sharding import Mesh

from dnr_jax.config import ConfigError, EvaluationConfig, ExperimentConfig, RunError, expand_path, to_json, validate
from dnr_jax.data.catalogue import records
from dnr_jax.data.clips.failures import FailureLog, check_share
from dnr_jax.data.clips.pipeline import BatchIterator, train_iterator
from dnr_jax.evaluation.evaluate import Report, score_videos
from dnr_jax.models import create_model
from dnr_jax.progress import stage
from dnr_jax.runs.checkpoint import Checkpoints, evaluated_videos, what_is_left
from dnr_jax.runs.devices import OutOfMemoryError, explained_memory, make_mesh, state_devices
from dnr_jax.runs.folder import CLASSES_FILE, CONFIG_FILE, INIT_REPORT_FILE, check_trained, run_folder
from dnr_jax.runs.inference import make_eval_step
from dnr_jax.runs.lock import locked
from dnr_jax.training.accelerators import unused_accelerator
from dnr_jax.training.hooks import CountFailures, Evaluate, Hook, Log, PreciseStatistics, Save
from dnr_jax.training.loggers import LOGGERS, Loggers, check_loggers
from dnr_jax.training.optimizer import warmup_note
from dnr_jax.training.pace import Pace
from dnr_jax.training.report import Curve, Records, WriteReport
from dnr_jax.training.resolve import Resolved, Saved, resolve
from dnr_jax.training.screen import Screen, describe
from dnr_jax.training.trainer import Trainer

_logger = logging.getLogger(__name__)

_LESS_MEMORY = (
    "Less is needed with --config.model.remat=block or more train.fsdp_devices, with which this run goes on; with a "
    "larger train.accumulate or a smaller train.batch_size, with which another one begins, from these weights with "
    "--workdir=OTHER --config.init_from=FOLDER. 'dnr plan' says how much a step needs"
)
"""What to do where a step does not fit."""


def train(
    config: ExperimentConfig, workdir: str | os.PathLike[str], *, mesh: Mesh | None = None, hooks: Sequence[Hook] = ()
) -> Report:
    """Train a network, or go on training it, and evaluate it.

    Args:
      config: the experiment; not changed. What it leaves to the data is filled in, and paths are made absolute, in what
        is saved, so that the run can be evaluated from any folder.
      workdir: folder of the run.
      mesh: the devices; default: all of all processes, which shard the state as ``config`` says.
      hooks: what else is to happen at the events of the run, in each process; see :class:`dnr_jax.training.hooks.Hook`.

    Returns:
      The evaluation of the network after the last step.

    Raises:
      ConfigError: for a configuration that cannot work, or that is not the one of the run in ``workdir``; for data with
        other classes or other training videos than that run's; where another process trains there.
      NonFiniteError: when the loss is no longer finite, naming the step and its clips.
      RunError: when too many videos cannot be decoded, a file cannot be written, or a device has too little memory.
      SystemExit: after SIGINT or SIGTERM, when a checkpoint has been written.
    """
    with opened(config, workdir, mesh=mesh, hooks=hooks) as trainer:
        return trainer.run()


@contextlib.contextmanager
def opened(
    config: ExperimentConfig,
    workdir: str | os.PathLike[str],
    *,
    mesh: Mesh | None = None,
    hooks: Sequence[Hook] = (),
    quiet: bool = False,
) -> Iterator[Trainer]:
    """Hold the folder of a run within a ``with`` block, with the trainer that is about to take its next step.

    Takes and raises what :func:`train` does, and leaves what the folder holds before the first step. A ``quiet`` run
    shows neither its settings nor its progress; another one beside it does.
    """
    workdir = run_folder(expand_path(workdir))
    with stage("looking for devices", not quiet):
        advice = unused_accelerator()
        validate(config, mesh.size if mesh else jax.device_count(), jax.process_count())
        check_loggers(config.train.loggers)
        mesh = mesh or make_mesh(fsdp_devices=config.train.fsdp_devices)
        _check_mesh(mesh, config)
    if advice and not quiet:
        print(f"WARNING: {advice}", file=sys.stderr, flush=True)
    resolved = None if workdir.is_dir() else _read_data(config)  # what is refused here leaves no folder behind
    try:
        with explained_memory(_LESS_MEMORY), contextlib.ExitStack() as stack:
            if jax.process_index() == 0:
                if problem := records.why_not_writable(workdir):
                    raise ConfigError(f"--workdir: {problem}")
                stack.enter_context(locked(workdir))
            checkpoints = stack.enter_context(contextlib.closing(Checkpoints(workdir)))
            step = checkpoints.latest_step
            if step is not None:
                progress = checkpoints.progress(step)
                check_trained(workdir, progress)
                resolved = _read_data(config, Saved(workdir, progress))
            yield _make_trainer(resolved or _read_data(config), workdir, checkpoints, mesh, hooks, quiet)
    except (OSError, OutOfMemoryError) as error:
        raise RunError(f"{error}. {what_is_left(workdir)}") from error


def _check_mesh(mesh: Mesh, config: ExperimentConfig) -> None:
    """Raise ConfigError where a mesh that was given shards the state otherwise than the configuration says."""
    asked, given = config.train.fsdp_devices, state_devices(mesh)
    if asked != given:
        raise ConfigError(
            f"train.fsdp_devices: is {asked}, but the mesh that was given shards a state over {given}; "
            f"dnr_jax.runs.devices.make_mesh(devices, {asked}) returns one that fits"
        )


def _read_data(config: ExperimentConfig, saved: Saved | None = None) -> Resolved:
    with stage("reading the data"):
        return resolve(config, saved)


def _make_trainer(
    resolved: Resolved, workdir: pathlib.Path, checkpoints: Checkpoints, mesh: Mesh, hooks: Sequence[Hook], quiet: bool
) -> Trainer:
    """Join the parts of a run, and bring its state to the latest checkpoint."""
    config, first = resolved.config, jax.process_index() == 0
    shown = first and not quiet
    model = create_model(config.model)
    score = functools.partial(
        score_videos, make_eval_step(model, config, mesh), config=config, source=resolved.validation, mesh=mesh
    )

    def evaluate(variables: Any, evaluation: EvaluationConfig) -> Report:
        report = score(variables=variables, evaluation=evaluation, progress=shown)
        videos = len(report.names) + len(report.undecoded)
        check_share(report.undecoded, videos, config.data.max_failures)  # before a checkpoint is ranked by it
        return report

    failures = FailureLog(resolved.training, config.data.max_failures, workdir / _undecoded_file())
    trainer = Trainer(
        config,
        model,
        mesh,
        batches=functools.partial(_batches, resolved),
        evaluate=evaluate,
        names=resolved.training.names,
        hooks=[
            *(_records(workdir, resolved, checkpoints.latest_step or 0, failures, shown) if first else []),
            CountFailures(failures),
            Log(failures),
            PreciseStatistics(model, config, mesh),
            Evaluate(),
            *hooks,
            Save(checkpoints, workdir, resolved.contents),  # the last, so that it holds what the others did
        ],
    )
    with stage("building the network, or reading its checkpoint", shown):
        _set_state(trainer, resolved, workdir, checkpoints)
    if first:
        _write_settings(resolved, workdir, is_new=trainer.step == 0)
    if shown:
        _print_settings(trainer, resolved, workdir)
    return trainer


def _records(workdir: pathlib.Path, resolved: Resolved, step: int, failures: FailureLog, shown: bool) -> list[Hook]:
    """Return what writes into a run's folder, to loggers and, where it is shown, onto the screen, in one process."""
    config, validation = resolved.config, evaluated_videos(resolved.contents)
    rows = Records(workdir, step, validation)
    loggers = Loggers({name: functools.partial(LOGGERS[name], workdir, config, step) for name in config.train.loggers})
    screen = Screen(rows, failures)
    on_screen: list[Hook] = [screen, Pace(screen.say)] if shown else []
    return [rows, loggers, *on_screen, Curve(workdir, rows), WriteReport(workdir, validation)]


def _batches(resolved: Resolved, start_step: int) -> BatchIterator:
    """Return this process's share of the batches from a step on."""
    config, processes = resolved.config, jax.process_count()
    return train_iterator(
        resolved.training,
        config.data,
        config.train.batch_size // processes,
        config.train.seed,
        start_step=start_step,
        process_index=jax.process_index(),
        process_count=processes,
    )


def _undecoded_file() -> str:
    """Return the name of the file with this process's training videos that could not be decoded."""
    process = jax.process_index()
    return f"undecoded_{process}.jsonl" if process else "undecoded.jsonl"


def _set_state(trainer: Trainer, resolved: Resolved, workdir: pathlib.Path, checkpoints: Checkpoints) -> None:
    """Bring a trainer to the latest checkpoint, or to the start."""
    step = checkpoints.latest_step
    if step is None:
        if resolved.start and jax.process_index() == 0:
            (workdir / INIT_REPORT_FILE).write_text(f"{resolved.start.report}\n")
        trainer.begin(resolved.start)
        return
    if step > trainer.total_steps:
        raise ConfigError(f"'{workdir}' holds {step} steps, more than the {trainer.total_steps} asked for")
    state, progress = checkpoints.restore(trainer.abstract_state(), step)
    trainer.go_on(state, progress, step)


def _write_settings(resolved: Resolved, workdir: pathlib.Path, is_new: bool) -> None:
    """Save the resolved configuration and the names of the classes."""
    records.write_text(epath.Path(workdir) / CONFIG_FILE, to_json(resolved.config) + "\n")
    _write_classes(workdir, resolved.training.classes, is_new)


def _print_settings(trainer: Trainer, resolved: Resolved, workdir: pathlib.Path) -> None:
    """Print what matters of the run, and what is probably not meant."""
    if note := warmup_note(resolved.config.optimizer, trainer.total_steps):
        print(f"WARNING: {note}", file=sys.stderr, flush=True)
    if resolved.start and not trainer.step:
        print(resolved.start.report.summary())
    classes = resolved.training.classes
    videos = (len(resolved.training), len(resolved.validation))
    print(describe(resolved.config, videos, classes, trainer.state.params, trainer.total_steps, trainer.mesh))
    start = f"{'continuing' if trainer.step else 'starting'} at step {trainer.step}"
    print(f"{'folder':<14} {workdir}, with the whole configuration in {CONFIG_FILE}\n{start}", flush=True)


def _write_classes(workdir: pathlib.Path, classes: Sequence[str], is_new: bool) -> None:
    """Write ``classes.txt`` once; one that somebody changed stays, and does not count."""
    file, text = epath.Path(workdir) / CLASSES_FILE, "\n".join(classes) + "\n"
    if is_new or not file.is_file():
        records.write_text(file, text)
    elif file.read_text() != text:
        _logger.warning("%s does not name the classes as the checkpoints do, whose names count", file)
