"""ResNets on frames, with a choice of normalisation for every position of a block.

The networks are torchvision's (stride in the 3x3 convolution of a bottleneck, padding symmetric), ResNeXt among them,
applied to each frame of ``[N, T, H, W, C]``. A block is a cell over depth, ``(carry, x) -> (carry, y)``: the carry is
the state of the cross-layer relay, one entry for each position that relays.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnr_jax.dnr import DNRSpec, interlace
from dnr_jax.models.blocks import Carry, recomputed, run_blocks
from dnr_jax.models.layers import conv


class ConvSize(NamedTuple):
    """Channels of a convolution's result, its (square) kernel, its stride, and the groups of its channels."""

    features: int
    kernel_size: int
    strides: int = 1
    groups: int = 1


class ResidualBlock(nn.Module):
    """What basic and bottleneck blocks share: convolutions, each followed by a norm, and a shortcut.

    Attributes:
      features: channels of the inner convolutions.
      spec: the norms.
      cells: the stage's shared relay cells, one or None for each norm.
      strides: spatial stride of the block.
      interlace_fraction: share of channels exchanged with each neighbouring frame at the input of the residual
        branch; 0 for none.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
      cardinality: see :meth:`layers`.
      base_width: likewise.
      use_bias: give the convolutions biases.
      temporal: makes the module ``(x, train) -> x``, given its ``name``, that stands between the first norm's ReLU and
        the second convolution, where TANet has its own; None for none.
    """

    features: int
    spec: DNRSpec
    cells: tuple[Any, ...]
    strides: int = 1
    interlace_fraction: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    cardinality: int = 1
    base_width: int = 64
    use_bias: bool = False
    temporal: Callable[..., nn.Module] | None = None

    @staticmethod
    def layers(features: int, strides: int = 1, cardinality: int = 1, base_width: int = 64) -> tuple[ConvSize, ...]:
        """Return the convolutions of a block of ``features``.

        Args:
          features: channels of the inner convolutions.
          strides: of the block.
          cardinality: groups of channels that the inner 3x3 convolution of a bottleneck keeps apart (ResNeXt).
          base_width: channels of such a group for every 64 ``features``; torchvision's ``width_per_group``.
        """
        raise TypeError("ResidualBlock is abstract: use BasicBlock or BottleneckBlock")

    @nn.compact
    def __call__(self, carry: Carry, x: jax.Array, train: bool) -> tuple[Carry, jax.Array]:
        """Apply the block.

        Args:
          carry: state of the relay at each norm.
          x: ``[N, T, H, W, C]``.
          train: whether norms use, and update with, the statistics of the batch.

        Returns:
          The new carry and ``[N, T, H', W', C']``, with the channels of the last convolution.
        """
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        relayed = []
        y = interlace(x, self.interlace_fraction)
        layers = self.layers(self.features, self.strides, self.cardinality, self.base_width)
        for i, size in enumerate(layers):
            y = conv(*size, use_bias=self.use_bias, name=f"conv{i + 1}", **dtypes)(y)
            norm = self.spec.norm(self.spec.kinds[i], self.cells[i], name=f"norm{i + 1}", param_dtype=self.param_dtype)
            state, y = norm(carry[i], y, use_running_average=not train)
            relayed.append(state)
            if i < len(layers) - 1:
                y = nn.relu(y)
            if i == 0 and self.temporal is not None:
                y = self.temporal(name="temporal")(y, train)
        if self.strides > 1 or x.shape[-1] != y.shape[-1]:
            x = conv(y.shape[-1], 1, self.strides, use_bias=self.use_bias, name="shortcut_conv", **dtypes)(x)
            shortcut_norm = self.spec.norm("static", name="shortcut_norm", param_dtype=self.param_dtype)
            _, x = shortcut_norm(None, x, use_running_average=not train)
        return tuple(relayed), nn.relu(x + y)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (ResNet-18 and 34)."""

    @staticmethod
    def layers(features: int, strides: int = 1, cardinality: int = 1, base_width: int = 64) -> tuple[ConvSize, ...]:
        """Return the convolutions; groups and another width are for bottlenecks."""
        if (cardinality, base_width) != (1, 64):
            raise ValueError(f"basic blocks have cardinality 1 and base_width 64; got {cardinality} and {base_width}")
        return ConvSize(features, 3, strides), ConvSize(features, 3)


class BottleneckBlock(ResidualBlock):
    """1x1, 3x3 and 1x1 convolution with an expansion of 4 (ResNet-50, 101 and 152, ResNeXt)."""

    @staticmethod
    def layers(features: int, strides: int = 1, cardinality: int = 1, base_width: int = 64) -> tuple[ConvSize, ...]:
        """Return the convolutions; the expansion is that of ``features``, whatever the inner width."""
        width = features * base_width // 64 * cardinality
        return ConvSize(width, 1), ConvSize(width, 3, strides, cardinality), ConvSize(4 * features, 1)


class Stage(nn.Module):
    """Residual blocks of one width. Owns the cross-layer cells that its blocks share, and starts their state.

    Attributes:
      block: the class of the blocks.
      features: channels of the blocks' inner convolutions.
      num_blocks: number of blocks.
      spec: the norms.
      strides: spatial stride of the first block.
      interlace_fraction: see :class:`ResidualBlock`.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
      interlace_every: interlace in the first of every so many blocks.
      scan_blocks: see :func:`dnr_jax.models.blocks.run_blocks`.
      remat_blocks: compute the inside of each block again in the backward pass.
      cardinality: see :meth:`ResidualBlock.layers`.
      base_width: likewise.
      use_bias: see :class:`ResidualBlock`.
      temporal: see :class:`ResidualBlock`.
    """

    block: type[ResidualBlock]
    features: int
    num_blocks: int
    spec: DNRSpec
    strides: int = 1
    interlace_fraction: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    interlace_every: int = 1
    scan_blocks: bool = False
    remat_blocks: bool = False
    cardinality: int = 1
    base_width: int = 64
    use_bias: bool = False
    temporal: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map ``[N, T, H, W, C]`` to ``[N, T, H', W', C']``."""
        if self.scan_blocks and self.interlace_every > 1:
            raise ValueError("interlace_every must be 1 with scan_blocks, under which the blocks of a stage are alike")
        layers = self.block.layers(self.features, 1, self.cardinality, self.base_width)
        cells = tuple(self.spec.relay_cell(i, size.features, self.param_dtype) for i, size in enumerate(layers))
        return run_blocks(
            self._block, self.num_blocks, cells, x, train, scan_blocks=self.scan_blocks, remat=self.remat_blocks
        )

    @nn.nowrap
    def _block(self, index: int, *, remat: bool, **fields: Any) -> nn.Module:
        return recomputed(self.block, remat)(
            features=self.features,
            spec=self.spec,
            strides=self.strides if index == 0 else 1,
            interlace_fraction=0.0 if index % self.interlace_every else self.interlace_fraction,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            cardinality=self.cardinality,
            base_width=self.base_width,
            use_bias=self.use_bias,
            temporal=self.temporal,
            **fields,
        )


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Block type and blocks of each stage."""

    block: type[ResidualBlock]
    stages: tuple[int, ...]


ARCHITECTURES = {
    18: Architecture(BasicBlock, (2, 2, 2, 2)),
    34: Architecture(BasicBlock, (3, 4, 6, 3)),
    50: Architecture(BottleneckBlock, (3, 4, 6, 3)),
    101: Architecture(BottleneckBlock, (3, 4, 23, 3)),
    152: Architecture(BottleneckBlock, (3, 8, 36, 3)),
}
STEMS = ("imagenet", "small")


class ResNet(nn.Module):
    """ResNet without its classifier, applied to each frame.

    Attributes:
      depth: 18, 34, 50, 101 or 152.
      spec: the norms of the blocks; the stem's and the shortcuts' norms are static.
      width: channels of the stem and of the first stage's inner convolutions.
      stem: ``imagenet`` (7x7 convolution with stride 2, max pooling) or ``small`` (3x3 convolution).
      interlace_fraction: see :class:`ResidualBlock`.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
      interlace_stages: stages whose blocks interlace channels.
      interlace_every: interlace in the first of every so many blocks of a stage.
      scan_blocks: run the identical blocks of a stage under one scan: the program, and the time to compile it, hardly
        grow with the depth. See :func:`dnr_jax.models.blocks.run_blocks`.
      remat: compute the inside of each ``block`` or ``stage`` again in the backward pass, or of ``none``: less memory
        for more time.
      cardinality: see :meth:`ResidualBlock.layers`; ResNeXt-101 32x4d has 32.
      base_width: likewise; ResNeXt-101 32x4d has 4.
      temporal: see :class:`ResidualBlock`.
    """

    depth: int = 50
    spec: DNRSpec = DNRSpec()
    width: int = 64
    stem: str = "imagenet"
    interlace_fraction: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    interlace_stages: tuple[bool, bool, bool, bool] = (True, True, True, True)
    interlace_every: int = 1
    scan_blocks: bool = False
    remat: str = "none"
    cardinality: int = 1
    base_width: int = 64
    temporal: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Extract features.

        Args:
          x: frames ``[N, T, H, W, 3]``, normalised.
          train: whether norms use, and update with, the statistics of the batch.

        Returns:
          ``[N, T, H', W', C']`` in ``dtype``.
        """
        small = self.stem == "small"
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = conv(self.width, 3 if small else 7, 1 if small else 2, name="conv1", **dtypes)(x)
        stem_norm = self.spec.norm("static", name="norm1", param_dtype=self.param_dtype)
        _, x = stem_norm(None, x, use_running_average=not train)
        x = nn.relu(x)
        if not small:
            x = nn.max_pool(x, (1, 3, 3), (1, 2, 2), padding=((0, 0), (1, 1), (1, 1)))
        self.sow("intermediates", "stem", x)
        architecture = ARCHITECTURES[self.depth]
        for i, num_blocks in enumerate(architecture.stages):
            stage = recomputed(Stage, self.remat == "stage")(
                architecture.block,
                self.width * 2**i,
                num_blocks,
                self.spec,
                strides=1 if i == 0 else 2,
                interlace_fraction=self.interlace_fraction if self.interlace_stages[i] else 0.0,
                interlace_every=self.interlace_every,
                scan_blocks=self.scan_blocks,
                remat_blocks=self.remat == "block",
                cardinality=self.cardinality,
                base_width=self.base_width,
                temporal=self.temporal,
                name=f"layer{i + 1}",
                **dtypes,
            )
            x = stage(x, train)
        return x
