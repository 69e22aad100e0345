"""The typed configuration of an experiment.

A file in ``configs/`` returns one :class:`ExperimentConfig` from ``get_config(arg)``. Every field can be overridden on
the command line (``--config.optimizer.learning_rate=0.05``). The dataclasses are mutable because the command line
writes into them; :func:`validate` is called once, before anything is compiled.
"""

import ast
import dataclasses
import difflib
import importlib.util
import inspect
import json
import math
import os
import pathlib
import re
import traceback
import typing
import urllib.parse
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, ClassVar

from absl import flags
from etils import epath
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser

from dnr_jax.dnr import fields as typed_fields
from dnr_jax.dnr.spec import DNRSpec

DEPTHS = (18, 34, 50, 101, 152)
"""The ResNets there are."""
SLOWFAST_VARIANTS = {"8x8": (4, 7), "4x16": (8, 5)}
"""Frames of the fast pathway for each one of the slow pathway, and the temporal extent of the lateral connections."""
SAMPLING = ("dense", "segments", "window", "linspace")
"""Ways to choose the frames of a clip; see :mod:`dnr_jax.data.sampling`."""
VARIANTS = ("dnr", "bn", "bn_interlace", "dnr_no_interlace")
"""The four arms that tell the contribution of DNR from that of the channel interlacing; see :func:`with_variant`."""


class ConfigError(ValueError):
    """Something that a person set is wrong; the message says what, where, and what would be right."""


class RunError(RuntimeError):
    """A run cannot go on, whatever its settings; the message says why, and what is left of it to go on from."""


def expand_path(path: str | os.PathLike[str]) -> str:
    """Return a path that a person wrote, as all of this package takes it.

    ``~`` and ``~user`` become home folders, ``file://`` URLs local paths, and slashes at the end are dropped, so that
    one folder has one name. Environment variables are left alone: the shell has replaced them already, and a file name
    may hold a dollar sign; :func:`missing_path` says so.
    """
    text = os.fspath(path)
    if match := re.fullmatch(r"file://(?:localhost)?(/.*)", text, re.DOTALL):
        text = urllib.parse.unquote(match[1])
    text = os.path.expanduser(text)
    return text.rstrip("/") or text[:1]


def missing_path(kind: str, path: str) -> str:
    """Return the sentence that a ``file`` or a ``folder`` is not there, and why that may be."""
    variables = [name for name in re.findall(r"\$\{?(\w+)", path) if name in os.environ]
    hint = f" (the shell puts in the value of ${variables[0]}, but not within single quotes)" if variables else ""
    return f"there is no {kind} {path!r}{hint}"


class _ExpandsPaths:
    """Passes the fields that ``PATHS`` names through :func:`expand_path`, whoever sets them."""

    PATHS: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        is_path = name in self.PATHS and isinstance(value, str | os.PathLike)
        super().__setattr__(name, expand_path(value) if is_path else value)


@dataclasses.dataclass
class SlowFastConfig:
    """What is particular to SlowFast; mirrors :class:`dnr_jax.models.slowfast.SlowFast`, which explains each field.

    The defaults are MMAction2's 8x8.
    """

    alpha: int = 4
    resample_rate: int = 0
    """Frames of the clip for each one of the slow pathway (MMAction2's tau); 0: ``alpha``."""
    beta_inv: int = 8
    fusion_kernel: int = 7
    fusion_ratio: int = 2
    lateral_norm: bool = False
    slow_frames: str = "stride"
    fast_depth: int = 0
    """ResNet depth of the fast pathway; 0: ``model.depth``."""
    block: str = ""
    temporal_blocks: tuple[int, int] = (0, 0)
    head_order: str = "fast_slow"
    """Order of the pathways' features in front of the classifier: ``fast_slow`` (MMAction2) or ``slow_fast``."""

    @classmethod
    def mmaction2(cls, variant: str = "8x8") -> "SlowFastConfig":
        """Return MMAction2's ``8x8`` or ``4x16`` (frames of the slow pathway x their interval in the video)."""
        alpha, fusion_kernel = SLOWFAST_VARIANTS[variant]
        return cls(alpha=alpha, fusion_kernel=fusion_kernel)

    @classmethod
    def pyslowfast(cls, variant: str = "8x8") -> "SlowFastConfig":
        """Return PySlowFast's ``8x8`` or ``4x16``, whose blocks are bottlenecks at every depth."""
        return dataclasses.replace(
            cls.mmaction2(variant),
            lateral_norm=True,
            slow_frames="linspace",
            block="bottleneck",
            head_order="slow_fast",
        )


@dataclasses.dataclass
class TDNConfig:
    """What is particular to TDN; mirrors :class:`dnr_jax.models.tdn.TDN`, which explains each field."""

    frames_per_segment: int = 5
    """Frames that the network takes for a segment; ``data.frames_per_segment`` says how many are read."""
    appearance: float = 0.0


