"""``dnr sweep``: the same experiment with several values of its fields and several seeds, one run after the other."""

import argparse
import dataclasses
import hashlib
import itertools
import json
import pathlib
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from dnr_jax import console
from dnr_jax.arguments import path_from, whole
from dnr_jax.config import (
    ConfigError,
    ExperimentConfig,
    find_config,
    load_config,
    override,
    split_config_path,
    to_json,
    validate,
)

RECORD_FILE = "sweep.jsonl"
_EPILOG = """\
fields of the configuration are set for all runs as in 'dnr train': --config.train.steps=2000

A run that has ended is not repeated, and one that was interrupted goes on: the same command again does what is left.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """One run of a sweep.

    Attributes:
      name: its folder within that of the sweep.
      words: the command line behind ``dnr``.
      config: what these words make of the experiment.
    """

    name: str
    words: tuple[str, ...]
    config: ExperimentConfig

    @property
    def fingerprint(self) -> str:
        """Return a hash of the configuration."""
        return hashlib.sha256(to_json(self.config).encode()).hexdigest()[:16]


def add_sweep(commands: Any) -> None:
    """Add ``dnr sweep`` to the commands."""
    sweep = commands.add_parser(
        "sweep",
        help="train with several values of some fields and several seeds, and compare",
        epilog=_EPILOG,
        takes_fields=True,
    )
    sweep.add_argument(
        "--config",
        required=True,
        type=path_from,
        metavar="FILE[:ARGUMENT]",
        help="the experiment, as for dnr train",
    )
    sweep.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="FIELD=VALUES",
        help="a field and its values, such as optimizer.learning_rate=0.01,0.03,0.1; of several, all combinations",
    )
    sweep.add_argument("--seeds", type=whole(1), default=1, metavar="N", help="seeds of each combination (default: 1)")
    sweep.add_argument(
        "--out",
        type=path_from,
        metavar="FOLDER",
        help="folder of the runs; default: runs/sweep_CONFIG",
    )
    sweep.add_argument(
        "--print", action="store_true", help="print one command a line, for a scheduler, and run nothing"
    )
    sweep.set_defaults(run=_sweep)


def _sweep(args: argparse.Namespace) -> int:
    stem = pathlib.Path(split_config_path(args.config)[0]).stem
    out = pathlib.Path(console.local_folder("--out", args.out or f"runs/sweep_{stem}"))
    trials = plan(args.config, args.fields, args.over, args.seeds, out)
    if args.print:
        for trial in trials:
            print(shlex.join(["dnr", *trial.words]))
        return 0
    failed = run_trials(trials, out)
    from dnr_jax.report import compare

    groups = compare.group_runs(compare.find_runs([out])[0])
    compare.write_html(groups, out / "compare.html")
    compare.write_csv(groups, out / "compare.csv")
    print(f"{compare.text(groups)}\ncurves in {out / 'compare.html'}, a line a run in {out / 'compare.csv'}")
    for name in failed:
        print(f"failed: {name}; the same command tries it again", file=sys.stderr)
    return 1 if failed else 0


def plan(path: str, fields: Sequence[str], over: Sequence[str], seeds: int, out: pathlib.Path) -> list[Trial]:
    """Return the runs of a sweep, each checked as far as it can be before it starts; seed by seed.

    Args:
      path: the config file, with its argument.
      fields: arguments ``--config.FIELD=VALUE`` for all runs.
      over: fields with their values, ``FIELD=VALUE,VALUE``.
      seeds: how many seeds, from that of the experiment on.
      out: folder of the sweep.

    Raises:
      ConfigError: for a field or a value that there cannot be, with what would be right; for a combination that cannot
        be trained, or that comes twice.
    """
    base, rest = override(load_config(find_config(path)), fields)
    if rest:
        raise ConfigError(f"{rest[0]!r} is no field; expected --config.FIELD=VALUE")
    if seeds < 1:
        raise ConfigError(f"--seeds is {seeds}; expected 1 or more")
    axes = [_axis(text) for text in over]
    names = [name for name, _ in axes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"--over {twice[0]}: is given twice; expected all its values in one list")
    if "train.seed" in names and seeds > 1:
        raise ConfigError("--over train.seed and --seeds both set the seeds; leave out one")
    if "train.seed" not in names:
        axes = [("train.seed", [str(base.train.seed + i) for i in range(seeds)]), *axes]
    trials = [_trial(path, base, fields, axes, values, out) for values in itertools.product(*(v for _, v in axes))]
    _refuse_repeated(trials)
    return trials


def _axis(text: str) -> tuple[str, list[str]]:
    """Return the field and the values of ``FIELD=VALUE,VALUE``; commas within brackets belong to a value."""
    name, equals, values = text.partition("=")
    name = name.strip().removeprefix("--").removeprefix("config.")
    found = [value.strip() for value in re.split(r",(?![^(\[]*[)\]])", values)]
    if not equals or not name or not all(found):
        raise ConfigError(f"--over {text}: expected FIELD=VALUE,VALUE, such as optimizer.learning_rate=0.01,0.1")
    return name, found


def _trial(
    path: str,
    base: ExperimentConfig,
    fields: Sequence[str],
    axes: Sequence[tuple[str, Sequence[str]]],
    values: Sequence[str],
    out: pathlib.Path,
) -> Trial:
    chosen = [(name, value) for (name, _), value in zip(axes, values, strict=True)]
    arguments = [f"--config.{name}={value}" for name, value in chosen]
    try:
        config, _ = override(base, arguments)
        validate(config)
    except ConfigError as error:
        told = ", ".join(f"{name}={value}" for name, value in chosen if name != "train.seed")
        raise ConfigError(f"{f'with {told}: ' if told else ''}{error}") from error
    parts = [f"{name.rpartition('.')[2]}={value}" for name, value in chosen if name != "train.seed"]
    seed = next(value for name, value in chosen if name == "train.seed")
    name = "/".join([*([re.sub(r"[^\w.,=+-]", "_", ",".join(parts))] if parts else []), f"seed{seed}"])
    words = ("train", f"--config={path}", f"--workdir={out / name}", *fields, *arguments)
    return Trial(name, words, config)


def _refuse_repeated(trials: Sequence[Trial]) -> None:
    seen: dict[str, Trial] = {}
    for trial in trials:
        for key in (trial.fingerprint, trial.name):
            if key in seen:
                raise ConfigError(f"two runs are the same, or have the same folder: {seen[key].name} and {trial.name}")
        seen |= {trial.fingerprint: trial, trial.name: trial}


def run_trials(trials: Sequence[Trial], out: pathlib.Path) -> list[str]:
    """Train what has not ended, one run after the other; one that fails costs none of the others.

    Returns:
      The names of the runs that failed.

    Raises:
      KeyboardInterrupt: after Ctrl-C, when the run has written its checkpoint.
      SystemExit: likewise after SIGTERM, with its exit status.
    """
    out.mkdir(parents=True, exist_ok=True)
    ended, failed = _ended(out), []
    for number, trial in enumerate(trials, 1):
        label = f"run {number} of {len(trials)}: {trial.name}"
        if (trial.name, trial.fingerprint) in ended:
            print(f"{label}: has ended before", flush=True)
            continue
        print(label, flush=True)
        status = _train(trial)
        if status in (128 + signal.SIGINT, -signal.SIGINT):
            raise KeyboardInterrupt
        if status in (128 + signal.SIGTERM, -signal.SIGTERM):
            raise SystemExit(128 + signal.SIGTERM)
        if status:
            failed.append(f"{trial.name} (exit status {status})")
            continue
        with (out / RECORD_FILE).open("a") as file:
            file.write(json.dumps({"run": trial.name, "fingerprint": trial.fingerprint}) + "\n")
    return failed


def _train(trial: Trial) -> int:
    """Train one run in a process of its own, which has every SIGTERM that this one gets; return its exit status."""
    process = subprocess.Popen([sys.executable, "-m", "dnr_jax", *trial.words])
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # it has had the signal too, and writes its checkpoint
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(out: pathlib.Path) -> set[tuple[str, str]]:
    """Return names and fingerprints of the runs that have ended and are still there."""
    file = out / RECORD_FILE
    found = set()
    for line in file.read_text().splitlines() if file.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # half a line of a process that was killed
            continue
        if (out / row["run"] / "evaluation.json").is_file():
            found.add((row["run"], row["fingerprint"]))
    return found
