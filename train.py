"""Train a network: ``python train.py --config=configs/demo.py --config.train.steps=1000``.

Every field of the configuration can be set on the command line; ``configs/README.md`` lists the files, and
``dnr_jax/config/`` explains the fields. The same command again goes on where the run stopped.
"""

import functools
import os
import pathlib
import signal
import sys
import textwrap

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # no traceback of the imports, which take seconds

from absl import app, flags, logging

from dnr_jax import console
from dnr_jax.config import (
    ConfigError,
    ExperimentConfig,
    list_fields,
    read_command_line,
    split_config_path,
    to_json,
    unknown_flag,
    validate,
)
from dnr_jax.progress import stage

# Workers of the input pipeline import this file again, so nothing heavy is imported up here.
_DEFAULT = "configs/demo.py"
_FOLDER = pathlib.Path(__file__).parent
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default: ./runs/<name of the config file>.")
_FIELDS = flags.DEFINE_bool("fields", False, "List every field of the configuration with its value, and do nothing.")
_PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print the whole configuration before the run begins.")
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
usage: python train.py [--config=FILE[:ARGUMENT]] [--workdir=FOLDER] [--config.SECTION.FIELD=VALUE ...]

Train a network, or go on with a run that was stopped, and evaluate it on the validation videos.

  python train.py                                                the demo, in runs/demo
  python train.py --config=demo:bn                               the same with batch normalisation
  python train.py --config=own_videos --config.data.root=VIDEOS  VIDEOS/train/<class>/, VIDEOS/val/<class>/

flags:
{flags}

The network after the last step is the one that is evaluated at the end. The one that did best on the validation videos
is kept as well: 'dnr evaluate --checkpoint best'.

{status}"""


def main(parsed: tuple[str, ExperimentConfig]) -> None:
    """Train the experiment of a config file, given its path and itself, as the flags say."""
    path, config = parsed
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # app.run sets INFO, at which libraries fill the screen
    workdir = _workdir(path)
    if _PRINT_CONFIG.value:
        print(to_json(config), flush=True)
    validate(config)  # also in train, but here before anything that takes long
    with stage("importing JAX and the input pipeline"):
        import jax

        from dnr_jax.runs.devices import enable_compilation_cache
        from dnr_jax.training.loop import train
    if _DISTRIBUTED.value:
        with stage("waiting for the other processes"):
            jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    enable_compilation_cache()
    print(f"{'configuration':<14} {path}", flush=True)
    train(config, workdir)


def _parse(argv: list[str]) -> tuple[str, ExperimentConfig]:
    """Give the flags their values; return the path of the config file, with its argument, and the experiment."""
    if {"-h", "--help", "-help"} & set(argv):
        print(_usage())
        raise SystemExit(0)
    if {"--version", "-version"} & set(argv):
        print(console.version())
        raise SystemExit(0)
    config, path, rest = read_command_line(argv, _DEFAULT, _FOLDER)
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
    holders = (_WORKDIR, _FIELDS, _PRINT_CONFIG, _DISTRIBUTED, _COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)
    return {holder.name: flags.FLAGS[holder.name].help for holder in holders}


def _usage() -> str:
    files = ", ".join(sorted(file.stem for file in (_FOLDER / "configs").glob("*.py")))
    entries = {
        "config": f"Experiment: a file, or its name in configs/; what follows a colon is the file's argument. Default: "
        f"{_DEFAULT}. There are: {files}.",
        "config.X=Y": "Field X of the configuration, such as --config.train.batch_size=16; --fields explains them all.",
        **_own_flags(),
        "help, -h": "This text; --helpfull: the flags of the libraries too.",
    }
    listed = "\n".join(
        f"  --{name}\n{textwrap.fill(text, 100, initial_indent=' ' * 6, subsequent_indent=' ' * 6)}"
        for name, text in entries.items()
    )
    return _USAGE.format(flags=listed, status=console.EXIT_STATUS)


def _workdir(path: str) -> str:
    """Return the folder of the run: ``runs/demo`` for ``configs/demo.py``, ``runs/demo_bn`` for its arm ``bn``."""
    if _WORKDIR.value is not None:
        return console.local_folder("--workdir", _WORKDIR.value)
    file, argument = split_config_path(path)
    return f"runs/{pathlib.Path(file).stem}{f'_{argument}' if argument else ''}"


if __name__ == "__main__":
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command = functools.partial(app.run, main, flags_parser=_parse)
    sys.exit(console.run("train.py", command, "the same command goes on where the run stopped"))
