import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import DataConfig, ExperimentConfig
from dnr_jax.dnr import BatchNorm
from dnr_jax.runs.devices import Prefetcher, make_mesh, place_batch
from dnr_jax.runs.inference import make_eval_step, normalize, spread
from dnr_jax.training.mix import draw_mixture, mixed_labels
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import abstract_state, create_state
from dnr_jax.training.step import (
    all_finite,
    cross_entropy,
    make_observe_step,
    make_train_step,
    share_of_mean,
)
from tests.training.tiny import TinyNetwork, tiny_config

pytestmark = pytest.mark.compat

CLASSES = 3


def make_batch(size: int = 8, views: tuple[int, ...] = (), seed: int = 0) -> dict[str, np.ndarray]:
    """Noise whose brightness tells the classes apart."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, size).astype(np.int32)
    noise = rng.integers(0, 80, (size, *views, 4, 16, 16, 3))
    return {
        "video": (noise + 80 * label.reshape(size, *(1 for _ in noise.shape[1:]))).astype(np.uint8),
        "label": label,
        "weight": np.ones(size, np.float32),
    }


def setup(num_devices: int, *, clips: int = 0, dropout: float = 0.2, rates: tuple[str, ...] = (), **train) -> tuple:
    config = tiny_config("", **{"batch_size": 8} | train)
    config.optimizer.rate_factors = rates
    config.model.norm.base = BatchNorm(clips_per_statistics=clips)
    mesh = make_mesh(jax.devices()[:num_devices])
    model = TinyNetwork(CLASSES, dropout, clips)
    schedule = make_schedule(config.optimizer, 8, 10)
    tx = make_optimizer(config.optimizer, schedule)
    averaged = config.train.averaging is not None
    state = create_state(model, tx, config.data.clip_shape, mesh, seed=1, averaged=averaged)
    return config, mesh, model, state, make_train_step(model, tx, schedule, config, mesh)


def test_frames_are_normalised_as_the_config_says():
    data = DataConfig(mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))
    video = np.array([[10, 20, 30], [12, 24, 38], [0, 0, 0]], np.uint8)
    expected = [[0, 0, 0], [2, 2, 2], [-10, -10, -7.5]]
    np.testing.assert_array_equal(normalize(jnp.asarray(video), data), np.array(expected, np.float32))
    assert normalize(jnp.asarray(video), data, jnp.bfloat16).dtype == jnp.bfloat16
    data.channel_order = "bgr"  # the mean and the deviation are then those of blue, green and red
    np.testing.assert_array_equal(normalize(jnp.asarray(video[:, ::-1]), data), np.array(expected, np.float32))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_against_a_loop(smoothing):
    logits, labels = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32), [0, 3, 1, 1, 2]
    targets = jax.nn.one_hot(jnp.asarray(labels, jnp.int32), 4)
    for i, loss in enumerate(cross_entropy(jnp.asarray(logits), targets, smoothing)):
        log_p = logits[i] - np.log(np.sum(np.exp(logits[i])))
        target = [(1 - smoothing) * (k == labels[i]) + smoothing / 4 for k in range(4)]
        np.testing.assert_allclose(loss, -np.dot(target, log_p), rtol=1e-6)


def test_samples_without_weight_do_not_count():
    values, weight = jnp.array([1.0, 100.0, 3.0]), jnp.array([1.0, 0.0, 1.0])
    assert share_of_mean(values, weight, jnp.sum(weight)) == 2.0
    assert share_of_mean(values[:2], weight[:2], jnp.sum(weight)) == 0.5
    assert share_of_mean(values, jnp.zeros(3), jnp.zeros(())) == 0.0


def test_the_loss_of_a_step_ignores_a_video_that_could_not_be_decoded():
    _, mesh, _, state, step = setup(1)
    batch = make_batch()
    batch["weight"][3] = 0.0
    other = {**batch, "label": batch["label"].copy()}
    other["label"][3] = (batch["label"][3] + 1) % CLASSES
    copy = jax.tree.map(jnp.copy, state)
    after, metrics = step(state, place_batch(batch, mesh))
    after_other, metrics_other = step(copy, place_batch(other, mesh))
    assert jax.device_get(metrics) == jax.device_get(metrics_other)
    jax.tree.map(np.testing.assert_array_equal, after.params, after_other.params)


@pytest.mark.parametrize("mix", [{}, {"mixup": 0.8}, {"cutmix": 1.0, "label_smoothing": 0.1}])
def test_eight_devices_do_what_one_does(mix):
    """Sums over the batch are taken in another order, which float32 shows in its last digits."""
    outcomes = []
    for num_devices in (1, 8):
        _, mesh, _, state, step = setup(num_devices, **mix)
        for seed in range(3):
            state, metrics = step(state, place_batch(make_batch(seed=seed), mesh))
        outcomes.append(jax.device_get((metrics, state.params, state.batch_stats, state.opt_state)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-7), *outcomes)


def outcome(batch: dict[str, np.ndarray], num_devices: int = 1, **setting) -> tuple:
    """Metrics and state after a step without dropout, and the sums of moments before it."""
    config, mesh, model, state, step = setup(num_devices, dropout=0.0, **setting)
    placed = place_batch(batch, mesh)
    moments = jax.device_get(make_observe_step(model, config, mesh)(state.variables, placed))
    state, metrics = step(state, placed)
    return jax.device_get((metrics, state.params, state.batch_stats, state.opt_state, moments))


def assert_equal(found: tuple, expected: tuple) -> None:
    """Sums over the batch are taken in another order, which float32 shows in its last digits."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-7), found, expected)


