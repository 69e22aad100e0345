"""Normalisation layers, each a cell over depth: ``(carry, x) -> (carry, y)``.

A layer standardises its features (:mod:`dnr_jax.dnr.standardize`) and then scales and shifts them. It may learn the
scale and shift as parameters, or predict them. A layer that does not relay across layers hands the carry on untouched,
so that a network written against this interface serves batch normalisation and DNR alike.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnr_jax.dnr import functional
from dnr_jax.dnr.aliases import Carry, Features, ScaleShift
from dnr_jax.dnr.functional import Moments
from dnr_jax.dnr.inputs import as_features, check_width
from dnr_jax.dnr.relay import Prediction, RelayCell
from dnr_jax.dnr.scaling import (
    KeyEncoder,
    LayerRelay,
    LearnedTransform,
    Mixture,
    TemporalRelay,
    normal_around,
)
from dnr_jax.dnr.standardize import Standardize, takes_fields_of_base

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
        explains_arguments(takes_fields_of_base(cls))

    @nn.compact
    def __call__(self, carry: Carry, x: Features, *, use_running_average: bool | None = None) -> tuple[Carry, Features]:
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
        return carry, self.normalize(x, scale, shift, lambda: self._standardization(x, moments, frozen))

    def _check_channels(self, x: Features) -> None:
        """Refuse features of other channels than those that the given variables are of."""
        for collection, name in (("batch_stats", "mean"), ("params", "scale")):
            if self.has_variable(collection, name):
                check_width(x, self.get_variable(collection, name).shape[-1], "the layer")

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        """Return the carry and gamma and beta, each ``[N or 1, F, C]`` for runs of frames of equal length."""
        raise NotImplementedError

    def _sow(self, scale: jax.Array, shift: jax.Array) -> ScaleShift:
        self.sow("intermediates", "scale", scale)
        self.sow("intermediates", "shift", shift)
        return scale, shift


def asks_for_state(module: nn.Module) -> bool:
    """Return whether the caller of ``apply`` names the collection of relay states among the mutable ones.

    Filters that let everything pass, ``True`` and a ``DenyList``, let a name pass that nobody knows; they are what
    training loops have, whose clips are no pieces of one video.
    """
    return module.is_mutable_collection(RELAY_STATE) and not module.is_mutable_collection(f"no {RELAY_STATE}")


def explains_arguments(cls: Any) -> Any:
    """Let the constructor of a norm say what to do instead of an argument that only Flax's layers have; a decorator."""
    init = cls.__init__

    @functools.wraps(init)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        known = {field.name for field in dataclasses.fields(self)}
        for name in kwargs:
            if name in _NO_ARGUMENTS and name not in known:
                raise TypeError(f"{type(self).__name__} takes no {name}: {_NO_ARGUMENTS[name]}")
        init(self, *args, **kwargs)

    cls.__init__ = construct
    return cls


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

    def call(self: Norm, x: Features, use_running_average: bool | None = None, *, mask: None = None) -> Features:
        """Map features ``[N, T, *S, C]`` to features."""
        if mask is not None:
            raise TypeError(f"{layer.__name__} takes no mask: statistics are those of all clips and positions")
        return layer.__call__(self, None, x, use_running_average=use_running_average)[1]

    return derived(layer, call, without_carry)


def derived(layer: type, call: Callable[..., Any], derive: Callable[[Any], Any]) -> Any:
    """Return a subclass of a layer with another call, whose objects can be pickled.

    Args:
      layer: whose name and module the subclass has.
      call: its ``__call__``.
      derive: what returns this very subclass again, given ``layer``: a function of a module.
    """

    def reduce(self: Any, protocol: Any) -> Any:
        """Say how the object is made again; by its name pickle would find ``layer``."""
        return _derived_object, (derive, layer), *super(cls, self).__reduce_ex__(protocol)[2:]

    fields = {"__call__": call, "__reduce_ex__": reduce, "__module__": layer.__module__}
    cls: Any = type(layer.__name__, (layer,), fields)
    return cls


def _derived_object(derive: Callable[[Any], Any], layer: type) -> Any:
    """Return an object without its state, which pickle adds."""
    cls = derive(layer)
    return cls.__new__(cls)


class StaticNorm(LearnedTransform, Norm):
    """Normalisation with a learned scale and shift per channel: batch, group, instance, layer normalisation, ...

    Its variables have the names of ``nn.BatchNorm``.
    """

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        shape, dtype = x.shape[-1:], self.param_dtype
        scale = self.param("scale", self.scale_init, shape, dtype) if self.use_scale else jnp.ones(shape, dtype)
        bias = self.param("bias", self.bias_init, shape, dtype) if self.use_bias else jnp.zeros(shape, dtype)
        return carry, (scale[None, None], bias[None, None])


