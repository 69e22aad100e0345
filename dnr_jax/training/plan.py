"""What a run will need, told before it is launched: memory of a device, collectives, time, disk.

The step is compiled as a run compiles it, for as many devices as the run will have. The CPU simulates them, or they are
GPUs that are not there (:mod:`dnr_jax.training.target_gpus`). Nothing is computed.
"""

import copy
import dataclasses
import json
import math
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh

from dnr_jax.config import ConfigError, ExperimentConfig, VideoSource, flatten, single_view
from dnr_jax.evaluation.evaluate import views
from dnr_jax.models import create_model
from dnr_jax.runs.devices import along_batch, make_mesh, platform_of
from dnr_jax.runs.folder import METRICS_FILE, read_config, read_metrics
from dnr_jax.training.collectives import Collective, read_collectives
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import abstract_state
from dnr_jax.training.step import make_train_step
from dnr_jax.training.trainer import length_of

BATCHES_HELD = 4
"""Batches on the devices at a time: two that are read ahead, and those of two steps that are under way."""
CHECKPOINTS_HELD = 3
"""Checkpoints on the disk at a time: the latest, the best, and the one that is being written."""
_ROW = 1024
"""Bytes of a row on the disk, in ``metrics.jsonl`` and in TensorBoard's events together, at the most."""
_UNOPTIMIZED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Machine code that never runs need not be quick; the memory is laid out before it is made."""
_SAMPLED = 200


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that a training step needs of each device, by part.

    Attributes:
      parameters: of the network.
      statistics: running statistics.
      optimizer: what the optimizer keeps.
      average: average of the weights.
      batches: pixels and labels, of :data:`BATCHES_HELD` batches.
      temporaries: activations, gradients, gathered parameters, and whatever else the program holds at its peak.
    """

    parameters: int
    statistics: int
    optimizer: int
    average: int
    batches: int
    temporaries: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(dataclasses.astuple(self))

    @property
    def fixed(self) -> int:
        """What does not depend on the batch, beside what of the temporaries does not."""
        return self.total - self.batches - self.temporaries


@dataclasses.dataclass(frozen=True)
class Step:
    """What compiling a training step tells.

    Attributes:
      batch_size: clips of a step, over all devices.
      parameters: number of trained parameters.
      memory: of each device.
      checkpoint: bytes of the whole state, which a checkpoint holds.
      collectives: what the devices tell one another.
    """

    batch_size: int
    parameters: int
    memory: Memory
    checkpoint: int
    collectives: tuple[Collective, ...]


def simulated_devices(count: int) -> list[jax.Device]:
    """Return devices of the CPU, of which there can be any number as long as JAX has not been used.

    Raises:
      ConfigError: where JAX was used before with fewer.
    """
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX was used: it has the devices that it has
        pass
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise ConfigError(
            f"{count} devices cannot be simulated, because JAX was used before with {len(devices)}; plan at the start "
            "of a program"
        )
    return devices[:count]


def compile_step(config: ExperimentConfig, mesh: Mesh) -> Step:
    """Compile the training step of an experiment for the devices of a mesh, and return what it needs.

    Args:
      config: the experiment, with the number of classes.
      mesh: the devices, which need not be those that will compute.
    """
    model, size = create_model(config.model), config.train.batch_size
    schedule = make_schedule(config.optimizer, size, 1000)
    tx = make_optimizer(config.optimizer, schedule)
    state = abstract_state(model, tx, config.data.clip_shape, mesh, config.train.averaging is not None)
    batch = _abstract_batch(config, mesh)
    step = make_train_step(model, tx, schedule, config, mesh)
    options = _UNOPTIMIZED if platform_of(mesh) == "cpu" else None  # those of a GPU change what it holds
    compiled = step.lower(state, batch).compile(compiler_options=options)  # type: ignore[attr-defined]
    analysis = compiled.memory_analysis()
    copies = analysis.output_size_in_bytes - analysis.alias_size_in_bytes  # of results that take no input's place
    memory = Memory(
        parameters=_local(state.params),
        statistics=_local(state.batch_stats),
        optimizer=_local(state.opt_state),
        average=_local(state.average),
        batches=BATCHES_HELD * _local(batch),
        temporaries=analysis.temp_size_in_bytes + max(copies, 0),
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    whole = sum(_bytes(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state))
    return Step(size, parameters, memory, whole, tuple(read_collectives(compiled.as_text(), mesh.size)))


def _abstract_batch(config: ExperimentConfig, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    size, place = config.train.batch_size, along_batch(mesh)
    arrays = {
        "video": ((size, *config.data.clip_shape), jnp.uint8),
        "label": ((size,), jnp.int32),
        "weight": ((size,), jnp.float32),
    }
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=place) for name, (shape, dtype) in arrays.items()}


