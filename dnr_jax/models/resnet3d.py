"""What ResNets over time and space share: residual blocks, stages, stems and the head of several pathways.

The networks are MMAction2's ``ResNet3d`` family. As in :mod:`dnr_jax.models.resnet`, a block is a cell over depth,
``(carry, x) -> (carry, y)``, and a stage owns the relay cells that its blocks share.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnr_jax.dnr import CrossTemporalDNR, DNRSpec, RelayCell
from dnr_jax.dnr.fields import changed
from dnr_jax.dnr.functional import statistics_dtype
from dnr_jax.models.blocks import Carry, recomputed, run_blocks
from dnr_jax.models.layers import Conv3D
from dnr_jax.models.resnet import ARCHITECTURES, BottleneckBlock

Size = tuple[int, int, int]
"""Frames, rows, columns."""


class ConvSize(NamedTuple):
    """Channels of a convolution's result, its kernel and its strides."""

    features: int
    kernel_size: Size
    strides: Size = (1, 1, 1)


@dataclasses.dataclass(frozen=True)
class Architecture3D:
    """Block type (``basic`` or ``bottleneck``) and blocks of each stage."""

    block: str
    stages: tuple[int, ...]

    @classmethod
    def of(cls, depth: int, block: str = "") -> "Architecture3D":
        """Return the ResNet of ``depth``; ``block`` puts another type of block into it."""
        architecture = ARCHITECTURES[depth]
        usual = "bottleneck" if issubclass(architecture.block, BottleneckBlock) else "basic"
        return cls(block or usual, architecture.stages)

    def convolutions(self, features: int, frames: int, strides: Size) -> tuple[ConvSize, ...]:
        """Return the convolutions of a block.

        Args:
          features: channels of the inner convolutions.
          frames: temporal extent. A basic block has it in both convolutions, a bottleneck in the first 1x1.
          strides: of the block; they stand in the first convolution with spatial extent.
        """
        if self.block == "basic":
            return ConvSize(features, (frames, 3, 3), strides), ConvSize(features, (frames, 3, 3))
        return (
            ConvSize(features, (frames, 1, 1)),
            ConvSize(features, (1, 3, 3), strides),
            ConvSize(4 * features, (1, 1, 1)),
        )


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
    rate; where the frames that are left cannot be cut into as many groups, neighbouring groups join.
    """
    if "ct" not in spec.kinds:
        return spec
    return changed(spec, num_groups=math.gcd(num_groups, num_frames))


class ResidualBlock3D(nn.Module):
    """Convolutions, each followed by a norm, and a shortcut.

    Attributes:
      convolutions: in order; ReLUs stand between them.
      spec: the norms.
      cells: the stage's shared relay cells, one or None for each norm.
      strides: of the shortcut.
      num_groups: frame groups of the whole clip; see :func:`at_frames`.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
    """

    convolutions: tuple[ConvSize, ...]
    spec: DNRSpec
    cells: tuple[RelayCell | None, ...]
    strides: Size = (1, 1, 1)
    num_groups: int = 1
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.nowrap
    def convolve(self, x: jax.Array, size: ConvSize, train: bool, name: str) -> jax.Array:
        """Apply one convolution of the block; what other kinds of convolution override."""
        return Conv3D(*size, dtype=self.dtype, param_dtype=self.param_dtype, name=name)(x)

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
        relayed = []
        y = x
        for i, size in enumerate(self.convolutions):
            y = self.convolve(y, size, train, f"conv{i + 1}")
            spec = at_frames(self.spec, self.num_groups, y.shape[1])
            norm = spec.norm(spec.kinds[i], self.cells[i], name=f"norm{i + 1}", param_dtype=self.param_dtype)
            state, y = norm(carry[i], y, use_running_average=not train)
            relayed.append(state)
            if i < len(self.convolutions) - 1:
                y = nn.relu(y)
        if self.strides != (1, 1, 1) or x.shape[-1] != y.shape[-1]:
            x = self.convolve(x, ConvSize(y.shape[-1], (1, 1, 1), self.strides), train, "shortcut_conv")
            x = static_norm(self.spec, x, train, "shortcut_norm", self.param_dtype)
        return tuple(relayed), nn.relu(x + y)


class Stage3D(nn.Module):
    """Residual blocks of one width. Owns the cross-layer cells that its blocks share, and starts their state.

    Attributes:
      architecture: type of the blocks.
      features: channels of the blocks' inner convolutions.
      num_blocks: number of blocks.
      spec: the norms.
      kernel_frames: temporal extent of the blocks.
      temporal_blocks: how many of the blocks, from the first on, have it; 0 for all.
      strides: of the first block.
      num_groups: see :class:`ResidualBlock3D`.
      block: the class of the blocks.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
      scan_blocks: see :func:`dnr_jax.models.blocks.run_blocks`; the blocks must have the same temporal extent.
      remat_blocks: compute the inside of each block again in the backward pass.
    """

    architecture: Architecture3D
    features: int
    num_blocks: int
    spec: DNRSpec
    kernel_frames: int = 3
    temporal_blocks: int = 0
    strides: Size = (1, 1, 1)
    num_groups: int = 1
    block: type[ResidualBlock3D] = ResidualBlock3D
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    scan_blocks: bool = False
    remat_blocks: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map ``[N, T, H, W, C]`` to ``[N, T', H', W', C']``."""
        if self.scan_blocks and 0 < self.temporal_blocks < self.num_blocks:
            raise ValueError("temporal_blocks must be 0 with scan_blocks, under which the blocks of a stage are alike")
        widths = enumerate(size.features for size in self._convolutions(0))
        cells = tuple(self.spec.relay_cell(i, width, self.param_dtype) for i, width in widths)
        return run_blocks(
            self._block, self.num_blocks, cells, x, train, scan_blocks=self.scan_blocks, remat=self.remat_blocks
        )

    @nn.nowrap
    def _strides(self, index: int) -> Size:
        return (1, 1, 1) if index else self.strides

    @nn.nowrap
    def _convolutions(self, index: int) -> tuple[ConvSize, ...]:
        frames = self.kernel_frames if index < (self.temporal_blocks or self.num_blocks) else 1
        return self.architecture.convolutions(self.features, frames, self._strides(index))

    @nn.nowrap
    def _block(self, index: int, *, remat: bool, **fields: Any) -> nn.Module:
        return recomputed(self.block, remat)(
            convolutions=self._convolutions(index),
            spec=self.spec,
            strides=self._strides(index),
            num_groups=self.num_groups,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            **fields,
        )


