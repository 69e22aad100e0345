"""Where the numbers and pictures of a run go beside its folder's own files: TensorBoard, Weights & Biases, MLflow.

Each is a :class:`Logger`, chosen by ``train.loggers``. None of them ends a run that has begun: what it cannot take is
told once, and ``metrics.jsonl`` has every number anyway.
"""

from __future__ import annotations

import abc
import importlib.util
import io
import logging
import os
import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from tensorboardX import SummaryWriter

from dnr_jax.config import ConfigError, ExperimentConfig, flatten
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.evaluation.outputs import plot_confusion
from dnr_jax.report.relays import RelayMaps
from dnr_jax.runs.devices import Batch
from dnr_jax.training.hooks import Hook, Row
from dnr_jax.training.mix import draw_mixture

if TYPE_CHECKING:
    from dnr_jax.training.trainer import Trainer

_logger = logging.getLogger(__name__)

_CLIPS, _FRAMES = 8, 8
"""Clips of a batch, and frames of a clip, in the picture of what the network sees."""
_RELAY_CLIPS = 4
"""Clips over which the picture of the relays is averaged."""


class Logger(abc.ABC):
    """Takes numbers and pictures of one run.

    Attributes:
      package: what has to be installed for it, as it is imported; empty where this package brings it.
    """

    package = ""

    @abc.abstractmethod
    def __init__(self, workdir: pathlib.Path, config: ExperimentConfig, step: int):
        """Open what it writes to.

        Args:
          workdir: folder of the run, whose name is the run's.
          config: the experiment, resolved.
          step: steps taken before; what was logged of later ones is about to come again.
        """

    @abc.abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of a step, by name: ``train/loss``."""

    @abc.abstractmethod
    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Take a picture, RGB uint8 ``[H, W, 3]``."""

    @abc.abstractmethod
    def close(self) -> None:
        """Write what is left, and end."""


class TensorBoard(Logger):
    """Event files in the run's folder itself, so that TensorBoard calls the run as its folder is called."""

    def __init__(self, workdir: pathlib.Path, config: ExperimentConfig, step: int):
        """Open a file of events that replaces what earlier ones say of later steps."""
        self._writer = SummaryWriter(str(workdir), purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curve of each number."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Add a picture to the slider of its name."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WandB(Logger):
    """A run of Weights & Biases; ``WANDB_MODE=offline``, ``WANDB_PROJECT`` and its other variables are heeded."""

    package = "wandb"

    def __init__(self, workdir: pathlib.Path, config: ExperimentConfig, step: int):
        """Begin a run, or go on with that of the folder."""
        import wandb

        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "dnr_jax"),
            name=workdir.name,
            id=_identity(workdir, "wandb_id.txt", step, lambda: uuid.uuid4().hex[:8]),
            resume="allow",
            dir=str(workdir),
            config=flatten(config),
            settings=wandb.Settings(console="off", silent=True),
        )
        # Steps of its own have to grow, and those after a checkpoint come again where a run was killed.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers over the step."""
        self._run.log({**values, "step": step})

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Log a picture over the step."""
        self._run.log({name: self._image(pixels), "step": step})

    def close(self) -> None:
        """Wait until everything is sent, or written where it is offline."""
        self._run.finish()


class MLflow(Logger):
    """A run of MLflow: on the server of ``MLFLOW_TRACKING_URI``, otherwise in ``mlflow.db`` in the run's folder."""

    package = "mlflow"

    def __init__(self, workdir: pathlib.Path, config: ExperimentConfig, step: int):
        """Begin a run, or go on with that of the folder."""
        import mlflow

        server = os.environ.get("MLFLOW_TRACKING_URI", "")
        self._client = mlflow.MlflowClient(server or f"sqlite:///{workdir.absolute() / 'mlflow.db'}")
        self._run = _identity(workdir, "mlflow_id.txt", step, lambda: self._create(workdir, local=not server))
        if not step:
            for name, value in flatten(config).items():
                self._client.log_param(self._run, name, str(value)[:6000])

    def _create(self, workdir: pathlib.Path, local: bool) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "dnr_jax")
        found = self._client.get_experiment_by_name(name)
        place = (workdir.absolute() / "mlflow").as_uri() if local else None
        experiment = found.experiment_id if found else self._client.create_experiment(name, artifact_location=place)
        return self._client.create_run(experiment, run_name=workdir.name).info.run_id

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of a step."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Log a picture of a step."""
        self._client.log_image(self._run, pixels, key=name, step=step)

    def close(self) -> None:
        """Say that the run has ended."""
        self._client.set_terminated(self._run)


LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
"""The loggers by the names that ``train.loggers`` has."""


def _identity(workdir: pathlib.Path, name: str, step: int, create: Callable[[], str]) -> str:
    """Return by what a service knows the run of a folder, which a file in it remembers for going on."""
    file = workdir / name
    if step and file.is_file():
        return file.read_text().strip()
    identity = create()
    file.write_text(f"{identity}\n")
    return identity


