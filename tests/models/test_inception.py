"""BNInception: pooling pixel by pixel, blocks against literal ones, where the norms stand and how the relay runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.dnr import CrossLayerDNR, CrossTemporalDNR, DNRSpec, StaticNorm
from dnr_jax.models import BNInception, BNInceptionBackbone, create_model
from dnr_jax.models.inception import InceptionBlockSize, InceptionStage, max_pool_ceil, same_size_pool
from tests.dnr import reference
from tests.dnr.reference import assert_close, jit, variables_like
from tests.marks import thorough
from tests.models import literal
from tests.models.inspection import norms_of
from tests.models.test_layers import convolution


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


# Pooling


@pytest.mark.parametrize(("height", "width"), [(3, 4), (5, 6), (7, 3), (8, 9), (28, 14)])
@pytest.mark.parametrize(("size", "strides"), [(3, 2), (2, 2), (3, 3)])
def test_pooling_rounds_up_and_no_window_starts_outside(height, width, size, strides):
    x = np.asarray(normal(1, 1, height, width, 2)) - 5.0  # a zero of the padding would win

    def starts(pixels: int) -> list[int]:
        """The first pixel of each window: on, until one reaches the end."""
        found = [0]
        while found[-1] + size < pixels and found[-1] + strides < pixels:
            found.append(found[-1] + strides)
        return found

    expected = [[x[0, 0, i : i + size, j : j + size].max(axis=(0, 1)) for j in starts(width)] for i in starts(height)]
    np.testing.assert_array_equal(max_pool_ceil(jnp.asarray(x), size, strides)[0, 0], np.array(expected, np.float32))


@pytest.mark.parametrize("kind", ["avg", "max"])
def test_pooling_around_each_pixel(x64, kind):
    x = np.asarray(normal(2, 3, 4, 5, 2)) - 1.0
    found = same_size_pool(kind, jnp.asarray(x))
    assert found.shape == x.shape
    for i, j in np.ndindex(4, 5):
        window = x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
        expected = window.max(axis=(2, 3)) if kind == "max" else window.sum(axis=(2, 3)) / 9
        np.testing.assert_allclose(found[:, :, i, j], expected, rtol=1e-12)


# Blocks

FRACTION = 0.25
SIZES = (
    InceptionBlockSize(4, (3, 4), (5, 3), "avg", 2),
    InceptionBlockSize(3, (6, 4), (5, 2), "max", 2),
    InceptionBlockSize(0, (4, 3), (2, 3), "max", 0),
)


def literal_branch(convolutions, kinds, cells, params, stats, states, x, train):
    """Convolutions with biases, each with a norm and a ReLU; ``states`` are the branch's."""
    new_stats = {}
    for i, (kernel_size, strides) in enumerate(convolutions, 1):
        conv, norm = params[f"conv{i}"], f"norm{i}"
        x = convolution(x, conv["kernel"], strides, kernel_size // 2) + jnp.reshape(conv["bias"], (1, 1, 1, 1, -1))
        cell = cells.get(x.shape[-1]) if i == 1 else None
        states, x, new_stats[norm] = literal.norm(
            kinds[i - 1], params.get(norm), cell, stats[norm], states, x, train, groups=2
        )
        x = jnp.maximum(x, 0)
    return states, x, new_stats


def literal_block(size, params, stats, cells, states, x, train):
    """Branches side by side: the two with a pair of norms see interlaced channels."""
    interlaced, static, pair = reference.interlace(x, FRACTION), ("static",), ("cl", "ct", "static")
    strides = 1 if size.projection else 2
    pooled = same_size_pool(size.pool, x) if size.projection else max_pool_ceil(x)
    branches = {
        "1x1": (((1, 1),), static, x),
        "3x3": (((1, 1), (3, strides)), pair, interlaced),
        "double_3x3": (((1, 1), (3, 1), (3, strides)), pair, interlaced),
        "pool": (((1, 1),), static, pooled),
    }
    parts, new_stats, states = [], {}, dict(states)
    for name, (convolutions, kinds, source) in branches.items():
        path = f"branch_{name}"
        if path in params:
            states[name], y, new_stats[path] = literal_branch(
                convolutions, kinds, cells.get(name), params[path], stats[path], states.get(name, []), source, train
            )
            parts.append(y)
    return states, jnp.concatenate(parts if size.projection else [*parts, pooled], axis=-1), new_stats


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_stages_are_literal_blocks_one_after_another(x64, remat):
    """Widths of the relaying norms change from 3 to 6 and 4 in one branch, from 5 to 5 and 2 in the other."""
    spec = DNRSpec(num_groups=2, reduction=2)
    fields = {"interlace_fraction": FRACTION, "dtype": jnp.float64, "param_dtype": jnp.float64}
    stage = InceptionStage(SIZES, 64, spec, remat_blocks=remat, **fields)
    x = normal(2, 4, 4, 6, 4)
    template = jax.eval_shape(functools.partial(stage.init, train=False), jax.random.key(0), x)
    variables = variables_like(template, 1)
    params, stats = variables["params"], variables["batch_stats"]
    relays = {name for name in params if name.startswith("relay")}
    assert relays == {f"relay1_3x3_{width}" for width in (3, 6, 4)} | {f"relay1_double_3x3_{width}" for width in (5, 2)}
    cells = {
        branch: {width: params.get(f"relay1_{branch}_{width}") for width in range(2, 7)}
        for branch in ("1x1", "3x3", "double_3x3", "pool")
    }

    def blocks(params, x, train):
        states, new_stats = {}, {}
        for i, size in enumerate(SIZES):
            name = f"block{i}"
            states, x, new_stats[name] = literal_block(size, params[name], stats[name], cells, states, x, train)
        return x, new_stats

    def ours(params, x, train):
        y = stage.apply({"params": params, "batch_stats": stats}, x, train=train, mutable=["batch_stats"])
        return y[0], y[1]["batch_stats"]

    def values(apply, x):
        def loss(x):
            y, new_stats = apply(params, x, True)
            return jnp.mean(jnp.sin(y)), (y, new_stats)

        return apply(params, x, False)[0], jax.value_and_grad(loss, has_aux=True)(x)

    assert_close(jit(functools.partial(values, ours))(x), jit(functools.partial(values, blocks))(x))


def test_norms_stand_where_the_rule_puts_them():
    """The first and the second norm of a branch that has two or more; the stem and single convolutions are static."""
    kinds = {
        "1x1": [StaticNorm],
        "3x3": [CrossLayerDNR, CrossTemporalDNR],
        "double_3x3": [CrossLayerDNR, CrossTemporalDNR, StaticNorm],
        "pool": [StaticNorm],
    }
    norms = norms_of(BNInceptionBackbone(width=8), jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32))
    expected = {f"norm{i}": StaticNorm for i in (1, 2, 3)}
    for stage, num_blocks in ((3, 3), (4, 5), (5, 2)):
        for block in range(num_blocks):
            for branch, norms_of_branch in kinds.items():
                if branch in ("3x3", "double_3x3") or (stage, block) not in ((3, 2), (4, 4)):
                    path = f"inception{stage}/block{block}/branch_{branch}"
                    expected |= {f"{path}/norm{i}": norm for i, norm in enumerate(norms_of_branch, 1)}
    assert {path: type(norm) for path, (norm, _) in norms.items()} == expected


