"""Relay cells as NNX modules; settings, equations and names are those of :mod:`dnr_jax.dnr.relay`."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dnr_jax.dnr import functional
from dnr_jax.dnr.fields import refuse
from dnr_jax.dnr.functional import Gates, State
from dnr_jax.dnr.relay import UNROLLED, CellSettings, RelayState, advance, torch_linear_uniform, unroll


def hand_out(module: nnx.Module, **values: Any) -> None:
    """Store intermediate values where ``flax.nnx.capture`` asks for them; flax 0.11 has nothing that asks."""
    if hasattr(module, "__captures__"):
        for name, value in values.items():
            module.sow(nnx.Intermediate, name, value)


class RelayLayer(nnx.Module):
    """One layer of a relay cell, split where the recurrence begins; see :class:`dnr_jax.dnr.relay.RelayLayer`.

    Args:
      features: channels ``C``.
      reduction: bottleneck reduction ``r``.
      param_dtype: dtype of the parameters.
      rngs: what the parameters are drawn with.
    """

    def __init__(self, features: int, reduction: int, param_dtype: Any, *, rngs: nnx.Rngs) -> None:
        """Create the maps."""
        raise NotImplementedError

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map the input ``[..., C]`` to its share of what the state is computed from."""
        raise NotImplementedError

    def step(self, state: State, projected: Float[Array, "*b p"]) -> tuple[State, Gates]:
        """Advance ``(h, c)``, each ``[..., C]``; return the gates that it has, after their activations, as well."""
        raise NotImplementedError

    def __call__(self, state: State, projected: Float[Array, "*b p"]) -> State:
        """Advance ``(h, c)`` by one step."""
        state, gates = self.step(state, projected)
        self.hand_out_gates(gates)
        return state

    def hand_out_gates(self, gates: Gates) -> None:
        """Hand out the gates, where there are any."""
        if gates:
            hand_out(self, gates=gates)


