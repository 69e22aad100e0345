"""A state that is sharded over devices trains as copies of it do, and moves between layouts by its checkpoints."""

import contextlib
import json

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from dnr_jax.config import ConfigError, Optimizer
from dnr_jax.convert.source import read_source
from dnr_jax.evaluation.predict import Predictor
from dnr_jax.models import TSN, create_model
from dnr_jax.runs import devices
from dnr_jax.runs.checkpoint import Checkpoints
from dnr_jax.runs.devices import along_batch, along_largest, make_mesh, place_batch
from dnr_jax.runs.folder import METRICS_FILE, load_run, read_metrics
from dnr_jax.runs.state import TrainState, placed
from dnr_jax.training import loop
from dnr_jax.training.adamw import AdamW
from dnr_jax.training.ema import EMA
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import abstract_state, create_state
from dnr_jax.training.step import make_train_step
from tests.training import tiny
from tests.training.test_distributed import finish, free_port, run_tiny
from tests.training.test_step import CLASSES, assert_equal, make_batch
from tests.training.tiny import TinyNetwork, tiny_config

Layout = tuple[int, int]
"""Number of devices, and over how many a state is sharded."""


def mesh_of(layout: Layout):
    count, parts = layout
    return make_mesh(jax.devices()[:count], parts)


@pytest.fixture
def all_sharded(monkeypatch):
    """Shard the small arrays of small networks too."""
    monkeypatch.setattr(devices, "SMALLEST_SHARDED", 2)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 3, 64, 128), (None, None, None, "fsdp")),
        ((2048, 64), ("fsdp",)),
        ((256, 256), (None, "fsdp")),
        ((512, 401), ("fsdp",)),  # the larger one, divisible or not, does not count
        ((401, 44), (None, "fsdp")),
        ((401, 401), ()),
        ((64, 128), ()),  # small
        ((), ()),
    ],
)
def test_the_largest_axis_that_divides_is_sharded(shape, expected):
    assert along_largest(mesh_of((8, 4)), shape).spec == PartitionSpec(*expected)
    assert along_largest(mesh_of((8, 1)), shape).is_fully_replicated


def test_a_batch_is_sharded_over_both_axes_of_the_mesh():
    mesh = mesh_of((8, 4))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 4} and dict(mesh_of((8, 1)).shape) == {"data": 8}
    placed_batch = place_batch({"index": np.arange(16)}, mesh)["index"]
    assert [shard.data.tolist() for shard in placed_batch.addressable_shards] == [[2 * i, 2 * i + 1] for i in range(8)]
    assert along_batch(mesh_of((8, 1))).spec == PartitionSpec("data")
    with pytest.raises(ValueError, match="8 devices are no multiple of the 3 that share a state"):
        make_mesh(jax.devices()[:8], 3)


def test_a_mesh_that_shards_otherwise_than_the_configuration_is_refused(videos, tmp_path):
    config = tiny_config(videos, fsdp_devices=2, batch_size=8)
    with pytest.raises(ConfigError) as error, loop.opened(config, tmp_path / "run", mesh=mesh_of((8, 1))):
        pass
    assert str(error.value) == (
        "train.fsdp_devices: is 2, but the mesh that was given shards a state over 1; "
        "dnr_jax.runs.devices.make_mesh(devices, 2) returns one that fits"
    )
    assert not (tmp_path / "run").exists()


def outcome(layout: Layout, optimizer: Optimizer | None = None, **train) -> tuple[TrainState, dict]:
    """State and metrics after three steps."""
    config = tiny_config("", batch_size=8, **train)
    config.optimizer = optimizer or config.optimizer
    mesh, model = mesh_of(layout), TinyNetwork(CLASSES, dropout=0.2)
    schedule = make_schedule(config.optimizer, 8, 10)
    tx, averaged = make_optimizer(config.optimizer, schedule), config.train.averaging is not None
    state = create_state(model, tx, config.data.clip_shape, mesh, seed=1, averaged=averaged)
    step = make_train_step(model, tx, schedule, config, mesh)
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam
        for seed in range(3):
            state, metrics = step(state, place_batch(make_batch(seed=seed), mesh))
    return state, metrics


def numbers(found: tuple[TrainState, dict]) -> tuple:
    state, metrics = found
    return jax.device_get((metrics, state.params, state.batch_stats, state.opt_state, state.average))