@dataclasses.dataclass
class ModelConfig:
    """The network: a backbone, its norms, and the head."""

    name: str = "tsn"
    """Recogniser: ``tsn``, ``bninception`` (TSN too), ``tsm``, ``tanet``, ``tdn``, ``r2plus1d`` or ``slowfast``."""
    depth: int = 50
    """ResNet depth: 18, 34, 50, 101 or 152; ``bninception`` has one of its own."""
    width: int = 64
    """Channels of the stem (64 in the paper); narrower networks for small experiments."""
    cardinality: int = 1
    """Groups of channels that the 3x3 convolutions of bottlenecks keep apart (ResNeXt: 32)."""
    base_width: int = 64
    """Channels of such a group, in a first stage of 64 (ResNeXt-101 32x4d: 4)."""
    stem: str = "imagenet"
    """``imagenet``: 7x7 stride 2 and max pooling; ``small``: 3x3 stride 1, for frames of about 32 pixels."""
    num_classes: int = 400
    """0: as many as the data has."""
    dropout: float = 0.4
    interlace: bool = True
    """Shift channels along time at the input of each residual branch (Section 3.3) in ``tsn``. Networks with a temporal
    module of their own do without; that of ``tsm`` is this shift, whatever stands here."""
    interlace_fraction: float = 0.125
    """Share of the channels taken from the next frame, and as many from the one before (TSM's 1 / shift_div)."""
    interlace_stages: tuple[bool, bool, bool, bool] = (True, True, True, True)
    """Stages whose blocks interlace channels."""
    interlace_every: int = 0
    """Interlace in the first of every so many blocks of a stage; 0: every block, and in ``tsm`` every second one from
    ResNet-101 on, as in the reference."""
    scan_blocks: bool = False
    """Run the identical blocks of a stage under one scan, which compiles very deep networks (152 layers) sooner."""
    remat: str = "none"
    """Compute the inside of each ``block`` or ``stage`` again in the backward pass, to save memory; or ``none``."""
    dtype: str = "float32"
    """Activations: ``float32`` or ``bfloat16``. Parameters, statistics and relay states stay in float32."""
    norm: DNRSpec = dataclasses.field(default_factory=DNRSpec)
    slowfast: SlowFastConfig = dataclasses.field(default_factory=SlowFastConfig)
    tdn: TDNConfig = dataclasses.field(default_factory=TDNConfig)

    @property
    def interlacing(self) -> tuple[float, int]:
        """Share of the channels that each neighbouring frame gives, and in the first of how many blocks."""
        shifted = self.name == "tsm"
        interlaced = shifted or (self.name in ("tsn", "bninception") and self.interlace)
        every = self.interlace_every or (2 if shifted and self.depth >= 101 else 1)
        return self.interlace_fraction if interlaced else 0.0, every


@dataclasses.dataclass
class RandAugmentConfig:
    """RandAugment of the training clips, in the notation of timm ``rand-m{magnitude}-n{layers}-mstd{std}-inc1``."""

    layers: int = 0
    """Operations drawn for a clip (PySlowFast: 4); 0: off."""
    magnitude: float = 7.0
    """Mean of their strengths, from 0 to 10."""
    magnitude_std: float = 0.5
    """Standard deviation of the strengths."""
    probability: float = 0.5
    """Share of the drawn operations that are applied."""


@dataclasses.dataclass
class DataConfig(_ExpandsPaths):
    """Where the videos are, which frames are read, and what is done to them."""

    PATHS = ("root", "annotations", "train_list", "val_list", "label_map", "cache_dir")
    source: str = "list"
    """``list``: annotation files with ``path label`` lines; ``folder``: one folder a class; ``dataset``: a public data
    set as it is on the disk; ``records``: what ``dnr prepare`` wrote; ``demo``: generated."""
    root: str = ""
    """Folder of the videos: for ``list`` the one that paths are relative to; for ``folder`` it holds ``train/`` and
    ``val/``; for ``records`` the prepared data set."""
    dataset: str = ""
    """For ``dataset``: its name, such as ``kinetics400`` or ``ucf101``."""
    annotations: str = ""
    """For ``dataset``: the folder of the annotation files; empty: looked for in ``root``."""
    fold: int = 1
    """For ``dataset``: which of the three official divisions of UCF101 and HMDB51."""
    train_list: str = ""
    val_list: str = ""
    label_map: str = ""
    """Optional file of the classes, such as one name a line in the order of the labels; docs/data.md tells formats."""
    cache_dir: str = ""
    """Where the demo's videos are kept; empty: the user's cache folder."""
    demo_train_videos: int = 480
    demo_val_videos: int = 120
    num_frames: int = 8
    """Frames of a clip, T."""
    sampling: str = "dense"
    """``dense``: ``num_frames`` frames ``frame_interval`` apart from a random start;
    ``segments``: one frame from each of ``num_frames`` equal segments (TSN);
    ``window``: the same from ``window`` frames of the video (MMAction2's DenseSampleFrames);
    ``linspace``: ``num_frames`` frames spread over ``num_frames * frame_interval``, both ends included (PySlowFast)."""
    frame_interval: int = 8
    target_fps: float = 0.0
    """``linspace``: the rate at which ``frame_interval`` counts frames, whatever a video's own (PySlowFast: 30); 0: in
    the video's frames."""
    frames_per_segment: int = 1
    """``segments``: consecutive frames from each segment (TDN: 5); a clip has ``num_frames`` times as many."""
    window: int = 64
    """``window``: frames of the video in which a clip lies."""
    temporal_jitter: bool = False
    """``dense``, in training: move each frame by a random part of the interval."""
    out_of_bound: str = "loop"
    """``dense``: what follows the end of a short video: its start (``loop``) or its last frame (``repeat_last``)."""
    short_side: int = 256
    """Frames are resized so that their shorter side has this many pixels; 0 keeps their size."""
    crop_size: int = 224
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
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    channel_order: str = "rgb"
    """Order of colours in ``mean``, ``std`` and for the network: ``rgb``, or ``bgr`` for weights that Caffe trained."""
    num_threads: int = 0
    """Decoding threads a process (or a worker); 0: one a core (the workers share the cores), at most 16."""
    num_workers: int = 0
    """Worker processes; 0: threads only; -1: one for every 8 cores where there are at least 16, otherwise none."""
    max_failures: float = 0.1
    """The run ends when more than this share of the videos read so far could not be decoded."""

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Shape of a training clip: ``(T, H, W, 3)``; T counts the frames of all segments."""
        return self.num_frames * self.frames_per_segment, self.crop_size, self.crop_size, 3


@dataclasses.dataclass
class OptimizerConfig:
    """SGD with momentum, as in the authors' configuration."""

    learning_rate: float = 0.1
    """At ``base_batch_size``; scaled linearly with the batch."""
    base_batch_size: int = 64
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_norm_and_bias: bool = True
    """Decay the norms' parameters and the biases too, as the authors' configuration does."""
    clip_norm: float = 40.0
    """Largest global norm of the gradient; 0 switches clipping off."""
    schedule: str = "cosine"
    """``cosine`` (to 0 at the end) or ``constant``."""
    warmup_steps: int = 0
    warmup_ratio: float = 0.01
    """The warm-up starts at this share of the learning rate."""


