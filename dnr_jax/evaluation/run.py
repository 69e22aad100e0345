"""Loading a trained network from the folder of its run."""

import contextlib
import dataclasses
import pathlib
from typing import Any

import flax.linen as nn
from jax.sharding import Mesh

from dnr_jax.config import ConfigError, ExperimentConfig, from_json
from dnr_jax.models import create_model
from dnr_jax.training.checkpoint import CHECKPOINTS_FOLDER, Checkpoints
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import abstract_state

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.txt"


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained network, as it was found in a run's folder.

    Attributes:
      config: the run's configuration.
      classes: names of the classes.
      model: the network.
      variables: ``params`` and ``batch_stats``.
      step: steps after which the checkpoint was written.
    """

    config: ExperimentConfig
    classes: tuple[str, ...]
    model: nn.Module
    variables: dict[str, Any]
    step: int


def load_run(workdir: str | pathlib.Path, mesh: Mesh, checkpoint: str = "latest") -> Run:
    """Load what training left in a folder.

    Args:
      workdir: folder of the run.
      mesh: devices that the variables are copied to.
      checkpoint: ``latest``, or ``best``: the one with the best validation top-1.

    Raises:
      ConfigError: where the folder holds no run, or no checkpoint yet.
    """
    workdir = pathlib.Path(workdir)
    if not workdir.is_dir():
        raise ConfigError(f"there is no folder '{workdir}'; expected the work directory of a training run")
    for name in (CONFIG_FILE, CLASSES_FILE):
        if not (workdir / name).is_file():
            raise ConfigError(f"'{workdir}' holds no {name}, so it is not the work directory of a training run")
    config = from_json((workdir / CONFIG_FILE).read_text())
    classes = tuple((workdir / CLASSES_FILE).read_text().splitlines())
    no_checkpoint = ConfigError(f"'{workdir}' holds no checkpoint yet: the run stopped before it wrote its first one")
    if not (workdir / CHECKPOINTS_FOLDER).is_dir():
        raise no_checkpoint
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        step = checkpoints.best_step if checkpoint == "best" else checkpoints.latest_step
        if step is None:
            raise no_checkpoint
        model = create_model(config.model)
        # The length of the schedule does not matter: only the structure of the optimiser's state does.
        tx = make_optimizer(config.optimizer, make_schedule(config.optimizer, config.train.batch_size, 1))
        state, _ = checkpoints.restore(abstract_state(model, tx, config.data.clip_shape, mesh), step)
    return Run(config, classes, model, state.variables, step)