SETTINGS = {
    "plain": {},
    "everything": {"accumulate": 2, "averaging": EMA(0.5), "mixup": 0.8, "optimizer": AdamW(1e-3, weight_decay=0.1)},
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_sharded_state_trains_as_copies_do(setting, all_sharded, quick_compile):
    found = outcome((4, 2), **setting)
    assert_equal(numbers(found), numbers(outcome((4, 1), **setting)))
    state = found[0]
    assert [leaf.sharding for leaf in jax.tree.leaves(state)] == jax.tree.leaves(placed(state, mesh_of((4, 2))))
    for tree in (state.params, state.opt_state, *([state.average["params"]] if state.average else [])):
        sharded = [leaf for leaf in jax.tree.leaves(tree) if not leaf.sharding.is_fully_replicated]
        assert {leaf.size // leaf.addressable_shards[0].data.size for leaf in sharded} == {2}
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.batch_stats))


@pytest.mark.slow
def test_rematerialised_blocks_take_gathered_parameters(monkeypatch, quick_compile):
    """The network of real blocks is sharded with the real limit."""
    tiny.shrink_resnet18(monkeypatch)
    config = tiny_config("", batch_size=4, fsdp_devices=2)
    config.model = TSN(num_classes=5, depth=18, width=8, stem="small", remat="block").arms()["bn"]
    model = create_model(config.model)
    schedule = make_schedule(config.optimizer, 4, 10)
    tx = make_optimizer(config.optimizer, schedule)
    found = []
    for layout in ((2, 1), (2, 2)):
        mesh = mesh_of(layout)
        state = tiny.noise_state(model, tx, config.data.clip_shape, mesh)
        step = make_train_step(model, tx, schedule, config, mesh)
        found.append(step(state, place_batch(make_batch(4), mesh)))
    sharded = [leaf for leaf in jax.tree.leaves(found[1][0].params) if not leaf.sharding.is_fully_replicated]
    assert len(sharded) == 2
    loss, other = (jax.device_get(metrics) for _, metrics in found)
    for name in loss:
        np.testing.assert_allclose(loss[name], other[name], rtol=1e-4)


def large_state(mesh) -> TrainState:
    """A state of which some arrays are sharded and others are not, on the devices of a mesh."""
    rng = np.random.default_rng(0)

    def draw() -> dict:
        return {
            "kernel": rng.normal(size=(3, 3, 32, 64)).astype(np.float32),
            "odd": rng.normal(size=(129, 129)).astype(np.float32),
            "bias": rng.normal(size=64).astype(np.float32),
        }

    stats = {"mean": rng.normal(size=2**14).astype(np.float32)}
    average = {"params": draw(), "batch_stats": stats}
    state = TrainState(np.int32(7), draw(), stats, (draw(), np.int32(7)), jax.random.key(3), average)
    return jax.tree.map(jax.device_put, state, placed(state, mesh))


def plain(state: TrainState) -> TrainState:
    return jax.device_get(state.replace(key=jax.random.key_data(state.key)))


@pytest.mark.slow
@pytest.mark.parametrize("saved", [(8, 8), (8, 1)])
def test_a_checkpoint_is_restored_onto_other_devices_and_layouts(saved, tmp_path):
    state = large_state(mesh_of(saved))
    assert ("fsdp" in state.params["kernel"].sharding.spec) == (saved[1] > 1)
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(state, {"a": 1}, 7)
        checkpoints.wait()
        for layout in ((4, 4), (4, 2), (4, 1), (1, 1)):
            places = placed(state, mesh_of(layout))
            shapes = jax.tree.map(
                lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, places
            )
            restored, _ = checkpoints.restore(shapes, 7)
            jax.tree.map(np.testing.assert_array_equal, plain(restored), plain(state))
            assert [leaf.sharding for leaf in jax.tree.leaves(restored)] == jax.tree.leaves(places)
            variables = checkpoints.restore_variables(shapes.evaluated, 7)
            jax.tree.map(np.testing.assert_array_equal, variables, jax.device_get(state.average))


