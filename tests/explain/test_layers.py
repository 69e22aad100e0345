"""Gradients at a layer are those of the network behind it, whatever lifts the layer, in every registered network."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from dnr_jax.dnr import DNRSpec
from dnr_jax.explain.layers import find_layer, find_layers, gradients
from dnr_jax.models import create_model
from dnr_jax.models.blocks import recomputed, stack_blocks
from dnr_jax.models.complexity import abstract_variables
from dnr_jax.models.residual import BasicBlock, Stage
from tests.precision import float64
from tests.training.test_networks import NETWORKS, reduced

CLIPS = np.random.default_rng(0).normal(size=(2, 4, 8, 8, 3))


class Twice(nn.Module):
    """A layer that is called twice, and a linear score of the products of what comes out."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        layer = nn.Dense(2, param_dtype=x.dtype, name="layer")
        first, second = layer(x), layer(x**2)
        return jnp.mean(first * second, axis=(1, 2, 3))


class TwoStages(nn.Module):
    """Stages of three blocks and of one, and a linear score; lifted as the networks here are."""

    scan_blocks: bool = False
    remat: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        spec, dtypes = DNRSpec(relay_distance=2), {"dtype": x.dtype, "param_dtype": x.dtype}
        for name, blocks in (("layer1", 3), ("layer2", 1)):
            fields = {"scan_blocks": self.scan_blocks, "remat_blocks": self.remat == "block"} | dtypes
            x = recomputed(Stage, self.remat == "stage")(BasicBlock, 3, blocks, spec, **fields, name=name)(x, train)
        return nn.Dense(5, param_dtype=x.dtype, name="fc")(jnp.mean(x, axis=(1, 2, 3)))


def noise(abstract):
    """Random variables in the place of shapes."""
    rng = np.random.default_rng(1)
    flat = traverse_util.flatten_dict(abstract)
    made = {k: np.ones(v.shape) if k[-1] == "var" else rng.normal(0, 0.3, v.shape) for k, v in flat.items()}
    return traverse_util.unflatten_dict({k: jnp.asarray(v.astype(flat[k].dtype)) for k, v in made.items()})


def variables_of(model: nn.Module):
    return noise(jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), jnp.asarray(CLIPS)))


def at_layers(model, variables, names, classes=(1, 4)):
    """Scores and classes, and of each layer its features and gradients."""
    clips = jnp.asarray(CLIPS)
    layers = find_layers(model, variables, clips)
    program = jax.jit(functools.partial(gradients, model, layers=[layers[name] for name in names]))
    found = program(variables, clips, jnp.asarray(classes, jnp.int32))
    return found.scores, found.classes, dict(zip(names, zip(found.features, found.gradients, strict=True), strict=True))


def test_a_layer_that_is_called_twice_has_a_gradient_a_call(x64):
    model = Twice()
    variables = variables_of(model)
    found_scores, classes, at = at_layers(model, variables, ["layer"], (1, -1))
    scores = np.asarray(model.apply(variables, jnp.asarray(CLIPS), train=False))
    np.testing.assert_allclose(found_scores, scores)
    assert classes.tolist() == [1, scores[1].argmax()]
    chosen = np.eye(2)[np.asarray(classes)][:, None, None, None] / np.prod(CLIPS.shape[1:4])
    (first, second), of_calls = at["layer"]
    np.testing.assert_allclose(of_calls[0], chosen * second)
    np.testing.assert_allclose(of_calls[1], chosen * first)


def test_a_wrong_name_is_refused_with_the_nearest():
    layers = dict.fromkeys(["backbone/layer1", "backbone/layer1/block0/conv1", "backbone/layer2", "backbone"], None)
    with pytest.raises(ValueError, match="no layer 'layer2'; the nearest of 4 are backbone/layer2$"):
        find_layer(layers, "layer2")
    with pytest.raises(ValueError, match="the nearest of 4 are backbone/layer1/block0/conv1, "):
        find_layer(layers, "backbone/layer1/block0/convl")
    with pytest.raises(ValueError, match="no layer with features"):
        find_layer({})


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_has_gradients_at_its_layers(network, monkeypatch):
    config = reduced(network, "dnr", monkeypatch)
    model, shape = create_model(config.model), config.data.clip_shape
    clips, variables = jax.ShapeDtypeStruct((2, *shape), jnp.float32), abstract_variables(model, shape)
    layers = find_layers(model, variables, clips)
    assert layers["backbone"] == find_layer(layers) and list(layers)[-1] == "backbone"
    assert len(layers["backbone"].shapes) == (2 if network == "slowfast" else 1)
    assert any(name.endswith("/norm2") for name in layers) and any("conv" in name for name in layers)
    assert all(shape[0] == 2 and len(shape) == 5 for layer in layers.values() for shape in layer.shapes)
    program = functools.partial(gradients, model, layers=list(layers.values()))
    found = jax.eval_shape(program, variables, clips, jax.ShapeDtypeStruct((2,), jnp.int32))
    for arrays in (found.features, found.gradients):
        assert [tuple(x.shape for x in of_layer) for of_layer in arrays] == [layer.shapes for layer in layers.values()]


