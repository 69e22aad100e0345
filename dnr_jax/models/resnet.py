"""ResNets on frames, with a choice of normalisation for every position of a block.

The networks are torchvision's (stride in the 3x3 convolution of a bottleneck, padding symmetric), ResNeXt among them,
applied to each frame of ``[N, T, H, W, C]``.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnr_jax.dnr import DNRSpec
from dnr_jax.models.blocks import recomputed
from dnr_jax.models.residual import BasicBlock, BottleneckBlock, ResidualBlock, Stage
from dnr_jax.models.stems import stem_features, stem_pool, stem_size


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
BLOCKS: dict[str, type[ResidualBlock]] = {"basic": BasicBlock, "bottleneck": BottleneckBlock}


def architecture_of(depth: int, block: str = "") -> Architecture:
    """Return the ResNet of ``depth``; ``block``, a name in :data:`BLOCKS`, puts another type of block into it."""
    usual = ARCHITECTURES[depth]
    return dataclasses.replace(usual, block=BLOCKS[block]) if block else usual


class ResNet(nn.Module):
    """ResNet without its classifier, applied to each frame.

    Attributes:
      depth: 18, 34, 50, 101 or 152.
      spec: the norms of the blocks; the stem's and the shortcuts' norms are static.
      width: channels of the stem and of the first stage's inner convolutions.
      stem: ``imagenet`` (7x7 convolution with stride 2, max pooling) or ``small`` (3x3 convolution).
      interlace_fraction: see :class:`dnr_jax.models.residual.ResidualBlock`.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
      interlace_stages: stages whose blocks interlace channels.
      interlace_every: interlace in the first of every so many blocks of a stage.
      scan_blocks: run the identical blocks of a stage under one scan: the program, and the time to compile it, hardly
        grow with the depth. See :func:`dnr_jax.models.blocks.run_blocks`.
      remat: compute the inside of each ``block`` or ``stage`` again in the backward pass, or of ``none``: less memory
        for more time.
      cardinality: see :meth:`dnr_jax.models.residual.ResidualBlock.layers`; ResNeXt-101 32x4d has 32.
      base_width: likewise; ResNeXt-101 32x4d has 4.
      temporal: see :class:`dnr_jax.models.residual.ResidualBlock`.
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
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = stem_features(x, stem_size(self.stem, self.width), self.spec, train, **dtypes)
        x = stem_pool(self.stem, x)
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
