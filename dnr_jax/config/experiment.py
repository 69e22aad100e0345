"""The parts of an experiment.

A file in ``configs/`` returns one :class:`ExperimentConfig` from ``get_config(arg)``. Every field can be overridden on
the command line (``--config.optimizer.learning_rate=0.05``), and :func:`dnr_jax.config.validate` is called once, before
anything is compiled.
"""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Lt

from dnr_jax.config.averaging import Averaging
from dnr_jax.config.data import DataConfig
from dnr_jax.config.network import Network
from dnr_jax.config.optimizer import Optimizer
from dnr_jax.config.parts import ConfigError, named, nearest
from dnr_jax.config.paths import ExpandsPaths, Path

VARIANTS = ("dnr", "bn", "bn_interlace", "dnr_no_interlace")
"""The four arms that tell the contribution of DNR from that of the channel interlacing; see :func:`with_variant`."""


@dataclasses.dataclass
class TrainConfig:
    """The loop."""

    batch_size: Annotated[int, Ge(1)] = 64
    """Clips a step, over all devices and processes."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Parts that a batch is cut into, whose gradients are added up before the one update: less memory for the same
    step, but for batch statistics, which are those of a part."""
    fsdp_devices: Annotated[int, Ge(1)] = 1
    """Devices that parameters, their average and the optimizer's state are sharded over (FSDP): less memory for the
    same step; 1: each device has a copy."""
    epochs: float = 196.0
    steps: Annotated[int, Ge(0)] = 0
    """Length in steps; 0: as ``epochs`` says."""
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    mixup: Annotated[float, Ge(0)] = 0.0
    """Mixup: both parameters of the Beta distribution of the shares (PySlowFast: 0.8, MMAction2: 0.2); 0: off."""
    cutmix: Annotated[float, Ge(0)] = 0.0
    """CutMix: the same (PySlowFast: 1, MMAction2: 0.2); 0: off."""
    cutmix_probability: Annotated[float, Ge(0), Le(1)] = 0.5
    """Where both are on: share of the batches that are mixed by CutMix."""
    mix_probability: Annotated[float, Ge(0), Le(1)] = 1.0
    """Where one is on: share of the batches that are mixed."""
    precise_statistics: Annotated[int, Ge(0)] = 0
    """Batches from which running statistics are estimated anew before each evaluation (PySlowFast: 200); 0: none."""
    averaging: Averaging | None = None
    """Average of the weights over the steps, which is evaluated and exported in their place; None: the weights."""
    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    """Of order, crops, dropout and first weights; of a larger number JAX's keys would take the last 32 bits."""
    log_every: Annotated[int, Ge(1)] = 20
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    """Where numbers and pictures go beside ``metrics.jsonl``: ``tensorboard``, ``wandb`` (Weights & Biases) and
    ``mlflow``, in a list such as ``tensorboard,wandb``; the last two are extras of this package."""
    eval_every: Annotated[int, Ge(0)] = 0
    """Steps between evaluations; 0: once an epoch."""
    checkpoint_every: Annotated[int, Ge(0)] = 0
    """Steps between checkpoints; 0: with each evaluation."""

    def problems(self) -> Iterator[str]:
        """Refuse a logger that is there twice, a length of nothing, and shares of mixtures that are not drawn."""
        if len(set(self.loggers)) < len(self.loggers):
            yield f"loggers: is {self.loggers}; expected each once"
        if not self.steps and not self.epochs > 0:
            yield f"epochs: is {self.epochs}; expected a positive number, or a length in steps"
        if self.mix_probability != 1 and not (self.mixup or self.cutmix):
            yield f"mix_probability: is {self.mix_probability}, which needs mixup or cutmix above 0"
        if self.cutmix_probability != 0.5 and not (self.mixup and self.cutmix):
            yield f"cutmix_probability: is {self.cutmix_probability}, which needs mixup and cutmix above 0"


@dataclasses.dataclass
class EvaluationConfig:
    """How a video is scored."""

    batch_size: Annotated[int, Ge(0)] = 0
    """Videos a step, rounded up to a multiple of the devices; 0: the training batch."""
    clips: Annotated[int, Ge(1)] = 1
    """Clips in time, evenly spaced (10 in the paper's Kinetics protocol)."""
    twice_sample: bool = False
    """Twice as many clips; of ``Segments``, the others begin where the segments do (TSM)."""
    crops: Literal[1, 3, 10] = 1
    """Crops a clip: 1 (centre), 3 (along the longer side) or 10 (corners and centre, and their mirror images)."""
    crop_size: Annotated[int, Ge(0)] = 0
    """0: as in training (256 in the paper's Kinetics protocol)."""
    average: Literal["probability", "logit"] = "probability"
    """What is averaged over the views: ``probability`` (MMAction2) or ``logit`` (the authors' code)."""

    @property
    def num_clips(self) -> int:
        """Clips of a video, with those of ``twice_sample``."""
        return self.clips * (2 if self.twice_sample else 1)


@dataclasses.dataclass
class InitConfig:
    """How the weights of ``init_from`` become the network's."""

    naming: str = ""
    """Code base that the weights are from: a name in :func:`dnr_jax.convert.namings`; empty: recognised."""
    checkpoint: Literal["latest", "best"] = "latest"
    """``latest`` or ``best``, where ``init_from`` is the work directory of a run."""
    allow: str = ""
    """What may differ and then starts anew, in a list such as ``head,relays``: names in
    :data:`dnr_jax.convert.GROUPS`, and patterns of our paths or of the source's names. Everything else has to fit."""
    relays: Literal["fresh", "batch_norm"] = "fresh"
    """Relays that the source does not have: ``fresh`` (the authors' initialisation), or ``batch_norm``: at the scales
    and shifts of the batch normalisation that they replace, as near as the form of the network allows."""


@dataclasses.dataclass
class ExperimentConfig(ExpandsPaths):
    """Everything a run depends on."""

    model: Network = dataclasses.field(default_factory=lambda: named(Network, "TSN")())
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: named(Optimizer, "SGD")())
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    init_from: Annotated[str, Path()] = ""
    """File of weights, or work directory of a run, that the network starts from; empty: from scratch."""
    init: InitConfig = dataclasses.field(default_factory=InitConfig)


def with_variant(config: ExperimentConfig, variant: str) -> ExperimentConfig:
    """Set the norms and the interlacing of one arm of the comparison between DNR and batch normalisation.

    Args:
      config: changed in place.
      variant: ``dnr`` or empty (as configured), ``bn`` (batch normalisation, no interlacing), or another of the
        network's :meth:`~dnr_jax.config.Network.arms`.

    Returns:
      ``config``.

    Raises:
      ConfigError: for another variant.
    """
    variant = variant or "dnr"
    arms = config.model.arms()
    if variant not in arms:
        raise ConfigError(f"no variant {variant!r}{nearest(variant, list(arms))}. Variants: {', '.join(arms)}")
    config.model = arms[variant]
    return config


def single_view(evaluation: EvaluationConfig) -> EvaluationConfig:
    """Return the setting of the evaluations during training: one clip and one centre crop of the training size."""
    return dataclasses.replace(evaluation, clips=1, twice_sample=False, crops=1, crop_size=0)


def with_views(evaluation: EvaluationConfig, views: tuple[int, int] | None) -> EvaluationConfig:
    """Return the setting with another number of ``(clips, crops)``, or the same where that is None."""
    changed: dict[str, Any] = dict(zip(("clips", "crops"), views or (), strict=False))
    return dataclasses.replace(evaluation, **changed) if views else evaluation