@pytest.fixture(scope="module")
def whole_batch() -> tuple:
    """The outcome of a batch at once, in which pairs of clips share statistics, clips are mixed and one is missing."""
    return outcome(missing_one(), clips=2, mixup=0.8)


def missing_one() -> dict[str, np.ndarray]:
    return make_batch() | {"weight": np.array([1, 1, 1, 0, 1, 1, 1, 1], np.float32)}


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "num_devices"), [(2, 1), (4, 1), (2, 4)])
def test_a_batch_in_parts_is_the_batch_where_statistics_are_of_fewer_clips(whole_batch, parts, num_devices):
    assert_equal(outcome(missing_one(), num_devices, clips=2, mixup=0.8, accumulate=parts), whole_batch)


@pytest.mark.slow
def test_the_statistics_of_a_batch_in_parts_are_those_of_a_part():
    batch, dealt = make_batch(), [0, 2, 4, 6, 1, 3, 5, 7]
    expected = outcome({name: array[dealt] for name, array in batch.items()}, clips=4)
    assert_equal(outcome(batch, accumulate=2), expected)


def test_a_batch_is_sharded_over_the_devices_and_the_state_is_not():
    _, mesh, _, state, step = setup(8)
    placed = place_batch(make_batch(16), mesh)
    assert {shard.data.shape[0] for shard in placed["video"].addressable_shards} == {2}
    state, _ = step(state, placed)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))


def test_a_step_learns_counts_and_gives_its_state_away():
    config, mesh, _, state, step = setup(1)
    old, losses = state, []
    for _ in range(9):
        state, metrics = step(state, place_batch(make_batch(), mesh))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]
    assert int(state.step) == 9
    assert old.params["fc"]["kernel"].is_deleted()
    schedule = make_schedule(config.optimizer, 8, 10)
    np.testing.assert_allclose(metrics["learning_rate"], schedule(8), rtol=1e-6)


def test_parameters_with_the_factor_0_stay_and_the_others_do_not():
    for num_devices in (1, 8):
        _, mesh, _, state, step = setup(num_devices, rates=("*=0", "fc=10"))
        before = jax.device_get(state.params)
        for _ in range(2):
            state, _ = step(state, place_batch(make_batch(), mesh))
        same = jax.tree.map(lambda old, new: bool((old == new).all()), before, jax.device_get(state.params))
        assert {name for name, leaves in same.items() if not all(jax.tree.leaves(leaves))} == {"fc"}
        assert not any(jax.tree.leaves(same["fc"]))


def test_a_classifier_alone_is_trained_without_the_products_of_what_stays():
    flops = []
    for rates in ((), ("*=0", "fc=1")):
        _, mesh, _, state, step = setup(1, rates=rates)
        compiled = step.lower(state, place_batch(make_batch(), mesh)).compile()
        flops.append(compiled.cost_analysis()["flops"])
    assert flops[1] < 0.5 * flops[0]  # forward alone is a third of forward and backward


def test_dropout_depends_on_the_step_and_the_seed_only():
    _, mesh, _, state, step = setup(1)
    copy, later = jax.tree.map(jnp.copy, state), jax.tree.map(jnp.copy, state.replace(step=state.step + 1))
    batch = place_batch(make_batch(), mesh)
    losses = [float(step(s, batch)[1]["loss"]) for s in (state, copy, later)]
    assert losses[0] == losses[1] != losses[2]


def test_a_mixed_step_has_the_loss_and_accuracy_of_its_soft_labels():
    config, mesh, model, state, step = setup(1, mixup=1.0, cutmix=1.0, label_smoothing=0.1)
    model = TinyNetwork(CLASSES, dropout=0.0)
    schedule = make_schedule(config.optimizer, 8, 10)
    step = make_train_step(model, make_optimizer(config.optimizer, schedule), schedule, config, mesh)
    batch, variables = make_batch(), jax.tree.map(jnp.asarray, jax.device_get(state.variables))
    batch["weight"][2] = 0.0
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 1)
    _, metrics = step(state, place_batch(batch, mesh))

    @jax.jit
    def mixed(video, label, weight):
        mixture = draw_mixture(key, weight, (16, 16), config.train)
        video = normalize(mixture.video(video), config.data)
        logits, _ = model.apply(variables, video, train=True, mutable=["batch_stats"])
        own = jax.nn.one_hot(label, CLASSES)
        return logits, mixed_labels(own, own[mixture.partner], mixture.label_share)

    logits, target = jax.device_get(mixed(batch["video"], batch["label"], batch["weight"]))
    losses = -np.sum((0.9 * target + 0.1 / CLASSES) * np.asarray(jax.nn.log_softmax(logits)), axis=1)
    hits = target[np.arange(8), np.argmax(logits, axis=1)]
    weight = batch["weight"]
    np.testing.assert_allclose(metrics["loss"], np.sum(losses * weight) / 7, rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], np.sum(hits * weight) / 7, rtol=1e-5)