def check_loggers(names: Sequence[str]) -> None:
    """Raise ConfigError where the package of a logger is not installed."""
    for name in names:
        package = LOGGERS[name].package
        if package and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"train.loggers: {name!r} needs the package {package}, which is not installed: pip install "
                f"'dnr-jax[{package}]'"
            )


_OFFLINE = {"wandb": "WANDB_MODE=offline writes into the run's folder alone. "}


class Loggers(Hook):
    """Hands rows to loggers, and pictures.

    These are the first clips as the network sees them, and of each evaluation the confusion matrix and, where the
    network has relays, what they predict for the first clips that were read.
    """

    def __init__(self, loggers: Mapping[str, Callable[[], Logger]]):
        """Take what opens each logger, by name; one that fails later on is left out from then on."""
        self._open = dict(loggers)
        self._loggers: dict[str, Logger] = {}
        self._clips: np.ndarray | None = None
        self._relays: RelayMaps | None = None

    def start(self, trainer: Trainer) -> None:
        """Open the loggers, and get ready to draw relays.

        Raises:
          ConfigError: where one does not open, such as for want of a login.
        """
        for name, open_logger in self._open.items():
            try:
                self._loggers[name] = open_logger()
            except OSError:
                raise
            except Exception as error:
                others = ",".join(other for other in self._open if other != name)
                raise ConfigError(
                    f"train.loggers: {name!r} does not open: {error}. {_OFFLINE.get(name, '')}A run without it: "
                    f"--config.train.loggers={others}"
                ) from error

        if self._loggers:
            self._relays = RelayMaps(trainer.model, trainer.config)

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        """Show the clips of the very first batch; keep some of the first that is seen."""
        if self._clips is None:
            self._clips = np.array(batch["video"][:_RELAY_CLIPS])
        if trainer.step == 0 and self._loggers:
            self._hand(lambda logger: logger.picture(0, "clips", clips_seen(trainer, batch)))

    def after_row(self, trainer: Trainer, row: Row) -> None:
        """Hand on the numbers of a row."""
        values = {f"{row.kind}/{name}": float(value) for name, value in {**row.metrics, **row.times}.items()}
        self._hand(lambda logger: logger.scalars(row.step, values))

    def after_evaluation(self, trainer: Trainer, report: Report) -> None:
        """Show the confusion matrix and the relays."""
        if self._loggers:
            picture = confusion_picture(report)
            self._hand(lambda logger: logger.picture(trainer.step, "confusion", picture))
            self._show_relays(trainer)

    def _show_relays(self, trainer: Trainer) -> None:
        """Show the picture of the relays; where there are none, or it cannot be drawn, it is not tried again."""
        if self._relays is None or self._clips is None:
            return
        try:
            drawn = self._relays.draw(trainer.evaluated, self._clips)
        except Exception as error:
            _logger.warning("the relays cannot be drawn (%s); the run goes on", error)
            drawn = b""
        if drawn:
            self._hand(lambda logger: logger.picture(trainer.step, "relays", _pixels(drawn)))
        else:
            self._relays = None

    def close(self) -> None:
        """Close the loggers."""
        self._hand(lambda logger: logger.close())
        self._loggers.clear()

    def _hand(self, act: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                act(logger)
            except Exception as error:
                del self._loggers[name]
                _logger.warning("%s takes nothing more (%s); the run goes on, metrics.jsonl has every row", name, error)


def clips_seen(trainer: Trainer, batch: Batch) -> np.ndarray:
    """Return a picture of a batch as the network is about to see it, mixed where the step mixes it.

    A row a clip, its frames from left to right; of many of either, some that are evenly spaced: uint8 ``[H, W, 3]``.
    """
    video = np.asarray(batch["video"])
    if jax.process_count() == 1:  # of several, none has the clips of the others
        key = jax.random.fold_in(jax.random.fold_in(trainer.state.key, trainer.state.step), 1)
        mixture = draw_mixture(key, jnp.asarray(batch["weight"]), video.shape[2:4], trainer.config.train)
        video = np.asarray(mixture.video(jnp.asarray(video)).round().astype(jnp.uint8)) if mixture else video
    frames = np.linspace(0, video.shape[1] - 1, min(video.shape[1], _FRAMES)).round().astype(int)
    rows = [np.concatenate(list(clip[frames]), axis=1) for clip in video[:_CLIPS]]
    return np.concatenate(rows, axis=0)


def confusion_picture(report: Report) -> np.ndarray:
    """Return the picture of a confusion matrix: uint8 ``[H, W, 3]``."""
    file = io.BytesIO()
    plot_confusion(report.confusion, report.classes, file)
    return _pixels(file.getvalue())


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
