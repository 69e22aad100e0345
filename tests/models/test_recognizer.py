"""Recognisers: the head's arithmetic, dropout, what depends on the order of the frames, and building from a config."""

import functools
import itertools
import re
from statistics import NormalDist

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dnr_jax.dnr import DNRSpec
from dnr_jax.models import TSM, TSN, Interlace, Recognizer, ResNet, TemporalShift, TSNHead, create_model
from tests.dnr.reference import assert_close, jit, variables_like


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def test_head_is_mean_over_pixels_consensus_over_frames_and_a_linear_map(x64):
    head, x = TSNHead(3, param_dtype=jnp.float64), normal(2, 4, 3, 5, 6)
    variables = variables_like(jax.eval_shape(functools.partial(head.init, train=False), jax.random.key(0), x), 1)
    fc = jax.tree.map(np.asarray, variables["params"]["fc"])
    expected = np.zeros((2, 3))
    for n in range(2):
        frames = [np.mean(x[n, t], axis=(0, 1)) for t in range(4)]
        expected[n] = sum(frames) / 4 @ fc["kernel"] + fc["bias"]
    assert_close(head.apply(variables, x, train=False), jnp.asarray(expected))


def test_dropout_acts_on_the_consensus_in_training_only(x64):
    size = 400
    head, x = TSNHead(size, dropout=0.25, param_dtype=jnp.float64), normal(2, 3, 2, 2, size)
    identity = {"params": {"fc": {"kernel": jnp.eye(size), "bias": jnp.zeros(size)}}}
    consensus = np.mean(x, axis=(1, 2, 3))
    np.testing.assert_allclose(head.apply(identity, x, train=False), consensus, rtol=1e-12)
    trained = np.asarray(head.apply(identity, x, train=True, rngs={"dropout": jax.random.key(0)}))
    kept = trained != 0
    np.testing.assert_allclose(trained[kept], consensus[kept] / 0.75, rtol=1e-12)
    assert stats.binomtest(int(kept.sum()), kept.size, 0.75).pvalue > 1e-3
    other = head.apply(identity, x, train=True, rngs={"dropout": jax.random.key(1)})
    assert (np.asarray(other != 0) != kept).any()


def test_frames_are_scored_one_by_one_each_with_a_dropout_of_its_own(x64):
    size, frames = 300, 3
    head, x = TSNHead(size, 0.25, jnp.float64, frame_scores=True), normal(2, frames, 2, 2, size)
    kernel = normal(size, size)
    variables = {"params": {"fc": {"kernel": kernel, "bias": jnp.ones(size)}}}
    pooled = np.mean(x, axis=(2, 3))
    expected = sum(pooled[:, t] @ np.asarray(kernel) + 1 for t in range(frames)) / frames
    np.testing.assert_allclose(head.apply(variables, x, train=False), expected, rtol=1e-9)
    identity = {"params": {"fc": {"kernel": jnp.eye(size), "bias": jnp.zeros(size)}}}
    trained = np.asarray(head.apply(identity, x, train=True, rngs={"dropout": jax.random.key(0)}))
    # A feature is the mean over a subset of the frames: which subset says what was dropped, and how often.
    subsets = np.array(list(itertools.product((0, 1), repeat=frames)))
    candidates = np.einsum("st,ntc->nsc", subsets, pooled) / frames / 0.75
    distance = np.abs(candidates - trained[:, None])
    assert distance.min(axis=1).max() < 1e-12
    kept = subsets[distance.argmin(axis=1)].sum()
    assert stats.binomtest(int(kept), 2 * size * frames, 0.75).pvalue > 1e-3


def test_training_with_dropout_asks_for_a_key():
    identity = {"params": {"fc": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}}}
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        TSNHead(2).apply(identity, jnp.zeros((1, 1, 1, 1, 2)), train=True)


@pytest.mark.parametrize("std", [0.01, 0.001])
def test_classifier_starts_from_small_normal_weights_and_no_bias(std):
    params = TSNHead(64, init_std=std).init(jax.random.key(0), jnp.zeros((1, 1, 1, 1, 128)), train=False)["params"][
        "fc"
    ]
    assert stats.kstest(np.asarray(params["kernel"]).ravel(), np.vectorize(NormalDist(0, std).cdf)).pvalue > 1e-3
    assert not params["bias"].any()


def test_scores_of_narrow_features_are_float32():
    features = jnp.full((1, 1, 32, 32, 2), 300, jnp.float16)  # their sum overflows float16
    identity = {"params": {"fc": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}}}
    scores = TSNHead(2).apply(identity, features, train=False)
    assert scores.dtype == jnp.float32
    assert scores.tolist() == [[300, 300]]


