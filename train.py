"""Train a network: ``python train.py --config=configs/demo.py --config.train.steps=1000``.

Every field of the configuration can be set on the command line; ``configs/README.md`` lists the files, and
``dnr_jax/config.py`` explains the fields. The same command again goes on where the run stopped.
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from dnr_jax.config import ConfigError, RunError, check_command_line

# Workers of the input pipeline import this file again, so nothing heavy is imported up here.
_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment, as file.py or file.py:argument.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default: ./runs/<name of the config file>.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Join the other processes of a cluster (one a host). TPU pods, Slurm and Open MPI say who they are; elsewhere the "
    "next three flags do.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "With --distributed: host:port of the first process.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --distributed: number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --distributed: number of this process, from 0.")


def main(argv: list[str]) -> None:
    """Train as the flags say."""
    del argv
    import jax

    from dnr_jax.training.devices import enable_compilation_cache
    from dnr_jax.training.loop import train
    from dnr_jax.training.metrics import NonFiniteError

    if _DISTRIBUTED.value:
        jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # app.run sets INFO, at which checkpoints fill the screen
    enable_compilation_cache()
    try:
        train(_CONFIG.value, _WORKDIR.value or _default_workdir())
    except (ConfigError, NonFiniteError) as error:
        _fail(error)
    except RunError as error:
        _fail(error, 1)


def _default_workdir() -> str:
    """Return ``runs/demo`` for ``configs/demo.py``, and ``runs/demo_bn`` for ``configs/demo.py:bn``."""
    file, _, argument = flags.FLAGS["config"].config_filename.partition(":")
    return f"runs/{pathlib.Path(file).stem}{argument and '_' + argument}"


def _fail(error: Exception, status: int = 2) -> None:
    print(f"train.py: {error}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    try:
        sys.argv = check_command_line(sys.argv, "configs/demo.py", pathlib.Path(__file__).parent)
    except ConfigError as problem:
        _fail(problem)
    app.run(main)
