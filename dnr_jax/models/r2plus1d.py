"""R(2+1)D: ResNets whose 3D convolutions are factorised into a spatial and a temporal one (Tran et al., CVPR 2018)."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnr_jax.config import Depth, ZooNetwork, register
from dnr_jax.dnr import DNRSpec
from dnr_jax.models.blocks import recomputed
from dnr_jax.models.heads import PathwayHead
from dnr_jax.models.layers import Conv3D, Convolution, ConvSize, static_norm
from dnr_jax.models.naming import MMACTION2
from dnr_jax.models.network import ResNetNetwork
from dnr_jax.models.recognizer import Recognizer
from dnr_jax.models.residual import Stage, frame_groups
from dnr_jax.models.resnet import ARCHITECTURES
from dnr_jax.models.stems import stem_features, stem_pool, stem_size

INNER_EPSILON = 1e-5
BLOCK_EPSILON = 1e-3
"""MMAction2 sets the norms of the blocks and of the stem to 1e-3 and leaves those inside the convolutions at 1e-5."""


class FactorizedConv(nn.Module):
    """``1 x k x k`` convolution, norm, ReLU, ``t x 1 x 1`` convolution; MMAction2's ``Conv2plus1d``.

    The norm in the middle belongs to the convolution and stays static.

    Attributes:
      size: of the 3D convolution that is factorised.
      spec: its static norm is the one in the middle.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
    """

    size: ConvSize
    spec: DNRSpec = DNRSpec()
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map ``[N, T, H, W, C]`` to ``[N, T', H', W', features]``."""
        features, (frames, *space), (stride, *spatial), _ = self.size
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        width = middle_features(x.shape[-1], self.size)
        x = Conv3D(width, (1, *space), (1, *spatial), name="spatial", **dtypes)(x)
        spec = self.spec.with_epsilon(INNER_EPSILON)
        x = nn.relu(static_norm(spec, x, train, "norm", self.param_dtype))
        return Conv3D(features, (frames, 1, 1), (stride, 1, 1), name="temporal", **dtypes)(x)


def middle_features(channels: int, size: ConvSize) -> int:
    """Return the channels between the two convolutions, with which they have the parameters of a 3D convolution.

    ``t`` is 3 in this count whatever the kernel, as in MMAction2; the shortcuts' 1x1x1 convolutions depend on it.
    """
    features, (_, height, width), *_ = size
    area = height * width
    return 3 * channels * features * area // (channels * area + 3 * features)


def factorized(spec: DNRSpec) -> Convolution:
    """Return the kind of convolution of the network: all are factorised, those of shortcuts included."""
    return Convolution(functools.partial(_factorized_conv, spec=spec), first="spatial", last="temporal")


def _factorized_conv(x: jax.Array, size: ConvSize, train: bool, *, spec: DNRSpec, **fields: Any) -> jax.Array:
    return FactorizedConv(size, spec, **fields)(x, train)


class R2Plus1DBackbone(nn.Module):
    """R(2+1)D without its classifier, as MMAction2 builds it: 34 layers in the papers, any depth here.

    Attributes:
      depth: 18, 34, 50, 101 or 152.
      spec: the norms of the blocks; those of the stem, the shortcuts and inside the convolutions are static. Its
        epsilon is replaced by the reference's; see :data:`BLOCK_EPSILON`.
      width: channels of the stem and of the first stage's inner convolutions.
      stem: ``imagenet`` (3x7x7 with spatial stride 2, max pooling) or ``small`` (3x3x3).
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
      scan_blocks: see :class:`dnr_jax.models.resnet.ResNet`.
      remat: see :class:`dnr_jax.models.resnet.ResNet`.
    """

    depth: int = 34
    spec: DNRSpec = DNRSpec()
    width: int = 64
    stem: str = "imagenet"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    scan_blocks: bool = False
    remat: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array]:
        """Extract features.

        Args:
          x: frames ``[N, T, H, W, 3]``, normalised.
          train: whether norms use, and update with, the statistics of the batch.

        Returns:
          ``[N, ceil(T / 8), H', W', C']`` in ``dtype``, the one pathway.

        Raises:
          ValueError: where the relay distance does not divide ``T``.
        """
        spec = self.spec.with_epsilon(BLOCK_EPSILON)
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        num_groups = frame_groups(spec, x.shape[1])
        convolution = factorized(spec)
        x = stem_features(x, stem_size(self.stem, self.width, 3), spec, train, convolution=convolution, **dtypes)
        x = stem_pool(self.stem, x)
        self.sow("intermediates", "stem", x)
        architecture = ARCHITECTURES[self.depth]
        for i, num_blocks in enumerate(architecture.stages):
            stage = recomputed(Stage, self.remat == "stage")(
                architecture.block,
                self.width * 2**i,
                num_blocks,
                spec,
                strides=1 if i == 0 else (2, 2, 2),
                kernel_frames=3,
                num_groups=num_groups,
                convolution=convolution,
                scan_blocks=self.scan_blocks,
                remat_blocks=self.remat == "block",
                name=f"layer{i + 1}",
                **dtypes,
            )
            x = stage(x, train)
        return (x,)


@register
@dataclasses.dataclass
class R2Plus1D(ResNetNetwork):
    """R(2+1)D."""

    namings = {"mmaction2": MMACTION2}

    depth: Depth = 34
    """ResNet depth: 18, 34 (the papers'), 50, 101 or 152."""

    @classmethod
    def zoo(cls) -> dict[str, ZooNetwork]:
        """Return the paper's network."""
        return {"r2plus1d_r34": ZooNetwork(cls())}

    def problems(self) -> Iterator[str]:
        """Refuse another epsilon than the reference's, of which there are two."""
        yield from super().problems()
        epsilon, default = self.norm.base.epsilon, type(self.norm.base)().epsilon
        if epsilon != default:
            yield (
                f"norm.base.epsilon: is {epsilon}; expected {default}, which stands for the reference's: "
                f"{BLOCK_EPSILON} in blocks and {INNER_EPSILON} inside the convolutions of R(2+1)D"
            )

    def build(self) -> Recognizer:
        """Return the recogniser."""
        backbone = R2Plus1DBackbone(**self.backbone_fields())
        return Recognizer(backbone, PathwayHead(self.num_classes, self.dropout, param_dtype=backbone.param_dtype))
