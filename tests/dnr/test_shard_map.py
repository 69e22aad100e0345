"""Under ``jax.shard_map`` with its default checks, layers compute what they compute on all clips at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

import dnr_jax.nnx
from dnr_jax.dnr import CrossLayerDNR, CrossTemporalDNR
from dnr_jax.nnx import from_linen
from tests.dnr import reference
from tests.dnr.settings import C, features

pytestmark = [pytest.mark.compat, pytest.mark.usefixtures("x64")]
WHOLE, CUT = PartitionSpec(), PartitionSpec("batch")
SETTINGS = {
    "lstm": {},
    "bidirectional": {"direction": "bidirectional", "depth": 2, "initial_state": "learned"},
    "se": {"relay": "se", "granularity": "frame"},
    "fc": {"relay": "fc", "initial_state": "learned"},
    "none": {"relay": "none"},
}


def sharded(function, out_specs):
    """The function of whole variables and clips that two devices share."""
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=(WHOLE, CUT), out_specs=out_specs))


def layers(kind, **fields):
    """The layer on all clips, that of one device, its variables, and clips that differ from device to device."""
    plain, local = (kind(num_groups=4, param_dtype=jnp.float64, axis_name=name, **fields) for name in (None, "batch"))
    x = features(4, 4, 3)
    shapes = jax.eval_shape(functools.partial(plain.init, use_running_average=True), jax.random.key(0), None, x)
    return plain, local, reference.variables_like(shapes, 1), x


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(fields, id=name, marks=[pytest.mark.slow] if name in ("bidirectional", "se", "fc") else [])
        for name, fields in SETTINGS.items()
    ],
)
def test_training_is_that_on_all_clips(fields):
    plain, local, variables, x = layers(CrossTemporalDNR, **fields)

    def run(layer, variables, x):
        (_, y), updates = layer.apply(variables, None, x, use_running_average=False, mutable=["batch_stats"])
        return y, updates["batch_stats"]

    def loss(layer, mean, params, x):
        return mean(jnp.mean(run(layer, variables | {"params": params}, x)[0] ** 3))

    reference.assert_close(sharded(functools.partial(run, local), (CUT, WHOLE))(variables, x), run(plain, variables, x))
    over_devices = functools.partial(jax.lax.pmean, axis_name="batch")
    gradient = sharded(jax.grad(functools.partial(loss, local, over_devices)), WHOLE)
    expected = jax.grad(functools.partial(loss, plain, lambda mean: mean))(variables["params"], x)
    reference.assert_close(gradient(variables["params"], x), expected)


@pytest.mark.parametrize("fields", SETTINGS.values(), ids=SETTINGS.keys())
def test_evaluation_is_that_on_all_clips(fields):
    plain, local, variables, x = layers(CrossTemporalDNR, **fields)

    def run(layer, variables, x):
        return layer.apply(variables, None, x, use_running_average=True)[1]

    reference.assert_close(sharded(functools.partial(run, local), CUT)(variables, x), run(plain, variables, x))


def test_a_cross_layer_relay_is_that_on_all_clips():
    layer, x = CrossLayerDNR(param_dtype=jnp.float64), features(4, 4, 3)
    init = functools.partial(layer.init, use_running_average=True)
    variables = reference.variables_like(jax.eval_shape(init, jax.random.key(0), None, x), 1)

    def run(variables, x):
        carry, y = layer.apply(variables, None, x, use_running_average=True)
        return layer.apply(variables, carry, y, use_running_average=True)[1]

    reference.assert_close(sharded(run, CUT)(variables, x), run(variables, x))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ["lstm", "bidirectional", "se"])
def test_nnx_layers_are_those_on_all_clips(name, frozen):
    fields = SETTINGS[name]
    plain, local, variables, x = layers(CrossTemporalDNR, **fields)
    del local
    made = {"num_groups": 4, "param_dtype": jnp.float64, "rngs": nnx.Rngs(0), **fields}
    layer = from_linen(dnr_jax.nnx.CrossTemporalDNR(C, axis_name="batch", **made), variables)
    graph, state = nnx.split(layer)

    def run(state, x):
        return nnx.merge(graph, state)(None, x, use_running_average=frozen)[1]

    (_, expected), _ = plain.apply(variables, None, x, use_running_average=frozen, mutable=["batch_stats"])
    np.testing.assert_allclose(sharded(run, CUT)(state, x), expected, rtol=1e-10, atol=1e-12)