@dataclasses.dataclass
class TrainConfig:
    """The loop."""

    batch_size: int = 64
    """Clips a step, over all devices and processes."""
    epochs: float = 196.0
    steps: int = 0
    """Length in steps; 0: as ``epochs`` says."""
    label_smoothing: float = 0.0
    mixup: float = 0.0
    """Mixup: both parameters of the Beta distribution of the shares (PySlowFast: 0.8, MMAction2: 0.2); 0: off."""
    cutmix: float = 0.0
    """CutMix: the same (PySlowFast: 1, MMAction2: 0.2); 0: off."""
    cutmix_probability: float = 0.5
    """Where both are on: share of the batches that are mixed by CutMix."""
    mix_probability: float = 1.0
    """Share of the batches that are mixed."""
    precise_statistics: int = 0
    """Batches from which running statistics are estimated anew before each evaluation (PySlowFast: 200); 0: none."""
    seed: int = 0
    log_every: int = 20
    eval_every: int = 0
    """Steps between evaluations; 0: once an epoch."""
    checkpoint_every: int = 0
    """Steps between checkpoints; 0: with each evaluation."""


@dataclasses.dataclass
class EvaluationConfig:
    """How a video is scored."""

    batch_size: int = 0
    """Videos a step, rounded up to a multiple of the devices; 0: the training batch."""
    clips: int = 1
    """Clips in time, evenly spaced (10 in the paper's Kinetics protocol)."""
    twice_sample: bool = False
    """Twice as many clips; with ``data.sampling`` ``segments``, the others begin where the segments do (TSM)."""
    crops: int = 1
    """Crops a clip: 1 (centre), 3 (along the longer side) or 10 (corners and centre, and their mirror images)."""
    crop_size: int = 0
    """0: as in training (256 in the paper's Kinetics protocol)."""
    average: str = "probability"
    """What is averaged over the views: ``probability`` (MMAction2) or ``logit`` (the authors' code)."""

    @property
    def num_clips(self) -> int:
        """Clips of a video, with those of ``twice_sample``."""
        return self.clips * (2 if self.twice_sample else 1)


@dataclasses.dataclass
class InitConfig:
    """How the weights of ``init_from`` become the network's."""

    naming: str = ""
    """Code base that the weights are from: a name in :data:`dnr_jax.convert.NAMINGS`; empty: recognised."""
    checkpoint: str = "latest"
    """``latest`` or ``best``, where ``init_from`` is the work directory of a run."""
    allow: str = ""
    """What may differ and then starts anew, in a list such as ``head,relays``: names in
    :data:`dnr_jax.convert.GROUPS`, and patterns of our paths or of the source's names. Everything else has to fit."""
    relays: str = "fresh"
    """Relays that the source does not have: ``fresh`` (the authors' initialisation), or ``batch_norm``: at the scales
    and shifts of the batch normalisation that they replace, as near as the form of the network allows."""


@dataclasses.dataclass
class ExperimentConfig(_ExpandsPaths):
    """Everything a run depends on."""

    PATHS = ("init_from",)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
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
      variant: ``dnr`` or empty (as configured, with interlacing), ``bn`` (batch normalisation, no interlacing),
        ``bn_interlace`` or ``dnr_no_interlace``.

    Returns:
      ``config``.

    Raises:
      ConfigError: for another variant.
    """
    variant = variant or "dnr"
    if variant not in VARIANTS:
        raise ConfigError(f"no variant {variant!r}{_nearest(variant, VARIANTS)}. Variants: {', '.join(VARIANTS)}")
    if variant.startswith("bn"):
        config.model.norm = config.model.norm.counterpart()
    config.model.interlace = variant in ("dnr", "bn_interlace")
    return config


def single_view(evaluation: EvaluationConfig) -> EvaluationConfig:
    """Return the setting of the evaluations during training: one clip and one centre crop of the training size."""
    return dataclasses.replace(evaluation, clips=1, twice_sample=False, crops=1, crop_size=0)


def with_views(evaluation: EvaluationConfig, views: tuple[int, int] | None) -> EvaluationConfig:
    """Return the setting with another number of ``(clips, crops)``, or the same where that is None."""
    return dataclasses.replace(evaluation, clips=views[0], crops=views[1]) if views else evaluation


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a (nested) config dataclass by their dotted names, in the order of the fields."""
    leaves = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = f"{prefix}{field.name}"
        leaves.update(flatten(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value})
    return leaves


