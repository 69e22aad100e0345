"""Residual blocks and stages, on frames one by one or over time and space, whatever the convolution.

A block is a cell over depth, ``(carry, x) -> (carry, y)``: the carry is the state of the cross-layer relay, one entry
for each position that relays. A stage owns the relay cells that its blocks share, and starts their state.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnr_jax.dnr import CrossTemporalDNR, DNRSpec, interlace
from dnr_jax.dnr.fields import changed
from dnr_jax.models.blocks import Carry, NormPlace, places_in_a_row, recomputed, run_blocks
from dnr_jax.models.layers import FRAMES, Convolution, ConvSize, Size, as_size, static_norm


def frame_groups(spec: DNRSpec, num_frames: int) -> int:
    """Return the number of groups that cross-temporal DNR cuts a clip of ``num_frames`` into; 1 without it.

    Raises:
      ValueError: where the relay distance does not divide the clip.
    """
    if "ct" not in spec.kinds:
        return 1
    norm = CrossTemporalDNR(relay_distance=spec.relay_distance, num_groups=spec.num_groups, parent=None)
    return norm.groups(num_frames)


def at_frames(spec: DNRSpec, num_groups: int, num_frames: int) -> DNRSpec:
    """Return the norms for features of ``num_frames``, of a clip that is cut into ``num_groups``.

    A group is a stretch of time. It has fewer frames after a temporal stride, and more in a pathway with a higher frame
    rate; where the frames that are left cannot be cut into as many groups, neighbouring groups join. With 0 groups all
    features have the frames of the clip, and the norms are those of ``spec``.
    """
    if not num_groups or "ct" not in spec.kinds:
        return spec
    return changed(spec, num_groups=math.gcd(num_groups, num_frames))


class ResidualBlock(nn.Module):
    """What basic and bottleneck blocks share: convolutions, each followed by a norm, and a shortcut.

    Attributes:
      features: channels of the inner convolutions.
      spec: the norms.
      cells: the stage's shared relay cells, one or None for each norm.
      strides: of the block, over space, or over frames, rows and columns.
      interlace_fraction: share of channels exchanged with each neighbouring frame at the input of the residual
        branch; 0 for none.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
      cardinality: see :meth:`layers`.
      base_width: likewise.
      kernel_frames: likewise.
      convolution: the kind of its convolutions, the shortcut's included.
      num_groups: frame groups of the whole clip, for features whose frames are others; see :func:`at_frames`.
      temporal: makes the module ``(x, train) -> x``, given its ``name``, that stands between the first norm's ReLU and
        the second convolution, where TANet has its own; None for none.
    """

    features: int
    spec: DNRSpec
    cells: tuple[Any, ...]
    strides: int | Size = 1
    interlace_fraction: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    cardinality: int = 1
    base_width: int = 64
    kernel_frames: int = 1
    convolution: Convolution = FRAMES
    num_groups: int = 0
    temporal: Callable[..., nn.Module] | None = None

    @staticmethod
    def layers(
        features: int, strides: int | Size = 1, cardinality: int = 1, base_width: int = 64, kernel_frames: int = 1
    ) -> tuple[ConvSize, ...]:
        """Return the convolutions of a block of ``features``.

        Args:
          features: channels of the inner convolutions.
          strides: of the block; they stand in the first convolution with spatial extent.
          cardinality: groups of channels that the inner 3x3 convolution of a bottleneck keeps apart (ResNeXt).
          base_width: channels of such a group for every 64 ``features``; torchvision's ``width_per_group``.
          kernel_frames: temporal extent. A basic block has it in both convolutions, a bottleneck in the first 1x1.
        """
        raise TypeError("ResidualBlock is abstract: use BasicBlock or BottleneckBlock")

    @nn.nowrap
    def sizes(self) -> tuple[ConvSize, ...]:
        """Return the convolutions of this block."""
        return self.layers(self.features, self.strides, self.cardinality, self.base_width, self.kernel_frames)

    @nn.nowrap
    def norm_places(self) -> tuple[NormPlace, ...]:
        """Return the convolutions before and behind each norm; behind the first stands the temporal module, if any."""
        return places_in_a_row(self.spec.kinds, len(self.sizes()), self.convolution, apart=self.temporal is not None)

    @nn.compact
    def __call__(self, carry: Carry, x: jax.Array, train: bool) -> tuple[Carry, jax.Array]:
        """Apply the block.

        Args:
          carry: state of the relay at each norm.
          x: ``[N, T, H, W, C]``.
          train: whether norms use, and update with, the statistics of the batch.

        Returns:
          The new carry and ``[N, T', H', W', C']``, with the channels of the last convolution.
        """
        sizes, relayed, y = self.sizes(), [], interlace(x, self.interlace_fraction)
        for i, size in enumerate(sizes):
            y = self._convolve(y, size, train, f"conv{i + 1}")
            spec = at_frames(self.spec, self.num_groups, y.shape[1])
            norm = spec.norm(spec.kinds[i], self.cells[i], name=f"norm{i + 1}", param_dtype=self.param_dtype)
            state, y = norm(carry[i], y, use_running_average=not train)
            relayed.append(state)
            if i < len(sizes) - 1:
                y = nn.relu(y)
            if i == 0 and self.temporal is not None:
                y = self.temporal(name="temporal")(y, train)
        strides = as_size(self.strides)
        if strides != (1, 1, 1) or x.shape[-1] != y.shape[-1]:
            x = self._convolve(x, ConvSize(y.shape[-1], (1, 1, 1), strides), train, "shortcut_conv")
            x = static_norm(self.spec, x, train, "shortcut_norm", self.param_dtype)
        return tuple(relayed), nn.relu(x + y)

    @nn.nowrap
    def _convolve(self, x: jax.Array, size: ConvSize, train: bool, name: str) -> jax.Array:
        return self.convolution.apply(x, size, train, name=name, dtype=self.dtype, param_dtype=self.param_dtype)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (ResNet-18 and 34)."""

    @staticmethod
    def layers(
        features: int, strides: int | Size = 1, cardinality: int = 1, base_width: int = 64, kernel_frames: int = 1
    ) -> tuple[ConvSize, ...]:
        """Return the convolutions; groups and another width are for bottlenecks."""
        if (cardinality, base_width) != (1, 64):
            raise ValueError(f"basic blocks have cardinality 1 and base_width 64; got {cardinality} and {base_width}")
        kernel = (kernel_frames, 3, 3)
        return ConvSize(features, kernel, as_size(strides)), ConvSize(features, kernel)


