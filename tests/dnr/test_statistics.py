"""Running statistics estimated anew are those of all values of the batches."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze

from dnr_jax.dnr import CrossLayerDNR, CrossTemporalDNR, StaticNorm, precise_statistics
from tests.dnr import reference
from tests.dnr.settings import features

pytestmark = [pytest.mark.compat, pytest.mark.usefixtures("x64")]
LAYERS = {
    "static": StaticNorm,
    "per frame": functools.partial(StaticNorm, statistics="frame"),
    "sets of clips": functools.partial(StaticNorm, clips_per_statistics=1),
    "ct": functools.partial(CrossTemporalDNR, num_groups=2),
    "cl": CrossLayerDNR,
    "brn": functools.partial(StaticNorm, base="brn"),
    "sn": functools.partial(StaticNorm, base="sn"),
}


class Network(nn.Module):
    """A norm, what is done with it, and another one."""

    layer: object

    @nn.compact
    def __call__(self, x, train):
        _, x = self.layer(param_dtype=jnp.float64, name="first")(None, x, use_running_average=not train)
        self.sow("intermediates", "between", jnp.tanh(x))
        second = StaticNorm(param_dtype=jnp.float64, name="second")
        return second(None, jnp.tanh(x), use_running_average=not train)[1]


def build(layer):
    model = Network(layer)
    batches = [features(2, 4, 3, seed=seed) * (1 + seed) for seed in range(3)]
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), batches[0])
    return model, reference.variables_like(shapes, 1), batches


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_they_are_mean_and_variance_of_all_values(layer):
    model, variables, batches = build(layer)
    found = precise_statistics(model, variables, batches)["batch_stats"]
    values = np.concatenate([np.asarray(batch) for batch in batches])
    np.testing.assert_allclose(found["first"]["mean"], values.mean((0, 1, 2)), rtol=1e-10)
    np.testing.assert_allclose(found["first"]["var"], values.var((0, 1, 2)), rtol=1e-10)
    if "step" in found["first"]:
        assert found["first"]["step"] == variables["batch_stats"]["first"]["step"]


def test_variables_may_be_frozen():
    model, variables, batches = build(StaticNorm)
    found, expected = (precise_statistics(model, given, batches) for given in (freeze(variables), variables))
    reference.assert_close(found["batch_stats"], expected["batch_stats"])


def test_a_later_norm_sees_what_training_shows_it():
    """Each batch is normalised by its own statistics before it reaches the second norm."""
    model, variables, batches = build(functools.partial(CrossTemporalDNR, num_groups=2))

    def forward(variables, batch, *collections):
        return model.apply(variables, batch, True, mutable=["batch_stats", *collections])[1]

    def observe(variables, batch):
        return forward(variables, batch, "moments")["moments"]

    found = precise_statistics(observe, variables, iter(batches))["batch_stats"]["second"]
    inputs = [forward(variables, batch, "intermediates")["intermediates"]["between"][0] for batch in batches]
    np.testing.assert_allclose(found["mean"], np.concatenate(inputs).mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(found["var"], np.concatenate(inputs).var((0, 1, 2)), rtol=1e-9)


def test_a_norm_that_runs_twice_in_a_step_has_the_values_of_both_calls():
    """As those of TDN's long-term module do; here the second call sees fewer values."""

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            norm = StaticNorm(param_dtype=jnp.float64, name="norm")
            _, y = norm(None, x, use_running_average=not train)
            _, z = norm(None, 3.0 * x[:, :1] + 5.0, use_running_average=not train)
            return jnp.mean(y) + jnp.mean(z)

    batches = [features(2, 4, 3, seed=seed) for seed in range(2)]
    variables = Twice().init(jax.random.key(0), batches[0], False)
    found = precise_statistics(Twice(), variables, batches)["batch_stats"]["norm"]
    values = [np.asarray(batch) for batch in batches]
    seen = np.concatenate([np.concatenate([x, 3.0 * x[:, :1] + 5.0], axis=1) for x in values])
    np.testing.assert_allclose(found["mean"], seen.mean((0, 1, 2)), rtol=1e-10)
    np.testing.assert_allclose(found["var"], seen.var((0, 1, 2)), rtol=1e-10)


