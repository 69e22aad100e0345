"""The parts of an experiment.

A file in ``configs/`` returns one :class:`ExperimentConfig` from ``get_config(arg)``. Every field can be overridden on
the command line (``--config.optimizer.learning_rate=0.05``), and :func:`dnr_jax.config.validate` is called once, before
anything is compiled.
"""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from dnr_jax.config.network import Network
from dnr_jax.config.parts import ConfigError, named, nearest

Sampling = Literal["dense", "segments", "window", "linspace"]
"""Ways to choose the frames of a clip; see :mod:`dnr_jax.data.sampling`."""
VARIANTS = ("dnr", "bn", "bn_interlace", "dnr_no_interlace")
"""The four arms that tell the contribution of DNR from that of the channel interlacing; see :func:`with_variant`."""


@dataclasses.dataclass
class RandAugmentConfig:
    """RandAugment of the training clips, in the notation of timm ``rand-m{magnitude}-n{layers}-mstd{std}-inc1``."""

    layers: Annotated[int, Ge(0)] = 0
    """Operations drawn for a clip (PySlowFast: 4); 0: off."""
    magnitude: Annotated[float, Ge(0), Le(10)] = 7.0
    """Mean of their strengths, from 0 to 10."""
    magnitude_std: Annotated[float, Ge(0)] = 0.5
    """Standard deviation of the strengths."""
    probability: Annotated[float, Ge(0), Le(1)] = 0.5
    """Share of the drawn operations that are applied."""


@dataclasses.dataclass
class DataConfig:
    """Where the videos are, which frames are read, and what is done to them."""

    source: Literal["list", "folder", "dataset", "records", "demo"] = "list"
    """``list``: annotation files with ``path label`` lines; ``folder``: one folder a class; ``dataset``: a public data
    set as it is on the disk; ``records``: what ``dnr prepare`` wrote; ``demo``: generated."""
    root: str = ""
    """Folder of the videos: for ``list`` the one that paths are relative to; for ``folder`` it holds ``train/`` and
    ``val/``; for ``records`` the prepared data set."""
    dataset: str = ""
    """For ``dataset``: its name, such as ``kinetics400`` or ``ucf101``."""
    annotations: str = ""
    """For ``dataset``: the folder of the annotation files; empty: looked for in ``root``."""
    fold: Annotated[int, Ge(1)] = 1
    """For ``dataset``: which of the three official divisions of UCF101 and HMDB51."""
    train_list: str = ""
    val_list: str = ""
    label_map: str = ""
    """Optional text file, one class name a line, in the order of the labels."""
    cache_dir: str = ""
    """Where the demo's videos are kept; empty: the user's cache folder."""
    demo_train_videos: Annotated[int, Ge(1)] = 480
    demo_val_videos: Annotated[int, Ge(1)] = 120
    num_frames: Annotated[int, Ge(1)] = 8
    """Frames of a clip, T."""
    sampling: Sampling = "dense"
    """``dense``: ``num_frames`` frames ``frame_interval`` apart from a random start;
    ``segments``: one frame from each of ``num_frames`` equal segments (TSN);
    ``window``: the same from ``window`` frames of the video (MMAction2's DenseSampleFrames);
    ``linspace``: ``num_frames`` frames spread over ``num_frames * frame_interval``, both ends included (PySlowFast)."""
    frame_interval: Annotated[int, Ge(1)] = 8
    target_fps: Annotated[float, Ge(0)] = 0.0
    """``linspace``: the rate at which ``frame_interval`` counts frames, whatever a video's own (PySlowFast: 30); 0: in
    the video's frames."""
    frames_per_segment: Annotated[int, Ge(1)] = 1
    """``segments``: consecutive frames from each segment (TDN: 5); a clip has ``num_frames`` times as many."""
    window: Annotated[int, Ge(1)] = 64
    """``window``: frames of the video in which a clip lies."""
    temporal_jitter: bool = False
    """``dense``, in training: move each frame by a random part of the interval."""
    out_of_bound: Literal["loop", "repeat_last"] = "loop"
    """``dense``: what follows the end of a short video: its start (``loop``) or its last frame (``repeat_last``)."""
    short_side: Annotated[int, Ge(0)] = 256
    """Frames are resized so that their shorter side has this many pixels; 0 keeps their size."""
    crop_size: Annotated[int, Ge(1)] = 224
    multi_scale_crop: bool = True
    """Training crop: multi-scale (1, .875, .75, .66) from corners and centre; otherwise the centre."""
    random_resized_crop: bool = False
    """Training crop of random area and aspect ratio, which takes the place of the others."""
    random_resized_area: tuple[float, float] = (0.08, 1.0)
    """Its smallest and largest share of the frame's area."""
    random_resized_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Its smallest and largest ratio of width to height."""
    flip: bool = True
    """Mirror half of the training clips. Where the names of two classes differ by "left" and "right" alone, the label
    changes too. Switch off where a class has a left or a right that its name does not tell."""
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Strengths of random changes of brightness, contrast, saturation and hue (MMAction2: 0.5, 0.5, 0.5, 0.1)."""
    rand_augment: RandAugmentConfig = dataclasses.field(default_factory=RandAugmentConfig)
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (58.395, 57.12, 57.375)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order of colours in ``mean``, ``std`` and for the network: ``rgb``, or ``bgr`` for weights that Caffe trained."""
    num_threads: Annotated[int, Ge(0)] = 0
    """Decoding threads a process (or a worker); 0: one a core (the workers share the cores), at most 16."""
    num_workers: Annotated[int, Ge(-1)] = 0
    """Worker processes; 0: threads only; -1: one for every 8 cores where there are at least 16, otherwise none."""
    max_failures: Annotated[float, Ge(0), Le(1)] = 0.1
    """The run ends when more than this share of the videos read so far could not be decoded."""

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Shape of a training clip: ``(T, H, W, 3)``; T counts the frames of all segments."""
        return self.num_frames * self.frames_per_segment, self.crop_size, self.crop_size, 3


