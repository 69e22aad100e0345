"""``dnr sweep``: the same experiment with several values of its fields and several seeds, one run after the other."""

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
import re
import shlex
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from dnr_jax import console
from dnr_jax.arguments import path_from, whole
from dnr_jax.config import (
    ConfigError,
    ExperimentConfig,
    find_config,
    load_config,
    override,
    run_name,
    to_json,
    validate,
)
from dnr_jax.config.overrides import find_field
from dnr_jax.locks import HeldError, hold
from dnr_jax.search import Range, Tried, check_installed, looks_like_range, read_range, search

RECORD_FILE = "sweep.jsonl"
STUDY_FILE = "search.sqlite3"
_EPILOG = """\
fields of the configuration are set for all runs as in 'dnr train': --config.train.steps=2000

with --search N, N settings are tried instead of all combinations, each chosen by what came of those before (Optuna):
  --search 20 --over optimizer.learning_rate=0.001..0.1:log --over model.dropout=0..0.5 --over train.batch_size=8,16

A run that has ended is not repeated, and one that was interrupted goes on: the same command again does what is left.
"""
_EXPECTED = "expected FIELD=VALUE,VALUE, such as optimizer.learning_rate=0.01,0.1"


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
        help="a field and its values, such as optimizer.learning_rate=0.01,0.03,0.1; of several, all combinations. "
        "With --search also LOW..HIGH, or LOW..HIGH:log for equal factors",
    )
    sweep.add_argument(
        "--search",
        type=whole(1),
        metavar="N",
        help="try N settings instead of all combinations, each where a better top-1 is likely (extra 'search')",
    )
    sweep.add_argument("--seeds", type=whole(1), default=1, metavar="N", help="seeds of each combination (default: 1)")
    sweep.add_argument(
        "--out",
        type=path_from,
        metavar="FOLDER",
        help="folder of the runs; default: runs/sweep_CONFIG, or runs/sweep_CONFIG_ARGUMENT",
    )
    sweep.add_argument(
        "--print", action="store_true", help="print one command a line, for a scheduler, and run nothing"
    )
    sweep.set_defaults(run=_sweep)


def _sweep(args: argparse.Namespace) -> int:
    out = pathlib.Path(console.local_folder("--out", args.out or f"runs/sweep_{run_name(args.config)}"))
    if args.search:
        return _search(args, out)
    trials = plan(args.config, args.fields, args.over, args.seeds, out)
    if args.print:
        for trial in trials:
            print(shlex.join(["dnr", *trial.words]))
        return 0
    failed = run_trials(trials, out)
    return _end(out, [trial for trial in trials if trial.name not in failed], failed, "the same command tries it again")


def _search(args: argparse.Namespace, out: pathlib.Path) -> int:
    if args.print:
        raise ConfigError("--print goes without --search: what is tried follows from what came of the runs before")
    space = plan_search(args.config, args.fields, args.over, args.seeds, out)
    check_installed()
    tried, failed = run_search(space, args.search)
    ranked = sorted((one for one in tried if one.score is not None), key=lambda one: -(one.score or 0.0))
    trials = [trial for one in ranked for trial in space.trials(one.values)]
    status = _end(out, trials, failed, "the same command tries another setting in its place")
    if ranked:
        print(f"best of {len(ranked)}: {_told(ranked[0].values)}, top-1 {ranked[0].score:.1%}; to train it again:")
        print(f"  {shlex.join(['dnr', *space.command(ranked[0].values)])}")
    return status


def _end(out: pathlib.Path, trials: Sequence[Trial], failed: Mapping[str, str], advice: str) -> int:
    """Compare the runs that have ended, and name those that failed, also where there is nothing to compare.

    Nothing else that lies in the folder is compared: neither runs of another sweep, nor what holds the place of one
    that failed, which may be of another experiment.
    """
    from dnr_jax.report import compare

    try:
        if not trials:
            raise ConfigError("there is nothing to compare: no run has ended")
        groups = compare.group_runs(compare.find_runs([out / trial.name for trial in trials])[0])
        compare.write_html(groups, out / "compare.html")
        compare.write_csv(groups, out / "compare.csv")
        print(f"{compare.text(groups)}\ncurves in {out / 'compare.html'}, a line a run in {out / 'compare.csv'}")
    finally:
        for name, reason in failed.items():
            print(f"failed: {name} ({reason}); {advice}", file=sys.stderr)
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
    base, axes = _read(path, fields, over, seeds)
    names = [name for name, _ in axes]
    if "train.seed" in names and seeds > 1:
        raise ConfigError("--over train.seed and --seeds both set the seeds; leave out one")
    found = [(name, _values(name, text)) for name, text in axes]
    if "train.seed" not in names:
        found = [("train.seed", _seeds(base, seeds)), *found]
    combinations = itertools.product(*(values for _, values in found))
    names = [name for name, _ in found]
    trials = [_trial(path, fields, list(zip(names, values, strict=True)), out) for values in combinations]
    _refuse_repeated(trials)
    return trials


