"""A network, videos and a configuration so small that a test can train for real."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dnr_jax.config import DataConfig, ExperimentConfig, Network, TrainConfig, register
from dnr_jax.data.catalogue.sources import Folder
from dnr_jax.data.clips.decode import encode_video
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.dnr import BatchNorm, CrossTemporalDNR, DNRSpec, parts
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.models import TDN, BNInception, ResNetNetwork, TANet, inception
from dnr_jax.models.resnet import ARCHITECTURES, Architecture
from dnr_jax.runs.devices import make_mesh, place_batch
from dnr_jax.runs.state import TrainState
from dnr_jax.training import loop
from dnr_jax.training.hooks import Hook
from dnr_jax.training.optimizer import SGD, make_optimizer, make_schedule
from dnr_jax.training.state import abstract_state
from dnr_jax.training.step import make_train_step
from dnr_jax.training.trainer import Trainer


class TinyNetwork(nn.Module):
    """Everything that a state can hold: weights, a relay, running statistics, dropout."""

    num_classes: int
    dropout: float = 0.2
    clips_per_statistics: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Conv(6, (3, 3), (2, 2), dtype=x.dtype, name="conv")(x)
        base = BatchNorm(clips_per_statistics=self.clips_per_statistics)
        _, x = CrossTemporalDNR(relay_distance=2, base=base, name="norm")(None, x, use_running_average=not train)
        x = nn.Dropout(self.dropout, deterministic=not train)(jnp.mean(nn.relu(x), axis=(1, 2, 3)))
        return nn.Dense(self.num_classes, name="fc")(x.astype(jnp.float32))


@dataclasses.dataclass
class Tiny(Network):
    """The part of it; known where it is registered with :func:`known`."""

    def build(self) -> TinyNetwork:
        return TinyNetwork(self.num_classes, self.dropout)


@contextlib.contextmanager
def known(*networks: type[Network]) -> Iterator[None]:
    """Register networks, by default the tiny one, within a ``with`` block."""
    there = parts._registry[Network]  # fixtures of several scopes may ask for the same
    networks = [network for network in networks or (Tiny,) if network.__name__ not in there]
    for network in networks:
        register(network)
    try:
        yield
    finally:
        for network in networks:
            there.pop(network.__name__)


def one_device() -> Mesh:
    return make_mesh(jax.devices()[:1])


def train(config: ExperimentConfig, workdir: pathlib.Path | str, *hooks: Hook) -> Report:
    """Train on one device."""
    return loop.train(config, workdir, mesh=one_device(), hooks=hooks)


def opened(config: ExperimentConfig, workdir: pathlib.Path | str, *hooks: Hook) -> AbstractContextManager[Trainer]:
    """Open a run on one device."""
    return loop.opened(config, workdir, mesh=one_device(), hooks=hooks)


def write_videos(root: pathlib.Path, train: int = 12, val: int = 7) -> pathlib.Path:
    """Three classes of noise, whose brightness tells them apart: ``root/train/<class>``, ``root/val/<class>``."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            label = number % 3
            folder = root / split / ("dark", "grey", "light")[label]
            folder.mkdir(parents=True, exist_ok=True)
            frames = rng.integers(80 * label, 80 * label + 80, (6, 16, 16, 3), np.uint8)
            encode_video(str(folder / f"{number:02d}.mp4"), frames, options={"preset": "ultrafast"})
    return root


def tiny_config(root: pathlib.Path | str, **train: Any) -> ExperimentConfig:
    """Eight steps of four clips of 4 frames of 16 pixels."""
    clips = {"sampler": Segments(4), "short_side": 0, "crop_size": 16}
    return ExperimentConfig(
        model=Tiny(num_classes=0, dropout=0.2, norm=DNRSpec(relay_distance=2)),
        data=DataConfig(source=Folder(str(root)), num_threads=1, **clips),
        optimizer=SGD(learning_rate=0.1, base_batch_size=4, warmup_steps=2),
        train=TrainConfig(**{"batch_size": 4, "steps": 8, "log_every": 2, "eval_every": 4, "loggers": ()} | train),
    )


def shrink_resnet18(monkeypatch) -> None:
    """Leave a ResNet-18 one block a stage."""
    monkeypatch.setitem(ARCHITECTURES, 18, Architecture(ARCHITECTURES[18].block, (1, 1, 1, 1)))


def shrink_bninception(monkeypatch) -> None:
    """Leave a BNInception the first and the last block of each stage."""
    stages = {number: (sizes[0], sizes[-1]) for number, sizes in inception.STAGES.items()}
    monkeypatch.setattr(inception, "STAGES", stages)


def shrink(config: ExperimentConfig, monkeypatch) -> ExperimentConfig:
    """Reduce depth, width and frames of an experiment's network; what stands in a block stays."""
    shrink_resnet18(monkeypatch)
    shrink_bninception(monkeypatch)
    monkeypatch.setitem(ARCHITECTURES, 50, Architecture(ARCHITECTURES[50].block, (1, 1, 1, 1)))
    model = config.model
    model.width, model.num_classes = 8, 5
    if getattr(model, "cardinality", 1) > 1:
        model.depth, model.cardinality, model.base_width = 50, 2, 64
    elif isinstance(model, ResNetNetwork):
        model.depth = 50 if isinstance(model, TANet) else 18
    if isinstance(model, TDN):
        model.stem = "small"  # frames of 16 pixels could not be halved as often behind the other
    config.data.crop_size, config.train.batch_size = 32 if isinstance(model, BNInception) else 16, 8
    return config


def noise_state(model: nn.Module, tx, clip_shape: tuple[int, ...], mesh) -> TrainState:
    """A state with random parameters, without compiling the network's initialisation."""
    rng = np.random.default_rng(0)
    state = abstract_state(model, tx, clip_shape, mesh)

    def place(value, leaf):
        return jax.device_put(value, leaf.sharding)

    def fill(path, leaf):
        value = np.ones(leaf.shape) if path[-1].key == "var" else rng.normal(0, 0.1, leaf.shape)
        return place(value.astype(leaf.dtype), leaf)

    return state.replace(
        step=place(np.int32(0), state.step),
        params=jax.tree_util.tree_map_with_path(fill, state.params),
        batch_stats=jax.tree_util.tree_map_with_path(fill, state.batch_stats),
        opt_state=jax.tree.map(lambda leaf: place(np.zeros(leaf.shape, leaf.dtype), leaf), state.opt_state),
        key=place(jax.random.key(0), state.key),
    )


def take_step(config: ExperimentConfig, model: nn.Module, num_devices: int) -> tuple[TrainState, dict[str, float]]:
    """Train on one batch of noise; return the state behind it and the metrics."""
    size = config.train.batch_size
    mesh = make_mesh(jax.devices()[:num_devices])
    schedule = make_schedule(config.optimizer, size, 100)
    tx = make_optimizer(config.optimizer, schedule)
    state = noise_state(model, tx, config.data.clip_shape, mesh)
    video = np.random.default_rng(0).integers(0, 256, (size, *config.data.clip_shape), np.uint8)
    label = (np.arange(size) % config.model.num_classes).astype(np.int32)
    batch = {"video": video, "label": label, "weight": np.ones(size, np.float32)}
    state, metrics = make_train_step(model, tx, schedule, config, mesh)(state, place_batch(batch, mesh))
    return state, jax.device_get(metrics)