def test_branches_of_one_width_share_a_cell():
    clip = jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(functools.partial(BNInceptionBackbone().init, train=False), jax.random.key(0), clip)[
        "params"
    ]
    relays = {
        stage: sorted(name.removeprefix("relay1_") for name in params[f"inception{stage}"] if "relay" in name)
        for stage in (3, 4, 5)
    }
    assert relays == {
        3: ["3x3_128", "3x3_64", "double_3x3_64"],
        4: ["3x3_128", "3x3_64", "3x3_96", "double_3x3_128", "double_3x3_160", "double_3x3_192", "double_3x3_96"],
        5: ["3x3_192", "double_3x3_160", "double_3x3_192"],
    }


@pytest.mark.parametrize(
    ("stem", "least", "most", "multiple", "remat"),
    [
        ("imagenet", 31, 38, 32, "none"),
        ("small", 16, 17, 8, "stage"),
        *thorough(
            ("imagenet", 31, 38, 32, "stage"),
            ("small", 16, 17, 8, "none"),
            ("imagenet", 63, 70, 32, "none"),
            ("imagenet", 63, 70, 32, "stage"),
        ),
    ],
)
def test_frames_have_sides_that_can_be_halved(stem, least, most, multiple, remat):
    model = BNInceptionBackbone(width=8, stem=stem, remat=remat)

    def features(height: int, width: int) -> tuple[int, ...]:
        x = jax.ShapeDtypeStruct((2, 4, height, width, 3), jnp.float32)
        return jax.eval_shape(functools.partial(model.init_with_output, train=True), jax.random.key(0), x)[0].shape

    side = most // multiple
    assert features(least, most) == (2, 4, side, side, 128)
    for wrong in (least - 1, most + 1):
        with pytest.raises(ValueError, match="cannot be halved: the sides of the frames must be multiples of 32"):
            features(most, wrong)


@pytest.mark.parametrize("base", ["bn", "gn"])
def test_a_config_builds_it(base):
    config = BNInception(width=8, stem="small", num_classes=5, dtype="bfloat16")
    config.norm.base, config.interlace.stages = base, (False, True, True)
    model = create_model(config)
    backbone = model.backbone
    assert (backbone.spec, backbone.interlace_fraction) == (config.norm.spec(), config.interlace.fraction)
    assert (backbone.interlace_stages, model.head.dropout) == (config.interlace.stages, 0.4)
    x = jax.ShapeDtypeStruct((2, 8, 16, 16, 3), jnp.float32)
    scores, variables = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), x)
    assert (scores.shape, scores.dtype) == ((2, 5), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert variables["params"]["backbone"]["conv1"]["kernel"].shape == (3, 3, 3, 8)
    assert ("batch_stats" in variables) == (base == "bn")
