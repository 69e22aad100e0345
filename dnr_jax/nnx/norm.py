"""Normalisation layers as NNX modules: ``(carry, x) -> (carry, y)``, as :mod:`dnr_jax.dnr.norm` has them for Linen.

Settings, computations and names of arrays are shared with the Linen layers. What differs is what NNX does otherwise: a
layer is told its channels when it is made, keeps its arrays itself (``nnx.Param``, ``nnx.BatchStat``), updates them in
place, and knows its mode from ``.train()`` and ``.eval()``.
"""

import dataclasses
import functools
import math
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from annotated_types import Ge
from flax import nnx
from jaxtyping import Array, Float

from dnr_jax.dnr import functional
from dnr_jax.dnr.aliases import Carry, Features, ScaleShift
from dnr_jax.dnr.functional import Affine, Moments
from dnr_jax.dnr.inputs import as_features, check_width
from dnr_jax.dnr.norm import derived, explains_arguments
from dnr_jax.dnr.relay import Prediction, RelayState
from dnr_jax.dnr.scaling import (
    KeyEncoder,
    LayerRelay,
    LearnedTransform,
    Mixture,
    TemporalRelay,
    normal_around,
)
from dnr_jax.dnr.standardize import LayerSettings, takes_fields_of_base
from dnr_jax.nnx.relay import RelayCell, hand_out


class RelayStream(nnx.Variable):
    """State that a cross-temporal layer has after a piece of a video, ``[depth, 2, N, M, C]``."""


@dataclasses.dataclass(repr=False, eq=False)
class _Sized:
    num_features: Annotated[int, Ge(1)]
    """Channels of the features."""


def _layer(cls: Any) -> Any:
    """Make a dataclass of a layer, whose constructor takes what those of the Linen layers take; a decorator."""
    return explains_arguments(takes_fields_of_base(dataclasses.dataclass(repr=False, eq=False)(cls)))


@_layer
class Norm(LayerSettings, _Sized, nnx.Module):
    """Standardisation followed by a scale and shift; a subclass says which.

    The settings are checked when the layer is made: ValueError says which one is wrong and what would be right. Under
    ``flax.nnx.capture`` a layer that predicts scale and shift hands them out, ``[N, F, C]``.
    """

    LINEN_NAMES: ClassVar[dict[str, str]] = {}
    """Attributes whose arrays have another name in the Linen layer."""

    use_running_average: bool | None = False
    """Standardise with the running statistics (evaluation) instead of the batch's. ``.train()`` and ``.eval()`` set it,
    and ``nnx.view(network, use_running_average=...)`` in what it returns, for all layers of a network; the argument of
    the call goes before it."""
    rngs: dataclasses.InitVar[nnx.Rngs] = dataclasses.field(kw_only=True)

    def __post_init__(self, rngs: nnx.Rngs) -> None:
        """Refuse what cannot be built, and settings without effect; create parameters and running statistics."""
        self.check()
        for name, variable in self._learned().items():
            setattr(self, name, nnx.Param(variable.create(self.param_dtype)))
        for name, variable in self._running().items():
            setattr(self, name, nnx.BatchStat(variable.create(self.running_dtype)))
        self._create(rngs)

    def __call__(self, carry: Carry, x: Features, *, use_running_average: bool | None = None) -> tuple[Carry, Features]:
        """Normalise features, and update the running statistics in training.

        Args:
          carry: what the layer before handed on, or None at the first.
          x: ``[N, T, *S, C]``.
          use_running_average: see the attribute, which counts where this is None.

        Returns:
          The carry, and features of the shape of ``x``, of its dtype unless ``dtype`` says another.

        Raises:
          TypeError: for features that are not floating point.
          ValueError: for features of too few axes or of other channels than the layer's; where the clips or the frames
            cannot be divided as the attributes say; for a carry that is not the cell's; where the mode is not said.
        """
        frozen = self.use_running_average if use_running_average is None else use_running_average
        if frozen is None:
            raise ValueError(
                f"{type(self).__name__}: use_running_average: is None; expected True or False here or there"
            )
        x = as_features(x)
        check_width(x, self.num_features, "the layer")
        moments = functional.frame_moments(x)
        carry, (scale, shift) = self._scale_and_shift(carry, x, moments)
        return carry, self.normalize(x, scale, shift, lambda: self._standardization(x, moments, frozen))

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Set what ``flax.nnx.view`` is given for this layer, as in ``nnx.BatchNorm``; None leaves what there is."""
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def _learned(self) -> dict[str, Any]:
        return {} if self.base.by_position else self.base.learned(self.num_features)

    def _running(self) -> dict[str, Any]:
        return {} if self.base.by_position else self.base.running(self.num_features)

    def _create(self, rngs: nnx.Rngs) -> None:
        """Create what predicts or holds the scale and shift."""
        raise NotImplementedError

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        """Return the carry and gamma and beta, each ``[N or 1, F, C]`` for runs of frames of equal length."""
        raise NotImplementedError

    def _standardization(self, x: Features, moments: Moments, frozen: bool) -> Affine:
        """Return the standardisation of ``x`` and update the running statistics in training."""
        learned, before = (
            {name: getattr(self, name)[...] for name in names} for names in (self._learned(), self._running())
        )
        seen = self.observation(x, moments, self.axis_name)
        standardized, after = self.base.standardize(seen, learned, before, train=not frozen)
        if not frozen:
            for name in before:
                getattr(self, name)[...] = after[name]
        return standardized

    def _hand_out(self, scale: jax.Array, shift: jax.Array) -> ScaleShift:
        hand_out(self, scale=scale, shift=shift)
        return scale, shift


@functools.cache
def without_carry(layer: type[Norm]) -> type[Norm]:
    """Return a layer for networks that hand on features alone: ``(x, use_running_average) -> y``, as ``nnx.BatchNorm``.

    It takes the arguments of ``nnx.BatchNorm`` that it can honour, and says of the others what to do instead. For
    layers that do not relay across layers; a cross-layer one would start anew at each call.

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


