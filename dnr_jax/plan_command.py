"""``dnr plan``: what a run will need of memory, time and disk, and whether it fits, before it is launched."""

import argparse
import datetime
import pathlib
import re
import sys
from typing import TYPE_CHECKING, Any

from dnr_jax import console
from dnr_jax.arguments import path_from, whole
from dnr_jax.config import ConfigError, ExperimentConfig, find_config, load_config, override, validate
from dnr_jax.progress import stage

if TYPE_CHECKING:  # commands start before jax is imported
    from dnr_jax.training.plan import Length, Plan, Step, Time

_DESCRIPTION = """\
Compile the training step of an experiment for as many devices as it will run on, which this machine's CPU simulates, or
for GPUs that it need not have, and tell what a run needs: memory of each device by part, the largest batch that fits,
what the devices tell one another, time and disk. Nothing is trained or written. What cannot fit is refused, with what
would.
"""
_EPILOG = f"""\
fields of the configuration are set as in 'dnr train': --config.train.fsdp_devices=8

{console.EXIT_STATUS}"""
_PREALLOCATED = 0.75
"""Share of a GPU's memory that JAX takes unless ``XLA_CLIENT_MEM_FRACTION`` says otherwise."""
GPUS = ("t4", "a100", "h100", "h200")
"""Those of ``dnr_jax.training.target_gpus``, which imports jax."""
_UNITS = {"": 1, "M": 2**20, "G": 2**30, "T": 2**40}


def add_plan(commands: Any) -> None:
    """Add ``dnr plan`` to the commands."""
    plan = commands.add_parser(
        "plan",
        help="tell what a run will need of memory, time and disk, and whether it fits",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        takes_fields=True,
    )
    plan.add_argument(
        "--config", required=True, type=path_from, metavar="FILE[:ARGUMENT]", help="the experiment, as for dnr train"
    )
    plan.add_argument("--devices", type=whole(1), default=1, metavar="N", help="devices of the run (default: 1)")
    plan.add_argument("--device-memory", type=_memory, metavar="SIZE", help="memory of each, such as 80G (in GiB)")
    plan.add_argument(
        "--gpu",
        type=str.lower,
        choices=GPUS,
        help="compile for such GPUs, which this machine need not have: the memory of a CPU's program is an estimate; "
        "needs JAX's plugin for CUDA",
    )
    pace = plan.add_mutually_exclusive_group()
    pace.add_argument("--step-seconds", type=_seconds, metavar="S", help="seconds of a step, for time")
    pace.add_argument(
        "--pace", type=path_from, metavar="RUN", help="a run of this experiment on such devices, begun, for time"
    )
    plan.add_argument(
        "--videos",
        type=_videos,
        metavar="N[,M]",
        help="training videos and validation videos, where the data is not on this machine; default: as it is",
    )
    plan.add_argument("--json", action="store_true", help="print a JSON object, for programs: bytes and seconds")
    plan.set_defaults(run=run)


def _memory(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MGT]?)(?:i?B)?", text, re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 80G or 16384M")
    return size


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d*\.?\d+", text) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0, such as 0.35")
    return float(text)


def _videos(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)(?:,([1-9]\d*))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not N or N,M, such as 240000,20000")
    return int(match[1]), int(match[2] or 1)


def run(args: argparse.Namespace) -> int:
    """Print the plan; return the exit status, which is 2 where the run cannot fit.

    Raises:
      ConfigError: for whatever a person has to correct, before anything is compiled.
    """
    config, rest = override(load_config(find_config(args.config)), args.fields)
    if rest:
        raise ConfigError(f"{rest[0]!r} is no field; expected --config.FIELD=VALUE")
    validate(config, args.devices, with_data=args.videos is None)
    plan = make_plan(config, args)
    from dnr_jax.training.optimizer import warmup_note

    if note := warmup_note(config.optimizer, plan.length.steps):
        print(f"WARNING: {note}", file=sys.stderr, flush=True)
    print(plan.as_json() if args.json else describe(plan, config))
    if plan.fits:
        return 0
    print(f"dnr plan: {_refusal(plan)}", file=sys.stderr)
    return 2


def make_plan(config: ExperimentConfig, args: argparse.Namespace) -> "Plan":
    """Return the plan that the arguments of the command ask for; ``config`` gets the number of classes.

    Raises:
      ConfigError: where the data, or the run whose pace is asked for, cannot be read.
    """
    with stage("importing"):
        from dnr_jax.runs.devices import make_mesh
        from dnr_jax.training import plan
        from dnr_jax.training.target_gpus import target_gpus
    length, videos = _length(config, args.videos)
    pace = plan.Pace(args.step_seconds) if args.step_seconds else None
    if args.pace:
        pace = plan.pace_of(pathlib.Path(args.pace), config)
    devices = target_gpus(args.gpu, args.devices) if args.gpu else plan.simulated_devices(args.devices)
    mesh = make_mesh(devices, config.train.fsdp_devices)
    with stage("compiling the step, which takes a minute or two"):
        step = plan.compile_step(config, mesh)
    largest, changes = None, []
    if limit := args.device_memory:
        unit = plan.smallest_batch(config, args.devices)
        other = step.batch_size // 2 // unit * unit or 2 * step.batch_size
        with stage("compiling it for another batch"):
            second = plan.compile_step(plan.changed(config, train__batch_size=other), mesh)
        largest = plan.largest_batch(step, second, limit, unit)
        if step.memory.total > limit:
            with stage("looking for what would fit, compiling each"):
                changes = plan.remedies(config, devices, limit, largest)
    time = plan.predict_time(config, length, pace) if pace else None
    disk = plan.predict_disk(config, step, length, videos)
    layout = (args.devices, config.train.fsdp_devices)
    return plan.Plan(*layout, step, limit, largest, length, time, disk, tuple(changes), args.gpu or "")


