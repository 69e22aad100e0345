"""Every row of the paper's Tables 1 and 3 builds and takes a step, at a reduced size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import ConfigError, ExperimentConfig, load_config, validate
from dnr_jax.dnr import BatchNorm, DNRSpec, GroupNorm
from dnr_jax.models import create_model, resnet
from dnr_jax.runs.devices import make_mesh
from dnr_jax.runs.state import TrainState
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import abstract_state
from dnr_jax.training.step import make_train_step
from tests.paths import REPOSITORY

FILE = REPOSITORY / "configs" / "k200_ablation.py"


def load(row: str = "") -> ExperimentConfig:
    return load_config(f"{FILE}:{row}")


def rows() -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load("table=9")
    return str(refused.value).split("Rows:\n  ")[1].split("\n  ")


def distinct() -> dict[str, ExperimentConfig]:
    """The rows without those that repeat the experiment of another."""
    found = {(dataclasses.astuple(load(row).model), load(row).train.batch_size): row for row in reversed(rows())}
    return {row: load(row) for row in found.values()}


def differences(norm: DNRSpec) -> dict:
    default = DNRSpec(base=BatchNorm(clips_per_statistics=8))
    return {name: value for name, value in vars(norm).items() if value != getattr(default, name)}


@pytest.mark.parametrize(
    ("row", "norm", "batch", "interlace"),
    [
        ("", {}, 64, True),
        ("table=1a,method=baseline", {"norm1": "static", "norm2": "static"}, 64, False),
        ("method=ct,location=1,table=1a", {"norm1": "ct", "norm2": "static"}, 64, False),
        ("table=1a,method=ct+cl", {"norm1": "ct", "norm2": "cl"}, 64, True),
        ("table=1b,method=cl,relay_distance=2", {"norm2": "static", "layer_distance": 2}, 64, False),
        ("table=1c,depth=2", {"depth": 2}, 64, True),
        ("table=1d,method=ct,relay=se", {"norm1": "static", "relay": "se"}, 64, False),
        ("table=3,base=bn,method=dnr,batch=4", {"base": BatchNorm(clips_per_statistics=4)}, 32, True),
        ("table=3,base=gn,method=dnr,batch=6", {"base": GroupNorm(statistics="frame")}, 48, True),
    ],
)
def test_a_row_is_its_setting(row, norm, batch, interlace):
    config = load(row)
    assert differences(config.model.norm) == norm
    assert (config.train.batch_size, config.model.interlace is not None) == (batch, interlace)


def test_all_rows_of_the_tables_are_there():
    tables = [row.split(",")[0] for row in rows()]
    assert {table: tables.count(table) for table in tables} == {
        "table=1a": 9,
        "table=1b": 6,
        "table=1c": 6,
        "table=1d": 12,
        "table=3": 12,
        "table=supplement": 1,
    }


def test_a_wrong_row_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no variant 'table=1c,depth=3' \(did you mean 'table=1c,depth=[12]'"):
        load("table=1c,depth=3")


@pytest.mark.parametrize("row", rows())
def test_rows_are_valid_on_the_papers_eight_devices(row, tmp_path):
    config = load(row)
    lists = tmp_path / "list.txt"
    lists.write_text("a.mp4 0\n")
    source = config.data.source
    source.root, source.train_list, source.val_list = str(tmp_path), str(lists), str(lists)
    validate(config, num_devices=8)


@pytest.fixture
def quick_compilation():
    """Half the time to compile what runs once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.slow
@pytest.mark.parametrize("row", distinct())
@pytest.mark.usefixtures("quick_compilation")
def test_a_row_builds_and_takes_a_step(row, monkeypatch):
    config = load(row)
    two_blocks = resnet.Architecture(resnet.BottleneckBlock, (2,))
    monkeypatch.setitem(resnet.ARCHITECTURES, 50, two_blocks)
    config.model.width, config.model.stem, config.model.num_classes = 8, "small", 3
    config.data.crop_size = 8
    clips = config.train.batch_size = 2 * (config.model.norm.base.clips_shared or 1)
    mesh, model = make_mesh(jax.devices()[:1]), create_model(config.model)
    schedule = make_schedule(dataclasses.replace(config.optimizer, warmup_steps=0), clips, 10)
    tx = make_optimizer(config.optimizer, schedule)
    rng = np.random.default_rng(0)
    abstract = abstract_state(model, tx, config.data.clip_shape, mesh)
    before = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.2, leaf.shape).astype(leaf.dtype), abstract.params)
    stats = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), abstract.batch_stats)
    state = TrainState(jnp.int32(0), before, stats, tx.init(before), jax.random.key(0))
    batch = {
        "video": rng.integers(0, 256, (clips, *config.data.clip_shape), np.uint8),
        "label": rng.integers(0, 3, clips, np.int32),
        "weight": np.ones(clips, np.float32),
    }
    state, metrics = make_train_step(model, tx, schedule, config, mesh)(state, batch)
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    moved = jax.tree.map(lambda new, old: (new != old).any(), jax.device_get(state.params), before)
    assert all(jax.tree.leaves(moved)), [path for path, leaf in jax.tree.leaves_with_path(moved) if not leaf]
