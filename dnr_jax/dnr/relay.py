"""Relay cells: recurrent units whose hidden state is a scale and whose cell state is a shift.

A cell maps ``(carry, descriptor) -> (carry, (scale, shift))``. The same cell relays across frame groups, where
:meth:`RelayCell.relay` runs it over an axis, and across the blocks of a stage, where it is called once a block.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

RelayState = tuple[tuple[jax.Array, jax.Array], ...]
"""One ``(h, c)`` per layer of the cell, each ``[..., C]``."""


def _torch_linear_uniform(fan_in: int) -> Callable[..., jax.Array]:
    """Initialiser of ``torch.nn.Linear``: uniform within ``1 / sqrt(fan_in)``, for weights and biases alike."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Bottleneck(nn.Module):
    """Contraction, ReLU, expansion to the four gates: ``W2 relu(W1 x)`` (Equation 7), with biases.

    Attributes:
      features: channels ``C``; the result has ``4 * C``.
      reduction: ``r``; the hidden width is ``C // r``, at least 1.
      param_dtype: dtype of the parameters; the arithmetic is done in it or wider.
    """

    features: int
    reduction: int = 4
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[..., C]`` to the gates' share of this input ``[..., 4 * C]``."""
        hidden = max(self.features // self.reduction, 1)

        def dense(width: int, fan_in: int, name: str) -> nn.Dense:
            init = _torch_linear_uniform(fan_in)
            return nn.Dense(width, param_dtype=self.param_dtype, kernel_init=init, bias_init=init, name=name)

        squeezed = nn.relu(dense(hidden, self.features, "squeeze")(x))
        return dense(4 * self.features, hidden, "expand")(squeezed)


class RelayLayer(nn.Module):
    """One bottleneck LSTM layer (Equations 3 to 6), split where the recurrence begins.

    :meth:`project` is the half of the gates that depends on the input alone; calling the layer adds the half that
    depends on the hidden state. Only the latter has to run step by step.
    """

    features: int
    reduction: int = 4
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        """Create the bottlenecks of the input and of the hidden state."""
        self.input = Bottleneck(self.features, self.reduction, self.param_dtype)
        self.hidden = Bottleneck(self.features, self.reduction, self.param_dtype)

    def project(self, x: jax.Array) -> jax.Array:
        """Return ``phi_x(x) + b`` of Equation 3: ``[..., C]`` to ``[..., 4 * C]``."""
        return self.input(x)

    def __call__(self, state: tuple[jax.Array, jax.Array], gates: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Advance ``(h, c)`` by one step; gates in the order input, forget, candidate, output."""
        h, c = state
        i, f, g, o = jnp.split(gates + self.hidden(h), 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * nn.tanh(g)
        return nn.sigmoid(o) * nn.sigmoid(c), c


def _step(layer: RelayLayer, state: Any, gates: jax.Array) -> Any:
    state = layer(state, gates)
    return state, state


class RelayCell(nn.Module):
    """Bottleneck LSTM that predicts and relays normalisation parameters (Section 3.3).

    Attributes:
      features: channels ``C`` of the normalised features.
      reduction: bottleneck reduction ``r``.
      depth: layers ``d``, stacked: each reads the hidden state of the one below, the last one's state is used.
      param_dtype: dtype of the parameters and, at least, of the state.
    """

    features: int
    reduction: int = 4
    depth: int = 1
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        """Create the layers."""
        self.layer = [RelayLayer(self.features, self.reduction, self.param_dtype) for _ in range(self.depth)]

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...], dtype: Any = jnp.float32) -> RelayState:
        """Return the zero state for descriptors ``[*batch_shape, C]``; needs no variables."""
        zeros = jnp.zeros((*batch_shape, self.features), dtype)
        return ((zeros, zeros),) * self.depth

    def __call__(self, carry: RelayState, descriptor: jax.Array) -> tuple[RelayState, tuple[jax.Array, jax.Array]]:
        """Take one step.

        Args:
          carry: state of the previous step, as :meth:`initialize_carry` shapes it.
          descriptor: ``[..., C]``, pooled un-normalised features.

        Returns:
          The new carry and ``(scale, shift)``, each ``[..., C]``: scale = h in (0, 1), shift = c.
        """
        state = []
        for layer, previous in zip(self.layer, carry, strict=True):
            state.append(layer(previous, layer.project(descriptor)))
            descriptor = state[-1][0]
        return tuple(state), state[-1]

    def relay(self, carry: RelayState, descriptors: jax.Array) -> tuple[RelayState, tuple[jax.Array, jax.Array]]:
        """Take one step for each entry of the second axis, in order.

        Equal to calling the cell in a loop, but the input half of the gates is one matrix product for all steps and
        the scan runs only over what depends on the hidden state.

        Args:
          carry: state before the first step, for the batch shape of ``descriptors`` without its second axis.
          descriptors: ``[N, G, ..., C]``.

        Returns:
          The carry after the last step and ``(scale, shift)``, each ``[N, G, ..., C]``.
        """
        # Two steps a trip: the paper's two groups run without a loop, and more groups do not make the program larger.
        scan = nn.scan(
            _step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1, unroll=2
        )
        last, outputs = [], (descriptors, descriptors)
        for layer, first in zip(self.layer, carry, strict=True):
            gates = layer.project(outputs[0])
            # The parameters may be wider than the descriptors, and a scan keeps the dtype of its carry.
            state, outputs = scan(layer, jax.tree.map(lambda s, g=gates: s.astype(g.dtype), first), gates)
            last.append(state)
        return tuple(last), outputs
