"""What is shown of the relays is what the relays did."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from dnr_jax import DNRSpec, inspect, plot_relays
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
