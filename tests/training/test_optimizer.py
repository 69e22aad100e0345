import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import (
    ConfigError,
    ExperimentConfig,
    find_config,
    from_json,
    list_configs,
    load_config,
    override,
    to_json,
)
from dnr_jax.training.adamw import AdamW
from dnr_jax.training.optimizer import (
    SGD,
    decay_mask,
    make_optimizer,
    make_schedule,
    peak_learning_rate,
    rate_factors,
    rates_note,
    warmup_note,
    without_gradient,
)

pytestmark = pytest.mark.compat


def literal_rate(config: SGD, batch_size: int, total: int, step: int) -> float:
    """mmcv's CosineAnnealing with target 0, and then its warm-up, written out."""
    regular = config.learning_rate * batch_size / config.base_batch_size
    if config.schedule == "cosine":
        regular = 0 + 0.5 * (regular - 0) * (math.cos(math.pi * step / total) + 1)
    if step < config.warmup_steps:
        return regular * (1 - (1 - step / config.warmup_steps) * (1 - config.warmup_ratio))
    return regular


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_schedule_is_mmcvs(schedule, warmup):
    config = SGD(learning_rate=0.1, base_batch_size=64, schedule=schedule, warmup_steps=warmup)
    rate = make_schedule(config, batch_size=16, total_steps=30)
    for step in range(30):
        # float32 at both ends of the cosine, where it is a difference of numbers near 1
        np.testing.assert_allclose(rate(step), literal_rate(config, 16, 30, step), rtol=1e-6, atol=1e-9)


def test_the_schedule_starts_at_the_ratio_and_ends_at_zero():
    config = SGD(learning_rate=0.4, base_batch_size=8, warmup_steps=10, warmup_ratio=0.01)
    rate = make_schedule(config, batch_size=8, total_steps=100)
    np.testing.assert_allclose(rate(0), 0.004, rtol=1e-6)
    np.testing.assert_allclose(rate(100), 0.0, atol=1e-8)


def test_the_learning_rate_follows_the_batch():
    config = SGD(learning_rate=0.1, base_batch_size=64)
    assert [peak_learning_rate(config, batch) for batch in (64, 48, 32)] == pytest.approx([0.1, 0.075, 0.05])


PARAMS = {
    "conv1": {"kernel": np.arange(6.0).reshape(2, 3)},
    "norm1": {"scale": np.ones(3), "bias": np.full(3, 0.5)},
    "relay1": {"squeeze": {"kernel": np.full((3, 2), -1.0), "bias": np.full(2, 2.0)}},
}


def literal_sgd(config: SGD, gradients, rates) -> dict:
    """torch.optim.SGD after clip_grad_norm_, one parameter at a time."""
    params = {path: value.copy() for path, value in jax.tree_util.tree_leaves_with_path(PARAMS)}
    buffers = {path: np.zeros_like(value) for path, value in params.items()}
    for gradient, rate in zip(gradients, rates, strict=True):
        leaves = dict(jax.tree_util.tree_leaves_with_path(gradient))
        norm = math.sqrt(sum(float(np.sum(leaf**2)) for leaf in leaves.values()))
        for path, value in params.items():
            g = leaves[path]
            if config.clip_norm and norm > config.clip_norm:
                g = g * config.clip_norm / norm
            if config.decay_norm_and_bias or path[-1].key == "kernel":
                g = g + config.weight_decay * value
            buffers[path] = config.momentum * buffers[path] + g
            direction = g + config.momentum * buffers[path] if config.nesterov else buffers[path]
            params[path] = value - rate * direction
    return params


@pytest.mark.parametrize(
    "changes",
    [{}, {"clip_norm": 0.5}, {"clip_norm": 0.0}, {"decay_norm_and_bias": False}, {"nesterov": True}, {"momentum": 0.0}],
    ids=str,
)
def test_the_optimizer_is_torchs_sgd(x64, changes):
    config = dataclasses.replace(SGD(weight_decay=0.05, schedule="constant"), **changes)
    rng = np.random.default_rng(0)
    gradients = [jax.tree.map(lambda v: rng.normal(size=v.shape), PARAMS) for _ in range(4)]
    rates = [0.5, 0.25, 0.125, 0.0625]
    expected = literal_sgd(config, gradients, rates)
    for path, value in jax.tree_util.tree_leaves_with_path(stepped(config, gradients)):
        np.testing.assert_allclose(value, expected[path], rtol=1e-12, err_msg=str(path))


