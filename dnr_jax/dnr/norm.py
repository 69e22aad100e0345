"""Normalisation layers, each a cell over depth: ``(carry, x) -> (carry, y)``.

A layer standardises its features (:mod:`dnr_jax.dnr.standardize`) and then scales and shifts them. It may learn the
scale and shift as parameters, or predict them. A layer that does not relay across layers hands the carry on untouched,
so that a network written against this interface serves batch normalisation and DNR alike.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge

from dnr_jax.dnr import functional
from dnr_jax.dnr.fields import Needs, Where
from dnr_jax.dnr.functional import Affine, Moments
from dnr_jax.dnr.inputs import as_features, check_state, check_width
from dnr_jax.dnr.relay import POSITIONS, Prediction, RelayCell
from dnr_jax.dnr.standardize import Standardize, takes_fields_of_base

Carry = Any
"""What a cell over depth hands on: the states of the relay, or None where nothing is relayed yet."""
ScaleShift = tuple[jax.Array, jax.Array]
RELAY_STATE = "relay_state"
"""Collection of the states that cross-temporal DNR starts from and leaves, for streaming; absent otherwise."""
_PREDICTED = "scale and shift are predicted and have no {0} of their own; StaticNorm has one"
_NO_ARGUMENTS = {
    "axis": "channels are the last axis",
    "axis_index_groups": "clips_per_statistics says how many clips share statistics",
    "use_fast_variance": "variances are those of sums taken in float32 or wider",
    "force_float32_reductions": "statistics are always taken in float32 or wider",
    "scale_init": f"{_PREDICTED.format('initial value')}; zeros would leave relays without a gradient",
    "bias_init": _PREDICTED.format("initial value"),
    "use_scale": _PREDICTED.format("parameter"),
    "use_bias": _PREDICTED.format("parameter"),
    "num_groups": "base=GroupNorm(groups=...) says how many groups of channels share statistics",
    "group_size": "channels_per_group says how many channels share statistics",
}
"""Arguments of Flax's normalisation layers that those here do not take, and why."""


class Norm(Standardize):
    """Standardisation followed by a scale and shift; a subclass says which.

    With ``mutable=["intermediates"]`` a layer that predicts them hands out ``scale`` and ``shift``, ``[N, F, C]``.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the constructor say what to do instead of an argument that only Flax's layers have."""
        super().__init_subclass__(**kwargs)
        takes_fields_of_base(cls)
        cls.__init__ = _explained(cls.__init__)  # type: ignore[method-assign]

    @nn.compact
    def __call__(
        self, carry: Carry, x: jax.Array, *, use_running_average: bool | None = None
    ) -> tuple[Carry, jax.Array]:
        """Normalise features.

        Args:
          carry: what the layer before handed on, or None at the first.
          x: ``[N, T, *S, C]``.
          use_running_average: see the attribute.

        Returns:
          The carry, and features of the shape of ``x``, of its dtype unless ``dtype`` says another.

        Raises:
          TypeError: for features that are not floating point.
          ValueError: for features of too few axes or of other channels than the layer's; where the clips or the frames
            cannot be divided as the attributes say; for a carry that is not the cell's.
        """
        frozen = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        x = as_features(x)
        self._check_channels(x)
        moments = functional.frame_moments(x)
        carry, (scale, shift) = self._scale_and_shift(carry, x, moments)
        if self.base.by_position:
            positions = self.base.standardize_positions(x)
            return carry, functional.modulate(positions, Affine(scale, shift), self.dtype or x.dtype)
        standardized = self._standardization(x, moments, frozen)
        return carry, functional.modulate(x, functional.transform(standardized, scale, shift), self.dtype)

    def _check_channels(self, x: jax.Array) -> None:
        """Refuse features of other channels than those that the given variables are of."""
        for collection, name in (("batch_stats", "mean"), ("params", "scale")):
            if self.has_variable(collection, name):
                check_width(x, self.get_variable(collection, name).shape[-1], "the layer")

    def _scale_and_shift(self, carry: Carry, x: jax.Array, moments: Moments) -> tuple[Carry, ScaleShift]:
        """Return the carry and gamma and beta, each ``[N or 1, F, C]`` for runs of frames of equal length."""
        raise NotImplementedError

    def _sow(self, scale: jax.Array, shift: jax.Array) -> ScaleShift:
        self.sow("intermediates", "scale", scale)
        self.sow("intermediates", "shift", shift)
        return scale, shift


