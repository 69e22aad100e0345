"""A stage computes the same however its blocks are run."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.dnr import DNRSpec, precise_statistics
from dnr_jax.models.blocks import PredictingNorm, predicting_norms, stack_blocks, unstack_blocks
from dnr_jax.models.r2plus1d import FactorizedBlock, R2Plus1DBackbone
from dnr_jax.models.resnet import BasicBlock, BottleneckBlock, ResNet, Stage
from dnr_jax.models.resnet3d import Architecture3D, ResidualBlock3D, Stage3D
from dnr_jax.models.slowfast import SlowFastBackbone
from tests.dnr import reference
from tests.dnr.reference import jit

pytestmark = pytest.mark.usefixtures("x64")
SPECS = {
    "dnr": DNRSpec(),
    "two chains, learned start": DNRSpec(norm2="cl", layer_distance=2, initial_state="learned", depth=2),
    "a cell a block": DNRSpec(sharing="block", base="gn", relay="se"),
    "static": DNRSpec.static(base="brn"),
}


def stage(spec: DNRSpec, block=BasicBlock, **fields) -> Stage:
    return Stage(block, 4, 4, spec, interlace_fraction=0.25, dtype=jnp.float64, param_dtype=jnp.float64, **fields)


def stage_3d(spec: DNRSpec, block=ResidualBlock3D, **fields) -> Stage3D:
    fields = {"num_groups": 2, "strides": (2, 2, 2), "dtype": jnp.float64, "param_dtype": jnp.float64} | fields
    return Stage3D(Architecture3D("bottleneck", ()), 4, 4, spec, block=block, **fields)


def clips() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 4, 4)))


@functools.partial(jit, static_argnums=0)
def run(model: Stage, variables, x):
    """Return outputs in both modes, new statistics and gradients."""

    def loss(params):
        y, updates = model.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y)), (y, updates)

    (_, (y, updates)), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return {"train": y, "eval": model.apply(variables, x, train=False), "grads": grads} | dict(updates)


def variables_of(model: Stage):
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), clips())
    filled = reference.variables_like(shapes, seed=1)
    # The step of batch renormalisation is a whole number.
    return jax.tree.map(lambda leaf, shape: leaf.astype(shape.dtype), filled, shapes)


STAGES = {name: functools.partial(stage, spec) for name, spec in SPECS.items()} | {
    "3d": functools.partial(stage_3d, DNRSpec()),
    "factorized": functools.partial(stage_3d, DNRSpec(norm3="ct"), FactorizedBlock),
}


def test_precise_statistics_are_those_of_a_loop():
    loop, scan = (stage(DNRSpec(), scan_blocks=scanned) for scanned in (False, True))
    variables = variables_of(loop)
    expected = precise_statistics(loop, variables, [clips()])
    found = unstack_blocks(precise_statistics(scan, stack_blocks(variables), [clips()]))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), found, expected)


SLOW_STAGES = ("3d", "factorized")


@pytest.mark.parametrize(
    "make",
    [pytest.param(make, id=name, marks=[pytest.mark.slow] * (name in SLOW_STAGES)) for name, make in STAGES.items()],
)
def test_a_scan_over_blocks_is_a_loop(make):
    loop, scan = make(), make(scan_blocks=True)
    variables = variables_of(loop)
    stacked = stack_blocks(variables)
    template = jax.eval_shape(functools.partial(scan.init, train=False), jax.random.key(0), clips())
    shapes = functools.partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype))
    assert shapes(dict(template)) == shapes(stacked)
    expected, found = run(loop, variables, clips()), run(scan, stacked, clips())
    for key in expected:
        unstacked = unstack_blocks({key: found[key]})[key] if isinstance(found[key], dict) else found[key]
        for a, b in zip(jax.tree.leaves(unstacked), jax.tree.leaves(expected[key]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11, err_msg=key)


@pytest.mark.parametrize("block", [BasicBlock, BottleneckBlock])
def test_stacking_and_unstacking_are_inverse(block):
    variables = variables_of(stage(DNRSpec(), block))
    jax.tree.map(np.testing.assert_array_equal, unstack_blocks(stack_blocks(variables)), variables)


def test_ten_blocks_are_stacked_in_their_order():
    blocks = {f"block{i}": {"conv1": {"kernel": jnp.full((1,), i)}} for i in range(12)}
    stacked = stack_blocks({"params": {"layer1": blocks}})["params"]["layer1"]
    assert stacked["blocks"]["block"]["conv1"]["kernel"][:, 0].tolist() == list(range(1, 12))
    assert stacked["block0"]["conv1"]["kernel"] == 0


@pytest.mark.parametrize("make", [stage, stage_3d])
@pytest.mark.parametrize("scan_blocks", [False, True])
def test_recomputing_blocks_changes_nothing(make, scan_blocks):
    plain = make(DNRSpec(), scan_blocks=scan_blocks)
    again = make(DNRSpec(), scan_blocks=scan_blocks, remat_blocks=True)
    variables = variables_of(plain)
    reference.assert_close(run(again, variables, clips()), run(plain, variables, clips()))


def named(jaxpr, name: str) -> int:
    """Count a primitive in a program and the programs inside it."""
    found = 0
    for equation in jaxpr.eqns:
        found += equation.primitive.name == name
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns")):
            inner = getattr(parameter, "jaxpr", parameter)
            found += named(inner, name) if hasattr(inner, "eqns") else 0
    return found


@pytest.mark.parametrize(("remat", "count"), [("none", 0), ("block", 8), ("stage", 4)])
@pytest.mark.parametrize(("network", "pathways"), [(ResNet, 1), (R2Plus1DBackbone, 1), (SlowFastBackbone, 2)])
def test_what_is_recomputed_is_chosen(network, pathways, remat, count):
    model = network(depth=18, spec=DNRSpec(relay_distance=1), width=8, stem="small", remat=remat)
    x = jnp.zeros((1, 8, 8, 8, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    assert (
        named(jax.make_jaxpr(functools.partial(model.apply, train=False))(variables, x).jaxpr, "remat2")
        == count * pathways
    )


def test_recomputing_takes_less_memory():
    """Under a scan: without one, XLA for CPU finds the copies of a computation and merges them again."""
    x = jax.ShapeDtypeStruct((2, 4, 16, 16, 4), jnp.float32)

    def temporary(remat: bool) -> int:
        model = Stage(BottleneckBlock, 4, 6, DNRSpec(), scan_blocks=True, remat_blocks=remat)
        variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)

        def loss(params, stats, x):
            y, updates = model.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
            return jnp.sum(y), updates

        step = jit(jax.grad(loss, has_aux=True)).lower(variables["params"], variables["batch_stats"], x)
        return step.compile().memory_analysis().temp_size_in_bytes

    assert temporary(True) < 0.7 * temporary(False)


@pytest.mark.parametrize("network", [ResNet, SlowFastBackbone])
def test_the_program_does_not_grow_with_the_depth(network):
    def size(depth: int) -> int:
        model = network(depth=depth, spec=DNRSpec(relay_distance=1), width=8, stem="small", scan_blocks=True)
        x = jax.ShapeDtypeStruct((1, 8, 8, 8, 3), jnp.float32)
        variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
        return len(jax.jit(functools.partial(model.apply, train=False)).lower(variables, x).as_text())

    assert size(152) < 1.01 * size(50)


@pytest.mark.parametrize(
    ("fields", "interlaced"),
    [
        ({}, [True] * 8),
        ({"interlace_stages": (False, True, False, True)}, [False, False, True, True, False, False, True, True]),
        ({"interlace_every": 2}, [True, False] * 4),
    ],
)
def test_the_blocks_that_interlace_are_chosen(fields, interlaced):
    model = ResNet(depth=18, spec=DNRSpec.static(), width=8, stem="small", interlace_fraction=0.125, **fields)
    met = {}

    def note(call, args, kwargs, context):
        if isinstance(context.module, BasicBlock):
            met[context.module.path] = context.module.interlace_fraction > 0
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        x = jnp.zeros((1, 4, 8, 8, 3), jnp.float32)
        jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    assert list(met.values()) == interlaced


def test_blocks_that_differ_cannot_be_scanned():
    with pytest.raises(ValueError, match="interlace_every must be 1 with scan_blocks"):
        stage(DNRSpec(), scan_blocks=True, interlace_every=2).init(jax.random.key(0), clips(), train=False)
    with pytest.raises(ValueError, match="temporal_blocks must be 0 with scan_blocks"):
        stage_3d(DNRSpec(), scan_blocks=True, temporal_blocks=2).init(jax.random.key(0), clips(), train=False)


def test_norms_that_predict_are_found_with_their_cells_and_convolutions():
    block, chain = "layer1/block{}", "layer1/norm{}"
    shapes = {f"layer1/relay1/layer_0/input/expand/{leaf}": (4,) for leaf in ("kernel", "bias")}
    for i in (0, 2, 10):
        shapes |= {f"{block.format(i)}/conv{j}/kernel": (4, 4) for j in (1, 2)}
        shapes |= {f"{block.format(i)}/norm{j}/mean": (4,) for j in (1, 2)}
        shapes |= {f"{block.format(i)}/norm2/relay/layer_0/input/expand/kernel": (4, 4)}
        shapes |= {f"{block.format(i)}/shortcut_norm/{leaf}": (4,) for leaf in ("mean", "scale")}
    shapes |= {"layer1/block2/temporal/shift/kernel": (3, 1, 4), "norm1/mean": (4,)}
    found = predicting_norms(shapes)
    assert [(norm.position, norm.norm.split("/")[1]) for norm in found] == [
        (position, f"block{i}") for position in (1, 2) for i in (0, 2, 10)
    ]
    paths = {i: block.format(i) for i in (0, 2, 10)}
    assert found[0] == PredictingNorm(
        f"{paths[0]}/norm1", 1, chain.format(1), ("layer1/relay1",), f"{paths[0]}/conv1", f"{paths[0]}/conv2"
    )
    assert found[1].behind == ""  # a temporal module stands between
    assert found[5] == PredictingNorm(
        f"{paths[10]}/norm2", 2, chain.format(2), (f"{paths[10]}/norm2/relay",), f"{paths[10]}/conv2", ""
    )


def test_factorized_convolutions_and_branches_are_told_apart():
    shapes = {f"s/block0/branch_3x3/{name}": (4,) for name in ("conv1/kernel", "conv2/kernel", "norm1/mean")}
    shapes |= {"s/relay1_3x3_4/layer_0/input/expand/bias": (16,)}
    shapes |= {f"t/block0/conv{i}/{name}/kernel": (4, 4) for i in (1, 2) for name in ("spatial", "temporal")}
    shapes |= {"t/block0/norm1/mean": (4,), "t/block0/conv1/norm/mean": (4,)}
    branch, factorized = predicting_norms(shapes)
    assert (branch.chain, branch.cells) == ("s/branch_3x3/norm1", ("s/relay1_3x3_4",))
    assert (branch.before, branch.behind) == ("s/block0/branch_3x3/conv1", "s/block0/branch_3x3/conv2")
    assert (factorized.before, factorized.behind) == ("t/block0/conv1/temporal", "t/block0/conv2/spatial")