@_layer
class StaticNorm(LearnedTransform, Norm):
    """Normalisation with a learned scale and shift per channel; :class:`dnr_jax.StaticNorm` as an NNX module."""

    def _create(self, rngs: nnx.Rngs) -> None:
        shape = (self.num_features,)
        if self.use_scale:
            self.scale = nnx.Param(self.scale_init(rngs.params(), shape, self.param_dtype))
        if self.use_bias:
            self.bias = nnx.Param(self.bias_init(rngs.params(), shape, self.param_dtype))

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        shape, dtype = x.shape[-1:], self.param_dtype
        scale = self.scale[...] if self.use_scale else jnp.ones(shape, dtype)
        bias = self.bias[...] if self.use_bias else jnp.zeros(shape, dtype)
        return carry, (scale[None, None], bias[None, None])


@_layer
class _DynamicNorm(Prediction, Norm):
    """A norm whose scale and shift a relay cell predicts, which is set by the fields of :class:`Prediction`."""

    LINEN_NAMES: ClassVar[dict[str, str]] = {"relay_cell": "relay"}

    def _own_cell(self, rngs: nnx.Rngs) -> RelayCell:
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(Prediction)}
        return RelayCell(self.num_features, param_dtype=self.param_dtype, **settings, rngs=rngs)