def _explained(init: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that explains what it does not take of Flax's layers."""

    @functools.wraps(init)
    def construct(self: Norm, *args: Any, **kwargs: Any) -> None:
        known = {field.name for field in dataclasses.fields(self)}
        for name in kwargs:
            if name in _NO_ARGUMENTS and name not in known:
                raise TypeError(f"{type(self).__name__} takes no {name}: {_NO_ARGUMENTS[name]}")
        init(self, *args, **kwargs)

    return construct


@functools.cache
def without_carry(layer: type[Norm]) -> type[Norm]:
    """Return a layer for networks that hand on features alone: ``(x, use_running_average) -> y``, as ``nn.BatchNorm``.

    It takes the arguments of ``nn.BatchNorm`` that it can honour, and says of the others what to do instead. For layers
    that do not relay across layers; a cross-layer one would start anew at each call.

    Args:
      layer: :class:`CrossTemporalDNR`, :class:`StaticNorm`, :class:`InstanceLevelMetaNorm` or :class:`AttentiveNorm`.

    Raises:
      TypeError: for a layer that needs a carry.
    """
    if issubclass(layer, CrossLayerDNR):
        raise TypeError(f"{layer.__name__} relays through its carry, which the network has to hand on")

    def call(self: Norm, x: jax.Array, use_running_average: bool | None = None, *, mask: None = None) -> jax.Array:
        """Map features ``[N, T, *S, C]`` to features."""
        if mask is not None:
            raise TypeError(f"{layer.__name__} takes no mask: statistics are those of all clips and positions")
        return layer.__call__(self, None, x, use_running_average=use_running_average)[1]

    return type(layer.__name__, (layer,), {"__call__": call, "__module__": layer.__module__})


class StaticNorm(Norm):
    """Normalisation with a learned scale and shift per channel: batch, group, instance, layer normalisation, ...

    Its variables have the names of ``nn.BatchNorm``.
    """

    use_scale: bool = True
    """Whether there is a scale."""
    use_bias: bool = True
    """Whether there is a shift."""
    scale_init: Annotated[Callable[..., jax.Array], Needs("use_scale", True)] = nn.initializers.ones
    """Initialiser of the scale."""
    bias_init: Annotated[Callable[..., jax.Array], Needs("use_bias", True)] = nn.initializers.zeros
    """Initialiser of the shift."""

    def _scale_and_shift(self, carry: Carry, x: jax.Array, moments: Moments) -> tuple[Carry, ScaleShift]:
        shape, dtype = x.shape[-1:], self.param_dtype
        scale = self.param("scale", self.scale_init, shape, dtype) if self.use_scale else jnp.ones(shape, dtype)
        bias = self.param("bias", self.bias_init, shape, dtype) if self.use_bias else jnp.zeros(shape, dtype)
        return carry, (scale[None, None], bias[None, None])


class _DynamicNorm(Prediction, Norm):
    """A norm whose scale and shift a relay cell predicts, which is set by the fields of :class:`Prediction`."""

    def _own_cell(self, features: int, name: str) -> RelayCell:
        return RelayCell(
            features, self.reduction, self.depth, self.param_dtype, self.relay, self.initial_state, name=name
        )


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


class CrossTemporalDNR(FrameGroups, _DynamicNorm):
    """Dynamic normalisation relayed across the frame groups of one layer (Section 3.2, Equations 3 to 7).

    The clip is cut into groups of consecutive frames, as the fields of :class:`FrameGroups` say. A cell of its own
    (:class:`Prediction`) predicts each group's scale and shift from the group's pooled features and from the scale and
    shift of the group before. The carry is handed on untouched.

    Long videos can be normalised clip by clip: with ``mutable=["relay_state"]`` the layer leaves its last state in that
    collection, and starts from it where the collection is given.
    """

    @nn.nowrap
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

    def _scale_and_shift(self, carry: Carry, x: jax.Array, moments: Moments) -> tuple[Carry, ScaleShift]:
        descriptors = functional.group_frames(moments.mean, self.groups(x.shape[1]))  # [N, G, T / G, C]
        if self.granularity == "group":
            descriptors = jnp.mean(descriptors, axis=2, keepdims=True)
        scale, shift = self._relay(descriptors)
        n, c = x.shape[0], x.shape[-1]
        return carry, self._sow(scale.reshape(n, -1, c), shift.reshape(n, -1, c))

    def _relay(self, descriptors: jax.Array) -> ScaleShift:
        """Predict scale and shift ``[N, G, M, C]`` of ``M`` chains over the groups."""
        n, _, chains, c = descriptors.shape
        cell = self._own_cell(c, "relay")
        start = cell.initialize_carry((n, chains), descriptors.dtype)
        streaming = not self.is_initializing() and (
            self.has_variable(RELAY_STATE, "state") or self.is_mutable_collection(RELAY_STATE)
        )
        if streaming:
            if self.direction == "bidirectional":
                raise ValueError(
                    "a bidirectional relay cannot be streamed: its backward cell starts from the end of the video"
                )
            start = self.get_variable(RELAY_STATE, "state", start)
            check_state(start, self.depth, (n, chains), c, RELAY_STATE)
        last, forward = cell.unroll(start, descriptors)
        if streaming and self.is_mutable_collection(RELAY_STATE):
            self.put_variable(RELAY_STATE, "state", last)
        if self.direction == "forward":
            return forward
        cell = self._own_cell(c, "relay_backward")
        start = cell.initialize_carry((n, chains), descriptors.dtype)
        _, backward = cell.unroll(start, descriptors, reverse=True)
        return (forward[0] + backward[0]) / 2, (forward[1] + backward[1]) / 2


Cell = Annotated[
    Any, Where("a relay cell or None", lambda cell: cell is None or (callable(cell) and not isinstance(cell, type)))
]
LayerDistance = Annotated[int, Ge(1), Needs(POSITIONS, "cl"), Needs("relay", "lstm", "se", "fc")]


class CrossLayerDNR(_DynamicNorm):
    """Dynamic normalisation relayed across the blocks of a stage (end of Section 3.2).

    A cell predicts the clip's scale and shift from its pooled features and from those of an earlier layer, which the
    carry holds: ``relay_distance`` states of the cell, the oldest first. None starts them. The earlier layer may have
    another number of channels: those that both have relay, the others start here, or end there.

    A cell of another kind than :class:`RelayCell` maps ``(state, descriptor)`` to ``(state, (scale, shift))``; unless
    the first layer is given a carry it needs ``initialize_carry(batch_shape, dtype)`` too.
    """

    cell: Cell = None
    """The cell that the stage's blocks share, whose own fields then count; None: a cell of this layer alone, set by the
    fields of :class:`Prediction`. It is a field, and not hidden in a closure, so that lifted transforms (``nn.remat``,
    ``nn.scan``) see it."""
    relay_distance: LayerDistance = 1
    """Layers from one to the next of a chain, ``d_r``; 2 makes two interleaved chains."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built, and settings without effect."""
        super().__post_init__()
        if isinstance(self.cell, RelayCell) and self.cell.relay == "none" and self.relay_distance != 1:
            raise ValueError(
                f"{type(self).__name__}: relay_distance: is {self.relay_distance}, which needs a cell that relays; "
                "expected 1 with relay none"
            )

    def _scale_and_shift(self, carry: Carry, x: jax.Array, moments: Moments) -> tuple[Carry, ScaleShift]:
        descriptor = jnp.mean(moments.mean, axis=1)  # [N, C]
        cell: Any = self.cell if self.cell is not None else self._own_cell(x.shape[-1], "relay")
        if isinstance(cell, RelayCell):
            check_width(x, cell.features, "the relay cell")
        self._check_carry(carry, cell, x.shape[0])
        channels = descriptor.shape[-1]
        if carry is None or any(leaf.shape[-1] != channels for leaf in jax.tree.leaves(carry[0])):
            start = cell.initialize_carry(descriptor.shape[:-1], descriptor.dtype)
            if carry is None:
                carry = (start,) * self.relay_distance
            else:
                carry = (functional.fit_channels(carry[0], start), *carry[1:])
        state, (scale, shift) = cell(carry[0], descriptor)
        return (*carry[1:], state), self._sow(scale[:, None], shift[:, None])

    @nn.nowrap
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
        for state in carry if isinstance(cell, RelayCell) else ():
            check_state(state, cell.depth, (clips,), None, "carry")


class InstanceLevelMetaNorm(Norm):
    """ILM normalisation (Jia et al. 2019): an auto-encoder predicts scale and shift from each clip's own statistics.

    The variances of groups of channels, encoded and decoded, move the learned scale by a sigmoid; the means, encoded by
    the same encoder, move the learned shift by a tanh. ``base.statistics`` says over which frames they are taken; with
    ``token`` it is each frame.
    """

    key_channels: Annotated[int, Ge(1)] = 16
    """Channels in a group of the key features; 16 as in its authors' code, or the greatest common divisor with the
    channels."""
    reduction: Annotated[int, Ge(1)] = 16
    """Groups per unit of the code; where there are fewer groups, the code has 2 units."""

    def _scale_and_shift(self, carry: Carry, x: jax.Array, moments: Moments) -> tuple[Carry, ScaleShift]:
        channels, runs = x.shape[-1], self.runs(x.shape[1])
        size = math.gcd(channels, self.key_channels)
        groups = channels // size
        keys = functional.instance_moments(moments, runs, groups)
        variance = functional.unbiased(keys.variance, x.size // (x.shape[0] * runs * groups))
        code = groups // self.reduction if groups >= self.reduction else 2
        encode = nn.Dense(code, use_bias=False, param_dtype=self.param_dtype, name="encode")

        def decode(key: jax.Array, name: str) -> jax.Array:
            hidden = nn.relu(encode(key[..., ::size]))
            decoded = nn.Dense(groups, use_bias=False, param_dtype=self.param_dtype, name=name)(hidden)
            return jnp.repeat(decoded, size, axis=-1)

        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        gamma = nn.sigmoid(decode(variance, "decode_scale")) + scale[None, None]
        return carry, self._sow(gamma, nn.tanh(decode(keys.mean, "decode_shift")) + bias[None, None])


class AttentiveNorm(Norm):
    """Attentive normalisation (Li et al. 2020): each clip mixes ``K`` learned scales and shifts by attention weights.

    The weights are hard sigmoids of a linear map of ``mean / sqrt(variance + 1e-3)`` per channel.
    ``base.statistics`` says over which frames they are taken; with ``token`` it is each frame.
    """

    num_mixtures: Annotated[int, Ge(1)] = 10
    """``K``."""

    def _scale_and_shift(self, carry: Carry, x: jax.Array, moments: Moments) -> tuple[Carry, ScaleShift]:
        channels, runs = x.shape[-1], self.runs(x.shape[1])
        keys = functional.instance_moments(moments, runs)
        variance = functional.unbiased(keys.variance, x.size // (x.shape[0] * runs * channels))
        attention = nn.Dense(self.num_mixtures, param_dtype=self.param_dtype, name="attention")
        weights = nn.hard_sigmoid(attention(keys.mean * jax.lax.rsqrt(variance + 1e-3)))
        shape = (self.num_mixtures, channels)
        scale = self.param("scale", _normal_around(1.0), shape, self.param_dtype)
        bias = self.param("bias", _normal_around(0.0), shape, self.param_dtype)
        return carry, self._sow(weights @ scale, weights @ bias)


def _normal_around(mean: float) -> nn.initializers.Initializer:
    """Initialiser of the mixtures in the authors' code: a standard deviation of 0.1."""

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return mean + 0.1 * jax.random.normal(key, shape, dtype)

    return init