def _read(
    path: str, fields: Sequence[str], over: Sequence[str], seeds: int
) -> tuple[ExperimentConfig, list[tuple[str, str]]]:
    """Return the experiment with the fields that are set for all runs, and the others with what is behind them."""
    base, rest = override(load_config(find_config(path)), fields)
    if rest:
        raise ConfigError(f"{rest[0]!r} is no field; expected --config.FIELD=VALUE")
    if seeds < 1:
        raise ConfigError(f"--seeds is {seeds}; expected 1 or more")
    axes = [_axis(text) for text in over]
    names = [name for name, _ in axes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"--over {twice[0]}: is given twice; expected all its values in one list")
    return base, axes


def _seeds(base: ExperimentConfig, seeds: int) -> list[str]:
    return [str(base.train.seed + i) for i in range(seeds)]


def _axis(text: str) -> tuple[str, str]:
    """Return the field of ``FIELD=VALUES``, and the values as they are written."""
    name, equals, values = text.partition("=")
    name = name.strip().removeprefix("--").removeprefix("config.")
    if not equals or not name:
        raise ConfigError(f"--over {text}: {_EXPECTED}")
    return name, values.strip()


def _values(name: str, text: str) -> list[str]:
    """Return the values of ``VALUE,VALUE``; commas within brackets belong to a value."""
    found = [value.strip() for value in re.split(r",(?![^(\[]*[)\]])", text)]
    if not all(found):
        raise ConfigError(f"--over {name}={text}: {_EXPECTED}")
    return found


def _trial(path: str, fields: Sequence[str], chosen: Sequence[tuple[str, str]], out: pathlib.Path) -> Trial:
    arguments = [f"--config.{name}={value}" for name, value in chosen]
    try:
        config, _ = override(load_config(find_config(path)), [*fields, *arguments])
        validate(config)
    except ConfigError as error:
        told = _told({name: value for name, value in chosen if name != "train.seed"})
        advice = "; ranges are for --search N" if any(looks_like_range(value) for _, value in chosen) else ""
        raise ConfigError(f"{f'with {told}: ' if told else ''}{error}{advice}") from error
    parts = [f"{name.rpartition('.')[2]}={value}" for name, value in chosen if name != "train.seed"]
    seed = next(value for name, value in chosen if name == "train.seed")
    name = "/".join([*([re.sub(r"[^\w.,=+-]", "_", ",".join(parts))] if parts else []), f"seed{seed}"])
    words = ("train", f"--config={path}", f"--workdir={out / name}", *fields, *arguments)
    return Trial(name, words, config)