def _local(tree: Any) -> int:
    """Return the bytes of a tree on each device."""
    return sum(_bytes(leaf.sharding.shard_shape(leaf.shape), leaf.dtype) for leaf in jax.tree.leaves(tree))


def _bytes(shape: Sequence[int], dtype: Any) -> int:
    return math.prod(shape) * dtype.itemsize


def changed(config: ExperimentConfig, **fields: Any) -> ExperimentConfig:
    """Return an experiment with other values of fields, which are named as in ``train__steps=1``."""
    config = copy.deepcopy(config)
    for name, value in fields.items():
        section, _, field = name.partition("__")
        setattr(getattr(config, section), field, value)
    return config


def smallest_batch(config: ExperimentConfig, num_devices: int) -> int:
    """Return the smallest batch of an experiment on so many devices; all others are multiples of it."""
    parts, together = config.train.accumulate, config.model.norm.base.clips_shared or 1
    return math.lcm(num_devices * parts, parts * together)


def largest_batch(step: Step, other: Step, limit: int, unit: int) -> int:
    """Return the largest batch whose step needs at most ``limit`` bytes of a device; 0: none does.

    Args:
      step: a compiled step.
      other: the same of another batch: what it needs grows linearly from one to the other.
      limit: bytes.
      unit: batches are multiples of it.
    """
    slope, constant = _line(step, other)
    return max(math.floor((limit - constant) / (slope * unit)) * unit, 0)


