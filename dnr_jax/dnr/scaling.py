"""The second half of every norm: what scales and shifts (Equation 2), in layers of any framework.

For each kind of norm its settings, and what is computed with them from arrays, relay cells and linear maps. The caller
owns the arrays, so that Linen and NNX layers are the same functions.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from annotated_types import Ge
from jaxtyping import Array, Float

from dnr_jax.dnr import functional
from dnr_jax.dnr.aliases import Carry, Dtype, Features, ScaleShift
from dnr_jax.dnr.fields import Needs, Where, is_module
from dnr_jax.dnr.functional import Moments
from dnr_jax.dnr.inputs import check_state, check_width
from dnr_jax.dnr.relay import POSITIONS, CellSettings, RelayState, SharedCell

Linear = Callable[[jax.Array], jax.Array]
"""A linear map of the last axis."""
Initializer = Callable[..., jax.Array]


@dataclasses.dataclass(repr=False, eq=False)
class LearnedTransform:
    """A learned scale and shift a channel: the settings of :class:`dnr_jax.dnr.StaticNorm`."""

    use_scale: bool = True
    """Whether there is a scale."""
    use_bias: bool = True
    """Whether there is a shift."""
    scale_init: Annotated[Initializer, Needs("use_scale", True)] = jax.nn.initializers.ones
    """Initialiser of the scale."""
    bias_init: Annotated[Initializer, Needs("use_bias", True)] = jax.nn.initializers.zeros
    """Initialiser of the shift."""


_TEMPORAL = Needs(POSITIONS, "ct")


@dataclasses.dataclass(repr=False, eq=False)
class FrameGroups:
    """How cross-temporal DNR cuts a clip: the settings of the layer, and of :class:`dnr_jax.dnr.DNRSpec`."""

    relay_distance: Annotated[int, Ge(1), _TEMPORAL, Needs("num_groups", 0)] = 4
    """Frames in a group, ``d_r``; a clip with fewer frames is one group."""
    num_groups: Annotated[int, Ge(0), _TEMPORAL] = 0
    """Number of groups instead, whatever the clip's length; 0 leaves it to ``relay_distance``."""
    granularity: Annotated[Literal["group", "frame"], _TEMPORAL] = "group"
    """``group``: one descriptor, scale and shift a group (the authors' code); ``frame``: one a frame, frame ``t``
    relaying from frame ``t - d_r`` (the paper's ``M x C``: ``d_r`` interleaved chains)."""
    direction: Annotated[Literal["forward", "bidirectional"], _TEMPORAL] = "forward"
    """``forward``, or ``bidirectional`` (the paper's supplement): a second cell runs from the last group to the first,
    and the scale and shift are the means of both cells'."""