def test_a_module_may_have_dropout():
    class WithDropout(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            _, x = StaticNorm(param_dtype=jnp.float64, name="norm")(None, x, use_running_average=not train)
            return nn.Dropout(0.5, deterministic=not train)(x)

    x = features(2, 4, 3)
    variables = WithDropout().init(jax.random.key(0), x, False)
    found = precise_statistics(WithDropout(), variables, [x])["batch_stats"]["norm"]
    np.testing.assert_allclose(found["mean"], np.asarray(x).mean((0, 1, 2)), rtol=1e-10)


def test_nothing_changes_without_running_statistics():
    model, variables, batches = build(functools.partial(StaticNorm, base="gn"))
    del variables["batch_stats"]
    assert precise_statistics(model, variables, batches) is variables


def test_weights_stay_as_they_are():
    model, variables, batches = build(CrossTemporalDNR)
    found = precise_statistics(model, variables, batches)
    jax.tree.map(np.testing.assert_array_equal, found["params"], variables["params"])
    assert set(found) == set(variables)


def test_no_batch_is_refused():
    model, variables, _ = build(StaticNorm)
    with pytest.raises(ValueError, match="precise statistics need at least one batch"):
        precise_statistics(model, variables, [])


class ScannedBlock(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x, _):
        norm = CrossTemporalDNR(num_groups=2, param_dtype=jnp.float64, name="norm")
        return jnp.tanh(norm(None, x, use_running_average=not self.train)[1]), None


class Scanned(nn.Module):
    """A norm, and one that a user's scan runs three times."""

    collections: tuple[str, ...]

    @nn.compact
    def __call__(self, x, train):
        _, x = StaticNorm(param_dtype=jnp.float64, name="stem")(None, x, use_running_average=not train)
        axes = dict.fromkeys(self.collections, 0)
        scan = nn.scan(ScannedBlock, variable_axes=axes, split_rngs={"params": True}, length=3)
        return scan(train, name="blocks")(x, None)[0]


@pytest.mark.parametrize("given", ["module", "function", "jitted"])
def test_layers_whose_sums_get_lost_are_named(given):
    model, x = Scanned(("params", "batch_stats")), features(2, 4, 3)
    variables = model.init(jax.random.key(0), x, False)

    def sums(variables, batch):
        return model.apply(variables, batch, True, mutable=["moments", "batch_stats"])[1]["moments"]

    handed = {"module": model, "function": sums, "jitted": jax.jit(sums)}[given]
    message = "^blocks/norm: the collection 'moments' is not mutable there.*expected 'moments' beside 'batch_stats' in"
    for _ in range(2):  # also where the function was traced before
        with pytest.raises(ValueError, match=message):
            precise_statistics(handed, variables, [x])
        if given == "jitted":
            handed(variables, x)


def test_a_jitted_pass_is_compiled_once_for_all_calls():
    model, variables, batches = build(StaticNorm)
    traced = []

    @jax.jit
    def sums(variables, batch):
        traced.append(1)
        return model.apply(variables, batch, True, mutable=["moments", "batch_stats"])[1]["moments"]

    for _ in range(3):
        found = precise_statistics(sums, variables, batches)
    assert len(traced) == 3 + 1  # each call looks at its shapes, the first one compiles it
    wanted = precise_statistics(model, variables, batches)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), found["batch_stats"], wanted["batch_stats"])


def test_a_function_that_is_not_jitted_may_change_what_it_closes_over():
    model, variables, batches = build(StaticNorm)
    factor = [1.0]

    def sums(variables, batch):
        return model.apply(variables, factor[0] * batch, True, mutable=["moments", "batch_stats"])[1]["moments"]

    once = precise_statistics(sums, variables, batches)["batch_stats"]["first"]["mean"]
    factor[0] = 2.0
    twice = precise_statistics(sums, variables, batches)["batch_stats"]["first"]["mean"]
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-9)


def test_layers_under_a_scan_that_threads_the_sums_have_statistics():
    model, x = Scanned(("params", "batch_stats", "moments")), features(2, 4, 3)
    variables = model.init(jax.random.key(0), x, False)
    found = precise_statistics(model, variables, [x])["batch_stats"]
    values = np.asarray(x)
    first = (values - values.mean((0, 1, 2))) / np.sqrt(values.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(found["blocks"]["norm"]["mean"][0], first.mean((0, 1, 2)), atol=1e-12)
    np.testing.assert_allclose(found["blocks"]["norm"]["var"][0], first.var((0, 1, 2)), rtol=1e-9)
    assert (found["blocks"]["norm"]["var"] != variables["batch_stats"]["blocks"]["norm"]["var"]).all()


def test_a_norm_that_is_frozen_stays_as_it_is():
    class Frozen(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            _, x = StaticNorm(param_dtype=jnp.float64, name="frozen")(None, x, use_running_average=True)
            return x

    x = features(2, 4, 3)
    variables = Frozen().init(jax.random.key(0), x, False)
    jax.tree.map(np.testing.assert_array_equal, precise_statistics(Frozen(), variables, [x]), variables)