def _line(step: Step, other: Step) -> tuple[float, float]:
    """Return the bytes a clip, at least one, and those of no clip."""
    slope = max((step.memory.total - other.memory.total) / (step.batch_size - other.batch_size), 1.0)
    return slope, step.memory.total - slope * step.batch_size


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A change of an experiment with which its step fits.

    Attributes:
      flags: that make it.
      memory: bytes of a device with it.
    """

    flags: str
    memory: int


def remedies(
    config: ExperimentConfig,
    devices: Sequence[jax.Device],
    limit: int,
    largest: int,
    compiled: Callable[[ExperimentConfig, Mesh], Step] = compile_step,
) -> list[Remedy]:
    """Return changes with each of which a step fits into ``limit`` bytes of a device; each is compiled.

    Args:
      config: an experiment whose step does not fit.
      devices: on which it runs.
      limit: bytes.
      largest: batch that was found to fit; 0: none.
      compiled: what compiles.
    """
    model, train = config.model, config.train
    candidates: list[dict[str, Any]] = []
    if largest:
        candidates.append({"train__batch_size": largest})
        if parts := _parts(config, len(devices), largest):
            candidates.append({"train__accumulate": parts})
    if model.remat == "none":
        candidates.append({"model__remat": "block"})
    if model.dtype == "float32":
        candidates.append({"model__dtype": "bfloat16"})
    if len(devices) > train.fsdp_devices:
        candidates.append({"train__fsdp_devices": len(devices)})
    together: dict[str, Any] = {}
    for candidate in candidates:
        together |= {name: value for name, value in candidate.items() if name != "train__batch_size"}
    found = [remedy for fields in candidates if (remedy := _tried(config, fields, devices, limit, compiled))]
    if not found and len(together) > 1:
        found += filter(None, [_tried(config, together, devices, limit, compiled)])
    return found


def _parts(config: ExperimentConfig, num_devices: int, largest: int) -> int:
    """Return the fewest parts of the batch of which each is at most ``largest``; 0: it cannot be cut so."""
    size, together = config.train.batch_size, config.model.norm.base.clips_shared or 1
    for parts in range(config.train.accumulate + 1, size + 1):
        if size % (parts * num_devices) == 0 and size % (parts * together) == 0 and size // parts <= largest:
            return parts
    return 0


def _tried(
    config: ExperimentConfig,
    fields: Mapping[str, Any],
    devices: Sequence[jax.Device],
    limit: int,
    compiled: Callable[[ExperimentConfig, Mesh], Step],
) -> Remedy | None:
    other = changed(config, **fields)
    memory = compiled(other, make_mesh(devices, other.train.fsdp_devices)).memory.total
    flags = " ".join(f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items())
    return Remedy(flags, memory) if memory <= limit else None


@dataclasses.dataclass(frozen=True)
class Length:
    """How long a run is.

    Attributes:
      training: number of training videos.
      validation: number of validation videos.
      steps_per_epoch: steps in which every training video is read once.
      steps: of the whole run.
      evaluations: during training.
      views: clips and crops of a video in the evaluation at the end; 0: that is the last one during training.
    """

    training: int
    validation: int
    steps_per_epoch: int
    steps: int
    evaluations: int
    views: int


def measure_length(config: ExperimentConfig, training: int, validation: int) -> Length:
    """Return the length of a run with so many training and validation videos."""
    per_epoch, steps = length_of(config, training)
    every = config.train.eval_every or per_epoch
    evaluation, size = config.evaluation, config.data.crop_size
    again = views(evaluation, size) != views(single_view(evaluation), size)
    at_end = evaluation.num_clips * evaluation.crops if again else 0
    return Length(training, validation, per_epoch, steps, steps // every + (steps % every > 0), at_end)


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast a run is.

    Attributes:
      step: seconds of a step, with its share of waiting for input.
      video: seconds of scoring a view of a validation video; None: not measured.
      start: seconds that a run took for its first row beyond the pace, mostly for compiling.
    """

    step: float
    video: float | None = None
    start: float = 0.0


def pace_of(workdir: pathlib.Path, config: ExperimentConfig) -> Pace:
    """Return the pace of a run of the same experiment, from its ``metrics.jsonl``.

    Raises:
      ConfigError: where the run is one of another network, other clips or another batch, or has too few rows.
    """
    theirs, ours = (
        {name: value for name, value in flatten(each).items() if name.startswith(_PACED) and name not in _UNPACED}
        for each in (read_config(workdir), config)
    )
    if different := [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]:
        name = different[0]
        raise ConfigError(
            f"--pace: '{workdir}' is a run with another pace: {name} is {theirs.get(name)!r} there, {ours.get(name)!r} "
            "here; --step-seconds says what a step takes"
        )
    rows = read_metrics(workdir / METRICS_FILE)
    seconds = _seconds_of_steps(rows)
    if len(seconds) < 2:
        raise ConfigError(f"--pace: '{workdir}' has no two rows of training yet, from which its pace could be told")
    step = statistics.median(value for value, _ in seconds[1:])
    (first, steps), scored = seconds[0], [row for row in rows if row["kind"] == "validation"]
    video = statistics.median(row["time"]["seconds"] / row["videos"] for row in scored) if scored else None
    return Pace(step, video, max(first - step, 0.0) * steps)


_PACED = ("model.", "data.sampler", "data.crop_size", "train.batch_size", "train.accumulate", "train.fsdp_devices")
"""Fields that the pace of a run depends on; how many devices there are does not stand in its configuration."""
_UNPACED = ("model.num_classes",)
"""Left to the data in one of them, perhaps, and of no account."""


def _seconds_of_steps(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, int]]:
    """Return the seconds of a step and the number of steps of each row of training."""
    found, before = [], 0
    for row in rows:
        if row["kind"] == "train":
            time, steps = row["time"], row["step"] - before
            before = row["step"]
            found.append(((time["seconds"] - time["evaluation"] - time["checkpoint"]) / steps, steps))
    return found