@dataclasses.dataclass
class OptimizerConfig:
    """SGD with momentum, as in the authors' configuration."""

    learning_rate: Annotated[float, Gt(0)] = 0.1
    """At ``base_batch_size``; scaled linearly with the batch."""
    base_batch_size: Annotated[int, Ge(1)] = 64
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    decay_norm_and_bias: bool = True
    """Decay the norms' parameters and the biases too, as the authors' configuration does."""
    clip_norm: Annotated[float, Ge(0)] = 40.0
    """Largest global norm of the gradient; 0 switches clipping off."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """``cosine`` (to 0 at the end) or ``constant``."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    warmup_ratio: Annotated[float, Gt(0), Le(1)] = 0.01
    """The warm-up starts at this share of the learning rate."""

    def problems(self) -> Iterator[str]:
        """Refuse Nesterov's form of no momentum."""
        if self.nesterov and not self.momentum:
            yield "nesterov: needs a momentum above 0"


@dataclasses.dataclass
class TrainConfig:
    """The loop."""

    batch_size: Annotated[int, Ge(1)] = 64
    """Clips a step, over all devices and processes."""
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
    """Share of the batches that are mixed."""
    precise_statistics: Annotated[int, Ge(0)] = 0
    """Batches from which running statistics are estimated anew before each evaluation (PySlowFast: 200); 0: none."""
    seed: Annotated[int, Ge(0)] = 0
    log_every: Annotated[int, Ge(1)] = 20
    eval_every: Annotated[int, Ge(0)] = 0
    """Steps between evaluations; 0: once an epoch."""
    checkpoint_every: Annotated[int, Ge(0)] = 0
    """Steps between checkpoints; 0: with each evaluation."""


@dataclasses.dataclass
class EvaluationConfig:
    """How a video is scored."""

    batch_size: Annotated[int, Ge(0)] = 0
    """Videos a step, rounded up to a multiple of the devices; 0: the training batch."""
    clips: Annotated[int, Ge(1)] = 1
    """Clips in time, evenly spaced (10 in the paper's Kinetics protocol)."""
    twice_sample: bool = False
    """Twice as many clips; with ``data.sampling`` ``segments``, the others begin where the segments do (TSM)."""
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
class ExperimentConfig:
    """Everything a run depends on."""

    model: Network = dataclasses.field(default_factory=lambda: named(Network, "TSN")())
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    init_from: str = ""
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