def to_json(config: ExperimentConfig) -> str:
    """Return the config as indented JSON; :func:`from_json` reads it back."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> ExperimentConfig:
    """Read what :func:`to_json` wrote. Fields that are not there keep their defaults.

    Raises:
      ConfigError: for a field that does not exist or a value of the wrong type, naming all of them.
    """
    config = _from_dict(ExperimentConfig, json.loads(text), "")
    if problems := list(_type_problems(config)):
        raise ConfigError("\n".join(problems))
    return config


def _from_dict(kind: Any, values: dict[str, Any], prefix: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := [name for name in values if name not in fields]:
        raise ConfigError("\n".join(_unknown_field(prefix + name, name, kind, prefix) for name in unknown))
    converted = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(fields[name].type):
            value = _from_dict(fields[name].type, value, f"{prefix}{name}.")
        elif isinstance(value, list):
            value = tuple(value)
        converted[name] = value
    section = kind()
    for name, value in converted.items():
        setattr(section, name, value)  # unchecked as yet
    return section


# Validation

_CHOICES: dict[str, tuple[Any, ...]] = {
    "init.checkpoint": ("latest", "best"),
    "init.relays": ("fresh", "batch_norm"),
    "model.name": ("tsn", "bninception", "tsm", "tanet", "tdn", "r2plus1d", "slowfast"),
    "model.depth": DEPTHS,
    "model.stem": ("imagenet", "small"),
    "model.dtype": ("float32", "bfloat16"),
    "model.remat": ("none", "block", "stage"),
    "model.slowfast.slow_frames": ("stride", "linspace"),
    "model.slowfast.fast_depth": (0, *DEPTHS),
    "model.slowfast.block": ("", "basic", "bottleneck"),
    "model.slowfast.head_order": ("fast_slow", "slow_fast"),
    "data.source": ("list", "folder", "dataset", "records", "demo"),
    "data.sampling": SAMPLING,
    "data.out_of_bound": ("loop", "repeat_last"),
    "data.channel_order": ("rgb", "bgr"),
    "optimizer.schedule": ("cosine", "constant"),
    "evaluation.crops": (1, 3, 10),
    "evaluation.average": ("probability", "logit"),
}
_AT_LEAST: dict[str, float] = {
    "model.width": 1,
    "model.cardinality": 1,
    "model.base_width": 1,
    "model.num_classes": 0,
    "model.interlace_every": 0,
    "model.tdn.frames_per_segment": 3,
    "model.slowfast.alpha": 1,
    "model.slowfast.resample_rate": 0,
    "model.slowfast.beta_inv": 1,
    "model.slowfast.fusion_kernel": 1,
    "model.slowfast.fusion_ratio": 1,
    "data.demo_train_videos": 1,
    "data.demo_val_videos": 1,
    "data.fold": 1,
    "data.num_frames": 1,
    "data.frame_interval": 1,
    "data.target_fps": 0,
    "data.frames_per_segment": 1,
    "data.window": 1,
    "data.rand_augment.layers": 0,
    "data.rand_augment.magnitude_std": 0,
    "data.short_side": 0,
    "data.crop_size": 1,
    "data.num_threads": 0,
    "data.num_workers": -1,
    "optimizer.base_batch_size": 1,
    "optimizer.weight_decay": 0,
    "optimizer.clip_norm": 0,
    "optimizer.warmup_steps": 0,
    "train.batch_size": 1,
    "train.steps": 0,
    "train.mixup": 0,
    "train.cutmix": 0,
    "train.precise_statistics": 0,
    "train.log_every": 1,
    "train.eval_every": 0,
    "train.checkpoint_every": 0,
    "train.seed": 0,
    "evaluation.batch_size": 0,
    "evaluation.clips": 1,
    "evaluation.crop_size": 0,
}
_INTERVALS: dict[str, str] = {
    "model.dropout": "[0, 1)",
    "model.tdn.appearance": "[0, 1]",
    "model.interlace_fraction": "[0, 0.5]",
    "data.max_failures": "[0, 1]",
    "data.rand_augment.magnitude": "[0, 10]",
    "data.rand_augment.probability": "[0, 1]",
    "optimizer.momentum": "[0, 1)",
    "optimizer.warmup_ratio": "(0, 1]",
    "train.label_smoothing": "[0, 1)",
    "train.cutmix_probability": "[0, 1]",
    "train.mix_probability": "[0, 1]",
}


def validate(config: ExperimentConfig, num_devices: int = 1, num_processes: int = 1) -> None:
    """Check everything that can be checked before the data is read and anything is compiled.

    Args:
      config: the experiment.
      num_devices: devices of all processes, over which a batch is divided.
      num_processes: processes, each of which reads its share of a batch.

    Raises:
      ConfigError: all problems, one a line: the field, what is wrong, what would be right.
    """
    problems = list(_type_problems(config)) or [
        *_network_problems(config),
        *_init_problems(config),
        *_length_problems(config),
        *_batch_problems(config, num_devices, num_processes),
        *_path_problems(config.data),
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def validate_network(config: ExperimentConfig) -> None:
    """Check what a network is built from, and nothing that only training needs.

    Raises:
      ConfigError: as :func:`validate` does.
    """
    if problems := list(_type_problems(config)) or list(_network_problems(config)):
        raise ConfigError("\n".join(problems))


def _network_problems(config: ExperimentConfig) -> Iterator[str]:
    """Find values out of range. They compare numbers, and would stumble over a value of another type."""
    yield from _value_problems(config)
    yield from _norm_problems(config)
    yield from _block_problems(config.model)
    yield from _slowfast_problems(config)
    yield from _bninception_problems(config)
    yield from _tdn_problems(config)
    yield from _frame_problems(config)
    yield from _sampling_problems(config.data)
    yield from _augmentation_problems(config.data)


def _type_problems(config: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(field.type):
            if isinstance(value, typing.cast(type, field.type)):
                yield from _type_problems(value, f"{name}.")
            else:
                yield f"{name}: is {value!r}; expected a section with fields"
        elif typing.get_origin(field.type) in (typing.Annotated, typing.Literal):
            continue  # checked with its bounds and choices
        elif not _has_type(value, field.type):
            yield f"{name}: is {value!r}; expected {_describe(field.type)}"


def _has_type(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_has_type, value, parts))
    # A bool is an int in Python, but not where somebody meant a number.
    return type(value) in ((int, float) if kind is float else (kind,))


def _describe(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind) or f"{len(typing.get_args(kind))} numbers, such as (1.0, 2.0, 3.0)"


def _value_problems(config: ExperimentConfig) -> Iterator[str]:
    values = flatten(config)
    for name, choices in _CHOICES.items():
        if values[name] not in choices:
            nearest = _nearest(str(values[name]), [str(choice) for choice in choices])
            yield f"{name}: is {values[name]!r}{nearest}; expected one of {', '.join(map(str, choices))}"
    for name, least in _AT_LEAST.items():
        if not values[name] >= least:
            yield f"{name}: is {values[name]}; expected at least {least}"
    for name, interval in _INTERVALS.items():
        if not _inside(values[name], interval):
            yield f"{name}: is {values[name]}; expected a number in {interval}"
    if not config.optimizer.learning_rate > 0:
        yield f"optimizer.learning_rate: is {config.optimizer.learning_rate}; expected a positive number"
    if config.optimizer.nesterov and not config.optimizer.momentum:
        yield "optimizer.nesterov: needs optimizer.momentum above 0"
    fraction, every = config.model.interlacing
    if config.model.scan_blocks and fraction and every > 1:
        yield "model.interlace_every: must be 1 with model.scan_blocks, under which the blocks of a stage are alike"
    if config.model.scan_blocks and config.model.name == "slowfast" and any(config.model.slowfast.temporal_blocks):
        yield "model.slowfast.temporal_blocks: must be 0 with model.scan_blocks, under which the blocks are alike"
    if min(config.data.std) <= 0:
        yield f"data.std: is {config.data.std}; expected positive numbers"


def _inside(value: float, interval: str) -> bool:
    low, high = ast.literal_eval(f"({interval[1:-1]})")
    return (low < value < high) or (value == low and interval[0] == "[") or (value == high and interval[-1] == "]")


def _norm_problems(config: ExperimentConfig) -> Iterator[str]:
    yield from typed_fields.problems(config.model.norm, "model.norm.")


def _init_problems(config: ExperimentConfig) -> Iterator[str]:
    if not config.init_from:
        for name, value in flatten(config.init).items():
            if value != getattr(InitConfig, name):
                yield f"init.{name}: is {value!r}, but there is no init_from whose weights it is about"


def _length_problems(config: ExperimentConfig) -> Iterator[str]:
    if not config.train.steps and not config.train.epochs > 0:
        yield f"train.epochs: is {config.train.epochs}; expected a positive number, or a length in train.steps"


def _block_problems(model: ModelConfig) -> Iterator[str]:
    for field, plain in (("cardinality", 1), ("base_width", 64)):
        value = getattr(model, field)
        if value == plain or value < 1:
            continue
        if model.name in ("r2plus1d", "slowfast"):
            yield f"model.{field}: is {value}; expected {plain} in {model.name}"
        elif model.depth < 50:
            yield f"model.{field}: is {value}; expected {plain} below 50 layers, where blocks have no bottleneck"
    if model.name == "tanet":
        if model.depth < 50:
            yield f"model.depth: is {model.depth}; expected 50, 101 or 152 in tanet, whose blocks are bottlenecks"
        if 0 < model.width < 4:
            yield f"model.width: is {model.width}; expected at least 4 in tanet, whose local branch has a quarter"
    if 0 < model.width * model.base_width < 64:
        least = -(-64 // model.width)
        yield f"model.base_width: is {model.base_width}; expected at least {least} with model.width {model.width}"


def _slowfast_problems(config: ExperimentConfig) -> Iterator[str]:
    slowfast = config.model.slowfast
    if min(slowfast.temporal_blocks) < 0:
        yield f"model.slowfast.temporal_blocks: is {slowfast.temporal_blocks}; expected at least 0"
    if config.model.name != "slowfast" or min(slowfast.alpha, slowfast.fusion_kernel, slowfast.beta_inv) < 1:
        return
    rate = slowfast.resample_rate or slowfast.alpha
    if rate % slowfast.alpha:
        yield f"model.slowfast.resample_rate: is {rate}; expected a multiple of alpha, which is {slowfast.alpha}"
    if config.data.num_frames % rate:
        yield (
            f"data.num_frames: is {config.data.num_frames}; expected a multiple of {rate}, "
            "of which the slow pathway takes one"
        )
    if slowfast.fusion_kernel % 2 == 0:
        yield f"model.slowfast.fusion_kernel: is {slowfast.fusion_kernel}; expected an odd number"
    if config.model.width % slowfast.beta_inv:
        yield f"model.width: is {config.model.width}; expected a multiple of beta_inv, which is {slowfast.beta_inv}"


def _bninception_problems(config: ExperimentConfig) -> Iterator[str]:
    if config.model.name != "bninception":
        return
    # Convolution and poolings of the stem round up and down before the blocks halve what has to be even.
    multiple, less, more = (8, 0, 1) if config.model.stem == "small" else (32, 1, 6)
    for name, size in (("data", config.data.crop_size), ("evaluation", config.evaluation.crop_size)):
        if size and (size + less < multiple or (size + less) % multiple > less + more):
            yield (
                f"{name}.crop_size: is {size}; expected a multiple of {multiple}, or at most {less} less or {more} "
                "more, which BNInception can halve"
            )


def _tdn_problems(config: ExperimentConfig) -> Iterator[str]:
    frames, data = config.model.tdn.frames_per_segment, config.data
    if config.model.name != "tdn" or frames < 3:
        return
    if frames % 2 == 0:
        yield f"model.tdn.frames_per_segment: is {frames}; expected an odd number, which has one in the middle"
    if data.clip_shape[0] % frames:
        yield (
            f"data.num_frames: {data.clip_shape[0]} frames of a clip cannot be divided into TDN's segments of {frames} "
            f"frames; set data.sampling to 'segments' and data.frames_per_segment to {frames}"
        )
    least = 9 if config.model.stem == "small" else 33
    for name, size in (("data", data.crop_size), ("evaluation", config.evaluation.crop_size)):
        if 0 < size < least:
            yield f"{name}.crop_size: is {size}; expected at least {least}, which TDN can halve often enough"


def _relayed_frames(config: ExperimentConfig) -> int:
    """Return the frames over which the relay distance is counted: SlowFast's slow pathway's, one a segment in TDN."""
    slowfast, tdn = config.model.slowfast, config.model.tdn
    rates = {"slowfast": slowfast.resample_rate or slowfast.alpha, "tdn": tdn.frames_per_segment}
    rate = max(rates.get(config.model.name, 1), 1)
    return config.data.clip_shape[0] // rate


def _frame_problems(config: ExperimentConfig) -> Iterator[str]:
    norm, data, num_frames = config.model.norm, config.data, _relayed_frames(config)
    if "ct" in (norm.norm1, norm.norm2, norm.norm3) and num_frames > 0 and not list(_norm_problems(config)):
        try:
            norm.spec().norm("ct").groups(num_frames)
        except ValueError as error:
            yield f"model.norm.{'num_groups' if norm.num_groups else 'relay_distance'}: {error}"
    for name, size in (("data", data.crop_size), ("evaluation", config.evaluation.crop_size)):
        if 0 < data.short_side < size:
            yield f"{name}.crop_size: is {size}; expected at most data.short_side, which is {data.short_side}"


def _sampling_problems(data: DataConfig) -> Iterator[str]:
    for name, default, sampling in (
        ("frames_per_segment", 1, "segments"),
        ("temporal_jitter", False, "dense"),
        ("out_of_bound", "loop", "dense"),
        ("target_fps", 0.0, "linspace"),
    ):
        value = getattr(data, name)
        if value != default and data.sampling != sampling:
            yield f"data.{name}: is {value!r}, which needs data.sampling '{sampling}', and that is {data.sampling!r}"
    if data.sampling == "window" and data.window < data.num_frames:
        yield f"data.window: is {data.window}; expected at least data.num_frames, which is {data.num_frames}"


def _augmentation_problems(data: DataConfig) -> Iterator[str]:
    for name, limit in (("random_resized_area", 1.0), ("random_resized_aspect", math.inf)):
        low, high = getattr(data, name)
        if not 0 < low <= high <= limit:
            within = f"of at most {limit:g}" if limit < math.inf else "above 0"
            yield f"data.{name}: is {(low, high)}; expected a smaller and a larger number {within}"
    *factors, hue = data.color_jitter
    if not (0 <= min(factors) and max(factors) <= 1 and 0 <= hue <= 0.5):
        yield f"data.color_jitter: is {data.color_jitter}; expected numbers in [0, 1], and the last in [0, 0.5]"


def _batch_problems(config: ExperimentConfig, num_devices: int, num_processes: int) -> Iterator[str]:
    # Evaluation pads its batches, so its batch size is free.
    size = config.train.batch_size
    clips = 0 if list(_norm_problems(config)) else config.model.norm.clips_per_statistics
    if size % num_devices or size % num_processes:
        smaller = size - size % num_devices
        nearest = f"{smaller} or {smaller + num_devices}" if smaller else f"{num_devices}"
        yield (
            f"train.batch_size: {size} clips cannot be divided over {num_devices} devices of {num_processes} "
            f"processes; the nearest that can: {nearest}"
        )
    if clips > 0 and size % clips:
        yield f"model.norm.clips_per_statistics: {clips} does not divide train.batch_size, which is {size}"


def _path_problems(data: DataConfig) -> Iterator[str]:
    if data.source == "list":
        for name in ("train_list", "val_list"):
            path = getattr(data, name)
            if not path:
                yield f"data.{name}: is empty; data.source 'list' needs an annotation file with 'path label' lines"
            elif not epath.Path(path).is_file():
                yield f"data.{name}: {missing_path('file', path)}"
        if data.root and not epath.Path(data.root).is_dir():
            yield f"data.root: {missing_path('folder', data.root)}; the lists' paths are relative to it"
        if data.label_map and not epath.Path(data.label_map).is_file():
            yield f"data.label_map: {missing_path('file', data.label_map)}"
    if data.source in ("dataset", "records"):
        if not data.root:
            yield f"data.root: is empty; data.source '{data.source}' needs the folder of the data set"
        elif not epath.Path(data.root).is_dir():
            yield f"data.root: {missing_path('folder', data.root)}"
        if data.annotations and not epath.Path(data.annotations).is_dir():
            yield f"data.annotations: {missing_path('folder', data.annotations)}"
    if data.source == "dataset" and not data.dataset:
        yield "data.dataset: is empty; data.source 'dataset' needs a name, such as 'kinetics400'"
    if data.source == "folder":
        if problem := folder_problem(data.root):
            yield f"data.root: {problem}"


def folder_problem(root: str) -> str:
    """Return what a folder of videos lacks, and what can be done with what it holds; empty where it lacks nothing."""
    if not root:
        return "is empty; data.source 'folder' needs a folder with train/<class> and val/<class>"
    if not epath.Path(root).is_dir():
        return f"{missing_path('folder', root)}; expected one with train/<class> and val/<class>"
    missing = [split for split in ("train", "val") if not (epath.Path(root) / split).is_dir()]
    if not missing:
        return ""
    folders = " and ".join(f"'{root}/{split}'" for split in missing)
    return f"there is no folder {folders}; expected <class>/<video> in it. {_offer(root, missing)}"


_SPLIT_NAMES = {"train": ("training", "trainset"), "val": ("valid", "validation", "test", "testing", "eval")}


def _offer(root: str, missing: Sequence[str]) -> str:
    """Say what a folder without ``train/`` or ``val/`` holds, and how to train on that."""
    children = sorted(child for child in epath.Path(root).iterdir() if not child.name.startswith((".", "@", "__")))
    folders = [child.name for child in children if child.is_dir()]
    lists = [child.name for child in children if child.suffix in (".txt", ".csv") and not child.is_dir()]
    for split in missing:
        if alike := [name for name in folders if name.lower() in (split, *_SPLIT_NAMES[split])]:
            return f"It holds '{alike[0]}': rename that to '{split}'"
    if found := [f"{root}/{name}" for split in ("train", "val") for name in lists if split in name]:
        flags_of = " ".join(f"--config.data.{'train' if 'train' in f else 'val'}_list={f}" for f in found[:2])
        return f"It holds lists: --config.data.source=list {flags_of} trains on them"
    if any(
        next(epath.Path(root).glob(f"{depth}dataset_info.json"), None)
        for depth in ("", "*/", "*/*/")[: 4 - len(folders)]
    ):
        return "It holds records of 'dnr prepare': --config=configs/prepared.py trains on them"
    if missing == ["val"]:
        return f"Move about a fifth of the videos of each class from {root}/train/<class> to {root}/val/<class>"
    if folders:
        shown = f"{', '.join(folders[:3])}{', ...' if len(folders) > 3 else ''}"
        return (
            f"It holds {len(folders)} folders ({shown}): if these are classes, move about a fifth of the videos of "
            f"each to {root}/val/<class> and the others to {root}/train/<class>; keep videos of one scene together"
        )
    what = f"{len(children)} files and no folder" if children else "nothing"
    return f"It holds {what}; 'dnr prepare' reads public data sets as they were unpacked"


# The command line

_OVERRIDE = re.compile(r"--?(?P<negated>no)?config\.(?P<name>[^=]+)(=(?P<value>.*))?", re.DOTALL)
_PARSERS: dict[Any, flags.ArgumentParser] = {
    int: flags.IntegerParser(),
    float: flags.FloatParser(),
    bool: flags.BooleanParser(),
    str: flags.ArgumentParser(),
}


def check_overrides(argv: Sequence[str], config: ExperimentConfig) -> None:
    """Check arguments ``--config.section.field=value`` against the config that they change.

    ``ml_collections`` refuses the same arguments with a traceback; here the answer is one line for each.

    Args:
      argv: command line; other arguments are ignored.
      config: what the fields are looked up in; not changed.

    Raises:
      ConfigError: for a field that does not exist, with the nearest name and the section's fields, or for a value
        that its field cannot take.
    """
    problems = []
    for argument, following in zip(argv, [*argv, None][1:], strict=True):
        if match := _OVERRIDE.fullmatch(argument):
            try:
                kind = _field_type(config, match["name"])
                _check_value(match, kind, following)
            except ConfigError as error:
                problems.append(f"{argument.partition('=')[0]}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))


def _field_type(config: Any, name: str) -> Any:
    """Return the type of the field with a dotted name."""
    section, prefix = config, ""
    *parents, last = name.split(".")
    for part in parents:
        if not dataclasses.is_dataclass(getattr(section, part, None)):
            raise ConfigError(_unknown_field(name, part, section, prefix))
        section, prefix = getattr(section, part), f"{prefix}{part}."
    types = {field.name: field.type for field in dataclasses.fields(section)}
    if last not in types:
        raise ConfigError(_unknown_field(name, last, section, prefix))
    if dataclasses.is_dataclass(types[last]):
        fields = ", ".join(flatten(getattr(section, last)))
        raise ConfigError(f"{name} is a section; set one of its fields: {fields}")
    kind, _ = typed_fields.split(types[last])
    return str if typing.get_origin(kind) is typing.Literal else kind


def _check_value(match: re.Match[str], kind: Any, following: str | None) -> None:
    """Raise unless the value of an override, which may stand in the argument ``following`` it, is of type ``kind``."""
    if kind is bool and match["value"] is None:
        return  # --config.data.flip and --noconfig.data.flip
    text = following if match["value"] is None else match["value"]
    expected = f"expected {_describe(kind)}"
    if match["negated"] or text is None:
        raise ConfigError(f"has no value; {expected}")
    try:
        value = _PARSERS[kind].parse(text) if kind in _PARSERS else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ConfigError(f"{text!r} does not fit; {expected}") from None
    if kind not in _PARSERS and not _has_type(value, kind):
        raise ConfigError(f"{text!r} does not fit; {expected}")


def _unknown_field(full_name: str, part: str, section: Any, prefix: str) -> str:
    names = [field.name for field in dataclasses.fields(section)]
    where = f"section {prefix[:-1]!r}" if prefix else "the config"
    suggestion = _nearest(part, names) or _nearest_leaf(full_name)
    return f"no field {full_name!r}{suggestion}. Fields of {where}: {', '.join(names)}"


def _nearest_leaf(name: str) -> str:
    """Suggest a field of another section, for a name without its section or in the wrong one."""
    last = name.rpartition(".")[2]
    leaves = {leaf.rpartition(".")[2]: leaf for leaf in flatten(ExperimentConfig())}
    found = difflib.get_close_matches(last, leaves, n=1)
    return f" (did you mean {leaves[found[0]]!r}?)" if found else ""


def _nearest(name: str, candidates: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, candidates, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def unknown_flag(name: str, known: Sequence[str]) -> str:
    """Say that there is no flag ``--name``, and which of those ``known``, or which field, may have been meant."""
    plain = name.replace("-", "_")
    leaves = [leaf for leaf in flatten(ExperimentConfig()) if f".{leaf}".endswith(f".{plain}")]
    found = [f"config.{leaves[0]}"] if leaves else difflib.get_close_matches(plain, known, n=1)
    if found:
        suggestion = f" (did you mean --{found[0]}?)"
    else:
        suggestion = _nearest_leaf(plain).replace("'", "").replace("mean ", "mean --config.")
    flags_there = ", ".join(f"--{flag}" for flag in known)
    return f"there is no flag --{name}{suggestion}. Flags: {flags_there}, and --config.FIELD of the configuration"


def split_config_path(path: str) -> tuple[str, str | None]:
    """Return file and argument of ``file.py:argument``; the argument is None where there is no colon."""
    if ".py:" in path:
        file, _, argument = path.partition(".py:")
        return f"{file}.py", argument
    if os.path.exists(path) or ":" not in path:
        return path, None
    file, _, argument = path.partition(":")
    return file, argument


def find_config(path: str, folder: pathlib.Path = pathlib.Path()) -> str:
    """Return the path of the config file that a person means, with its argument.

    Args:
      path: ``file.py`` or ``file.py:argument``, in the working directory or in ``folder``; the suffix and the folder
        ``configs`` may be left out: ``demo``.
      folder: where a relative path is looked for when the working directory does not have it.

    Returns:
      The path, with ``:argument`` where one is given.

    Raises:
      ConfigError: where there is no such file; the message names what there is.
    """
    if not path:
        raise ConfigError("--config is empty; expected a config file, such as configs/demo.py")
    file, argument = split_config_path(expand_path(path))
    suffixes = ("",) if file.endswith(".py") else ("", ".py")
    forms = [f"{place}{file}{suffix}" for place in ("", "configs/") for suffix in suffixes]
    candidates = [base / form for base in (pathlib.Path(), folder) for form in forms]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate) if argument is None else f"{candidate}:{argument}"
    raise ConfigError(_no_config(file, candidates, folder))


def _no_config(file: str, candidates: Sequence[pathlib.Path], folder: pathlib.Path) -> str:
    """Say what is wrong with the name of a config file, and which ones there are."""
    folders = [candidate for candidate in candidates if candidate.is_dir()]
    places = folders[:1] or [*(candidate.parent for candidate in candidates), folder / "configs"]
    there = {child.stem: child for place in reversed(places) for child in sorted(place.glob("*.py"))}
    configs = f". Config files: {', '.join(sorted(map(str, there.values())))}" if there else ""
    if folders:
        return f"{file!r} is a folder; expected a config file{configs}"
    found = difflib.get_close_matches(pathlib.Path(file).stem, there, n=1)
    nearest = f" (did you mean '{there[found[0]]}'?)" if found else ""
    return f"{missing_path('config file', file)}{nearest}{configs}"


def load_config(path: str) -> ExperimentConfig:
    """Return the config of a file in the form ``file.py`` or ``file.py:argument``; see :func:`find_config`.

    Raises:
      ConfigError: where the file does not exist, cannot be run, has no ``get_config`` that returns an
        :class:`ExperimentConfig`, or refuses the argument.
    """
    file, argument = split_config_path(find_config(path))
    if file.endswith(".json"):
        raise ConfigError(
            f"{file!r} is what a run saved; expected a config file in Python. One that repeats the run holds "
            f"'get_config = lambda: dnr_jax.config.from_json(open({file!r}).read())'"
        )
    module = _load_module(file)
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(f"config file {file!r} has no function get_config, which returns an ExperimentConfig")
    try:
        takes_none = argument is None and not inspect.signature(module.get_config).parameters
        config = module.get_config() if takes_none else module.get_config(argument or "")
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(_failure(file, error)) from error
    if not isinstance(config, ExperimentConfig):
        returned = "nothing" if config is None else f"a {type(config).__name__}"
        raise ConfigError(f"config file {file!r}: get_config returned {returned}; expected an ExperimentConfig")
    return config


def _load_module(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("config_config", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file!r} is no file in Python; expected a config file, such as configs/demo.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(_failure(file, error)) from error
    return module


def _failure(file: str, error: Exception) -> str:
    """Say where in a config file an error happened."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    what = error.msg if isinstance(error, SyntaxError) else error
    return f"config file {file!r}{f', line {line}' if line else ''}: {type(error).__name__}: {what}"


