"""Normalisation layers, each a cell over depth: ``(carry, x) -> (carry, y)``.

A layer that does not relay across layers hands the carry on untouched, so that a network written against this
interface serves batch normalisation and DNR alike.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnr_jax.dnr import functional
from dnr_jax.dnr.relay import RelayCell

Carry = Any
"""What a cell over depth hands on: the state of the relay, or None where nothing is relayed."""


class _BatchStandardization(nn.Module):
    """Fields and running statistics shared by the layers on top of batch standardisation (Equation 1).

    Attributes:
      momentum: share of the running statistics kept at each update (torch's momentum is ``1 - momentum``).
      epsilon: added to the variance.
      clips_per_statistics: consecutive clips of the batch that share statistics; 0 means all.
      use_running_average: standardise with the running statistics (evaluation) instead of the batch's; here or in
        the call.
      param_dtype: dtype of the parameters and running statistics.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    clips_per_statistics: int = 0
    use_running_average: bool | None = None
    param_dtype: Any = jnp.float32

    def _standardization(
        self, x: jax.Array, moments: functional.Moments, num_groups: int, use_running_average: bool | None
    ) -> tuple[jax.Array, jax.Array]:
        """Return mean and variance, each ``[N or 1, G or 1, C]``, and update the running ones in training."""
        frozen = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        channels = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, self.param_dtype)
        var = self.variable("batch_stats", "var", jnp.ones, channels, self.param_dtype)
        if frozen:
            return mean.value[None, None], var.value[None, None]
        batch = functional.batch_moments(moments, num_groups, self.clips_per_statistics)
        sets = batch.mean.shape[0]
        if not self.is_initializing():
            count = x.size // (x.shape[-1] * sets * num_groups)
            mean.value = functional.updated_average(mean.value, batch.mean, self.momentum)
            var.value = functional.updated_average(var.value, functional.unbiased(batch.variance, count), self.momentum)
        clips = x.shape[0] // sets
        return jnp.repeat(batch.mean, clips, axis=0), jnp.repeat(batch.variance, clips, axis=0)


class BatchNorm(_BatchStandardization):
    """Batch normalisation over clips, frames and space with a learned scale and shift per channel.

    Numerically torch's BatchNorm: standardises with the biased variance, keeps the unbiased one.
    """

    @nn.compact
    def __call__(
        self, carry: Carry, x: jax.Array, *, use_running_average: bool | None = None
    ) -> tuple[Carry, jax.Array]:
        """Normalise features.

        Args:
          carry: handed on untouched.
          x: ``[N, T, *S, C]``.
          use_running_average: see the attribute.

        Returns:
          The carry, and features of the shape and dtype of ``x``.
        """
        moments = functional.frame_moments(x)
        mean, var = self._standardization(x, moments, 1, use_running_average)
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        return carry, functional.modulate(
            x, *functional.scale_and_offset(mean, var, scale[None, None], bias[None, None], self.epsilon)
        )


class CrossTemporalDNR(_BatchStandardization):
    """Dynamic normalisation relayed across the frame groups of one layer (Section 3.2, Equations 3 to 7).

    The clip is cut into groups of consecutive frames. A cell of its own predicts each group's scale and shift from
    the group's pooled features and from the scale and shift of the group before.

    Attributes:
      relay_distance: frames in a group, ``d_r``; a clip with fewer frames is one group.
      num_groups: number of groups instead, whatever the clip's length; 0 leaves it to ``relay_distance``.
      granularity: ``group``: one descriptor, scale and shift a group (the authors' code); ``frame``: one a frame,
        frame ``t`` relaying from frame ``t - d_r`` (the paper's ``M x C``: ``d_r`` interleaved chains).
      statistics: ``group``: each group is standardised with its own batch statistics, and the running ones are
        updated once a group, in order (the authors' code); ``clip``: all frames share statistics.
      reduction: bottleneck reduction ``r`` of the cell.
      depth: layers ``d`` of the cell.
    """

    relay_distance: int = 4
    num_groups: int = 0
    granularity: str = "group"
    statistics: str = "group"
    reduction: int = 4
    depth: int = 1

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

    @nn.compact
    def __call__(
        self, carry: Carry, x: jax.Array, *, use_running_average: bool | None = None
    ) -> tuple[Carry, jax.Array]:
        """Normalise features.

        Args:
          carry: handed on untouched.
          x: ``[N, T, *S, C]``; the number of groups must divide ``T``.
          use_running_average: see the attribute.

        Returns:
          The carry, and features of the shape and dtype of ``x``.

        Raises:
          ValueError: where ``T`` cannot be cut into the groups.
        """
        n, t, c = x.shape[0], x.shape[1], x.shape[-1]
        groups = self.groups(t)
        moments = functional.frame_moments(x)
        descriptors = functional.group_frames(moments.mean, groups)  # [N, G, T / G, C]
        if self.granularity == "group":
            descriptors = jnp.mean(descriptors, axis=2, keepdims=True)
        cell = RelayCell(c, self.reduction, self.depth, self.param_dtype, name="relay")
        start = cell.initialize_carry((n, descriptors.shape[2]), descriptors.dtype)
        _, (scale, shift) = cell.relay(start, descriptors)
        mean, var = self._standardization(x, moments, groups if self.statistics == "group" else 1, use_running_average)
        a, b = functional.scale_and_offset(mean[:, :, None], var[:, :, None], scale, shift, self.epsilon)
        return carry, functional.modulate(x, a.reshape(n, -1, c), b.reshape(n, -1, c))


class CrossLayerDNR(_BatchStandardization):
    """Dynamic normalisation relayed across the blocks of a stage (end of Section 3.2).

    Attributes:
      cell: the cell that the stage's blocks share. It is a field, and not hidden in a closure, so that lifted
        transforms (``nn.remat``, ``nn.scan``) see it.
    """

    cell: nn.Module | None = None

    @nn.compact
    def __call__(
        self, carry: Carry, x: jax.Array, *, use_running_average: bool | None = None
    ) -> tuple[Carry, jax.Array]:
        """Normalise features with the scale and shift that the cell predicts from the whole clip and from the carry.

        Args:
          carry: state of the relay after the layer before, or None at the first.
          x: ``[N, T, *S, C]``.
          use_running_average: see the attribute.

        Returns:
          The new state of the relay, and features of the shape and dtype of ``x``.

        Raises:
          ValueError: where the layer has no cell.
        """
        if self.cell is None:
            raise ValueError("CrossLayerDNR needs the cell that its stage shares: CrossLayerDNR(cell=RelayCell(C))")
        moments = functional.frame_moments(x)
        descriptor = jnp.mean(moments.mean, axis=1)  # [N, C]
        if carry is None:
            carry = self.cell.initialize_carry(descriptor.shape[:-1], descriptor.dtype)
        carry, (scale, shift) = self.cell(carry, descriptor)
        mean, var = self._standardization(x, moments, 1, use_running_average)
        a, b = functional.scale_and_offset(mean, var, scale[:, None], shift[:, None], self.epsilon)
        return carry, functional.modulate(x, a, b)
