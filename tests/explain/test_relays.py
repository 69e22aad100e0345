"""What is shown of the relays is what the relays did."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from dnr_jax import CrossLayerDNR, CrossTemporalDNR, DNRSpec, RelayCell, inspect, plot_relays
from dnr_jax.dnr import functional
from dnr_jax.models.blocks import stack_blocks
from dnr_jax.models.residual import BasicBlock, Stage

pytestmark = pytest.mark.compat

CLIPS = np.random.default_rng(0).normal(size=(2, 4, 8, 8, 3)).astype(np.float32)


class TwoStages(nn.Module):
    """Two stages of two blocks."""

    spec: DNRSpec
    scan_blocks: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for name in ("layer1", "layer2"):
            x = Stage(BasicBlock, 4, 2, self.spec, scan_blocks=self.scan_blocks, name=name)(x, train)
        return x


def network(scan_blocks: bool = False, **spec) -> TwoStages:
    groups = {} if spec.get("norm2") == "static" else {"relay_distance": 1}
    return TwoStages(DNRSpec(**groups, **spec), scan_blocks)


@functools.cache
def variables_of(model: TwoStages):
    return jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), jnp.asarray(CLIPS))


def test_traces_are_the_numbers_that_made_the_output():
    model = network()
    variables = variables_of(model)
    traces = inspect(model, variables, jnp.asarray(CLIPS))
    assert list(traces)[:4] == [f"layer1/block{i}/norm{j}" for i in range(2) for j in (1, 2)]
    assert len(traces) == 8

    def capture(module, _):
        return module.name in ("conv1", "conv2", "norm1", "norm2")

    fields = {"mutable": ["intermediates"], "capture_intermediates": capture}
    _, found = model.apply(variables, jnp.asarray(CLIPS), train=False, **fields)
    for name, trace in traces.items():
        stage, block, norm = name.split("/")
        block = found["intermediates"][stage][block]
        y = block[norm]["__call__"][0][1]
        x = block[norm.replace("norm", "conv")]["__call__"][0]
        standardized = functional.standardization((jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1))), 1e-5)
        affine = functional.transform(standardized, jnp.asarray(trace.scale), jnp.asarray(trace.shift))
        np.testing.assert_allclose(functional.modulate(x, affine), y, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("spec", [{}, {"norm1": "ct", "granularity": "frame"}, {"sharing": "block"}])
def test_gates_are_those_of_the_same_step(spec):
    model = network(**spec)
    traces = inspect(model, variables_of(model), jnp.asarray(CLIPS))
    for name, trace in traces.items():
        gates = {gate: trace.gates[f"layer_0/{gate}"] for gate in ("input", "forget", "candidate", "output")}
        assert {gate.shape for gate in gates.values()} == {trace.scale.shape}
        expected = gates["output"] / (1 + np.exp(-trace.shift))
        np.testing.assert_allclose(trace.scale, expected, rtol=1e-5, err_msg=name)
        if trace.crosses == "time":
            assert trace.scale.shape[1] == 4
            chained = gates["forget"][:, 1:] * trace.shift[:, :-1] + gates["input"][:, 1:] * gates["candidate"][:, 1:]
            np.testing.assert_allclose(trace.shift[:, 1:], chained, rtol=1e-4, atol=1e-6, err_msg=name)
        else:
            assert trace.scale.shape[1] == 1
    first, second = traces["layer1/block0/norm1"], traces["layer1/block1/norm1"]
    if first.crosses == "layers":
        gates = second.gates
        before = gates["layer_0/forget"] * first.shift + gates["layer_0/input"] * gates["layer_0/candidate"]
        np.testing.assert_allclose(second.shift, before, rtol=1e-4, atol=1e-6)


def test_a_scan_over_blocks_shows_the_same():
    model, scanned = network(), network(scan_blocks=True)
    expected = inspect(model, variables_of(model), jnp.asarray(CLIPS))
    found = inspect(scanned, stack_blocks(variables_of(model)), jnp.asarray(CLIPS))
    assert found.keys() == expected.keys()
    for name, trace in found.items():
        np.testing.assert_allclose(trace.scale, expected[name].scale, rtol=1e-4, err_msg=name)
        for gate, values in trace.gates.items():
            np.testing.assert_allclose(values, expected[name].gates[gate], rtol=1e-3, atol=1e-6, err_msg=name)
    assert not found["layer1/block1/norm1"].gates and found["layer1/block1/norm2"].gates


def test_both_directions_are_told_apart():
    model = network(direction="bidirectional")
    trace = inspect(model, variables_of(model), jnp.asarray(CLIPS))["layer1/block0/norm2"]
    forward, backward = trace.gates["layer_0/output"], trace.gates["backward/layer_0/output"]
    assert forward.shape == backward.shape == trace.scale.shape
    assert (forward != backward).any()


def test_a_network_without_a_relay_has_no_traces(tmp_path):
    model = TwoStages(DNRSpec.static())
    traces = inspect(model, variables_of(model), jnp.asarray(CLIPS))
    assert traces == {}
    with pytest.raises(ValueError, match="the network has no relay"):
        plot_relays(traces, tmp_path / "relays.png")


@pytest.mark.parametrize("spec", [{}, {"norm2": "static", "relay": "se"}])
def test_the_picture_is_drawn(tmp_path, spec):
    model = network(**spec)
    plot_relays(inspect(model, variables_of(model), jnp.asarray(CLIPS)), tmp_path / "relays.png")
    picture = matplotlib.image.imread(tmp_path / "relays.png")
    assert min(picture.shape[:2]) > 100 and picture[..., :3].std() > 0.05


class ScannedBlock(nn.Module):
    """A block of a user's scan."""

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        norm = CrossTemporalDNR(num_groups=2, granularity="frame", name="norm")
        return jnp.tanh(norm(None, x, use_running_average=True)[1]), None