class BottleneckBlock(ResidualBlock):
    """1x1, 3x3 and 1x1 convolution with an expansion of 4 (ResNet-50, 101 and 152, ResNeXt)."""

    @staticmethod
    def layers(
        features: int, strides: int | Size = 1, cardinality: int = 1, base_width: int = 64, kernel_frames: int = 1
    ) -> tuple[ConvSize, ...]:
        """Return the convolutions; the expansion is that of ``features``, whatever the inner width."""
        width = features * base_width // 64 * cardinality
        return (
            ConvSize(width, (kernel_frames, 1, 1)),
            ConvSize(width, (1, 3, 3), as_size(strides), cardinality),
            ConvSize(4 * features, (1, 1, 1)),
        )


class Stage(nn.Module):
    """Residual blocks of one width. Owns the cross-layer cells that its blocks share, and starts their state.

    Attributes:
      block: the class of the blocks.
      features: channels of the blocks' inner convolutions.
      num_blocks: number of blocks.
      spec: the norms.
      strides: of the first block, over space, or over frames, rows and columns.
      interlace_fraction: see :class:`ResidualBlock`.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
      interlace_every: interlace in the first of every so many blocks.
      scan_blocks: see :func:`dnr_jax.models.blocks.run_blocks`; the blocks must be alike.
      remat_blocks: compute the inside of each block again in the backward pass.
      cardinality: see :meth:`ResidualBlock.layers`.
      base_width: likewise.
      kernel_frames: likewise.
      temporal_blocks: how many of the blocks, from the first on, have that temporal extent; 0 for all.
      convolution: see :class:`ResidualBlock`.
      num_groups: likewise.
      temporal: likewise.
    """

    block: type[ResidualBlock]
    features: int
    num_blocks: int
    spec: DNRSpec
    strides: int | Size = 1
    interlace_fraction: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    interlace_every: int = 1
    scan_blocks: bool = False
    remat_blocks: bool = False
    cardinality: int = 1
    base_width: int = 64
    kernel_frames: int = 1
    temporal_blocks: int = 0
    convolution: Convolution = FRAMES
    num_groups: int = 0
    temporal: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map ``[N, T, H, W, C]`` to ``[N, T', H', W', C']``."""
        alike = "with scan_blocks, under which the blocks of a stage are alike"
        if self.scan_blocks and self.interlace_every > 1:
            raise ValueError(f"interlace_every must be 1 {alike}")
        if self.scan_blocks and 0 < self.temporal_blocks < self.num_blocks:
            raise ValueError(f"temporal_blocks must be 0 {alike}")
        sizes = self.block.layers(self.features, 1, self.cardinality, self.base_width)
        cells = tuple(self.spec.relay_cell(i, size.features, self.param_dtype) for i, size in enumerate(sizes))
        return run_blocks(
            self._block, self.num_blocks, cells, x, train, scan_blocks=self.scan_blocks, remat=self.remat_blocks
        )

    @nn.nowrap
    def _block(self, index: int, *, remat: bool, **fields: Any) -> nn.Module:
        shared = {field.name for field in dataclasses.fields(ResidualBlock)} & vars(self).keys()
        fields |= {name: getattr(self, name) for name in shared - {"parent", "name"}}
        if index:
            fields["strides"] = 1
        if index % self.interlace_every:
            fields["interlace_fraction"] = 0.0
        if 0 < self.temporal_blocks <= index:
            fields["kernel_frames"] = 1
        return recomputed(self.block, remat)(**fields)