def check_command_line(argv: Sequence[str], default: str, folder: pathlib.Path) -> list[str]:
    """Check the config flags of a command line and make ``--config`` explicit.

    Args:
      argv: the command line, the program's name first.
      default: config file where no ``--config`` is given.
      folder: where a relative config file is looked for when the working directory does not have it.

    Returns:
      The command line with ``--config=file`` as its first argument.

    Raises:
      ConfigError: for a word that belongs to no flag, for a config file that cannot be loaded, and as
        :func:`check_overrides` does.
    """
    program, *arguments = argv
    paths, rest = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if re.fullmatch(r"--?config", argument):
            paths.append(next(remaining, ""))
        elif match := re.fullmatch(r"--?config=(.*)", argument, re.DOTALL):
            paths.append(match[1])
        else:
            rest.append(argument)
    if len(paths) > 1:
        raise ConfigError(f"--config is given {len(paths)} times; expected one config file: {', '.join(paths)}")
    path = find_config(paths[0] if paths else default, folder)
    config = load_config(path)
    check_overrides(rest, config)
    _register_parsers(config)
    for word in _loose_words(rest, config):
        raise ConfigError(_loose_word(word, folder))
    _register_parsers(config)
    return [program, f"--config={path}", *rest]


def _loose_words(argv: Sequence[str], config: ExperimentConfig) -> Iterator[str]:
    """Find the words that are no flags, and no values of flags either."""
    for before, word in zip(["", *argv], argv, strict=False):
        if not word.startswith("-") and not _takes_value(before, config):
            yield word


