"""One table of invariants, over settings in which any two levels of any two axes meet.

The quick tests run those in which each level is; the slow ones the others too.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.dnr import reference, settings
from tests.dnr.reference import jit
from tests.dnr.settings import Case, Layers, NNXLayers, features
from tests.nnx.as_linen import AsLinen
from tests.precision import float64

ROWS = settings.chosen()
QUICK = settings.covering(ROWS)
FIRST = [next(row for row in QUICK if row["kind"] == kind) for kind in settings.NNX]
NNX_ROWS = [(row, () if row in FIRST else pytest.mark.slow) for row in ROWS]
pytestmark = pytest.mark.usefixtures("x64")


def marked(rows):
    return [
        pytest.param(row, id=settings.name(row), marks=pytest.mark.compat if row in QUICK else pytest.mark.slow)
        for row in rows
    ]


def test_any_two_levels_meet():
    possible = set().union(*map(settings.pairs, settings.possible()))
    assert possible == set().union(*map(settings.pairs, ROWS))


def test_each_level_is_in_the_quick_rows():
    assert set().union(*map(settings.levels, settings.possible())) == set().union(*map(settings.levels, QUICK))


@pytest.fixture(scope="module", params=marked(ROWS))
def case(request):
    with float64():
        yield Case.of(request.param)


def forward(apply, variables, x):
    """Return outputs in both modes, running statistics and gradients of a random linear function of the outputs."""

    def loss(params, x):
        (y, stats), evaluated = apply(params, x, True), apply(params, x, False)[0]
        probes = features(*x.shape[:-1], seed=5), features(*x.shape[:-1], seed=6)
        return jnp.sum(probes[0] * y) + jnp.sum(probes[1] * evaluated), (y, evaluated, stats)

    (value, outputs), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], x)
    return {"loss": value, "outputs": outputs, "gradients": gradients}


@functools.lru_cache(maxsize=4)
def compiled(*row, nnx=False):
    """The computation of the package, compiled once for all tests of a row."""
    layers = AsLinen(functools.partial(NNXLayers, dict(row))) if nnx else Layers(dict(row))

    def run(variables, x):
        def apply(params, x, train):
            given = variables | {"params": params}
            y, updates = layers.apply(given, x, train, mutable=["batch_stats"])
            return y, updates.get("batch_stats", {})

        return forward(apply, variables, x)

    return jit(run)


def ours(case: Case, x=None, variables=None):
    return compiled(*case.row.items())(variables or case.variables, case.x if x is None else x)


def test_it_is_the_literal_reference(case):
    stats = case.variables.get("batch_stats", {})

    def apply(params, x, train):
        return settings.literal(case.row, params, stats, x, train)

    expected = jit(lambda params, x: forward(apply, {"params": params}, x))(case.variables["params"], case.x)
    reference.assert_close(ours(case), expected)


@pytest.mark.parametrize("row", [pytest.param(row, marks=quick, id=settings.name(row)) for row, quick in NNX_ROWS])
def test_nnx_is_linen_bit_for_bit(row):
    """Outputs, running statistics and gradients; that they are those of the literal reference follows."""
    case = Case.of(row)
    found = compiled(*row.items(), nnx=True)(case.variables, case.x)
    jax.tree.map(np.testing.assert_array_equal, found, ours(case))


def test_compilation_changes_nothing(case):
    layers, found = Layers(case.row), ours(case)
    y, updates = layers.apply(case.variables, case.x, True, mutable=["batch_stats"])
    reference.assert_close((y, updates.get("batch_stats", {})), found["outputs"][::2])


def test_four_devices_equal_one(case):
    axis_type = (AxisType.Auto, AxisType.Explicit)[ROWS.index(case.row) % 2]
    mesh = jax.make_mesh((settings.CLIPS,), ("data",), axis_types=(axis_type,), devices=jax.devices()[: settings.CLIPS])
    with jax.set_mesh(mesh):
        x = jax.device_put(case.x, NamedSharding(mesh, PartitionSpec("data")))
        variables = jax.device_put(case.variables, NamedSharding(mesh, PartitionSpec()))
        layers = Layers(case.row)
        train = jit(lambda variables, x: layers.apply(variables, x, True, mutable=["batch_stats"]))
        y, updates = train(variables, x)
        assert len(y.sharding.device_set) == settings.CLIPS
    found = jax.device_get((y, updates.get("batch_stats", {})))
    reference.assert_close(found, jax.device_get(ours(case)["outputs"][::2]))


def test_gradients_are_those_of_finite_differences(case):
    if case.row["base"] == "brn":
        pytest.skip("the corrections of batch renormalisation have no gradient, by definition")
    found, step = ours(case), 1e-6
    rng = np.random.default_rng(3)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), (case.variables["params"], case.x))

    def loss(sign):
        moved = jax.tree.map(
            lambda leaf, along: leaf + sign * step * along, (case.variables["params"], case.x), direction
        )
        return ours(case, moved[1], case.variables | {"params": moved[0]})["loss"]

    products = jax.tree.map(lambda gradient, along: jnp.sum(gradient * along), found["gradients"], direction)
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), (loss(1) - loss(-1)) / (2 * step), rtol=1e-5)


def test_evaluation_leaves_statistics_alone_and_training_moves_them(case):
    stats = case.variables.get("batch_stats", {})
    evaluate = functools.partial(Layers(case.row).apply, mutable=["batch_stats"])
    _, updates = jit(evaluate, static_argnums=2)(case.variables, case.x, False)
    jax.tree.map(np.testing.assert_array_equal, updates.get("batch_stats", {}), stats)
    moved = jax.tree.map(lambda new, old: bool((new != old).all()), ours(case)["outputs"][2], stats)
    assert all(jax.tree.leaves(moved))


def test_a_clip_is_evaluated_alone_as_among_others(case):
    evaluate = jit(lambda variables, x: Layers(case.row).apply(variables, x, False))
    alone = evaluate(case.variables, case.x[2:3])
    reference.assert_close(alone, ours(case)["outputs"][1][2:3])


def test_bfloat16_features_are_the_same_within_their_precision(case):
    layers = Layers(case.row, jnp.float32)
    variables = jax.tree.map(lambda v: v.astype(jnp.float32) if v.dtype == jnp.float64 else v, case.variables)
    x = case.x.astype(jnp.bfloat16)
    train = jit(lambda variables, x: layers.apply(variables, x, True, mutable=["batch_stats"]))
    (y, updates), (wide, wide_updates) = (train(variables, v) for v in (x, x.astype(jnp.float32)))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} <= {jnp.dtype("float32"), jnp.dtype("int32")}
    if case.row["kind"] == "cl":  # three layers, and what is between them is in bfloat16 too
        np.testing.assert_allclose(y.astype(jnp.float32), wide, rtol=0.1, atol=0.1)
        return
    rounding = float(jnp.finfo(jnp.bfloat16).eps) / 2
    np.testing.assert_allclose(y.astype(jnp.float32), wide, rtol=rounding * 1.01, atol=1e-5)
    for leaf, expected in zip(jax.tree.leaves(updates), jax.tree.leaves(wide_updates), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-6)


CROSS_TEMPORAL = [row for row in ROWS if row["kind"] == "ct" and row["groups"] > 1]


@pytest.mark.parametrize("row", marked(CROSS_TEMPORAL))
def test_what_a_group_depends_on(row):
    """In evaluation: a change in the last group reaches the groups before it only where the relay is bidirectional.

    Statistics of a whole clip mix all of its groups, so they are left out here.
    """
    per_clip = row["base"] in ("gn", "in", "ln", "sn") and row["statistics"] == "clip"
    case = Case.of(row | {"statistics": "group"} if per_clip else row)
    length = settings.FRAMES // row["groups"]
    last_changed = ours(case, case.x.at[:, -length:].add(1.0))["outputs"][1]
    first_changed = ours(case, case.x.at[:, :length].add(1.0))["outputs"][1]
    before = ours(case)["outputs"][1]
    relays = row["relay"] != "none"
    earlier_moves = (last_changed[:, :-length] != before[:, :-length]).any()
    assert earlier_moves == (row["direction"] == "bidirectional" and relays)
    later_moves = (first_changed[:, length:] != before[:, length:]).any()
    assert later_moves == relays