def literal_adamw(config: AdamW, gradients, rates) -> dict:
    """torch.optim.AdamW after clip_grad_norm_, one parameter at a time."""
    params = {path: value.copy() for path, value in jax.tree_util.tree_leaves_with_path(PARAMS)}
    means = {path: (np.zeros_like(value), np.zeros_like(value)) for path, value in params.items()}
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        leaves = dict(jax.tree_util.tree_leaves_with_path(gradient))
        norm = math.sqrt(sum(float(np.sum(leaf**2)) for leaf in leaves.values()))
        for path, value in params.items():
            g = leaves[path] * (min(config.clip_norm / norm, 1) if config.clip_norm else 1)
            m, v = means[path]
            means[path] = m, v = (
                config.beta1 * m + (1 - config.beta1) * g,
                config.beta2 * v + (1 - config.beta2) * g**2,
            )
            decay = config.weight_decay if config.decay_norm_and_bias or path[-1].key == "kernel" else 0.0
            value = value * (1 - rate * decay)
            root = np.sqrt(v / (1 - config.beta2**step)) + config.epsilon
            params[path] = value - rate * m / (1 - config.beta1**step) / root
    return params


def stepped(config, gradients) -> dict:
    """The parameters after steps whose rate begins at 0.5 and is halved each time."""
    tx = make_optimizer(config, lambda count: jnp.asarray(0.5, jnp.float64) * 0.5**count)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = tx.init(params)
    for gradient in gradients:
        with jax.numpy_dtype_promotion("standard"):  # optax takes powers of a whole number
            updates, state = tx.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


@pytest.mark.parametrize(
    "changes", [{}, {"clip_norm": 0.5}, {"decay_norm_and_bias": True}, {"beta1": 0.0, "epsilon": 0.1}], ids=str
)
def test_adamw_is_torchs(x64, changes):
    config = dataclasses.replace(AdamW(schedule="constant", clip_norm=0.0, beta2=0.9), **changes)
    rng = np.random.default_rng(0)
    gradients = [jax.tree.map(lambda v: rng.normal(size=v.shape), PARAMS) for _ in range(4)]
    expected = literal_adamw(config, gradients, [0.5, 0.25, 0.125, 0.0625])
    for path, value in jax.tree_util.tree_leaves_with_path(stepped(config, gradients)):
        np.testing.assert_allclose(value, expected[path], rtol=1e-7, err_msg=str(path))


def test_adamw_is_chosen_by_name_with_its_own_rate():
    sgd = SGD(0.05, base_batch_size=8, warmup_steps=50, weight_decay=1e-3)
    start = ExperimentConfig(optimizer=sgd)
    config, _ = override(start, ["--config.optimizer=AdamW", "--config.optimizer.clip_norm=1.0"])
    assert (config.optimizer, from_json(to_json(config))) == (AdamW(clip_norm=1.0, warmup_steps=50), config)
    config, _ = override(start, ["--config.optimizer=AdamW", "--config.optimizer.learning_rate=3e-4"])
    assert config.optimizer == AdamW(3e-4, warmup_steps=50)
    assert override(start, ["--config.optimizer=SGD"])[0].optimizer == sgd


@pytest.mark.parametrize("name", list_configs())
def test_every_experiment_gives_adamw_its_own_rate_and_decay(name):
    start = load_config(find_config(name))
    config, _ = override(start, ["--config.optimizer=AdamW"])
    kept = {
        field: getattr(start.optimizer, field) for field in ("clip_norm", "schedule", "warmup_steps", "warmup_ratio")
    }
    assert config.optimizer == AdamW(**kept)


def test_a_rate_that_was_given_is_not_lost_to_another_optimizer():
    rate, adamw = "--config.optimizer.learning_rate=3e-4", "--config.optimizer=AdamW"
    with pytest.raises(
        ConfigError,
        match=r"^--config.optimizer: optimizer.learning_rate=0.0003 stands before it, and Ada"
        r"mW begins with 0.001; set the field behind --config.optimizer=AdamW$",
    ):
        override(ExperimentConfig(), [rate, adamw])
    assert override(ExperimentConfig(), ["--config.optimizer.clip_norm=1", adamw])[0].optimizer == AdamW(clip_norm=1)

    refused = AdamW(weight_decay=0.0, decay_norm_and_bias=True)
    assert list(refused.problems()) == ["decay_norm_and_bias: is True, which needs a weight_decay above 0"]


@pytest.mark.parametrize(("warmup", "told"), [(0, False), (9, False), (10, True), (11, True)])
def test_a_warm_up_that_does_not_end_is_told(warmup, told):
    note = warmup_note(SGD(warmup_steps=warmup), 10)
    assert bool(note) is told and (not told or f"warmup_steps: is {warmup}, and the run has 10 steps" in note)


def test_only_kernels_are_decayed_where_norms_and_biases_are_not():
    assert decay_mask(PARAMS) == {
        "conv1": {"kernel": True},
        "norm1": {"scale": False, "bias": False},
        "relay1": {"squeeze": {"kernel": True, "bias": False}},
    }


