"""Relays that start at the scales and shifts of batch normalisation."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from dnr_jax.config import (
    ConfigError,
    DataConfig,
    ExperimentConfig,
    InitConfig,
    Network,
    registered,
    validate,
)
from dnr_jax.convert import OWN, TORCHVISION, to_state_dict
from dnr_jax.convert.relays import _Gates, _last_maps, _proportion, _sigmoid, scale_inputs
from dnr_jax.convert.source import Source, fit_source, template_of
from dnr_jax.convert.state_dict import flat
from dnr_jax.data.clips.sampling import Dense
from dnr_jax.dnr import DNRSpec, RelayCell
from dnr_jax.models import Interlace, create_model
from dnr_jax.models.blocks import PredictingNorm, predicting_norms, stack_blocks
from dnr_jax.models.resnet import ARCHITECTURES, Architecture
from tests.training.tiny import shrink_bninception, shrink_resnet18

RELAYS = ("lstm", "none", "se", "fc")


@pytest.fixture
def small(x64, quick_compile, monkeypatch):
    """Networks of one block a stage, two in the first."""
    shrink_resnet18(monkeypatch)
    shrink_bninception(monkeypatch)
    monkeypatch.setitem(ARCHITECTURES, 50, Architecture(ARCHITECTURES[50].block, (2, 1, 1, 1)))


def experiment(name: str = "tsn", depth: int = 50, **norm) -> ExperimentConfig:
    """A DNR network in float64, for clips of one group of frames."""
    network = {kind.lower(): network for kind, network in registered(Network).items()}[name]
    fields = {} if name == "bninception" else {"depth": depth}
    model = network(width=8 if name == "slowfast" else 4, stem="small", num_classes=3, dropout=0.0, **fields)
    model.dtype, model.norm = "float64", DNRSpec(**{"sharing": "block"} | norm)
    frames = {"slowfast": 16, "tdn": 20}.get(name, 4)
    config = ExperimentConfig(model=model, data=DataConfig(sampler=Dense(frames), crop_size=16))
    config.init.allow, config.init.relays = "relays", "batch_norm"
    return config


def with_batch_norm(config: ExperimentConfig) -> ExperimentConfig:
    baseline = copy.deepcopy(config)
    baseline.model.norm = config.model.norm.counterpart()
    baseline.init = InitConfig()
    return baseline


def shapes_of(config: ExperimentConfig) -> dict[str, tuple[int, ...]]:
    return {path: leaf.shape for (_, path), leaf in flat(template_of(config)).items()}


def places_of(config: ExperimentConfig) -> list[PredictingNorm]:
    return predicting_norms(create_model(config.model.unscanned()), config.data.clip_shape)


def noise(template, seed: int = 0):
    """Random variables: weights that keep the features' size, scales of both signs, shifts."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        kind, values = path[-1].key, rng.standard_normal(leaf.shape)
        if kind == "var":
            values = np.exp(values / 2)
        if kind == "scale":
            values = np.sign(values) * (0.1 + np.abs(values))
        if kind == "kernel":
            values = values / np.sqrt(np.prod(leaf.shape[:-1]))
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, template)


def batch_norm_source(config: ExperimentConfig, within: bool = True) -> tuple[ExperimentConfig, dict, Source]:
    """The same network with batch normalisation, its random variables, and these as a source.

    Scales and shifts are of any size where a convolution takes the factor; elsewhere, with ``within``, of those that
    DNR can predict.
    """
    baseline = with_batch_norm(config)
    variables = noise(template_of(baseline))
    leaves = flat(variables)
    for place in places_of(config) if within else ():
        if not place.behind:
            scale, bias = (leaves["params", f"{place.norm}/{leaf}"] for leaf in ("scale", "bias"))
            leaves["params", f"{place.norm}/scale"] = jnp.sign(scale) * (0.05 + 0.2 * jnp.tanh(jnp.abs(scale)))
            leaves["params", f"{place.norm}/bias"] = 0.5 * jnp.tanh(bias)
    state = {path: np.asarray(leaf) for (_, path), leaf in leaves.items()}
    source = Source("bn", state, "own")
    return baseline, fit_source(source, baseline).apply(variables), source


