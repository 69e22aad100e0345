"""A stage computes the same however its blocks are run."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.dnr import DNRSpec, precise_statistics
from dnr_jax.models.blocks import PredictingNorm, predicting_norms, stack_blocks, unstack_blocks
from dnr_jax.models.inception import InceptionBlockSize, InceptionStage
from dnr_jax.models.layers import CLIPS, Convolution
from dnr_jax.models.r2plus1d import R2Plus1DBackbone, factorized
from dnr_jax.models.residual import BasicBlock, BottleneckBlock, Stage
from dnr_jax.models.resnet import ResNet
from dnr_jax.models.slowfast import SlowFastBackbone
from dnr_jax.models.tdn import LongTermModule
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
    """Return a first block and, for each chain of the cross-layer relay, two others."""
    fields = {"interlace_fraction": 0.25, "dtype": jnp.float64, "param_dtype": jnp.float64} | fields
    return Stage(block, 4, 1 + 2 * spec.layer_distance, spec, **fields)


def stage_3d(spec: DNRSpec, convolution: Convolution = CLIPS, **fields) -> Stage:
    fields = {"num_groups": 2, "strides": (2, 2, 2), "dtype": jnp.float64, "param_dtype": jnp.float64} | fields
    return Stage(BottleneckBlock, 4, 3, spec, kernel_frames=3, convolution=convolution, **fields)


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
    "factorized": functools.partial(stage_3d, DNRSpec(norm3="ct"), factorized(DNRSpec())),
}


def test_precise_statistics_are_those_of_a_loop():
    loop, scan = (stage(DNRSpec(), scan_blocks=scanned) for scanned in (False, True))
    variables = variables_of(loop)
    expected = precise_statistics(loop, variables, [clips()])
    found = unstack_blocks(precise_statistics(scan, stack_blocks(variables), [clips()]))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), found, expected)


SLOW_STAGES = ("3d", "factorized", "two chains, learned start")


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


@pytest.mark.parametrize("make", [stage, pytest.param(stage_3d, marks=pytest.mark.slow)])
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
    program = jax.make_jaxpr(functools.partial(model.init_with_output, train=False))(jax.random.key(0), x)
    assert named(program.jaxpr, "remat2") == count * pathways


def test_recomputing_takes_less_memory():
    """Under a scan: without one, XLA for CPU finds the copies of a computation and merges them again."""
    x = jax.ShapeDtypeStruct((2, 4, 16, 16, 4), jnp.float32)

    def temporary(remat: bool) -> int:
        model = Stage(BasicBlock, 4, 6, DNRSpec(), scan_blocks=True, remat_blocks=remat)
        variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)

        def loss(params, stats, x):
            y, updates = model.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
            return jnp.sum(y), updates

        step = jit(jax.grad(loss, has_aux=True)).lower(variables["params"], variables["batch_stats"], x)
        return step.compile().memory_analysis().temp_size_in_bytes

    assert temporary(True) < 0.7 * temporary(False)


@pytest.mark.parametrize("network", [ResNet, pytest.param(SlowFastBackbone, marks=pytest.mark.slow)])
def test_the_program_does_not_grow_with_the_depth(network):
    def size(depth: int) -> int:
        model = network(depth=depth, spec=DNRSpec(relay_distance=1), width=8, stem="small", scan_blocks=True)
        x = jax.ShapeDtypeStruct((1, 8, 8, 8, 3), jnp.float32)
        started = jax.jit(functools.partial(model.init_with_output, train=False))
        return len(started.lower(jax.random.key(0), x).as_text())

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


def places_of(model: nn.Module) -> dict[str, PredictingNorm]:
    return {place.norm: place for place in predicting_norms(model, (4, 4, 4, 4))}


def test_norms_that_predict_are_found_with_their_cells_and_convolutions():
    found = places_of(Stage(BasicBlock, 4, 11, DNRSpec()))
    assert list(found) == [f"block{i}/norm{position}" for position in (1, 2) for i in range(11)]
    assert found["block10/norm1"] == PredictingNorm(
        "block10/norm1", 1, "norm1", ("relay1",), "block10/conv1", "block10/conv2"
    )
    assert found["block2/norm2"] == PredictingNorm(
        "block2/norm2", 2, "norm2", ("block2/norm2/relay",), "block2/conv2", ""
    )


def test_cells_of_their_own_and_of_both_directions_are_found():
    spec = DNRSpec("ct", "cl", "cl", sharing="block", direction="bidirectional")
    found = places_of(Stage(BottleneckBlock, 4, 2, spec))
    assert found["block1/norm1"].cells == ("block1/norm1/relay", "block1/norm1/relay_backward")
    assert found["block1/norm2"].cells == ("block1/norm2/relay",)
    assert (found["block1/norm2"].before, found["block1/norm2"].behind) == ("block1/conv2", "block1/conv3")
    assert (
        found["block1/norm3"].behind == ""
        and places_of(Stage(BasicBlock, 4, 2, DNRSpec(norm1="ilm", norm2="an"))) == {}
    )


@pytest.mark.parametrize("remat", [False, True])
def test_a_module_between_a_norm_and_a_convolution_keeps_them_apart(remat):
    module = functools.partial(LongTermModule, DNRSpec())
    found = places_of(Stage(BasicBlock, 4, 2, DNRSpec(), temporal=module, remat_blocks=remat))
    assert {name: place.behind for name, place in found.items() if "block0" in name} == {
        "block0/norm1": "",
        "block0/norm2": "",
    }
    assert found["block0/norm1"].cells == ("relay1",)


def test_a_factorised_convolution_says_which_of_its_kernels_is_first_and_last():
    found = places_of(Stage(BasicBlock, 4, 2, DNRSpec(), convolution=factorized(DNRSpec())))["block1/norm1"]
    assert (found.before, found.behind) == ("block1/conv1/temporal", "block1/conv2/spatial")


def test_branches_have_chains_of_their_own():
    size = InceptionBlockSize(4, (4, 6), (4, 8), "avg", 4)
    found = places_of(InceptionStage((size, size), 64, DNRSpec()))
    assert [name for name in found if "block1" in name] == [
        f"block1/branch_{branch}/norm{i}" for branch in ("3x3", "double_3x3") for i in (1, 2)
    ]
    branch = found["block1/branch_double_3x3/norm1"]
    assert (branch.chain, branch.cells) == ("branch_double_3x3/norm1", ("relay1_double_3x3_4",))
    assert (branch.before, branch.behind) == ("block1/branch_double_3x3/conv1", "block1/branch_double_3x3/conv2")


@pytest.mark.parametrize(
    "mutable",
    [pytest.param(True, id="True", marks=pytest.mark.slow), pytest.param(["batch_stats", "relay_state"], id="named")],
)
def test_scanned_blocks_stream_where_the_state_is_named(mutable):
    """Under a scan that threads the collection, a block would take it for named in any case."""
    spec = DNRSpec(norm1="ct", norm2="ct")
    model = stage(spec, scan_blocks=True)
    variables = stack_blocks(variables_of(stage(spec)))
    first, updates = model.apply(variables, clips(), train=False, mutable=mutable)
    second, _ = model.apply({**variables, **updates}, clips(), train=False, mutable=mutable)
    assert ("relay_state" in updates) == (mutable is not True)
    assert (jnp.abs(first - second).max() > 1e-6) == (mutable is not True)


def test_only_stacked_blocks_are_unstacked():
    """A module may be called ``blocks`` without being a scan's."""
    variables = {"params": {"blocks": {"conv": {"kernel": jnp.ones((3, 2))}}}}
    assert unstack_blocks(variables) == variables