NESTED = {"conv1": PARAMS["conv1"], "norm1": PARAMS["norm1"], "stage": {"relay1": PARAMS["relay1"]}}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ((), (1, 1, 1, 1, 1)),
        (("conv1=0",), (0, 1, 1, 1, 1)),
        (("relays=4",), (1, 1, 1, 4, 4)),
        (("norm1/bias=2", "stage/relay1=3"), (1, 2, 1, 3, 3)),
        (("*=0.5", "relays=4", "*/bias=2"), (0.5, 2, 0.5, 2, 4)),  # the last that is of a parameter counts
        (("norm*=0",), (1, 0, 0, 1, 1)),
    ],
)
def test_factors_are_of_groups_paths_their_beginnings_and_patterns(entries, expected):
    assert tuple(jax.tree.leaves(rate_factors(SGD(rate_factors=entries), NESTED))) == expected


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (("norm=2",), "norm=2 is of no parameter of this network .did you mean 'norm1'.*; expected relays, or the"),
        (("head=2", "conv1=1"), "head=2 is of no parameter of this network"),
        (("*/bias=2", "*=0.5"), "[*]/bias=2 has no effect, because later entries are of all its parameters"),
        (("*=0",), "0 for all parameters of this network; expected some to train"),
    ],
)
def test_factors_without_effect_are_refused(entries, words):
    with pytest.raises(ConfigError, match=words):
        rate_factors(SGD(rate_factors=entries), NESTED)
    with pytest.raises(ConfigError, match=words):
        make_optimizer(SGD(rate_factors=entries), lambda count: 0.1).init(NESTED)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (("relays",), "rate_factors: 'relays' does not fit; expected NAME=FACTOR with a number"),
        (("relays=-1",), "'relays=-1' does not fit"),
        (("relays=inf",), "'relays=inf' does not fit"),
        (("=2",), "'=2' does not fit"),
        (("relays=two",), "'relays=two' does not fit"),
        (("head=2", "head=3"), "rate_factors: has head more than once"),
    ],
)
def test_what_is_no_factor_is_refused_with_the_configuration(entries, words):
    (problem,) = SGD(rate_factors=entries).problems()
    assert words in problem


def test_factors_are_given_in_a_list_on_the_command_line():
    config, _ = override(ExperimentConfig(), ["--config.optimizer.rate_factors=backbone=0,relays=2.5"])
    assert config.optimizer.rate_factors == ("backbone=0", "relays=2.5")
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    ("config", "literal", "rtol"),
    [(SGD(weight_decay=0.05, clip_norm=0.0), literal_sgd, 1e-12), (AdamW(clip_norm=0.0), literal_adamw, 1e-7)],
    ids=["sgd", "adamw"],
)
def test_a_factor_is_a_rate_of_its_own(x64, config, literal, rtol):
    """As torch's groups of parameters have it: decay and momentum are those of all, the rate is not."""
    rng = np.random.default_rng(0)
    gradients = [jax.tree.map(lambda v: rng.normal(size=v.shape), PARAMS) for _ in range(4)]
    factors = {"conv1": 0.0, "norm1": 2.5, "relay1": 1.0}
    ours = stepped(dataclasses.replace(config, rate_factors=("conv1=0", "norm1=2.5")), gradients)
    for path, value in jax.tree_util.tree_leaves_with_path(ours):
        rates = [factors[path[0].key] * rate for rate in (0.5, 0.25, 0.125, 0.0625)]
        np.testing.assert_allclose(value, literal(config, gradients, rates)[path], rtol=rtol, err_msg=str(path))


def test_what_has_the_factor_0_has_no_gradient():
    config = SGD(rate_factors=("conv1=0",))

    def loss(params):
        leaves = jax.tree.leaves(without_gradient(config, params))
        return sum(jnp.sum(jnp.square(leaf)) for leaf in leaves)

    params = jax.tree.map(jnp.asarray, PARAMS)
    expected = {name: jax.tree.map(lambda leaf: 2 * leaf, part) for name, part in params.items()}
    expected["conv1"] = jax.tree.map(jnp.zeros_like, params["conv1"])
    chex.assert_trees_all_close(jax.grad(loss)(params), expected, rtol=1e-6)
    assert without_gradient(SGD(), params) is params


def test_the_note_counts_the_numbers_at_each_factor():
    assert rates_note(SGD(), PARAMS) == ""
    note = rates_note(SGD(rate_factors=("conv1=0", "norm1/bias=10")), PARAMS)
    assert note == "6 parameters as they are, 11 parameters x 1, 3 parameters x 10"