@pytest.mark.parametrize(
    ("spec", "fraction", "order_matters"),
    [
        (DNRSpec.static(), 0.0, False),
        (DNRSpec.static(), 0.25, True),
        (DNRSpec("cl", "static", "static"), 0.0, False),
        (DNRSpec("static", "ct", "static", relay_distance=1), 0.0, True),
    ],
)
def test_only_interlacing_and_cross_temporal_norms_see_the_order_of_frames(x64, spec, fraction, order_matters):
    backbone = ResNet(18, spec, 4, "small", fraction, dtype=jnp.float64, param_dtype=jnp.float64)
    model, x = Recognizer(backbone, TSNHead(5, param_dtype=jnp.float64)), normal(1, 4, 6, 6, 3)
    template = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    score = jit(functools.partial(model.apply, variables_like(template, 1), train=False))
    change = jnp.abs(score(x[:, jnp.array([2, 0, 3, 1])]) / score(x) - 1)
    assert (change > 1e-4).all() if order_matters else (change < 1e-10).all()


def test_config_names_every_part_of_the_network():
    config = TSN(
        depth=18,
        width=8,
        stem="small",
        num_classes=7,
        dropout=0.1,
        interlace=Interlace(0.25),
        dtype="bfloat16",
        norm=DNRSpec(norm2="static", depth=2),
    )
    spec = DNRSpec(norm2="static", depth=2)
    backbone = ResNet(18, spec, 8, "small", 0.25, dtype=jnp.dtype(jnp.bfloat16), param_dtype=jnp.dtype(jnp.float32))
    assert create_model(config) == Recognizer(backbone, TSNHead(7, 0.1, param_dtype=jnp.dtype(jnp.float32)))


def test_interlacing_can_be_switched_off():
    assert create_model(TSN(interlace=None)).backbone.interlace_fraction == 0


def test_tsm_is_a_tsn_whose_shift_stays_and_whose_frames_are_scored():
    fields = {"depth": 18, "width": 8, "stem": "small", "num_classes": 7, "dropout": 0.0, "dtype": "float32"}
    tsn = create_model(TSN(**fields, interlace=Interlace(0.25)))
    tsm = create_model(TSM(**fields, shift=TemporalShift(0.25)))
    assert tsm.backbone == tsn.backbone
    head = TSNHead(7, 0.0, jnp.dtype(jnp.float32), frame_scores=True, init_std=0.001)
    assert tsm.head == head
    assert create_model(TSM(depth=101)).backbone.interlace_every == 2


def test_norms_out_of_range_are_refused():
    config = TSN()
    config.norm.norm1 = "layer"
    with pytest.raises(ValueError, match="norm1: is 'layer'; expected one of static, cl, ct, ilm, an"):
        create_model(config)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_are_float32_whatever_the_activations(dtype):
    model = create_model(TSN(depth=18, width=4, num_classes=5, dtype=dtype))
    x = jax.ShapeDtypeStruct((2, 8, 32, 32, 3), jnp.float32)
    scores, _ = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), x)
    assert (scores.shape, scores.dtype) == ((2, 5), jnp.float32)


def test_clips_of_another_shape_are_refused():
    model = create_model(TSN(depth=18, width=4, num_classes=3, norm=DNRSpec(norm1="static", norm2="static")))
    with pytest.raises(AssertionError, match=r"clips must be \[N, T, H, W, 3\]"):
        model.init(jax.random.key(0), jnp.zeros((2, 30, 8, 16, 16, 3)), train=False)


def test_pixels_that_were_not_normalised_are_refused():
    model = create_model(TSN(depth=18, width=4, num_classes=3, norm=DNRSpec(norm1="static", norm2="static")))
    init = functools.partial(model.init, train=False)
    x = jax.ShapeDtypeStruct((2, 4, 16, 16, 3), jnp.float32)
    variables = jax.eval_shape(init, jax.random.key(0), x)
    with pytest.raises(TypeError, match="features must be floating point, got uint8: normalise the pixels first"):
        jax.eval_shape(functools.partial(model.apply, train=False), variables, jax.ShapeDtypeStruct(x.shape, jnp.uint8))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"depth": 19}, "depth: is 19; expected one of 18, 34, 50, 101, 152"),
        ({"width": 0}, "width: is 0; expected at least 1"),
        ({"interlace": True}, "interlace: is True; expected Interlace or None"),
        ({"norm": None}, "norm: is None; expected DNRSpec"),
        ({"interlace": Interlace(stages=(True,))}, "interlace.stages: is (True,); expected 4 entries, one a stage"),
    ],
)
def test_a_network_is_built_of_what_it_can_be_alone(fields, problem):
    with pytest.raises(ValueError, match=re.escape(f"TSN: {problem}")):
        create_model(TSN(**fields))
