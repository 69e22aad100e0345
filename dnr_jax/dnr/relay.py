"""Relay cells: recurrent units whose hidden state is a scale and whose cell state is a shift.

A cell maps ``(carry, descriptor) -> (carry, (scale, shift))``. The same cell relays across frame groups, where
:meth:`RelayCell.unroll` runs it over an axis, and across the blocks of a stage, where it is called once a block.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt
from flax import struct
from jaxtyping import Array, Float

from dnr_jax.dnr import functional
from dnr_jax.dnr.aliases import Dtype, FloatDtype
from dnr_jax.dnr.fields import Needs, refuse
from dnr_jax.dnr.functional import State
from dnr_jax.dnr.inputs import check_state, check_width

RelayState = tuple[State, ...]
"""One state per layer of the cell."""


@functools.cache  # NNX modules that hold it are to be equal
def torch_linear_uniform(fan_in: int) -> Callable[..., jax.Array]:
    """Return ``torch.nn.Linear``'s initialiser of weights and biases: uniform within ``1 / sqrt(fan_in)``."""
    return functools.partial(_uniform, fan_in**-0.5)


# A function of the module, so that NNX modules of flax 0.11, which hold the initialiser, can be pickled.
def _uniform(bound: float, key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def _dense(width: int, fan_in: int, name: str | None, param_dtype: Dtype, use_bias: bool = True) -> nn.Dense:
    init = torch_linear_uniform(fan_in)
    return nn.Dense(width, use_bias, param_dtype=param_dtype, kernel_init=init, bias_init=init, name=name)


class Bottleneck(nn.Module):
    """Contraction, ReLU, expansion to the gates: ``W2 relu(W1 x)`` (Equation 7), with biases.

    Attributes:
      features: channels ``C``; the result has ``gates * C``.
      reduction: ``r``; the hidden width is ``C // r``, at least 1.
      param_dtype: dtype of the parameters; the arithmetic is done in it or wider.
      gates: number of gates.
    """

    features: int
    reduction: int = 4
    param_dtype: Dtype = jnp.float32
    gates: int = 4

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map ``[..., C]`` to the gates' share of this input ``[..., gates * C]``."""
        hidden = max(self.features // self.reduction, 1)
        squeezed = nn.relu(_dense(hidden, self.features, "squeeze", self.param_dtype)(x))
        return _dense(self.gates * self.features, hidden, "expand", self.param_dtype)(squeezed)


class RelayLayer(nn.Module):
    """One layer of a relay cell, split where the recurrence begins.

    :meth:`project` is what depends on the input alone; calling the layer adds what depends on the state. Only the
    latter has to run step by step. A layer that knows gates hands them out as the intermediate ``gates``.

    Attributes:
      features: channels ``C``.
      reduction: bottleneck reduction ``r``.
      param_dtype: dtype of the parameters.
    """

    features: int
    reduction: int = 4
    param_dtype: Dtype = jnp.float32

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map the input ``[..., C]`` to its share of what the state is computed from."""
        raise NotImplementedError

    def __call__(self, state: State, projected: Float[Array, "*b p"]) -> State:
        """Advance ``(h, c)``, each ``[..., C]``, by one step."""
        raise NotImplementedError


class LSTMLayer(RelayLayer):
    """Bottleneck LSTM (Equations 3 to 6); gates in the order input, forget, candidate, output."""

    def setup(self) -> None:
        """Create the bottlenecks of the input and of the hidden state."""
        self.input = Bottleneck(self.features, self.reduction, self.param_dtype)
        self.hidden = Bottleneck(self.features, self.reduction, self.param_dtype)

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Return ``phi_x(x) + b`` of Equation 3: ``[..., C]`` to ``[..., 4 * C]``."""
        return self.input(x)

    def __call__(self, state: State, projected: Float[Array, "*b p"]) -> State:
        """Advance ``(h, c)`` by one step."""
        h, c = state
        state, gates = functional.lstm_step(projected + self.hidden(h), c)
        self.sow("intermediates", "gates", gates)
        return state


class UnrelayedLayer(RelayLayer):
    """Dynamic normalisation without relay: the LSTM's gates of the input alone, started from nothing at every step.

    ``(i, g, o) = phi_x(x)``, ``c = sigmoid(i) * tanh(g)``, ``h = sigmoid(o) * sigmoid(c)``: Equations 3 to 5 without
    the hidden state, and without the forget gate that would have nothing to forget.
    """

    def setup(self) -> None:
        """Create the bottleneck of the input."""
        self.input = Bottleneck(self.features, self.reduction, self.param_dtype, gates=3)

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map ``[..., C]`` to the gates ``[..., 3 * C]``."""
        return self.input(x)

    def __call__(self, state: State, projected: Float[Array, "*b p"]) -> State:
        """Return ``(h, c)``; ``state`` is not read."""
        del state
        new_state, gates = functional.unrelayed_step(projected)
        self.sow("intermediates", "gates", gates)
        return new_state


class SELayer(RelayLayer):
    """Squeeze-and-excitation relay: ``(u, v) = W2 relu(W1 [x, h, c] + b1) + b2``; ``h = sigmoid(u), c = tanh(v)``."""

    def setup(self) -> None:
        """Create the two halves of the contraction, and the expansion."""
        hidden, fan_in = max(self.features // self.reduction, 1), 3 * self.features
        self.squeeze_input = _dense(hidden, fan_in, None, self.param_dtype)
        self.squeeze_state = _dense(hidden, fan_in, None, self.param_dtype, use_bias=False)
        self.expand = _dense(2 * self.features, hidden, None, self.param_dtype)

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map ``[..., C]`` to the input's share of the contraction ``[..., C // r]``."""
        return self.squeeze_input(x)

    def __call__(self, state: State, projected: Float[Array, "*b p"]) -> State:
        """Advance ``(h, c)`` by one step."""
        squeezed = nn.relu(projected + self.squeeze_state(jnp.concatenate(state, axis=-1)))
        return functional.excite(self.expand(squeezed))


class FCLayer(RelayLayer):
    """Fully connected relay: ``(u, v) = W [x, h, c] + b``; ``h = sigmoid(u), c = tanh(v)``. It has no bottleneck."""

    def setup(self) -> None:
        """Create the weights of the input and those of the state."""
        width, fan_in = 2 * self.features, 3 * self.features
        self.input = _dense(width, fan_in, None, self.param_dtype)
        self.state = _dense(width, fan_in, None, self.param_dtype, use_bias=False)

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map ``[..., C]`` to the input's share ``[..., 2 * C]``."""
        return self.input(x)

    def __call__(self, state: State, projected: Float[Array, "*b p"]) -> State:
        """Advance ``(h, c)`` by one step."""
        return functional.excite(projected + self.state(jnp.concatenate(state, axis=-1)))


RELAYS: dict[str, type[RelayLayer]] = {"lstm": LSTMLayer, "se": SELayer, "fc": FCLayer, "none": UnrelayedLayer}
"""The relay mechanisms of the paper's Table 1d."""
POSITIONS = ("norm1", "norm2", "norm3")
"""The fields of :class:`dnr_jax.dnr.DNRSpec` that say what stands where."""
_IN_USE = Needs(POSITIONS, "cl", "ct")
# A cross-layer norm that is given a cell has none of its own to be set.
_OWN = Needs("cell", None)


Mechanism = Annotated[Literal["lstm", "se", "fc", "none"], _IN_USE, _OWN]
Reduction = Annotated[int, Ge(1), _IN_USE, _OWN, Needs("relay", "lstm", "se", "none")]
Depth = Annotated[int, Ge(1), _IN_USE, _OWN]
InitialState = Annotated[Literal["zeros", "learned"], _IN_USE, _OWN, Needs("relay", "lstm", "se", "fc")]
Gain = Annotated[float, Gt(0), _IN_USE, _OWN]


@dataclasses.dataclass(repr=False, eq=False)
class Prediction:
    """How scale and shift are predicted: the settings of cells, of layers that make one, and of a whole network."""

    relay: Mechanism = "lstm"
    """Mechanism (Table 1d): ``lstm`` (DNR), ``se``, ``fc``, or ``none``, which predicts without relaying."""
    reduction: Reduction = 4
    """Bottleneck reduction ``r``; the hidden width is ``C // r``, at least 1. ``fc`` has no bottleneck."""
    depth: Depth = 1
    """Layers ``d``, stacked: each reads the hidden state of the one below, the last one's state is used."""
    initial_state: InitialState = "zeros"
    """State before the first step: ``zeros``, or ``learned``, which starts its training there."""
    gain: Gain = 1.0
    """Factor of the predicted scale; what is relayed stays without it. At 1, the paper's, scales are in (0, 1) and
    start near 0.25 (``lstm``, ``none``) or 0.5 (``se``, ``fc``): 4 or 2 lets them start near 1."""


@dataclasses.dataclass(repr=False, eq=False)
class CellSettings:
    """The settings of a cell: those of :class:`Prediction`, and what only a cell needs."""

    features: Annotated[int, Ge(1)]
    """Channels ``C`` of the normalised features."""
    reduction: Reduction = Prediction.reduction
    """See :attr:`Prediction.reduction`."""
    depth: Depth = Prediction.depth
    """See :attr:`Prediction.depth`."""
    param_dtype: FloatDtype = jnp.float32
    """Dtype of the parameters and, at least, of the state, which is float32 or wider in any case."""
    relay: Mechanism = Prediction.relay
    """See :attr:`Prediction.relay`."""
    initial_state: InitialState = Prediction.initial_state
    """See :attr:`Prediction.initial_state`."""
    gain: Gain = Prediction.gain
    """See :attr:`Prediction.gain`."""

    def as_step(self, carry: Any, descriptor: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Return what a step reads in float32 or wider; see :meth:`RelayCell.__call__` for what it refuses."""
        return self._checked(carry, descriptor, descriptor.shape[:-1])

    def as_steps(self, carry: Any, descriptors: Float[Array, "n g *b c"]) -> Float[Array, "n g *b c"]:
        """Return what steps read in float32 or wider; see :meth:`RelayCell.unroll` for what it refuses."""
        if descriptors.ndim < 3 or not descriptors.shape[1]:
            raise ValueError(
                "the relay cell takes a step for each entry of the second axis of descriptors [N, G, ..., C], of which "
                f"there is none in {descriptors.shape}"
            )
        return self._checked(carry, descriptors, (descriptors.shape[0], *descriptors.shape[2:-1]))

    def _checked(self, carry: Any, descriptors: Float[Array, "*b c"], batch_shape: tuple[int, ...]) -> jax.Array:
        check_width(descriptors, self.features, "the relay cell")
        check_state(carry, self.depth, batch_shape, self.features, "carry")
        return descriptors.astype(functional.statistics_dtype(descriptors.dtype))

    def states_like(
        self, start: Float[Array, "depth 2 c"] | None, batch_shape: tuple[int, ...], dtype: Dtype
    ) -> RelayState:
        """Return the state before the first step: zeros, or the learned ``start`` ``[depth, 2, C]`` for every clip.

        It has the dtype of the states behind it, so that a scan can hand them on: the widest of ``dtype``, that of the
        parameters and float32.
        """
        shape = (*batch_shape, self.features)
        wide = max(map(functional.statistics_dtype, (dtype, self.param_dtype)), key=lambda kind: jnp.finfo(kind).bits)
        if start is None:
            zeros = jnp.zeros(shape, wide)
            return ((zeros, zeros),) * self.depth
        return tuple((jnp.broadcast_to(h, shape), jnp.broadcast_to(c, shape)) for h, c in start.astype(wide))

    def scale_and_shift(self, state: State) -> State:
        """Return the scale and shift that a hidden and a cell state stand for."""
        h, c = state
        return (h if self.gain == 1 else self.gain * h), c


class Layer(Protocol):
    """One layer of a relay cell, in any framework: see :class:`RelayLayer`."""

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map the input to its share of what the state is computed from."""

    def __call__(self, state: State, projected: Float[Array, "*b p"]) -> State:
        """Advance the state by one step."""


def advance(layers: Sequence[Layer], carry: RelayState, descriptor: Float[Array, "*b c"]) -> tuple[RelayState, State]:
    """Take one step of stacked layers; see :meth:`RelayCell.__call__`."""
    state: list[State] = []
    for layer, previous in zip(layers, carry, strict=True):
        state.append(layer(previous, layer.project(descriptor)))
        descriptor = state[-1][0]
    return tuple(state), state[-1]


def unroll(
    layers: Sequence[Layer],
    carry: RelayState,
    descriptors: Float[Array, "n g *b c"],
    scan: Callable[[Any, State, jax.Array], tuple[State, State]] | None,
    reverse: bool,
) -> tuple[RelayState, State]:
    """Take one step of stacked layers for each entry of the second axis; see :meth:`RelayCell.unroll`.

    Args:
      layers: of the cell.
      carry: state before the first step.
      descriptors: ``[N, G, ..., C]``.
      scan: ``(layer, state, projected) -> (last state, all states)``; None where nothing depends on the state.
      reverse: start from the last entry.
    """
    last: list[State] = []
    outputs: State = (descriptors, descriptors)
    for layer, first in zip(layers, carry, strict=True):
        projected = layer.project(outputs[0])
        if scan is None:
            outputs = layer(first, projected)
            last.append(jax.tree.map(lambda v: v[:, 0 if reverse else -1], outputs))
            continue
        state, outputs = scan(layer, _as_carry(first, projected), projected)
        last.append(state)
    return tuple(last), outputs


def _as_carry(first: State, projected: Float[Array, "n g *b p"]) -> State:
    """Return the state before the first step as a scan hands states on: its carry keeps what it starts with.

    That is the dtype, since parameters may be wider than descriptors; the placement on an explicit mesh; and the axes
    of a ``jax.shard_map`` over which it varies.
    """

    def fit(state: jax.Array) -> jax.Array:
        placed = functional.place_like(state.astype(projected.dtype), projected)
        return functional.vary_like(placed, projected[:, 0])

    return jax.tree.map(fit, first)


UNROLLED = 2
"""Steps in a trip of the scan: the paper's two groups run without a loop, and more do not make the program larger."""


def _step(layer: RelayLayer, state: Any, projected: Float[Array, "*b p"]) -> Any:
    state = layer(state, projected)
    return state, state


class SharedCell(struct.PyTreeNode):
    """A relay cell with its parameters, as a value: what :meth:`RelayCell.shared` returns.

    ``nn.scan`` over blocks cuts the variables of every module that its blocks hold along the depth, also those of a
    cell that they are to share; an argument that is broadcast (``in_axes=nn.broadcast``) is the same in each of them.
    Gradients reach the parameters. Gates are not handed out.
    """

    params: Any
    """Parameters of the cell."""
    cell: Any = struct.field(pytree_node=False)
    """The cell, bound to no variables."""

    def initialize_carry(self, batch_shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> RelayState:
        """Return the state before the first step; see :meth:`RelayCell.initialize_carry`."""
        return self.cell.apply({"params": self.params}, batch_shape, dtype, method="initialize_carry")

    def __call__(self, carry: RelayState, descriptor: Float[Array, "*b c"]) -> tuple[RelayState, State]:
        """Take one step; see :meth:`RelayCell.__call__`."""
        return self.cell.apply({"params": self.params}, carry, descriptor)


class RelayCell(CellSettings, nn.Module):
    """Recurrent unit that predicts and relays normalisation parameters (Section 3.3).

    Its fields are those of :class:`CellSettings`. They are checked when the cell is made: ValueError says which one is
    wrong and what would be right.
    """

    def __post_init__(self) -> None:
        """Refuse what cannot be built, and settings without effect."""
        refuse(self)
        super().__post_init__()

    def setup(self) -> None:
        """Create the layers."""
        layer = RELAYS[self.relay]
        self.layer = [layer(self.features, self.reduction, self.param_dtype) for _ in range(self.depth)]
        if self.initial_state == "learned":
            shape = (self.depth, 2, self.features)
            self.start = self.param("initial_state", nn.initializers.zeros, shape, self.param_dtype)

    def initialize_carry(self, batch_shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> RelayState:
        """Return the state before the first step, for descriptors ``[*batch_shape, C]`` of ``dtype``.

        Zeros need no variables; a learned state is read from them. Both have the dtype of all states: float32, or that
        of the descriptors or of the parameters where it is wider.
        """
        return self.states_like(self.start if self.initial_state == "learned" else None, batch_shape, dtype)

    def shared(self) -> SharedCell:
        """Return the cell with its parameters, to be handed to blocks under ``nn.scan`` as an argument."""
        if self.is_initializing():  # there are no parameters yet where nothing has called the cell
            dtype = functional.statistics_dtype(self.param_dtype)
            self(self.initialize_carry((1,), dtype), jnp.zeros((1, self.features), dtype))
        return SharedCell(self.variables["params"], self.clone(parent=None, name=None))

    def __call__(self, carry: RelayState, descriptor: Float[Array, "*b c"]) -> tuple[RelayState, State]:
        """Take one step.

        Args:
          carry: state of the previous step, as :meth:`initialize_carry` shapes it.
          descriptor: ``[..., C]``, pooled un-normalised features.

        Returns:
          The new carry and ``(scale, shift)``, each ``[..., C]``: scale = gain * h in (0, gain), shift = c.

        Raises:
          TypeError: for a descriptor that is not floating point.
          ValueError: for a descriptor of another width, or a carry that is not the cell's.
        """
        carry, state = advance(self.layer, carry, self.as_step(carry, descriptor))
        return carry, self.scale_and_shift(state)

    def unroll(
        self, carry: RelayState, descriptors: Float[Array, "n g *b c"], *, reverse: bool = False
    ) -> tuple[RelayState, State]:
        """Take one step for each entry of the second axis, in order.

        Equal to calling the cell in a loop, but the input's share of the gates is one matrix product for all steps and
        the scan runs only over what depends on the state. Without a relay nothing does.

        Args:
          carry: state before the first step, for the batch shape of ``descriptors`` without its second axis.
          descriptors: ``[N, G, ..., C]``.
          reverse: start from the last entry.

        Returns:
          The carry after the last step and ``(scale, shift)``, each ``[N, G, ..., C]``.

        Raises:
          TypeError: for descriptors that are not floating point.
          ValueError: for descriptors of another width or without a step, or a carry that is not the cell's.
        """
        descriptors = self.as_steps(carry, descriptors)
        scan = nn.scan(
            _step,
            variable_broadcast="params",
            variable_axes={"intermediates": 1},
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
            reverse=reverse,
            unroll=UNROLLED,
        )
        carry, states = unroll(self.layer, carry, descriptors, None if self.relay == "none" else scan, reverse)
        return carry, self.scale_and_shift(states)
