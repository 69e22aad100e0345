"""TDN: its two temporal modules against the repository's and against literal ones; frames, norms and configurations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.convert import MCG_NJU, Naming
from dnr_jax.dnr import CrossLayerDNR, CrossTemporalDNR, DNRSpec, StaticNorm
from dnr_jax.models import TDN, TDNBackbone, create_model
from dnr_jax.models.tdn import DifferenceAttention, LongTermModule, SegmentShift, halve, resize_nearest
from tests import golden
from tests.dnr.reference import assert_close, jit, variables_like
from tests.dnr.test_golden import clips, frames
from tests.marks import thorough
from tests.models import literal
from tests.models.inspection import norms_of
from tests.models.test_layers import convolution

SPEC = DNRSpec()
DTYPES = {"dtype": jnp.float64, "param_dtype": jnp.float64}


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


# Against the repository


@pytest.mark.parametrize("side", [4, 5])
def test_the_attention_is_the_repositorys(shared, x64, side):
    case = golden.load(shared, f"unit_tdn_mse_{side}")
    x = clips(case.input())
    module = DifferenceAttention(SPEC, **DTYPES)

    def apply(variables, x, train):
        return module.apply(variables, x, train, mutable=["batch_stats", "intermediates"])

    naming = Naming(((r"^", "temporal/attention/"), *MCG_NJU.rules, (r"^mse\.", "")))
    template = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), x)
    golden.check_network(case, apply, template, naming, x, lambda y, _: {"out": frames(y)}, frames)


def test_the_shift_is_the_repositorys(shared, x64):
    case = golden.load(shared, "unit_tdn_shift")
    x = clips(case.input())
    module = SegmentShift(**DTYPES)

    def apply(variables, x, train):
        del train
        return module.apply({"params": variables["params"]}, x), {"batch_stats": {}}

    naming = Naming(((r"^$", "conv"),))
    template = jax.eval_shape(module.init, jax.random.key(0), x) | {"batch_stats": {}}
    golden.check_network(case, apply, template, naming, x, lambda y, _: {"out": frames(y)}, frames)


# Against literal versions


@pytest.mark.parametrize(("old", "new"), [(3, 7), (2, 5), (4, 4), (7, 14), (5, 3)])
def test_resizing_takes_torchs_pixels(old, new):
    x = jnp.arange(old * old).reshape(1, 1, old, old, 1)
    found = resize_nearest(x, new, new + 1)[0, 0, :, :, 0]
    expected = [[i * old // new * old + j * old // (new + 1) for j in range(new + 1)] for i in range(new)]
    assert found.tolist() == expected


def test_halving_averages_what_is_whole(x64):
    x = normal(2, 3, 5, 4, 2)
    found = halve(x)
    assert found.shape == (2, 3, 2, 2, 2)
    for i, j in np.ndindex(2, 2):
        expected = np.mean(x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2], axis=(2, 3))
        np.testing.assert_allclose(found[:, :, i, j], expected, rtol=1e-12)
    with pytest.raises(ValueError, match="features of 1 x 4 pixels cannot be halved"):
        halve(x[:, :, :1])


def literal_attention(params, stats, x, train):
    """A segment after the other; the running statistics move with the forward, then with the backward differences."""
    stats = dict(stats)

    def convolve(name, x):
        kernel = params[name]["kernel"]
        return convolution(x, kernel, 1, kernel.shape[0] // 2)

    def norm(name, x):
        y, stats[name] = literal.static_norm(params[name], stats[name], x, train)
        return y

    here = norm("norm1", convolve("conv1", x))
    size, kernel = here.shape[-1], params["conv2"]["kernel"]
    aligned = [convolution(here[..., c : c + 1], kernel[..., c : c + 1], 1, 1) for c in range(size)]
    aligned, last = jnp.concatenate(aligned, axis=-1), x.shape[1] - 1
    none = jnp.zeros_like(here[:, 0])
    forward = [aligned[:, t + 1] - here[:, t] if t < last else none for t in range(last + 1)]
    backward = [aligned[:, t - 1] - here[:, t] if t > 0 else none for t in range(last + 1)]
    gates = []
    for differences in (forward, backward):
        d = jnp.stack(differences, axis=1)
        coarse = norm("coarse_norm", convolve("coarse_conv", halve(d)))
        coarse = resize_nearest(coarse, *x.shape[2:4])
        fine = norm("fine_norm", convolve("fine_conv", d))
        gates.append(jax.nn.sigmoid(norm("norm3", convolve("conv3", d / 3 + coarse / 3 + fine / 3))) - 0.5)
    return x * (1 + gates[0] / 2 + gates[1] / 2), stats


def literal_shift(kernel, x):
    found = []
    for t in range(x.shape[1]):
        taps = [(t - 1 + i, kernel[i, 0]) for i in range(3) if 0 <= t - 1 + i < x.shape[1]]
        found.append(sum(x[:, s] * tap[None, None, None] for s, tap in taps))
    return jnp.stack(found, axis=1)


@pytest.mark.parametrize("channels", [8, 32])
def test_the_long_term_module_is_literal(x64, channels):
    module = LongTermModule(SPEC, **DTYPES)
    x = normal(2, 4, 5, 6, channels)
    variables = variables_like(
        jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), x), seed=1
    )
    params, stats = variables["params"], variables["batch_stats"]

    def ours(x, train):
        y, updates = module.apply(variables, x, train, mutable=["batch_stats"])
        return y, updates["batch_stats"]

    def plain(x, train):
        y, new_stats = literal_attention(params["attention"], stats["attention"], x, train)
        return literal_shift(params["shift"]["kernel"], y), {"attention": new_stats}

    def both(attend):
        return jit(lambda x: (attend(x, False)[0], attend(x, True)))(x)

    assert_close(both(ours), both(plain))


def test_the_convolution_over_segments_starts_as_a_shift():
    x = jnp.arange(1.0, 4.0)[None, :, None, None, None] * jnp.ones((1, 3, 1, 1, 16))
    y, _ = SegmentShift().init_with_output(jax.random.key(0), x)
    assert y[0, :, 0, 0].T.tolist() == [[2, 3, 0]] * 2 + [[0, 1, 2]] * 2 + [[1, 2, 3]] * 12


def test_segments_are_a_middle_frame_and_differences(x64):
    x = normal(2, 10, 3, 2, 3)
    middle, changes = TDNBackbone().split(x)
    np.testing.assert_array_equal(middle, np.stack([x[:, 2], x[:, 7]], axis=1))
    for segment in range(2):
        first = 5 * segment
        expected = np.concatenate([x[:, t + 1] - x[:, t] for t in range(first, first + 4)], axis=-1)
        np.testing.assert_array_equal(changes[:, segment], expected)
    with pytest.raises(ValueError, match="a clip of 9 frames cannot be divided into segments of 5"):
        TDNBackbone().split(x[:, :9])


def test_the_short_term_module_sees_differences_and_the_resnet_the_middle_frame(x64):
    """With an appearance of 1 nothing of the differences is left; the differences do not change with the brightness."""
    x = normal(1, 5, 16, 16, 3)
    shape = functools.partial(TDNBackbone(18, DNRSpec.static(), 4, "small", **DTYPES).init, train=False)
    variables = variables_like(jax.eval_shape(shape, jax.random.key(0), x), 1)

    @jax.jit
    def features(x):
        models = [TDNBackbone(18, DNRSpec.static(), 4, "small", appearance=share, **DTYPES) for share in (1.0, 1e-12)]
        return [model.apply(variables, x, train=False) for model in models]

    def equal(a, b):
        return bool(jnp.allclose(a, b, rtol=1e-6))

    (by_middle, by_changes), others, shifted = (
        features(y) for y in (x, x.at[:, jnp.array([0, 1, 3, 4])].add(1.0), x + 1.0)
    )
    assert (equal(by_middle, others[0]), equal(by_changes, others[1])) == (True, False)
    assert (equal(by_middle, shifted[0]), equal(by_changes, shifted[1])) == (False, True)


@pytest.mark.parametrize(("segments", "share"), [(8, 0.5), (16, 0.75), (4, 0.75)])
def test_the_share_of_appearance_is_the_repositorys(segments, share):
    x, motion = jnp.ones((1, segments, 2, 2, 1)), jnp.zeros((1, segments, 2, 2, 1))
    assert TDNBackbone()._fuse(x, motion)[0, 0, 0, 0, 0] == share
    assert TDNBackbone(appearance=0.25)._fuse(x, motion)[0, 0, 0, 0, 0] == 0.25


# Norms, sizes, configurations


def test_norms_stand_where_the_rule_puts_them():
    norms = norms_of(TDNBackbone(18, width=8, stem="small"), jax.ShapeDtypeStruct((1, 40, 16, 16, 3), jnp.float32))
    for path, (norm, num_frames) in norms.items():
        assert num_frames == 8, path
        in_block = path.startswith("layer") and path.count("/") == 2
        kinds = {"norm1": CrossLayerDNR, "norm2": CrossTemporalDNR} if in_block else {}
        assert type(norm) is kinds.get(path.rpartition("/")[2], StaticNorm), path
        assert not isinstance(norm, CrossTemporalDNR) or norm.groups(8) == 2
    temporal = {path.rpartition("/")[0] for path in norms if "temporal" in path}
    assert temporal == {f"layer{i}/block{j}/temporal/attention" for i in (2, 3, 4) for j in (0, 1)}
    assert sum(path.startswith("difference_layer1") for path in norms) == 4


@pytest.mark.parametrize("depth", [18, *thorough(50)])
@pytest.mark.parametrize(("scan_blocks", "remat"), [(False, "none"), (True, "block"), (False, "stage")])
def test_any_depth_and_size(depth, scan_blocks, remat):
    model = TDNBackbone(depth, width=4, scan_blocks=scan_blocks, remat=remat)
    x = jax.ShapeDtypeStruct((2, 40, 33, 70, 3), jnp.float32)
    features, _ = jax.eval_shape(functools.partial(model.init_with_output, train=True), jax.random.key(0), x)
    assert features.shape == (2, 8, 2, 3, {18: 32, 50: 128}[depth])


@pytest.mark.parametrize("base", ["bn", "gn"])
def test_a_config_builds_it(base):
    config = TDN(depth=18, width=8, stem="small", num_classes=5, dtype="bfloat16", frames_per_segment=3)
    config.appearance = 0.75
    config.norm.base = base
    model = create_model(config)
    backbone = model.backbone
    assert (backbone.frames_per_segment, backbone.appearance, backbone.spec) == (3, 0.75, config.norm.spec())
    assert (model.head.frame_scores, model.head.init_std, model.head.dropout) == (True, 0.001, 0.5)
    x = jax.ShapeDtypeStruct((2, 24, 16, 16, 3), jnp.float32)
    scores, variables = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), x)
    assert (scores.shape, scores.dtype) == ((2, 5), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert ("batch_stats" in variables) == (base == "bn")
