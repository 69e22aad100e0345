"""The training command: ``dnr train``, and ``train.py`` of a checkout, which is the same.

Every field of the configuration can be set on the command line; ``configs/README.md`` lists the files, and
``dnr_jax/config/`` explains the fields. The same command again goes on where the run stopped.
"""

import functools
import pathlib
import re
import textwrap
from collections.abc import Sequence

from absl import app, flags, logging

from dnr_jax import console
from dnr_jax.config import (
    ConfigError,
    ExperimentConfig,
    list_configs,
    list_fields,
    read_command_line,
    run_name,
    to_json,
    unknown_flag,
    validate,
)
from dnr_jax.progress import stage

_DEFAULT = "configs/demo.py"
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default: ./runs/<name of the config file>.")
_FIELDS = flags.DEFINE_bool("fields", False, "List every field of the configuration with its value, and do nothing.")
_PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print the whole configuration before the run begins.")
_PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", None, "Steps A:B, counted from 1, of which a trace is written into the folder's profile/."
)
_REPORT = flags.DEFINE_bool(
    "report", True, "Write report.html into the folder at the end; --noreport: dnr report can do so later."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Join the other processes of a cluster (one a host). TPU pods, Slurm and Open MPI say who they are; elsewhere the "
    "next three flags do.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "With --distributed: host:port of the first process.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --distributed: number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --distributed: number of this process, from 0.")

_USAGE = """\
usage: {command} [--config=FILE[:ARGUMENT]] [--workdir=FOLDER] [--config.SECTION.FIELD=VALUE ...]

Train a network, or go on with a run that was stopped, and evaluate it on the validation videos.

  {command}
      the demo, in runs/demo
  {command} --config=demo:bn
      the same with batch normalisation
  {command} --config=own_videos --config.data.source.root=VIDEOS
      your own videos, in VIDEOS/train/<class>/ and VIDEOS/val/<class>/

flags:
{flags}

The network after the last step is the one that is evaluated at the end. The one that did best on the validation videos
is kept as well: 'dnr evaluate --checkpoint best'.

{status}"""


def main(command: str, arguments: Sequence[str]) -> int:
    """Run the training command.

    Args:
      command: what a person typed to start it, for messages: ``dnr train`` or ``python train.py``.
      arguments: the words behind that.

    Returns:
      The exit status: see :data:`dnr_jax.console.EXIT_STATUS`.
    """
    program = command.removeprefix("python ")
    parse = functools.partial(_parse, command=command)
    run = functools.partial(app.run, _train, argv=[program, *arguments], flags_parser=parse)
    return console.run(program, run, "the same command goes on where the run stopped")


def _train(parsed: tuple[str, ExperimentConfig]) -> None:
    """Train the experiment of a config file, given its path and itself, as the flags say."""
    path, config = parsed
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # app.run sets INFO, at which libraries fill the screen
    workdir = _workdir(path)
    if _PRINT_CONFIG.value:
        print(to_json(config), flush=True)
    steps = _steps(_PROFILE_STEPS.value)
    validate(config)  # also in train, but here before anything that takes long
    with stage("importing JAX and the input pipeline"):
        import jax

        from dnr_jax.runs.devices import enable_compilation_cache
        from dnr_jax.training.hooks import Hook
        from dnr_jax.training.loop import train
        from dnr_jax.training.profiling import ProfileSteps
        from dnr_jax.training.report import WritePage
    if _DISTRIBUTED.value:
        with stage("waiting for the other processes"):
            jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    enable_compilation_cache()
    print(f"{'configuration':<14} {path}", flush=True)
    hooks: list[Hook] = [ProfileSteps(pathlib.Path(workdir), *steps)] if steps else []
    train(config, workdir, hooks=[*hooks, *([WritePage(pathlib.Path(workdir))] if _REPORT.value else [])])


def _steps(text: str | None) -> tuple[int, int] | None:
    """Return the first and the last step of ``A:B``, or of ``A`` alone."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        raise ConfigError(f"--profile_steps is {text!r}; expected A:B with steps counted from 1, such as 20:25")
    return first, last


def _parse(argv: list[str], command: str) -> tuple[str, ExperimentConfig]:
    """Give the flags their values; return the path of the config file, with its argument, and the experiment."""
    if {"-h", "--help", "-help"} & set(argv):
        print(_usage(command))
        raise SystemExit(0)
    if {"--version", "-version"} & set(argv):
        print(console.version())
        raise SystemExit(0)
    config, path, rest = read_command_line(argv, _DEFAULT)
    try:
        flags.FLAGS(rest)
    except flags.UnrecognizedFlagError as error:
        raise ConfigError(unknown_flag(error.flagname, ["config", "help", *_own_flags()])) from None
    except flags.Error as error:
        raise ConfigError(str(error)) from None
    if _FIELDS.value:
        print(list_fields(config))
        raise SystemExit(0)
    return path, config


def _own_flags() -> dict[str, str]:
    """Return names and texts of this program's flags."""
    holders = (
        _WORKDIR,
        _FIELDS,
        _PRINT_CONFIG,
        _PROFILE_STEPS,
        _REPORT,
        _DISTRIBUTED,
        _COORDINATOR,
        _NUM_PROCESSES,
        _PROCESS_ID,
    )
    return {holder.name: flags.FLAGS[holder.name].help for holder in holders}


def _usage(command: str) -> str:
    entries = {
        "config": f"Experiment: a file, or its name in configs/; what follows a colon is the file's argument. Default: "
        f"{_DEFAULT}. There are: {', '.join(list_configs())}.",
        "config.X=Y": "Field X of the configuration, such as --config.train.batch_size=16; --fields explains them all.",
        **_own_flags(),
        "help, -h": "This text; --helpfull: the flags of the libraries too.",
    }
    listed = "\n".join(
        f"  --{name}\n{textwrap.fill(text, 100, initial_indent=' ' * 6, subsequent_indent=' ' * 6)}"
        for name, text in entries.items()
    )
    return _USAGE.format(command=command, flags=listed, status=console.EXIT_STATUS)


def _workdir(path: str) -> str:
    """Return the folder of the run: ``runs/demo`` for ``configs/demo.py``, ``runs/demo_bn`` for its arm ``bn``."""
    if _WORKDIR.value is not None:
        return console.local_folder("--workdir", _WORKDIR.value)
    return f"runs/{run_name(path)}"