def test_the_abstract_state_of_a_sharded_run_knows_its_places(all_sharded):
    config, mesh = tiny_config(""), mesh_of((4, 2))
    tx = make_optimizer(config.optimizer, make_schedule(config.optimizer, 8, 10))
    abstract = abstract_state(TinyNetwork(CLASSES), tx, config.data.clip_shape, mesh, averaged=True)
    assert abstract.params["conv"]["kernel"].sharding.spec == PartitionSpec(None, None, None, "fsdp")
    assert abstract.average["params"]["fc"]["kernel"].sharding.spec == PartitionSpec("fsdp")
    assert jax.tree.leaves(placed(abstract, mesh)) == [leaf.sharding for leaf in jax.tree.leaves(abstract)]


@pytest.mark.slow
def test_a_run_goes_on_in_other_layouts_and_is_read_like_any_other(videos, tmp_path, all_sharded, capsys):
    """Eight devices in pairs, then copies on one of them, against one that never stopped."""

    def train(layout: Layout, steps: int, workdir) -> None:
        settings = {"averaging": EMA(0.5), "precise_statistics": 1, "batch_size": 8, "eval_every": 2, "log_every": 2}
        config = tiny_config(videos, steps=steps, fsdp_devices=layout[1], **settings)
        config.model.dropout = 0.0
        config.optimizer.schedule = "constant"  # whose rate does not depend on the length
        loop.train(config, workdir, mesh=mesh_of(layout))

    train((8, 2), 2, tmp_path / "moved")
    train((1, 1), 4, tmp_path / "moved")
    shown = capsys.readouterr().out
    assert "8 x cpu; the state sharded over 2" in shown and "continuing at step 2" in shown
    train((1, 1), 4, tmp_path / "whole")
    moved, whole = (load_run(tmp_path / name, tiny.one_device()) for name in ("moved", "whole"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        *(jax.device_get(run.variables) for run in (moved, whole)),
    )
    rows, expected = (read_metrics(tmp_path / name / METRICS_FILE) for name in ("moved", "whole"))
    assert [(row["kind"], row["step"]) for row in rows] == [(row["kind"], row["step"]) for row in expected]
    np.testing.assert_allclose([r["loss"] for r in rows], [r["loss"] for r in expected], rtol=1e-3)


@pytest.mark.slow
def test_a_run_with_a_sharded_state_is_read_like_any_other(videos, tmp_path, all_sharded):
    config = tiny_config(videos, steps=1, fsdp_devices=2, eval_every=1, log_every=1)
    with loop.opened(config, tmp_path, mesh=mesh_of((2, 2))) as trainer:
        trainer.run()
    expected = np.asarray(trainer.state.params["fc"]["kernel"])
    assert not trainer.state.params["fc"]["kernel"].sharding.is_fully_replicated
    for mesh in (tiny.one_device(), mesh_of((8, 1))):
        np.testing.assert_array_equal(load_run(tmp_path, mesh).variables["params"]["fc"]["kernel"], expected)
    np.testing.assert_array_equal(read_source(tmp_path).state["fc/kernel"], expected)  # what convert and export take
    assert len(Predictor(tmp_path)(min((videos / "val").rglob("*.mp4"))).labels) == CLASSES


@pytest.mark.slow
def test_two_processes_share_a_state(videos, tmp_path):
    """Its arrays lie in both of them; their checkpoint goes on in one process."""
    coordinator = f"127.0.0.1:{free_port()}"
    words = (str(videos), str(tmp_path / "two"), "0", "20", "fsdp=2")
    first, second = (finish(process) for process in [run_tiny(*words, coordinator, "2", str(i)) for i in range(2)])
    assert "2 x cpu, 2 processes; the state sharded over 2" in first and "validation top-1" not in second
    config = tiny_config(videos, steps=20, log_every=7, eval_every=20, checkpoint_every=5)
    config.model.dropout = 0.0
    tiny.train(config, tmp_path / "one")
    ours, theirs = (read_metrics(tmp_path / name / METRICS_FILE) for name in ("two", "one"))
    for name in ("loss", "grad_norm", "learning_rate", "accuracy"):  # later steps add up rounding
        np.testing.assert_allclose(ours[0][name], theirs[0][name], rtol=1e-5)
    assert ours[-1]["videos"] == theirs[-1]["videos"] == 7
    run = load_run(tmp_path / "two", tiny.one_device())
    assert run.step == 20 and json.loads((tmp_path / "two" / "evaluation.json").read_text())["step"] == 20