def _takes_value(argument: str, config: ExperimentConfig) -> bool:
    """Return whether the word behind an argument is its value."""
    name = argument.lstrip("-")
    if not argument.startswith("-") or "=" in argument:
        return False
    if match := _OVERRIDE.fullmatch(argument):
        return not match["negated"] and _field_type(config, match["name"]) is not bool
    return name not in flags.FLAGS or not flags.FLAGS[name].boolean


def _loose_word(word: str, folder: pathlib.Path) -> str:
    """Say what a word on the command line may have been meant for."""
    if word.lower() in ("true", "false"):
        return f"{word!r} belongs to no flag; write it behind the flag's name: --config.data.flip={word}"
    try:
        return (
            f"{word!r} belongs to no flag; did you mean --config={os.path.relpath(find_config(word, folder), folder)}?"
        )
    except ConfigError:
        return f"{word!r} belongs to no flag; expected --config=FILE.py[:ARGUMENT], --workdir=FOLDER, --help"


def _register_parsers(config: Any) -> None:
    """Tell ``ml_collections`` how texts become values of types with bounds and choices."""
    for field in dataclasses.fields(config):
        kind, bounds = typed_fields.split(field.type)
        if dataclasses.is_dataclass(kind):
            _register_parsers(getattr(config, field.name))
        elif typing.get_origin(kind) is typing.Literal:
            config_flags.register_flag_parser_for_type(field.type, flags.ArgumentParser())
        elif bounds:
            parser = _PARSERS[kind] if kind in _PARSERS else tuple_parser.TupleParser()
            config_flags.register_flag_parser_for_type(field.type, parser)