def static_norm(spec: DNRSpec, x: jax.Array, train: bool, name: str, param_dtype: Any) -> jax.Array:
    """Normalise ``[N, T, H, W, C]`` without DNR, as stems, shortcuts and lateral connections do."""
    _, y = spec.norm("static", name=name, param_dtype=param_dtype)(None, x, use_running_average=not train)
    return y


def stem_size(stem: str, features: int, frames: int) -> ConvSize:
    """Return the first convolution: ``imagenet`` (7x7, stride 2) or ``small`` (3x3), over ``frames``."""
    return ConvSize(features, (frames, 3, 3)) if stem == "small" else ConvSize(features, (frames, 7, 7), (1, 2, 2))


def stem_pool(stem: str, x: jax.Array) -> jax.Array:
    """Halve the frames' size by 3x3 max pooling after an ``imagenet`` stem."""
    return x if stem == "small" else nn.max_pool(x, (1, 3, 3), (1, 2, 2), padding=((0, 0), (1, 1), (1, 1)))


class PathwayHead(nn.Module):
    """Mean over time and space of each pathway, concatenation, dropout, linear.

    With one pathway MMAction2's ``I3DHead``, with two its ``SlowFastHead``.

    Attributes:
      num_classes: number of scores.
      dropout: share of features dropped in training.
      order: in which the pathways' features are concatenated; empty for the order in which they come.
      param_dtype: dtype of the parameters; pooling and the linear layer run in it or wider.
    """

    num_classes: int
    dropout: float = 0.5
    order: tuple[int, ...] = ()
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pathways: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Map features, each ``[N, T, H, W, C]`` of its own, to scores ``[N, num_classes]``.

        Needs the ``dropout`` key in training.
        """
        pooled = [jnp.mean(x.astype(statistics_dtype(x.dtype)), axis=(1, 2, 3)) for x in pathways]
        features = jnp.concatenate([pooled[i] for i in self.order or range(len(pooled))], axis=-1)
        kept = nn.Dropout(self.dropout, deterministic=not train)(features)
        # MMAction2 and PySlowFast draw the classifier's weights from N(0, 0.01).
        return nn.Dense(
            self.num_classes, kernel_init=nn.initializers.normal(0.01), param_dtype=self.param_dtype, name="fc"
        )(kept)
