"""The first half of every normalisation: standardisation (Equation 1) over batch, channel groups or both."""

import dataclasses
import math
import operator
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Lt

from dnr_jax.dnr import functional
from dnr_jax.dnr.fields import Needs, Where, refuse
from dnr_jax.dnr.functional import Affine, Moments

MOMENTS = "moments"
"""Collection that receives sums over a training batch, where it is mutable; see :func:`precise_statistics`."""
RUNNING = ("bn", "brn", "sn")
"""Bases with batch statistics, and running ones for evaluation."""
FloatDtype = Annotated[Any, Where("a floating-point dtype", lambda dtype: jnp.issubdtype(dtype, jnp.floating))]
_Limit = Annotated[float, Ge(0), Lt(math.inf)]
_Step = Annotated[int, Ge(0)]


@dataclasses.dataclass(repr=False, eq=False)
class Standardization:
    """How features are standardised: the settings that every norm has, and :class:`dnr_jax.dnr.DNRSpec` too."""

    base: Literal["bn", "gn", "in", "ln", "brn", "sn"] = "bn"
    """Which features share a mean and a variance.
    ``bn``: batch normalisation, all clips; running statistics in evaluation, numerically torch's.
    ``gn``: group normalisation, a clip's groups of channels. ``in``: instance normalisation, a clip's channel.
    ``ln``: layer normalisation, all channels and positions of a clip. That is not what transformers call so: theirs,
    over the channels of each position, is ``ln`` with ``statistics="token"``.
    ``brn``: batch renormalisation (Ioffe 2017): batch statistics, drawn towards the running ones.
    ``sn``: switchable normalisation (Luo et al. 2019): a learned mixture of ``in``, ``ln`` and ``bn``."""
    channel_groups: Annotated[int, Ge(1), Needs("base", "gn"), Needs("channels_per_group", 0)] = 32
    """Groups of ``gn``, 32 as in its paper; where they do not divide the channels, their greatest common divisor is
    taken."""
    channels_per_group: Annotated[int, Ge(0), Needs("base", "gn")] = 0
    """Channels in a group of ``gn`` instead; 0 leaves it to ``channel_groups``."""
    statistics: Annotated[Literal["group", "clip", "frame", "token"], Needs("base", "ln", "gn", choice="token")] = (
        "group"
    )
    """Which frames share a mean and a variance. ``group``: those of a frame group (in cross-temporal DNR, where running
    statistics are updated once a group, in order, as in the authors' code; elsewhere the whole clip); ``clip``: those
    of the clip; ``frame``: each its own, which is what per-image normalisation of a 2D network on single frames
    computes; ``token``: each position of each frame its own, over the channels (``ln``) or groups of them (``gn``)."""
    clips_per_statistics: Annotated[int, Ge(0), Needs("base", *RUNNING), Needs("axis_name", None)] = 0
    """Consecutive clips of the batch that share batch statistics, in every norm; 0 means all."""
    momentum: Annotated[float, Ge(0), Lt(1), Needs("base", *RUNNING)] = 0.9
    """Share of the running statistics kept at each update (torch's momentum is ``1 - momentum``)."""
    epsilon: Annotated[float, Gt(0), Lt(math.inf)] = 1e-5
    """Added to the variance."""
    renorm_limits: Annotated[tuple[Annotated[float, Ge(1), Lt(math.inf)], _Limit], Needs("base", "brn")] = (3.0, 5.0)
    """``r_max`` and ``d_max`` of ``brn`` at the end of their schedule."""
    renorm_steps: Annotated[
        tuple[_Step, _Step, _Step],
        Where("a start and two later ends", lambda steps: steps[0] <= min(steps[1:])),
        Needs("base", "brn"),
    ] = (5_000, 40_000, 25_000)
    """Training steps of ``brn`` with batch statistics alone; step at which ``r_max`` is reached; step at which
    ``d_max`` is."""