def _length(config: ExperimentConfig, counts: tuple[int, int] | None) -> "tuple[Length, int | None]":
    """Return the length of the run and the bytes of its videos, and fill in the number of classes."""
    from dnr_jax.training import plan
    from dnr_jax.training.resolve import load_videos

    if counts:
        if not config.model.num_classes:
            raise ConfigError("--videos: the number of classes is left to the data; set --config.model.num_classes")
        if counts[0] < config.train.batch_size:
            raise ConfigError(f"train.batch_size: is {config.train.batch_size}, more than the {counts[0]} of --videos")
        return plan.measure_length(config, *counts), None
    with stage("reading the data"):
        training, validation = load_videos(config)
        sizes = [plan.bytes_of(source) for source in (training, validation)]
    config.model.num_classes = config.model.num_classes or len(training.classes)
    videos = None if None in sizes else sum(filter(None, sizes))
    return plan.measure_length(config, len(training), len(validation)), videos


def describe(plan: "Plan", config: ExperimentConfig) -> str:
    """Return a plan as lines of text."""
    step, length = plan.step, plan.length
    layout = f"the state sharded over {plan.fsdp_devices}" if plan.fsdp_devices > 1 else "the state on each"
    lines = {
        "network": f"{type(config.model).__name__}, {step.parameters:,} parameters, {config.model.dtype}",
        "devices": f"{plan.devices}, {layout}; {step.batch_size} clips a step, {step.batch_size // plan.devices} each",
        "length": f"{length.steps_per_epoch} steps an epoch, {length.steps} in all, {length.evaluations} evaluations",
        "memory": _memory_lines(plan),
        "exchange": _collective_lines(step),
        "time": _time_line(plan.time),
        "disk": _disk_line(plan),
    }
    return "\n".join(f"{name:<14} {text}" for name, text in lines.items())


def _memory_lines(plan: "Plan") -> str:
    memory, limit = plan.step.memory, plan.limit
    parts = {name: size for name, size in vars(memory).items() if size}
    told = [f"{'':<14}   {name:<14} {_size(size)}" for name, size in parts.items()]
    whole = f"{_size(memory.total)} of each device"
    if limit:
        whole += f", which has {_size(limit)}: {'fits' if plan.fits else 'does not fit'}"
        told.append(f"{'':<14}   the largest batch that fits is {plan.largest_batch or 'none'}")
        if plan.fits and memory.total > _PREALLOCATED * limit:
            told.append(f"{'':<14}   more than the 75% that JAX takes of a GPU: set XLA_CLIENT_MEM_FRACTION=.95")
    program = f"that of XLA's program for {plan.gpu.upper()}" if plan.gpu else "estimated: XLA's program for CPU"
    told.append(f"{'':<14}   {program}, without the memory that kernels take beside it")
    return "\n".join([whole, *told])


def _collective_lines(step: "Step") -> str:
    if not step.collectives:
        return "none: one device"
    sent = sum(entry.sent for entry in step.collectives)
    told = [
        f"{'':<14}   {entry.count} x {entry.kind} of {entry.devices} devices, {_size(entry.bytes)}"
        for entry in step.collectives
    ]
    return "\n".join([f"each device sends {_size(sent)} a step", *told])


def _time_line(time: "Time | None") -> str:
    if time is None:
        return "not known: --step-seconds or --pace tells how fast a step is"
    epoch, training, evaluation = (_duration(part) for part in (time.epoch, time.training, time.evaluation))
    return f"{epoch} an epoch; {_duration(time.run)} in all: {training} of training, {evaluation} of evaluations"


def _disk_line(plan: "Plan") -> str:
    disk = plan.disk
    videos = "" if disk.videos is None else f"; videos {_size(disk.videos)}, prepared as records as much again"
    return (
        f"checkpoints {_size(disk.checkpoints)} (at most three of {_size(disk.checkpoint)}), rows and scores "
        f"{_size(disk.records)}{videos}"
    )


def _refusal(plan: "Plan") -> str:
    need, limit = _size(plan.step.memory.total), _size(plan.limit or 0)
    if not plan.remedies:
        return f"the step needs {need} of each device, which has {limit}; nothing that was tried fits"
    told = "".join(f"\n  {change.flags}: {_size(change.memory)}" for change in plan.remedies)
    return f"the step needs {need} of each device, which has {limit}. What fits:{told}"


def _size(size: float) -> str:
    """Return bytes in the largest of KiB, MiB, GiB and TiB that they have."""
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"
    return f"{size / 1024:.3g} TiB"


def _duration(seconds: float) -> str:
    from dnr_jax.training.pace import spoken

    return spoken(datetime.timedelta(seconds=seconds))