@dataclasses.dataclass(frozen=True)
class Time:
    """Seconds that a run takes.

    Attributes:
      epoch: of training, without evaluations.
      training: of all steps, and of compiling where that was measured.
      evaluation: of all evaluations, with that at the end.
    """

    epoch: float
    training: float
    evaluation: float

    @property
    def run(self) -> float:
        """The whole run."""
        return self.training + self.evaluation


def predict_time(config: ExperimentConfig, length: Length, pace: Pace) -> Time:
    """Return how long a run takes at a pace.

    Where the pace knows no evaluations, a view of a video takes a third of what a clip takes in training, whose
    backward pass takes two thirds.
    """
    video = pace.step / config.train.batch_size / 3 if pace.video is None else pace.video
    size = config.evaluation.crop_size or config.data.crop_size
    at_end = length.views * (size / config.data.crop_size) ** 2
    return Time(
        epoch=pace.step * length.steps_per_epoch,
        training=pace.step * length.steps + pace.start,
        evaluation=video * length.validation * (length.evaluations + at_end),
    )


@dataclasses.dataclass(frozen=True)
class Disk:
    """Bytes that a run takes.

    Attributes:
      checkpoint: one.
      checkpoints: as many as there are at a time, see :data:`CHECKPOINTS_HELD`.
      records: rows and scores.
      videos: all videos of the data, which prepared records take as well; None: not known.
    """

    checkpoint: int
    checkpoints: int
    records: int
    videos: int | None


def predict_disk(config: ExperimentConfig, step: Step, length: Length, videos: int | None) -> Disk:
    """Return what a run leaves on the disk; ``videos`` are the bytes of the data."""
    rows = -(-length.steps // config.train.log_every) + length.evaluations
    scores = 4 * length.validation * (config.model.num_classes + max(length.views, 1))
    return Disk(step.checkpoint, CHECKPOINTS_HELD * step.checkpoint, rows * _ROW + scores, videos)


def bytes_of(source: VideoSource) -> int | None:
    """Return the bytes of the videos of a source, estimated from some of them; None: they cannot be read."""
    shown = np.unique(np.linspace(0, len(source) - 1, min(len(source), _SAMPLED)).round().astype(int))
    try:
        return round(statistics.mean(_length_of(source.media(int(index))) for index in shown) * len(source))
    except OSError:
        return None


def _length_of(media: str | bytes) -> int:
    if isinstance(media, bytes):
        return len(media)
    path = epath.Path(media)
    return sum(frame.stat().length for frame in path.iterdir()) if path.is_dir() else path.stat().length


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will need.

    Attributes:
      devices: number of devices.
      fsdp_devices: over how many a state is sharded.
      step: what compiling the step told.
      limit: bytes of memory of a device; None: not given.
      largest_batch: that fits; None without a limit.
      length: of the run.
      time: at its pace; None: not given.
      disk: what it leaves.
      remedies: changes with each of which it fits, where it does not.
      gpu: for which the step was compiled; empty: for a CPU.
    """

    devices: int
    fsdp_devices: int
    step: Step
    limit: int | None
    largest_batch: int | None
    length: Length
    time: Time | None
    disk: Disk
    remedies: tuple[Remedy, ...] = ()
    gpu: str = ""

    @property
    def fits(self) -> bool:
        """Whether the step fits into the memory of a device, as far as that is given."""
        return self.limit is None or self.step.memory.total <= self.limit

    def as_json(self) -> str:
        """Return everything as a JSON object: bytes, seconds, numbers."""
        found = dataclasses.asdict(self) | {"fits": self.fits}
        found["step"]["memory"]["total"] = self.step.memory.total
        for entry, collective in zip(found["step"]["collectives"], self.step.collectives, strict=True):
            entry["sent"] = collective.sent
        if self.time:
            found["time"]["run"] = self.time.run
        return json.dumps(found, indent=2)