class TemporalRelay(FrameGroups):
    """Scale and shift relayed across the frame groups of one layer (Section 3.2, Equations 3 to 7)."""

    def groups(self, num_frames: int) -> int:
        """Return the number of groups of a clip; raises ValueError where they do not divide ``num_frames``."""
        groups = self.num_groups or max(num_frames // self.relay_distance, 1)
        if not self.num_groups and num_frames > self.relay_distance and num_frames % self.relay_distance:
            raise ValueError(
                f"relay_distance={self.relay_distance} does not divide the clip of {num_frames} frames: "
                "choose a divisor, or set num_groups"
            )
        functional.check_groups(num_frames, groups)
        return groups

    def descriptors(self, moments: Moments) -> Float[Array, "n g m c"]:
        """Return what cells read: ``[N, G, M, C]``, of ``M`` chains over the groups."""
        grouped = functional.group_frames(moments.mean, self.groups(moments.mean.shape[1]))
        return jnp.mean(grouped, axis=2, keepdims=True) if self.granularity == "group" else grouped

    def check_stream(self, state: Any, depth: int, descriptors: Float[Array, "n g m c"]) -> None:
        """Raise ValueError where the relay cannot start from ``state``, that of an earlier piece of the video."""
        if self.direction == "bidirectional":
            raise ValueError(
                "a bidirectional relay cannot be streamed: its backward cell starts from the end of the video"
            )
        n, _, chains, c = descriptors.shape
        check_state(state, depth, (n, chains), c, "relay_state")

    def relay_groups(
        self, cell: Any, backward: Any, descriptors: Float[Array, "n g m c"], start: RelayState | None = None
    ) -> tuple[RelayState, ScaleShift]:
        """Predict scale and shift of each group, or frame.

        Args:
          cell: a relay cell.
          backward: the cell of the other direction, or None.
          descriptors: see :meth:`descriptors`.
          start: state of ``cell`` before the first group; None: its own.

        Returns:
          The state of ``cell`` after the last group, and the scale and shift.
        """
        n, _, chains, c = descriptors.shape
        batch_shape = n, chains
        if start is None:
            start = cell.initialize_carry(batch_shape, descriptors.dtype)
        last, (scale, shift) = cell.unroll(start, descriptors)
        if backward is not None:
            start = backward.initialize_carry(batch_shape, descriptors.dtype)
            _, other = backward.unroll(start, descriptors, reverse=True)
            scale, shift = (scale + other[0]) / 2, (shift + other[1]) / 2
        return last, (scale.reshape(n, -1, c), shift.reshape(n, -1, c))


Cell = Annotated[
    Any, Where("a relay cell or None", lambda cell: cell is None or (callable(cell) and not isinstance(cell, type)))
]
LayerDistance = Annotated[int, Ge(1), Needs(POSITIONS, "cl"), Needs("relay", "lstm", "se", "fc")]


@dataclasses.dataclass(repr=False, eq=False)
class LayerRelay:
    """Scale and shift relayed across the blocks of a stage (end of Section 3.2)."""

    cell: Cell = None
    """The cell that the stage's blocks share, whose own fields then count; None: a cell of this layer alone, set by the
    fields of :class:`Prediction`. It is a field, and not hidden in a closure, so that ``nn.remat`` sees it. ``nn.scan``
    over blocks would give each block a cell of its own: there it is what :meth:`RelayCell.shared` returns, handed to
    the blocks as an argument that is broadcast."""
    relay_distance: LayerDistance = 1
    """Layers from one to the next of a chain, ``d_r``; 2 makes two interleaved chains."""

    def check_cell(self, module: type, framework: str) -> None:
        """Raise ValueError for a cell of another framework, and for chains of one that does not relay.

        The parameters of a cell of another framework would be none of the layer's: nothing would train or save them.

        Args:
          module: what all modules of the layer's framework are.
          framework: its name.
        """
        if is_module(self.cell) and not isinstance(self.cell, module):
            kind = type(self.cell)
            raise ValueError(
                f"{type(self).__name__}: cell: is a {kind.__name__} of {kind.__module__}, whose parameters would be "
                f"none of the layer's; expected a module of {framework}, as the layer is, or None"
            )
        cell = self.cell.cell if isinstance(self.cell, SharedCell) else self.cell
        if isinstance(cell, CellSettings) and cell.relay == "none" and self.relay_distance != 1:
            raise ValueError(
                f"{type(self).__name__}: relay_distance: is {self.relay_distance}, which needs a cell that relays; "
                "expected 1 with relay none"
            )

    def relay_layers(self, cell: Any, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        """Predict the scale and shift of each clip.

        Args:
          cell: a relay cell, or what maps ``(state, descriptor)`` to ``(state, (scale, shift))``.
          carry: states of the cell, the oldest first; None at the first layer.
          x: features ``[N, T, *S, C]``.
          moments: those of the frames of ``x``, ``[N, T, C]``.

        Returns:
          The carry, and the scale and shift.
        """
        descriptor = jnp.mean(moments.mean, axis=1)  # [N, C]
        clips, channels = descriptor.shape
        if isinstance(cell, CellSettings):
            check_width(x, cell.features, "the relay cell")
        self._check_carry(carry, cell, clips)
        if carry is None:
            carry = (_start(cell, clips, descriptor.dtype),) * self.relay_distance
        elif hasattr(cell, "initialize_carry") and any(
            leaf.shape[-1:] != (channels,) for leaf in jax.tree.leaves(carry[0])
        ):
            carry = (functional.fit_channels(carry[0], _start(cell, clips, descriptor.dtype)), *carry[1:])
        state, (scale, shift) = _step(cell, carry[0], descriptor)
        return (*carry[1:], state), (scale[:, None], shift[:, None])

    def _check_carry(self, carry: Carry, cell: Any, clips: int) -> None:
        if carry is None:
            if not hasattr(cell, "initialize_carry"):
                raise TypeError(
                    f"cell: is a {type(cell).__name__}; expected a RelayCell, or a carry that it starts from"
                )
            return
        if not isinstance(carry, tuple | list) or len(carry) != self.relay_distance:
            raise ValueError(
                f"carry: expected a tuple of {self.relay_distance} (relay_distance), the states of the cell with the "
                f"oldest first, or None at the first layer, got {jax.tree.map(jnp.shape, carry)}"
            )
        for state in carry if isinstance(cell, CellSettings) else ():
            check_state(state, cell.depth, (clips,), None, "carry")


_SIGNATURE = (
    "expected a RelayCell, or what maps (state, descriptor [N, C]) to (state, (scale [N, C], shift [N, C])) and has "
    "initialize_carry(batch_shape, dtype)"
)


def _start(cell: Any, clips: int, dtype: Dtype) -> Any:
    """Return the state of a cell before its first step; raises TypeError for one that is made in another way."""
    try:
        return cell.initialize_carry((clips,), dtype)
    except (TypeError, LookupError) as error:  # a dtype may be taken for a shape, and a shape for a key
        if isinstance(cell, CellSettings):
            raise
        raise TypeError(
            f"cell: the initialize_carry of {type(cell).__name__} does not take a batch shape and a dtype; {_SIGNATURE}"
        ) from error


def _step(cell: Any, state: Any, descriptor: Float[Array, "n c"]) -> tuple[Any, ScaleShift]:
    """Take a step of a cell; raises TypeError for one that returns something else than a scale and a shift."""
    made = cell(state, descriptor)
    pair = made[1] if isinstance(made, tuple | list) and len(made) == 2 else None
    if not isinstance(pair, tuple | list) or [jnp.shape(leaf) for leaf in pair] != [descriptor.shape] * 2:
        raise TypeError(f"cell: a {type(cell).__name__} returns {jax.tree.map(jnp.shape, made)}; {_SIGNATURE}")
    return made[0], (pair[0], pair[1])


@dataclasses.dataclass(repr=False, eq=False)
class KeyEncoder:
    """Scale and shift from an auto-encoder of a clip's own statistics: :class:`dnr_jax.dnr.InstanceLevelMetaNorm`."""

    key_channels: Annotated[int, Ge(1)] = 16
    """Channels in a group of the key features; 16 as in its authors' code, or the greatest common divisor with the
    channels."""
    reduction: Annotated[int, Ge(1)] = 16
    """Groups per unit of the code; where there are fewer groups, the code has 2 units."""

    def key_groups(self, channels: int) -> int:
        """Return the number of groups of the key features."""
        return channels // math.gcd(channels, self.key_channels)

    def code_units(self, channels: int) -> int:
        """Return the number of units of the code."""
        groups = self.key_groups(channels)
        return groups // self.reduction if groups >= self.reduction else 2

    def decode(
        self, moments: Moments, runs: int, positions: int, encode: Linear, scale: Linear, shift: Linear
    ) -> ScaleShift:
        """Predict what moves the learned scale and shift of each of ``runs`` runs of frames.

        Args:
          moments: those of the frames, ``[N, T, C]``.
          runs: runs of consecutive frames.
          positions: spatial positions of a frame.
          encode: groups to code.
          scale: code to groups, of the scale.
          shift: code to groups, of the shift.
        """
        _, frames, channels = moments.mean.shape
        groups = self.key_groups(channels)
        size = channels // groups
        keys = functional.instance_moments(moments, runs, groups)
        variance = functional.unbiased(keys.variance, frames * positions * channels // (runs * groups))

        def decoded(key: jax.Array, decode: Linear) -> jax.Array:
            return jnp.repeat(decode(jax.nn.relu(encode(key[..., ::size]))), size, axis=-1)

        return jax.nn.sigmoid(decoded(variance, scale)), jnp.tanh(decoded(keys.mean, shift))


@dataclasses.dataclass(repr=False, eq=False)
class Mixture:
    """Scale and shift mixed of ``K`` learned ones by attention weights: :class:`dnr_jax.dnr.AttentiveNorm`."""

    num_mixtures: Annotated[int, Ge(1)] = 10
    """``K``."""

    def weights(self, moments: Moments, runs: int, positions: int, attention: Linear) -> Float[Array, "n f k"]:
        """Return the weights ``[N, F, K]`` of each of ``runs`` runs of frames with ``positions`` positions each."""
        frames = moments.mean.shape[1]
        keys = functional.instance_moments(moments, runs)
        variance = functional.unbiased(keys.variance, frames * positions // runs)
        return jax.nn.hard_sigmoid(attention(keys.mean * jax.lax.rsqrt(variance + 1e-3)))


def normal_around(mean: float) -> Initializer:
    """Return the authors' initialiser of attentive normalisation's mixtures: a standard deviation of 0.1."""

    def init(key: jax.Array, shape: Any, dtype: Dtype = jnp.float32) -> jax.Array:
        return mean + 0.1 * jax.random.normal(key, shape, dtype)

    return init