class Standardize(Standardization, nn.Module):
    """What all normalisation layers share: how features are standardised, and the statistics that this takes.

    The settings are those of :class:`Standardization`, and what only a layer needs. They are checked when the layer is
    made: ValueError says which one is wrong and what would be right.
    """

    use_running_average: bool | None = None
    """Standardise with the running statistics (evaluation) instead of the batch's; here or in the call."""
    param_dtype: FloatDtype = jnp.float32
    """Dtype of the parameters and running statistics."""
    dtype: FloatDtype | None = None
    """Dtype of the result; None: that of the features. Statistics are taken in float32 or wider in any case."""
    axis_name: Annotated[str | tuple[str, ...] | None, Needs("base", *RUNNING)] = None
    """Axis of ``jax.pmap`` or ``jax.shard_map`` over which batch statistics are taken as well, as in
    ``flax.linen.BatchNorm``. Under ``jax.jit`` they are those of all devices, with and without it."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built, and settings without effect."""
        refuse(self)
        super().__post_init__()

    @nn.nowrap
    def groups(self, num_frames: int) -> int:
        """Return the number of frame groups of a clip of ``num_frames``."""
        del num_frames
        return 1

    @nn.nowrap
    def runs(self, num_frames: int) -> int:
        """Return the number of runs of frames that have statistics of their own."""
        return {"group": self.groups(num_frames), "clip": 1}.get(self.statistics, num_frames)

    def _standardization(self, x: jax.Array, moments: Moments, frozen: bool) -> Affine:
        """Return the standardisation of ``x`` and update the running statistics in training.

        Args:
          x: ``[N, T, *S, C]``.
          moments: those of the frames of ``x``, ``[N, T, C]``.
          frozen: take the running statistics, and leave them as they are.
        """
        runs = self.runs(x.shape[1])
        if self.base in ("gn", "in", "ln"):
            pooled = functional.instance_moments(moments, runs, self._channel_groups(x.shape[-1]))
            return functional.standardization(pooled, self.epsilon)
        mean, var = (self._running(name, init, x.shape[-1:]) for name, init in (("mean", 0.0), ("var", 1.0)))
        running = mean.value[None, None], var.value[None, None]
        if frozen:
            batch = running
        else:
            observed = functional.batch_moments(moments, runs, self.clips_per_statistics)
            sets, devices = observed.mean.shape[0], 1
            if not self.is_initializing():
                if self.axis_name is not None:
                    observed, devices = functional.across_axis(observed, self.axis_name)
                self._observe(observed, x.size // x.shape[-1])
                unbiased = functional.unbiased(observed.variance, devices * x.size // (x.shape[-1] * sets * runs))
                mean.value = functional.updated_average(mean.value, observed.mean, self.momentum)
                var.value = functional.updated_average(var.value, unbiased, self.momentum)
            batch = observed.mean, observed.variance
            if sets > 1:  # one set for all clips is left to broadcast
                clips = x.shape[0] // sets
                batch = jnp.repeat(batch[0], clips, axis=0), jnp.repeat(batch[1], clips, axis=0)
        if self.base == "sn":
            batch = self._switch(moments, runs, batch)
        standardized = functional.standardization(batch, self.epsilon)
        if self.base == "brn":
            step = self.variable("batch_stats", "step", jnp.zeros, (), jnp.int32)
            if not frozen:
                standardized = self._renormalize(standardized, running, batch, step.value)
                if not self.is_initializing():
                    step.value += 1
        return standardized

    @nn.nowrap
    def _channel_groups(self, channels: int) -> int:
        """Return the groups of channels of an instance base; 0 for one a channel."""
        if self.base == "gn":
            wanted = channels // self.channels_per_group if self.channels_per_group else self.channel_groups
            return math.gcd(channels, max(wanted, 1))
        return {"in": 0, "ln": 1}[self.base]

    def _running(self, name: str, init: float, shape: tuple[int, ...]) -> nn.Variable:
        return self.variable("batch_stats", name, jnp.full, shape, init, self.param_dtype)

    def _observe(self, observed: Moments, values: int) -> None:
        """Hand out sums over the ``values`` a channel: of the moments ``[C]``, and their number; calls add up."""
        means = {name: jnp.mean(moment, axis=(0, 1)) for name, moment in observed._asdict().items()}
        for name, mean in (means | {"count": jnp.ones((), observed.mean.dtype)}).items():
            self.sow(MOMENTS, name, values * mean, init_fn=lambda: 0, reduce_fn=operator.add)

    def _switch(self, moments: Moments, runs: int, batch: Any) -> Any:
        """Mix the statistics of instance, layer and batch with learned weights (Luo et al. 2019, Equation 3)."""
        instance, layer = (functional.instance_moments(moments, runs, groups) for groups in (0, 1))
        ones = nn.initializers.ones
        mixed = []
        for name, parts in (
            ("mean_weights", (instance.mean, layer.mean, batch[0])),
            ("var_weights", (instance.variance, layer.variance, batch[1])),
        ):
            weights = nn.softmax(self.param(name, ones, (3,), self.param_dtype))
            mixed.append(sum(weight * part for weight, part in zip(weights, parts, strict=True)))
        return tuple(mixed)

    def _renormalize(self, standardized: Affine, running: Any, batch: Any, step: jax.Array) -> Affine:
        """Correct a standardisation towards the running statistics, within limits (Ioffe 2017, Algorithm 1)."""
        start, *ends = self.renorm_steps
        r_max, d_max = (
            low + (high - low) * jnp.clip((step - start).astype(self.param_dtype) / max(end - start, 1), 0, 1)
            for low, high, end in zip((1.0, 0.0), self.renorm_limits, ends, strict=True)
        )
        deviation = [jnp.sqrt(variance + self.epsilon) for _, variance in (batch, running)]
        r = jax.lax.stop_gradient(deviation[0] / deviation[1])
        d = jax.lax.stop_gradient((batch[0] - running[0]) / deviation[1])
        return functional.transform(standardized, jnp.clip(r, 1 / r_max, r_max), jnp.clip(d, -d_max, d_max))