class Bottleneck(nnx.Module):
    """Contraction, ReLU, expansion to the gates: ``W2 relu(W1 x)`` (Equation 7), with biases."""

    def __init__(self, features: int, reduction: int, param_dtype: Any, *, rngs: nnx.Rngs, gates: int = 4) -> None:
        """Create both maps."""
        hidden = max(features // reduction, 1)
        self.squeeze = _linear(features, hidden, features, param_dtype, rngs)
        self.expand = _linear(hidden, gates * features, hidden, param_dtype, rngs)

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map ``[..., C]`` to the gates' share of this input ``[..., gates * C]``."""
        return self.expand(jax.nn.relu(self.squeeze(x)))


class LSTMLayer(RelayLayer):
    """Bottleneck LSTM (Equations 3 to 6)."""

    def __init__(self, features: int, reduction: int, param_dtype: Any, *, rngs: nnx.Rngs) -> None:
        """Create the bottlenecks of the input and of the hidden state."""
        self.input = Bottleneck(features, reduction, param_dtype, rngs=rngs)
        self.hidden = Bottleneck(features, reduction, param_dtype, rngs=rngs)

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map ``[..., C]`` to ``[..., 4 * C]``."""
        return self.input(x)

    def step(self, state: State, projected: Float[Array, "*b p"]) -> tuple[State, Gates]:
        """Advance ``(h, c)``; return the gates as well."""
        h, c = state
        return functional.lstm_step(projected + self.hidden(h), c)


class UnrelayedLayer(RelayLayer):
    """Dynamic normalisation without relay."""

    def __init__(self, features: int, reduction: int, param_dtype: Any, *, rngs: nnx.Rngs) -> None:
        """Create the bottleneck of the input."""
        self.input = Bottleneck(features, reduction, param_dtype, rngs=rngs, gates=3)

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map ``[..., C]`` to ``[..., 3 * C]``."""
        return self.input(x)

    def step(self, state: State, projected: Float[Array, "*b p"]) -> tuple[State, Gates]:
        """Return ``(h, c)`` and the gates; ``state`` is not read."""
        del state
        return functional.unrelayed_step(projected)


class SELayer(RelayLayer):
    """Squeeze-and-excitation relay."""

    def __init__(self, features: int, reduction: int, param_dtype: Any, *, rngs: nnx.Rngs) -> None:
        """Create the two halves of the contraction, and the expansion."""
        hidden, fan_in = max(features // reduction, 1), 3 * features
        self.squeeze_input = _linear(features, hidden, fan_in, param_dtype, rngs)
        self.squeeze_state = _linear(2 * features, hidden, fan_in, param_dtype, rngs, use_bias=False)
        self.expand = _linear(hidden, 2 * features, hidden, param_dtype, rngs)

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map ``[..., C]`` to ``[..., C // r]``."""
        return self.squeeze_input(x)

    def step(self, state: State, projected: Float[Array, "*b p"]) -> tuple[State, Gates]:
        """Advance ``(h, c)``."""
        squeezed = jax.nn.relu(projected + self.squeeze_state(jnp.concatenate(state, axis=-1)))
        return functional.excite(self.expand(squeezed)), {}


class FCLayer(RelayLayer):
    """Fully connected relay; it has no bottleneck."""

    def __init__(self, features: int, reduction: int, param_dtype: Any, *, rngs: nnx.Rngs) -> None:
        """Create the weights of the input and those of the state."""
        del reduction
        self.input = _linear(features, 2 * features, 3 * features, param_dtype, rngs)
        self.state = _linear(2 * features, 2 * features, 3 * features, param_dtype, rngs, use_bias=False)

    def project(self, x: Float[Array, "*b c"]) -> Float[Array, "*b p"]:
        """Map ``[..., C]`` to ``[..., 2 * C]``."""
        return self.input(x)

    def step(self, state: State, projected: Float[Array, "*b p"]) -> tuple[State, Gates]:
        """Advance ``(h, c)``."""
        return functional.excite(projected + self.state(jnp.concatenate(state, axis=-1))), {}


def _linear(
    features: int, width: int, fan_in: int, param_dtype: Any, rngs: nnx.Rngs, use_bias: bool = True
) -> nnx.Linear:
    """Return a map whose weights start as those of a ``torch.nn.Linear`` with ``fan_in`` inputs."""
    init = torch_linear_uniform(fan_in)
    fields = {"param_dtype": param_dtype, "kernel_init": init, "bias_init": init}
    return nnx.Linear(features, width, use_bias=use_bias, rngs=rngs, **fields)


RELAYS: dict[str, type[RelayLayer]] = {"lstm": LSTMLayer, "se": SELayer, "fc": FCLayer, "none": UnrelayedLayer}
"""The relay mechanisms of the paper's Table 1d."""


def _scan(reverse: bool, layer: RelayLayer, state: State, projected: Float[Array, "*b p"]) -> tuple[State, State]:
    """Run a layer over the second axis; return the last state and all states."""

    def step(state: State, projected: Float[Array, "*b p"]) -> tuple[State, tuple[State, Gates]]:
        state, gates = layer.step(state, projected)
        return state, (state, gates)

    first = jnp.moveaxis(projected, 1, 0)
    last, found = jax.lax.scan(step, state, first, reverse=reverse, unroll=UNROLLED)
    states, gates = jax.tree.map(lambda v: jnp.moveaxis(v, 0, 1), found)
    layer.hand_out_gates(gates)
    return last, states


@dataclasses.dataclass(repr=False, eq=False)
class RelayCell(CellSettings, nnx.Module):
    """Recurrent unit that predicts and relays normalisation parameters; :class:`dnr_jax.RelayCell` as an NNX module.

    The fields are those of :class:`dnr_jax.dnr.relay.CellSettings`. They are checked when the cell is made: ValueError
    says which one is wrong and what would be right. Layers that share a cell are given the same object.
    """

    LINEN_NAMES: ClassVar[dict[str, str]] = {"start": "initial_state"}
    """Attributes whose arrays have another name in the Linen cell."""

    rngs: dataclasses.InitVar[nnx.Rngs] = dataclasses.field(kw_only=True)

    def __post_init__(self, rngs: nnx.Rngs) -> None:
        """Refuse what cannot be built, and settings without effect; draw the parameters."""
        refuse(self)
        for i in range(self.depth):
            layer = RELAYS[self.relay](self.features, self.reduction, self.param_dtype, rngs=rngs)
            setattr(self, f"layer_{i}", layer)
        if self.initial_state == "learned":
            self.start = nnx.Param(jnp.zeros((self.depth, 2, self.features), self.param_dtype))

    @property
    def layers(self) -> tuple[RelayLayer, ...]:
        """The layers, the one that reads the descriptor first."""
        return tuple(getattr(self, f"layer_{i}") for i in range(self.depth))

    def initialize_carry(self, batch_shape: tuple[int, ...], dtype: Any = jnp.float32) -> RelayState:
        """Return the state before the first step, for descriptors ``[*batch_shape, C]`` of ``dtype``.

        Its dtype is that of :meth:`dnr_jax.RelayCell.initialize_carry`.
        """
        start = self.start[...] if self.initial_state == "learned" else None
        return self.states_like(start, batch_shape, dtype)

    def __call__(self, carry: RelayState, descriptor: Float[Array, "*b c"]) -> tuple[RelayState, State]:
        """Take one step, as :meth:`dnr_jax.RelayCell.__call__` does.

        Args:
          carry: state of the previous step, as :meth:`initialize_carry` shapes it.
          descriptor: ``[..., C]``, pooled un-normalised features.

        Returns:
          The new carry and ``(scale, shift)``, each ``[..., C]``: scale = gain * h in (0, gain), shift = c.

        Raises:
          TypeError: for a descriptor that is not floating point.
          ValueError: for a descriptor of another width, or a carry that is not the cell's.
        """
        carry, state = advance(self.layers, carry, self.as_step(carry, descriptor))
        return carry, self.scale_and_shift(state)

    def unroll(
        self, carry: RelayState, descriptors: Float[Array, "n g *b c"], *, reverse: bool = False
    ) -> tuple[RelayState, State]:
        """Take one step for each entry of the second axis, in order, as :meth:`dnr_jax.RelayCell.unroll` does.

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
        scan = None if self.relay == "none" else functools.partial(_scan, reverse)
        carry, states = unroll(self.layers, carry, descriptors, scan, reverse)
        return carry, self.scale_and_shift(states)
