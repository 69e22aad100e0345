"""TANet's temporal adaptive module against MMAction2's and against a literal one; the configurations it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.convert import MMACTION2_TANET, Naming
from dnr_jax.dnr import BatchNorm, CrossLayerDNR, CrossTemporalDNR, DNRSpec, StaticNorm
from dnr_jax.models import TANet, TemporalAdaptiveModule, create_model
from tests import golden
from tests.dnr.reference import assert_close, jit, variables_like
from tests.dnr.test_golden import clips, frames
from tests.models.inspection import norms_of

DTYPES = {"dtype": jnp.float64, "param_dtype": jnp.float64}
NAMES = Naming(((r"^", "layer1/block0/temporal/"), *MMACTION2_TANET.rules, (r"^layer1.0.tam.", "")))


def shapes_of(module, x):
    return jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), x)


def test_the_module_is_the_peers(shared, x64):
    case = golden.load(shared, "unit_tam")
    x = clips(case.input())
    module = TemporalAdaptiveModule(**DTYPES)

    def apply(variables, x, train):
        return module.apply(variables, x, train, mutable=["batch_stats", "intermediates"])

    golden.check_network(case, apply, shapes_of(module, x), NAMES, x, lambda y, _: {"out": frames(y)}, frames)


def literal_module(params, x):
    """Loops over clips, frames and channels; norms use the statistics of the batch."""
    params = jax.tree.map(np.asarray, params)
    n, t, _, _, c = x.shape
    means = x.mean(axis=(2, 3))

    def norm(values, p):
        flat = values.reshape(-1, values.shape[-1])
        return (values - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5) * p["scale"] + p["bias"]

    first, second = params["local_conv1"]["kernel"], params["local_conv2"]["kernel"]
    local = np.zeros((n, t, first.shape[2]))
    for frame in range(t):
        for tap in range(3):
            if 0 <= frame + tap - 1 < t:
                local[:, frame] += means[:, frame + tap - 1] @ first[tap]
    weights = 1 / (1 + np.exp(-(np.maximum(norm(local, params["local_norm"]), 0) @ second[0])))
    hidden = np.stack([means[:, :, channel] @ params["global_dense1"]["kernel"] for channel in range(c)], axis=1)
    taps = np.exp(np.maximum(norm(hidden, params["global_norm"]), 0) @ params["global_dense2"]["kernel"])
    taps /= taps.sum(axis=-1, keepdims=True)
    y = np.zeros_like(x)
    for clip in range(n):
        for frame in range(t):
            for channel in range(c):
                for tap in range(3):
                    other = frame + tap - 1
                    if 0 <= other < t:
                        seen = x[clip, other, :, :, channel] * weights[clip, other, channel]
                        y[clip, frame, :, :, channel] += taps[clip, channel, tap] * seen
    return y


def test_the_module_is_a_literal_one(x64):
    x = np.random.default_rng(0).normal(size=(2, 4, 2, 3, 8))
    module = TemporalAdaptiveModule(**DTYPES)
    variables = variables_like(shapes_of(module, jnp.asarray(x)), seed=1)
    y, _ = jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))(variables, jnp.asarray(x))
    assert_close(y, literal_module(variables["params"], x))


@pytest.mark.parametrize("base", ["bn", "gn"])
def test_dnr_stands_in_the_blocks_and_the_modules_stay_static(base):
    model = create_model(TANet(depth=50, width=8, stem="small", num_classes=3, norm=DNRSpec(base=base)))
    norms = norms_of(model, jax.ShapeDtypeStruct((1, 8, 8, 8, 3), jnp.float32))
    for name, (norm, _) in norms.items():
        if "temporal" in name:
            assert isinstance(norm, StaticNorm) and type(norm.base) is BatchNorm, name
        elif "block" in name:
            expected = {"norm1": CrossLayerDNR, "norm2": CrossTemporalDNR}.get(name.rpartition("/")[2], StaticNorm)
            assert isinstance(norm, expected) and norm.base.alias == base, name
    assert sum("temporal" in name for name in norms) == 2 * 16


def test_the_clip_has_the_frames_that_the_weights_are_for():
    module = TemporalAdaptiveModule(DNRSpec())
    variables = module.init(jax.random.key(0), jnp.zeros((1, 4, 2, 2, 8)), train=False)
    with pytest.raises(ValueError, match="^TemporalAdaptiveModule: its weights are for .* expected 4 frames, got 8"):
        module.apply(variables, jnp.zeros((1, 8, 2, 2, 8)), train=False)