class Scanned(nn.Module):
    """Three blocks under a user's scan, or in a loop."""

    collections: tuple[str, ...] | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if self.collections is None:
            for i in range(3):
                x, _ = ScannedBlock(name=f"part{i}")(x, None)
            return x
        axes = dict.fromkeys(self.collections, 0)
        scan = nn.scan(ScannedBlock, variable_axes=axes, split_rngs={"params": True}, length=3)
        return scan(name="parts")(x, None)[0]


def test_a_user_s_scan_has_a_trace_for_each_block():
    loop, scan = Scanned(None), Scanned(("params", "batch_stats", "intermediates"))
    variables = loop.init(jax.random.key(0), CLIPS, train=False)
    stacked = {
        collection: {"parts": jax.tree.map(lambda *leaves: jnp.stack(leaves), *(tree[f"part{i}"] for i in range(3)))}
        for collection, tree in variables.items()
        if collection != "intermediates"
    }
    expected = inspect(loop, variables, jnp.asarray(CLIPS), train=False)
    found = inspect(scan, stacked, jnp.asarray(CLIPS), train=False)
    assert list(found) == [f"parts/norm[{i}]" for i in range(3)]
    for i in range(3):
        trace, other = found[f"parts/norm[{i}]"], expected[f"part{i}/norm"]
        assert trace.scale.shape == (2, 4, 3)
        np.testing.assert_allclose(trace.scale, other.scale, rtol=1e-4)
        assert trace.gates.keys() == other.gates.keys() and trace.gates
        for gate, values in trace.gates.items():
            np.testing.assert_allclose(values, other.gates[gate], rtol=1e-4, atol=1e-6)


def test_layers_that_a_scan_keeps_silent_are_named():
    model = Scanned(("params", "batch_stats"))
    variables = model.init(jax.random.key(0), CLIPS, train=False)
    message = "^parts/norm: the collection 'intermediates' is not mutable there.*expected 'intermediates' in variable_"
    with pytest.raises(ValueError, match=message):
        inspect(model, variables, jnp.asarray(CLIPS), train=False)


def test_calls_of_a_layer_are_taken_apart():
    class Once(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, train: bool) -> jax.Array:
            return CrossTemporalDNR(num_groups=2, name="norm")(None, x, use_running_average=True)[1]

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, train: bool) -> jax.Array:
            norm = CrossTemporalDNR(num_groups=2, name="norm")
            return sum(norm(None, factor * x, use_running_average=True)[1] for factor in (1.0, 2.0))

    x = jnp.asarray(CLIPS)
    variables = Once().init(jax.random.key(0), x, train=False)
    found = inspect(Twice(), variables, x, train=False)
    assert list(found) == ["norm(0)", "norm(1)"]
    for i, factor in enumerate((1.0, 2.0)):
        expected = inspect(Once(), variables, factor * x, train=False)["norm"]
        np.testing.assert_allclose(found[f"norm({i})"].shift, expected.shift, rtol=1e-5)
        for gate, values in expected.gates.items():
            np.testing.assert_allclose(found[f"norm({i})"].gates[gate], values, rtol=1e-5, atol=1e-6)


def test_gates_of_a_shared_cell_are_not_guessed():
    """Where a layer is called twice, the calls of the cell do not tell which layer's they are."""

    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, train: bool) -> jax.Array:
            cell, carry = RelayCell(3, name="cell"), None
            first, second = (CrossLayerDNR(cell=cell, name=name) for name in ("first", "second"))
            for norm in (first, second, first):
                carry, x = norm(carry, x, use_running_average=True)
            return x

    x = jnp.asarray(CLIPS)
    found = inspect(Shared(), Shared().init(jax.random.key(0), x, train=False), x, train=False)
    assert list(found) == ["first(0)", "first(1)", "second"]
    assert not any(trace.gates for trace in found.values())