class _DynamicNorm(Prediction, Norm):
    """A norm whose scale and shift a relay cell predicts, which is set by the fields of :class:`Prediction`."""

    def _own_cell(self, features: int, name: str) -> RelayCell:
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(Prediction)}
        return RelayCell(features, param_dtype=self.param_dtype, **settings, name=name)


class CrossTemporalDNR(TemporalRelay, _DynamicNorm):
    """Dynamic normalisation relayed across the frame groups of one layer (Section 3.2, Equations 3 to 7).

    The clip is cut into groups of consecutive frames, as the fields of :class:`FrameGroups` say. A cell of its own
    (:class:`Prediction`) predicts each group's scale and shift from the group's pooled features and from the scale and
    shift of the group before. The carry is handed on untouched.

    Long videos can be normalised clip by clip: with ``mutable=["relay_state"]`` the layer leaves its last state in that
    collection, and starts from it where the collection is given. The name has to be in the list: with ``mutable=True``
    or a ``DenyList`` clips have nothing to do with one another, unless the collection is given.
    """

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        descriptors, channels = self.descriptors(moments), x.shape[-1]
        cell = self._own_cell(channels, "relay")
        backward = self._own_cell(channels, "relay_backward") if self.direction == "bidirectional" else None
        start = self._stream(cell, descriptors)
        last, (scale, shift) = self.relay_groups(cell, backward, descriptors, start)
        if start is not None and self.is_mutable_collection(RELAY_STATE):
            self.put_variable(RELAY_STATE, "state", last)
        return carry, self._sow(scale, shift)

    def _stream(self, cell: RelayCell, descriptors: jax.Array) -> Any:
        """Return the state to start from, where pieces of a video are streamed; None otherwise."""
        if self.is_initializing() or not (asks_for_state(self) or self.has_variable(RELAY_STATE, "state")):
            return None
        n, _, chains, _ = descriptors.shape
        fresh = cell.initialize_carry((n, chains), descriptors.dtype)
        state = self.get_variable(RELAY_STATE, "state", fresh)
        self.check_stream(state, self.depth, descriptors)
        return state


class CrossLayerDNR(LayerRelay, _DynamicNorm):
    """Dynamic normalisation relayed across the blocks of a stage (end of Section 3.2).

    A cell predicts the clip's scale and shift from its pooled features and from those of an earlier layer, which the
    carry holds: ``relay_distance`` states of the cell, the oldest first. None starts them. The earlier layer may have
    another number of channels: those that both have relay, the others start here, or end there.

    A cell of another kind than :class:`RelayCell` maps ``(state, descriptor)`` to ``(state, (scale, shift))``; unless
    the first layer is given a carry it needs ``initialize_carry(batch_shape, dtype)`` too.
    """

    def __post_init__(self) -> None:
        """Refuse what cannot be built, and settings without effect."""
        super().__post_init__()
        self.check_cell(nn.Module, "Linen")

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        cell = self.cell if self.cell is not None else self._own_cell(x.shape[-1], "relay")
        carry, (scale, shift) = self.relay_layers(cell, carry, x, moments)
        return carry, self._sow(scale, shift)


class InstanceLevelMetaNorm(KeyEncoder, Norm):
    """ILM normalisation (Jia et al. 2019): an auto-encoder predicts scale and shift from each clip's own statistics.

    The variances of groups of channels, encoded and decoded, move the learned scale by a sigmoid; the means, encoded by
    the same encoder, move the learned shift by a tanh. ``base.statistics`` says over which frames they are taken; with
    ``token`` it is each frame.
    """

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        channels = x.shape[-1]
        groups = self.key_groups(channels)
        encode, scale, shift = (
            nn.Dense(width, use_bias=False, param_dtype=self.param_dtype, name=name)
            for name, width in (
                ("encode", self.code_units(channels)),
                ("decode_scale", groups),
                ("decode_shift", groups),
            )
        )
        gamma, beta = self.decode(moments, self.runs(x.shape[1]), math.prod(x.shape[2:-1]), encode, scale, shift)
        learned_scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        return carry, self._sow(gamma + learned_scale[None, None], beta + bias[None, None])


class AttentiveNorm(Mixture, Norm):
    """Attentive normalisation (Li et al. 2020): each clip mixes ``K`` learned scales and shifts by attention weights.

    The weights are hard sigmoids of a linear map of ``mean / sqrt(variance + 1e-3)`` per channel.
    ``base.statistics`` says over which frames they are taken; with ``token`` it is each frame.
    """

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        attention = nn.Dense(self.num_mixtures, param_dtype=self.param_dtype, name="attention")
        weights = self.weights(moments, self.runs(x.shape[1]), math.prod(x.shape[2:-1]), attention)
        shape = (self.num_mixtures, x.shape[-1])
        scale = self.param("scale", normal_around(1.0), shape, self.param_dtype)
        bias = self.param("bias", normal_around(0.0), shape, self.param_dtype)
        return carry, self._sow(weights @ scale, weights @ bias)