def test_the_abstract_state_has_the_shapes_of_the_real_one():
    config, mesh, model, state, _ = setup(2)
    tx = make_optimizer(config.optimizer, make_schedule(config.optimizer, 8, 10))
    abstract = abstract_state(model, tx, config.data.clip_shape, mesh)
    assert jax.tree.structure(abstract) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(abstract), jax.tree.leaves(state), strict=True):
        assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)


def test_every_beginning_of_an_order_is_spread_evenly():
    assert sorted(spread(30)) == list(range(30)) and spread(1).tolist() == [0]
    for count in range(2, 31):
        gaps = np.diff([*np.sort(spread(30)[:count]), 30])
        assert gaps.max() <= 3 * 30 / count


@pytest.mark.parametrize("average", ["probability", "logit"])
@pytest.mark.parametrize("num_devices", [1, 4])
def test_views_are_averaged_as_the_config_says(average, num_devices):
    config, mesh, model, state, _ = setup(num_devices)
    config.evaluation.average = average
    batch = make_batch(4, views=(3,))
    result = make_eval_step(model, config, mesh)(state.variables, place_batch(batch, mesh))
    variables = jax.tree.map(jnp.asarray, jax.device_get(state.variables))
    logits = [
        model.apply(variables, normalize(jnp.asarray(batch["video"][:, view]), config.data), train=False)
        for view in range(3)
    ]
    mean = sum(jax.nn.softmax(v) if average == "probability" else v for v in logits) / 3
    expected = mean if average == "probability" else jax.nn.softmax(mean)
    np.testing.assert_allclose(result["scores"], expected, rtol=2e-5)
    np.testing.assert_array_equal(result["label"], batch["label"])
    views = [jax.nn.softmax(v) if average == "probability" else v for v in logits]
    best = [np.argmax(sum(views[view] for view in spread(3)[: count + 1]), axis=-1) for count in range(3)]
    np.testing.assert_array_equal(result["by_views"], np.stack(best, axis=1))
    assert "video" not in result
    assert result["scores"].sharding.is_fully_replicated


def test_bfloat16_activations_keep_a_float32_state():
    config, mesh, model, state, _ = setup(1)
    config.model.dtype = "bfloat16"
    scores = make_eval_step(model, config, mesh)(state.variables, place_batch(make_batch(4, views=(1,)), mesh))
    assert scores["scores"].dtype == jnp.float32


def test_all_finite_sees_a_single_nan():
    _, _, _, state, _ = setup(1)
    assert all_finite(state)
    stats = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), state.batch_stats)
    assert not all_finite(state.replace(batch_stats=stats))


class Batches:
    def __init__(self, count: int, error: Exception | None = None):
        self.left, self.error, self.closed = list(range(count)), error, False

    def __next__(self):
        if not self.left:
            raise self.error or StopIteration
        return {"index": np.full(2, self.left.pop(0))}

    def close(self):
        self.closed = True


def test_reading_overlaps_with_the_step():
    """What takes 30 ms to read and 30 ms to use takes little more than 30 ms a step, and not 60."""

    class Slow(Batches):
        def __next__(self):
            time.sleep(0.03)
            return super().__next__()

    steps = 20
    prefetcher = Prefetcher(Slow(steps), make_mesh(jax.devices()[:1]))
    start = time.perf_counter()
    for _ in prefetcher:
        time.sleep(0.03)
    assert time.perf_counter() - start < 0.75 * steps * 0.06
    prefetcher.close()


def test_batches_are_prefetched_in_order_and_the_iterator_is_closed():
    batches = Batches(5)
    prefetcher = Prefetcher(batches, make_mesh(jax.devices()[:2]))
    pairs = list(prefetcher)
    assert [int(host["index"][0]) for host, _ in pairs] == [int(placed["index"][0]) for _, placed in pairs]
    assert [int(host["index"][0]) for host, _ in pairs] == [0, 1, 2, 3, 4]
    assert all(placed["index"].dtype == jnp.int32 for _, placed in pairs)
    prefetcher.close()
    assert batches.closed


def test_an_error_while_reading_ahead_arrives_at_its_batch():
    prefetcher = Prefetcher(Batches(1, OSError("disk")), make_mesh(jax.devices()[:1]))
    next(prefetcher)
    with pytest.raises(OSError, match="disk"):
        next(prefetcher)
    prefetcher.close()


def test_the_default_config_is_an_experiment():
    assert ExperimentConfig().data.clip_shape == (8, 224, 224, 3)