@_layer
class CrossTemporalDNR(TemporalRelay, _DynamicNorm):
    """Dynamic normalisation relayed across the frame groups of one layer; :class:`dnr_jax.CrossTemporalDNR` in NNX.

    The carry is handed on untouched. Long videos can be normalised clip by clip: where the attribute ``streaming`` is
    true, ``network.set_attributes(streaming=True)``, the layer keeps its last state and starts from it at the next
    call; ``nnx.pop(network, RelayStream)`` lets it start from the beginning again.
    """

    streaming: bool = dataclasses.field(default=False, kw_only=True)
    """Start from the state that the call before has left."""

    def set_view(self, use_running_average: bool | None = None, streaming: bool | None = None) -> None:
        """Set what ``flax.nnx.view`` is given for this layer; None leaves what there is."""
        super().set_view(use_running_average)
        if streaming is not None:
            self.streaming = streaming

    def _create(self, rngs: nnx.Rngs) -> None:
        self.relay_cell = self._own_cell(rngs)
        if self.direction == "bidirectional":
            self.relay_backward = self._own_cell(rngs)

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        descriptors = self.descriptors(moments)
        backward = self.relay_backward if self.direction == "bidirectional" else None
        start = self._stream(descriptors) if self.streaming else None
        last, (scale, shift) = self.relay_groups(self.relay_cell, backward, descriptors, start)
        if self.streaming:
            self.stream = RelayStream(jnp.stack([jnp.stack(pair) for pair in last]))
        return carry, self._hand_out(scale, shift)

    def _stream(self, descriptors: Float[Array, "n g m c"]) -> RelayState:
        """Return the state to start from."""
        n, _, chains, _ = descriptors.shape
        if hasattr(self, "stream"):
            state = tuple((pair[0], pair[1]) for pair in self.stream[...])
        else:
            state = self.relay_cell.initialize_carry((n, chains), descriptors.dtype)
        self.check_stream(state, self.depth, descriptors)
        return state


@_layer
class CrossLayerDNR(LayerRelay, _DynamicNorm):
    """Dynamic normalisation relayed across the blocks of a stage; :class:`dnr_jax.CrossLayerDNR` as an NNX module.

    Blocks that share a cell are given the same :class:`dnr_jax.nnx.RelayCell` object.
    """

    def __post_init__(self, rngs: nnx.Rngs) -> None:
        """Refuse what cannot be built, and settings without effect; create parameters and running statistics."""
        super().__post_init__(rngs)
        self.check_cell(nnx.Module, "NNX")

    def _create(self, rngs: nnx.Rngs) -> None:
        if self.cell is None:
            self.relay_cell = self._own_cell(rngs)

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        cell = self.relay_cell if self.cell is None else self.cell
        carry, (scale, shift) = self.relay_layers(cell, carry, x, moments)
        return carry, self._hand_out(scale, shift)


@_layer
class InstanceLevelMetaNorm(KeyEncoder, Norm):
    """Scale and shift from an auto-encoder of a clip's statistics; :class:`dnr_jax.InstanceLevelMetaNorm` in NNX."""

    def _create(self, rngs: nnx.Rngs) -> None:
        groups, code = self.key_groups(self.num_features), self.code_units(self.num_features)
        fields = {"use_bias": False, "param_dtype": self.param_dtype, "rngs": rngs}
        self.encode = nnx.Linear(groups, code, **fields)
        self.decode_scale = nnx.Linear(code, groups, **fields)
        self.decode_shift = nnx.Linear(code, groups, **fields)
        self.scale = nnx.Param(jnp.ones(self.num_features, self.param_dtype))
        self.bias = nnx.Param(jnp.zeros(self.num_features, self.param_dtype))

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        maps = self.encode, self.decode_scale, self.decode_shift
        gamma, beta = self.decode(moments, self.runs(x.shape[1]), math.prod(x.shape[2:-1]), *maps)
        return carry, self._hand_out(gamma + self.scale[...][None, None], beta + self.bias[...][None, None])


@_layer
class AttentiveNorm(Mixture, Norm):
    """Scale and shift mixed of several learned ones by attention; :class:`dnr_jax.AttentiveNorm` as an NNX module."""

    def _create(self, rngs: nnx.Rngs) -> None:
        shape = (self.num_mixtures, self.num_features)
        self.attention = nnx.Linear(self.num_features, self.num_mixtures, param_dtype=self.param_dtype, rngs=rngs)
        self.scale = nnx.Param(normal_around(1.0)(rngs.params(), shape, self.param_dtype))
        self.bias = nnx.Param(normal_around(0.0)(rngs.params(), shape, self.param_dtype))

    def _scale_and_shift(self, carry: Carry, x: Features, moments: Moments) -> tuple[Carry, ScaleShift]:
        weights = self.weights(moments, self.runs(x.shape[1]), math.prod(x.shape[2:-1]), self.attention)
        return carry, self._hand_out(weights @ self.scale[...], weights @ self.bias[...])