def outputs(config: ExperimentConfig, variables, train: bool = False) -> np.ndarray:
    clip = np.random.default_rng(1).standard_normal((3, *config.data.clip_shape))
    apply = functools.partial(create_model(config.model).apply, train=train, mutable=["batch_stats"] if train else [])
    return np.asarray(jax.jit(apply)(variables, clip, rngs={"dropout": jax.random.key(0)})[0])


@pytest.mark.parametrize(("interlace", "train"), [(False, False), (True, True)])
def test_one_group_and_cells_of_their_own_are_exact(interlace, train, small):
    config = experiment()
    config.model.interlace = Interlace() if interlace else None
    baseline, variables, source = batch_norm_source(config)
    start = fit_source(source, config)
    started = start.apply(noise(template_of(config), seed=2))
    expected = outputs(baseline, variables, train)
    np.testing.assert_allclose(outputs(config, started, train), expected, rtol=1e-9, atol=1e-10)
    assert np.std(expected) > 1e-3
    assert "off by 0.0% in scale and 0.0% in shift" in start.report.summary()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depth"),
    [("tsn", 18), ("resnext", 50), ("tanet", 50), ("tdn", 50), ("r2plus1d", 18), ("slowfast", 50), ("bninception", 50)],
)
def test_every_network_is_exact_within_the_limits(name, depth, small):
    config = experiment("tsn" if name == "resnext" else name, depth)
    if name == "resnext":
        config.model.cardinality, config.model.base_width = 2, 32
    baseline, variables, source = batch_norm_source(config)
    started = fit_source(source, config).apply(noise(template_of(config), seed=2))
    np.testing.assert_allclose(outputs(config, started), outputs(baseline, variables), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_later_groups_and_shared_cells_are_near(small, monkeypatch):
    """Nearer than the initialisation of the cells, with the scales and shifts of a network that was trained."""
    monkeypatch.setitem(ARCHITECTURES, 50, Architecture(ARCHITECTURES[50].block, (3, 2, 1, 1)))
    config = experiment(sharing="stage", relay_distance=2)
    baseline, variables, source = batch_norm_source(config)
    rng = np.random.default_rng(3)
    for path, array in source.state.items():
        if path.endswith("/scale"):
            source.state[path] = rng.uniform(0.5, 1.5, array.shape)
        if "norm" in path and path.endswith("/bias"):
            source.state[path] = rng.normal(0, 0.3, array.shape)
    expected = outputs(baseline, fit_source(source, baseline).apply(variables))
    start = fit_source(source, config)
    near = outputs(config, start.apply(noise(template_of(config), seed=2)))
    config.init.relays = "fresh"
    fresh = outputs(config, fit_source(source, config).apply(noise(template_of(config), seed=2)))
    assert 0 < np.std(near - expected) < np.std(fresh - expected) / 3


@pytest.mark.parametrize("relay", RELAYS)
@pytest.mark.parametrize("depth", [1, 2])
def test_cells_give_what_their_gates_promise(relay, depth, x64):
    """Whatever the input, from the first step on; after another shift too."""
    rng = np.random.default_rng(0)
    scale, shift, previous = rng.uniform(0.05, 0.3, 8), rng.uniform(-0.8, 0.8, 8), rng.uniform(-0.3, 0.3, 8)
    cell = RelayCell(8, depth=depth, relay=relay, param_dtype=jnp.float64)
    carry = tuple((jnp.zeros((2, 8)), jnp.broadcast_to(previous, (2, 8))) for _ in range(depth))
    descriptors = jnp.asarray(rng.standard_normal((2, 3, 8)))
    params = cell.init(jax.random.key(0), carry, descriptors[:, 0])["params"]
    gates = _Gates.giving(relay, scale, shift, previous)
    shapes = {path: leaf.shape for (_, path), leaf in flat({"params": {"cell": params}}).items()}
    started = _with_arrays({"params": {"cell": params}}, _last_maps(f"cell/layer_{depth - 1}", gates, shapes))
    _, (scales, shifts) = cell.apply({"params": started["params"]["cell"]}, carry, descriptors, method="unroll")
    expected_scale, expected_shift = scale, shift
    for step in range(3):
        np.testing.assert_allclose(scales[:, step], np.broadcast_to(expected_scale, (2, 8)), rtol=1e-9)
        np.testing.assert_allclose(shifts[:, step], np.broadcast_to(expected_shift, (2, 8)), rtol=1e-9)
        expected_scale, expected_shift = gates.step(expected_shift)


def _with_arrays(variables, arrays):
    leaves = {key: jnp.asarray(arrays.get(key, leaf)) for key, leaf in flat(variables).items()}
    assert arrays.keys() <= leaves.keys()
    params = {path: leaf for (_, path), leaf in leaves.items()}
    return {"params": traverse_util.unflatten_dict(params, sep="/")}


def test_gates_stay_within_the_limits():
    scale, shift, none = np.array([-1.0, 0.0, 0.3, 5.0]), np.array([-3.0, 0.0, 0.8, 3.0]), np.zeros(4)
    for relay in RELAYS:
        gates = _Gates.giving(relay, scale, shift, none)
        found_scale, found_shift = gates.step(none)
        np.testing.assert_allclose(found_shift, [-0.9, 0, 0.8, 0.9])
        np.testing.assert_allclose(found_scale[:3], [0.01, 0.01, 0.3])
        assert 0.6 < found_scale[3] < 1
        assert np.all(np.isfinite(gates.bias))
        assert np.max(np.abs(gates.bias)) < 5


def test_the_proportion_is_the_nearest_to_all_norms():
    rng = np.random.default_rng(0)
    gammas, betas = np.abs(rng.standard_normal((3, 5))), rng.standard_normal((3, 5))

    def error(scale, shift):
        factors = (gammas * scale + betas * shift) / (scale**2 + shift**2)
        return np.sum((factors * scale - gammas) ** 2 + (factors * shift - betas) ** 2, 0)

    scale, shift = _proportion(gammas, betas)
    best = error(scale, shift)
    for angle in np.linspace(-np.pi / 2, np.pi / 2, 181):
        assert np.all(best <= error(np.cos(angle), np.sin(angle)) + 1e-12)
    np.testing.assert_allclose(np.maximum(scale / 0.25, np.abs(shift) / 0.5), 1)
    single = _proportion(gammas[:1], betas[:1])
    np.testing.assert_allclose(single[1] / single[0], betas[0] / gammas[0])


@pytest.mark.parametrize("groups", [1, 2])
def test_factors_multiply_what_a_convolution_reads(groups):
    rng = np.random.default_rng(0)
    kernel, factors = rng.standard_normal((3, 3, 6 // groups, 4)), rng.standard_normal(6)
    x = rng.standard_normal((1, 5, 5, 6))

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x.astype(np.float32),
            kernel.astype(np.float32),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    np.testing.assert_allclose(convolve(x, scale_inputs(kernel, factors)), convolve(x * factors, kernel), atol=1e-4)


def test_a_channel_without_scale_and_shift_stays_silent_and_finite(small):
    config = experiment()
    _, _, source = batch_norm_source(config)
    for leaf in ("scale", "bias"):
        source.state[f"backbone/layer1/block0/norm1/{leaf}"] = np.array([0.0, 0, 1, 1])
    started = fit_source(source, config).apply(noise(template_of(config)))
    kernel = np.asarray(started["params"]["backbone"]["layer1"]["block0"]["conv2"]["kernel"])
    assert not kernel[:, :, :2].any()
    assert kernel[:, :, 2:].all()
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(started))


def test_without_a_convolution_behind_the_scale_is_clipped(small):
    config = experiment(depth=18)
    _, _, source = batch_norm_source(config, within=False)
    report = fit_source(source, config).report
    path = "backbone/layer1/block0/norm2"
    source.state[f"{path}/scale"], source.state[f"{path}/bias"] = np.array([-3, 0.2, 0.1, 1]), np.array([0, 4, -4, 0.1])
    started = fit_source(source, config).apply(noise(template_of(config)))
    block = started["params"]["backbone"]["layer1"]["block0"]
    bias = np.asarray(block["norm2"]["relay"]["layer_0"]["input"]["expand"]["bias"]).reshape(4, 4)
    i, _, g, o = bias
    shift = _sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(shift, [0, 0.9, -0.9, 0.1], atol=1e-12)
    np.testing.assert_allclose(_sigmoid(o) * _sigmoid(shift), [0.45, 0.2, 0.1, 0.9 * _sigmoid(0.1)], atol=1e-12)
    mean = source.state[f"{path}/mean"] * np.array([-1, 1, 1, 1])
    np.testing.assert_array_equal(started["batch_stats"]["backbone"]["layer1"]["block0"]["norm2"]["mean"], mean)
    assert "off by 0.0%" not in report.summary()


def test_the_report_says_what_became_of_the_scales_and_shifts(small):
    config = experiment()
    _, _, source = batch_norm_source(config)
    report = fit_source(source, config).report
    norms = places_of(config)
    negative = sum(int(np.sum(source.state[f"{place.norm}/scale"] < 0)) for place in norms)
    channels = sum(len(source.state[f"{place.norm}/scale"]) for place in norms)
    assert f"{channels} channels, {channels} with a factor in the next convolution, {negative} with" in report.summary()
    assert not report.dropped
    assert set(report.started) == {path for path in shapes_of(config) if "/relay/" in path and "/expand/" in path}
    assert all("/squeeze/" in path for path in report.fresh)
    total = len(report.loaded) + len(report.started) + len(report.fresh)
    assert f"{len(report.loaded)} of {total} arrays loaded" in report.summary()
    assert report.started[0] in str(report)


def test_blocks_under_a_scan_start_alike(small):
    config = experiment(sharing="stage")
    _, _, source = batch_norm_source(config)
    started = fit_source(source, config).apply(noise(template_of(config)))
    scanned = copy.deepcopy(config)
    scanned.model.scan_blocks = True
    template = stack_blocks(noise(template_of(config)))
    jax.tree.map(
        np.testing.assert_array_equal, fit_source(source, scanned).apply(template), stack_blocks(dict(started))
    )


@pytest.mark.slow
def test_parts_that_the_source_lacks_are_left_alone():
    """SlowFast from an image network: its fast pathway is new."""
    config = experiment("slowfast")
    config.model.dtype = "float32"
    images = experiment("tsn")
    images.model.width, images.model.dtype = 8, "float32"
    variables = noise(template_of(with_batch_norm(images)))
    config.init.allow = "head,relays,fast_pathway"
    report = fit_source(Source("images", to_state_dict(variables, TORCHVISION)), config).report
    assert report.started
    assert not any("fast_" in path for path in report.started)
    assert any("fast_" in path and "relay" in path for path in report.fresh)


def test_what_cannot_start_is_refused():
    config = experiment("tsn", depth=18)
    config.model.dtype = "float32"
    baseline = with_batch_norm(config)
    state = to_state_dict(noise(template_of(baseline)), OWN)
    source = Source("bn", state, "own")
    config.init.allow = ""
    with pytest.raises(ConfigError, match=r"init\.relays: .* needs 'relays' in init\.allow"):
        fit_source(source, config)
    config.init.allow = "relays"
    config.model.norm.base = "gn"
    with pytest.raises(ConfigError, match=r"init\.relays: 'batch_norm' needs model\.norm\.base BatchNorm.* GroupNorm"):
        fit_source(source, config)
    baseline.init = config.init
    with pytest.raises(ConfigError, match="no norm of the network predicts"):
        fit_source(source, baseline)
    config.model.norm.base, config.init.allow = "bn", "relays"
    relayed = to_state_dict(noise(template_of(config)), OWN)
    with pytest.raises(ConfigError, match=r"16 norms of the network, such as backbone/layer1/block0/norm1, have no"):
        fit_source(Source("dnr", relayed, "own"), config)
    config.init_from = ""
    with pytest.raises(ConfigError, match=r"init\.relays: is 'batch_norm', but there is no init_from"):
        validate(config)
    config.init.relays = "batchnorm"
    with pytest.raises(ConfigError, match="init.relays: is 'batchnorm'.*did you mean 'batch_norm'"):
        validate(config)