def _told(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _refuse_repeated(trials: Sequence[Trial]) -> None:
    seen: dict[str, Trial] = {}
    for trial in trials:
        for key in (trial.fingerprint, trial.name):
            if key in seen:
                raise ConfigError(f"two runs are the same, or have the same folder: {seen[key].name} and {trial.name}")
        seen |= {trial.fingerprint: trial, trial.name: trial}


@dataclasses.dataclass(frozen=True, eq=False)
class Space:
    """What a search may try.

    Attributes:
      path: the config file, with its argument.
      fields: arguments ``--config.FIELD=VALUE`` for all runs.
      base: the experiment with these.
      values: fields to what they may hold.
      seeds: how many runs a setting has, which differ in their seeds.
      out: folder of the runs.
    """

    path: str
    fields: tuple[str, ...]
    base: ExperimentConfig
    values: Mapping[str, Range | Sequence[str]]
    seeds: int
    out: pathlib.Path

    @property
    def fingerprint(self) -> str:
        """Return a hash of all that makes settings comparable."""
        values = {name: repr(values) for name, values in sorted(self.values.items())}
        return hashlib.sha256(json.dumps([to_json(self.base), values, self.seeds]).encode()).hexdigest()[:16]

    def trials(self, values: Mapping[str, str]) -> list[Trial]:
        """Return the runs of a setting.

        Raises:
          ConfigError: where it cannot be trained.
        """
        seeds = _seeds(self.base, self.seeds)
        chosen = list(values.items())
        return [_trial(self.path, self.fields, [("train.seed", s), *chosen], self.out) for s in seeds]

    def command(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return the command line, behind ``dnr``, that trains a setting in the default folder."""
        arguments = (f"--config.{name}={value}" for name, value in values.items())
        return ("train", f"--config={self.path}", *self.fields, *arguments)


def plan_search(path: str, fields: Sequence[str], over: Sequence[str], seeds: int, out: pathlib.Path) -> Space:
    """Return what a search may try: ends of ranges and all choices are checked, each beside the first of the others.

    Args:
      path: the config file, with its argument.
      fields: arguments ``--config.FIELD=VALUE`` for all runs.
      over: fields with what they may hold: ``FIELD=LOW..HIGH``, ``FIELD=LOW..HIGH:log`` or ``FIELD=VALUE,VALUE``.
      seeds: how many seeds each setting is trained with, from that of the experiment on.
      out: folder of the search.

    Raises:
      ConfigError: for a field, a value or a range that there cannot be, with what would be right.
    """
    base, axes = _read(path, fields, over, seeds)
    if not axes:
        raise ConfigError("--search has nothing to choose; expected --over FIELD=LOW..HIGH or FIELD=VALUE,VALUE")
    if "train.seed" in dict(axes):
        raise ConfigError("--over train.seed goes without --search, which is not for luck; expected --seeds N")
    values: dict[str, Range | Sequence[str]] = {}
    config = base
    for name, text in axes:
        values[name] = _read_values(config, name, text)
        config, _ = override(config, [f"--config.{name}={_to_check(values[name])[0]}"])  # may bring fields of the next
    space = Space(path, tuple(fields), base, values, seeds, out)
    first = {name: _to_check(found)[0] for name, found in values.items()}
    for name, found in values.items():
        _refuse_repeated([trial for value in _to_check(found) for trial in space.trials(first | {name: value})])
    return space


def _read_values(config: ExperimentConfig, name: str, text: str) -> Range | Sequence[str]:
    try:
        found = read_range(text, find_field(config, name)[0])
    except ConfigError as error:
        raise ConfigError(f"--over {name}: {error}") from error
    return found or tuple(_values(name, text))


def _to_check(values: Range | Sequence[str]) -> Sequence[str]:
    return values.ends if isinstance(values, Range) else values


def run_search(space: Space, settings: int) -> tuple[list[Tried], dict[str, str]]:
    """Try settings, those of former calls included; each is scored by the mean of the top-1 of its runs.

    Returns:
      The settings, and the names of the runs that failed this time, with the reasons; a setting of which one fails has
      no score.

    Raises:
      ConfigError: where another process searches in the same folder.
      KeyboardInterrupt: after Ctrl-C, when the run has written its checkpoint.
      SystemExit: likewise after SIGTERM, with its exit status.
    """
    failed: dict[str, str] = {}

    def measure(place: int, values: Mapping[str, str]) -> float | None:
        print(f"setting {place} of {settings}: {_told(values)}", flush=True)
        score, failures = _score(space, values)
        failed.update(failures)
        print(f"top-1 {score:.1%}" if score is not None else "failed", flush=True)
        return score

    space.out.mkdir(parents=True, exist_ok=True)
    seed = space.base.train.seed
    try:
        with hold(space.out / "search.lock"):
            tried = search(space.out / STUDY_FILE, space.fingerprint, space.values, seed, settings, measure)
    except HeldError as held:
        raise ConfigError(f"'{space.out}' is in use: {held} searches there; choose another --out") from None
    return tried, failed


def _score(space: Space, values: Mapping[str, str]) -> tuple[float | None, dict[str, str]]:
    """Train a setting; return the mean top-1 that a comparison ranks by, or None and what failed, with the reasons."""
    try:
        trials = space.trials(values)
    except ConfigError as error:
        return None, {_told(values): str(error)}
    if failed := run_trials(trials, space.out):
        return None, failed
    from dnr_jax.evaluation import outputs

    numbers = {trial.name: outputs.read_numbers(space.out / trial.name) for trial in trials}
    found = {name: each.get("top1", math.nan) if each.get("videos", 1) else math.nan for name, each in numbers.items()}
    if missing := [name for name, top1 in found.items() if not math.isfinite(top1)]:
        return None, dict.fromkeys(missing, "its evaluation has no top-1")
    return statistics.fmean(found.values()), {}


def run_trials(trials: Sequence[Trial], out: pathlib.Path) -> dict[str, str]:
    """Train what has not ended, one run after the other; one that fails costs none of the others.

    Returns:
      The names of the runs that failed, with the reasons.

    Raises:
      KeyboardInterrupt: after Ctrl-C, when the run has written its checkpoint.
      SystemExit: likewise after SIGTERM, with its exit status.
    """
    out.mkdir(parents=True, exist_ok=True)
    ended, failed = _ended(out), dict[str, str]()
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
            failed[trial.name] = f"exit status {status}"
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
