"""DNR against the authors' released PyTorch code: outputs, gradients and running statistics, in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import dnr_jax.nnx
from dnr_jax.convert import AUTHORS, from_state_dict, to_state_dict
from dnr_jax.dnr import CrossLayerDNR, CrossTemporalDNR, DNRSpec, RelayCell, interlace
from dnr_jax.models.residual import BottleneckBlock, Stage
from tests import golden
from tests.nnx.as_linen import AsLinen

pytestmark = [pytest.mark.compat, pytest.mark.usefixtures("x64")]

NUM_FRAMES = 8


def clips(array) -> jax.Array:
    """Frames ``[N * T, C, H, W]`` to clips ``[N, T, H, W, C]``."""
    frames = jnp.asarray(array, jnp.float64)
    return frames.reshape(-1, NUM_FRAMES, *frames.shape[1:]).transpose(0, 1, 3, 4, 2)


def frames(x: jax.Array) -> jax.Array:
    """Inverse of :func:`clips`."""
    return x.transpose(0, 1, 4, 2, 3).reshape(-1, x.shape[4], *x.shape[2:4])


def channels_first(x: jax.Array) -> jax.Array:
    """``[N, T, H, W, C]`` to ``[N, C, T, H, W]``."""
    return jnp.moveaxis(x, -1, 1)


def apply_norm(layer: nn.Module, variables, x, train: bool, carry=None):
    """Call a normalisation layer and drop its carry."""
    if train:
        (_, y), updates = layer.apply(variables, carry, x, use_running_average=False, mutable=["batch_stats"])
        return y, updates
    return layer.apply(variables, carry, x, use_running_average=True)[1], {}


FRAMEWORKS = ("linen", "nnx")


def layer_of(framework: str, linen: type, features: int, **fields):
    """Return a layer of a framework that is told its channels, or one that finds out."""
    if framework == "nnx":
        return AsLinen(functools.partial(getattr(dnr_jax.nnx, linen.__name__), features, **fields))
    return linen(features, **fields) if linen is RelayCell else linen(**fields)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_relay_cell_over_three_steps(shared, framework):
    case = golden.load(shared, "unit_lstm_l1")
    steps = jnp.asarray(case.input(), jnp.float64)
    cell = layer_of(framework, RelayCell, steps.shape[-1], param_dtype=jnp.float64)
    template = jax.eval_shape(
        cell.init, jax.random.key(0), cell.initialize_carry((steps.shape[1],), jnp.float64), steps[0]
    )
    params = golden.float64(from_state_dict(case.weights(), template, AUTHORS))

    def unroll(params, steps):
        carry, found = cell.initialize_carry((steps.shape[1],), jnp.float64), {}
        for i, x in enumerate(steps):
            carry, (scale, shift) = cell.apply(params, carry, x)
            found |= {f"h{i}": scale[None], f"c{i}": shift[None]}
        loss = sum(jnp.mean(found[k] * probe) for k, probe in golden.float64(case.probes()).items())
        return loss, found

    (loss, found), grads = jax.jit(jax.value_and_grad(unroll, argnums=(0, 1), has_aux=True))(params, steps)
    compared = {f"eval/{k}": v for k, v in found.items()} | {"train/loss": loss, "grad/input": grads[1]}
    compared |= {f"grad/{k}": v for k, v in to_state_dict(grads[0], AUTHORS).items()}
    assert {k.partition("/")[2] for k in case.names() if k.startswith("grad/")} == {
        k.partition("/")[2] for k in compared if k.startswith("grad/")
    }
    assert not case.compare(compared, rtol=golden.RTOL, verbose=False)


@pytest.mark.parametrize(
    ("num_groups", "framework"),
    [
        *((groups, "linen") for groups in (1, 2, 4)),
        *(pytest.param(groups, "nnx", marks=pytest.mark.slow if groups != 2 else ()) for groups in (1, 2, 4)),
    ],
)
def test_cross_temporal(shared, num_groups, framework):
    case = golden.load(shared, f"unit_ct_g{num_groups}")
    x = clips(case.input())
    layer = layer_of(framework, CrossTemporalDNR, x.shape[-1], num_groups=num_groups, param_dtype=jnp.float64)
    template = jax.eval_shape(functools.partial(layer.init, use_running_average=True), jax.random.key(0), None, x)
    golden.check_network(
        case,
        functools.partial(apply_norm, layer),
        template,
        AUTHORS,
        x,
        lambda y, _: {"out": frames(y)},
        frames,
    )


def sigmoid_of_descriptor(carry, descriptor):
    """Stand in for the relay cell in the authors' unit case: ``(sigmoid(x), 1 - sigmoid(x))`` as scale and shift."""
    scale = nn.sigmoid(descriptor)
    return carry, (scale, 1 - scale)


class SigmoidOfDescriptor(nn.Module):
    """The same as a module."""

    def __call__(self, carry, descriptor):
        return sigmoid_of_descriptor(carry, descriptor)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_cross_layer(shared, framework):
    case = golden.load(shared, "unit_cl")
    x = jnp.moveaxis(jnp.asarray(case.input(), jnp.float64), 1, -1)
    cell = SigmoidOfDescriptor() if framework == "linen" else sigmoid_of_descriptor
    layer = layer_of(framework, CrossLayerDNR, x.shape[-1], cell=cell, param_dtype=jnp.float64)
    template = jax.eval_shape(functools.partial(layer.init, use_running_average=True), jax.random.key(0), ((),), x)
    golden.check_network(
        case,
        functools.partial(apply_norm, layer, carry=((),)),
        template,
        AUTHORS,
        x,
        lambda y, _: {"out": channels_first(y)},
        channels_first,
        prefix="norm.",
    )


def test_stage_of_three_blocks(shared):
    case = golden.load(shared, "unit_cl_stage")
    x = clips(case.input())
    stage = Stage(BottleneckBlock, 64, 3, DNRSpec.authors(), dtype=jnp.float64, param_dtype=jnp.float64)
    template = jax.eval_shape(functools.partial(stage.init, train=False), jax.random.key(0), x)

    def apply(variables, x, train):
        return stage.apply(
            variables,
            x,
            train=train,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: module.name in ("norm1", "norm2"),
        )

    def outputs(y, intermediates):
        found = {"out": frames(y)}
        for i in range(3):
            norms = intermediates[f"block{i}"]
            found[f"cl_{i}"] = channels_first(norms["norm1"]["__call__"][0][1])
            found[f"ct_{i}"] = frames(norms["norm2"]["__call__"][0][1])
        return found

    golden.check_network(case, apply, template, AUTHORS, x, outputs, frames)


def test_interlace_is_mmaction2s_temporal_shift(shared):
    case = golden.load(shared, "unit_tsm_shift")
    shifted = interlace(clips(case.input()), 1 / 8)
    assert not case.compare({"eval/out": frames(shifted)}, rtol=0.0, verbose=False)