@pytest.mark.slow
def test_gradients_at_both_pathways_are_finite_differences_of_the_heads_score(monkeypatch, quick_compile, x64):
    config = reduced("slowfast", "dnr", monkeypatch)
    config.model.dtype = "float64"
    model, rng = create_model(config.model), np.random.default_rng(2)
    clips = jnp.asarray(rng.normal(size=(1, *config.data.clip_shape)))
    variables = noise(abstract_variables(model, config.data.clip_shape))
    layers = find_layers(model, variables, clips)
    program = jax.jit(functools.partial(gradients, model, layers=[layers["backbone"]]))
    found = program(variables, clips, jnp.zeros(1, jnp.int32))
    (features,), (at_features,) = found.features, found.gradients
    directions = [jnp.asarray(rng.normal(size=x.shape)) for x in features]

    def score(step):
        moved = tuple(x + step * d for x, d in zip(features, directions, strict=True))
        return model.head.apply({"params": variables["params"]["head"]}, moved, train=False)[0, 0]

    derivative = sum(jnp.sum(g * d) for g, d in zip(at_features, directions, strict=True))
    np.testing.assert_allclose(derivative, (score(1e-4) - score(-1e-4)) / 2e-4, rtol=1e-6)


@pytest.fixture(scope="module")
def in_a_loop():
    """Features and gradients at a stage and at each block of it."""
    with float64():
        model = TwoStages()
        variables = variables_of(model)
        names = ("layer1", "layer1/block0", "layer1/block2/conv2")
        yield variables, *at_layers(model, variables, names)


@pytest.mark.slow
def test_gradients_at_a_stage_are_finite_differences_of_what_is_behind_it(in_a_loop, x64):
    variables, found_scores, classes, at = in_a_loop
    params, statistics = (variables[name]["layer2"] for name in ("params", "batch_stats"))
    stage = Stage(BasicBlock, 3, 1, DNRSpec(relay_distance=2), dtype=jnp.float64, param_dtype=jnp.float64)
    fc = variables["params"]["fc"]

    @jax.jit
    def scores(features):
        y = stage.apply({"params": params, "batch_stats": statistics}, features, False)
        return jnp.mean(y, axis=(1, 2, 3)) @ fc["kernel"] + fc["bias"][None]

    (features,), (gradient,) = at["layer1"]
    np.testing.assert_allclose(scores(features), found_scores, rtol=1e-9)
    direction = jnp.asarray(np.random.default_rng(3).normal(size=features.shape))
    difference = (scores(features + 1e-6 * direction) - scores(features - 1e-6 * direction)) / 2e-6
    derivative = jnp.sum(gradient * direction, axis=(1, 2, 3, 4))
    np.testing.assert_allclose(derivative, difference[jnp.arange(2), classes], rtol=1e-5)
    assert (jnp.abs(derivative) > 1e-4).all()


@pytest.mark.slow
@pytest.mark.parametrize("lifted", [{"scan_blocks": True}, {"scan_blocks": True, "remat": "block"}, {"remat": "stage"}])
def test_lifted_blocks_have_the_same_gradients(lifted, in_a_loop, x64, quick_compile):
    variables, _, _, expected = in_a_loop
    model = TwoStages(**lifted)
    given = stack_blocks(variables) if "scan_blocks" in lifted else variables
    _, _, found = at_layers(model, given, list(expected))
    for name, (features, at_features) in expected.items():
        np.testing.assert_allclose(found[name][0][0], features[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found[name][1][0], at_features[0], rtol=1e-6, atol=1e-12, err_msg=name)
    names = [list(find_layers(m, v, jnp.asarray(CLIPS))) for m, v in ((model, given), (TwoStages(), variables))]
    assert sorted(names[0]) == sorted(names[1])
