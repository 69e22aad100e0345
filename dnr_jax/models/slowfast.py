"""SlowFast: a slow pathway for what is seen, and a fast, narrow one for motion (Feichtenhofer et al., ICCV 2019).

One description of the networks of MMAction2 and of PySlowFast, which differ in the lateral connections, in the frames
of the slow pathway and in the order of the head; :class:`SlowFast` has the presets.
"""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from annotated_types import Ge
from jaxtyping import Array, Float, Num

from dnr_jax.config import Depth, ZooNetwork, register
from dnr_jax.dnr import DNRSpec
from dnr_jax.dnr.aliases import Dtype
from dnr_jax.models.blocks import recomputed
from dnr_jax.models.heads import PathwayHead
from dnr_jax.models.layers import CLIPS, ConvSize, clip_conv
from dnr_jax.models.naming import MMACTION2, TORCHVISION, Naming
from dnr_jax.models.network import DEEP, ResNetNetwork
from dnr_jax.models.recognizer import Recognizer
from dnr_jax.models.residual import BottleneckBlock, Stage, frame_groups
from dnr_jax.models.resnet import ARCHITECTURES, architecture_of
from dnr_jax.models.stems import stem_features, stem_pool, stem_size

STEM_FRAMES = {"slow": 1, "fast": 5}
STAGE_FRAMES = {"slow": (1, 1, 3, 3), "fast": (3, 3, 3, 3)}
"""Temporal extent of the kernels of each stage; early layers of the slow pathway do not look at time."""


class SlowFastBackbone(nn.Module):
    """SlowFast without its classifier.

    Attributes:
      depth: of the slow pathway: 18, 34, 50, 101 or 152.
      fast_depth: of the fast pathway; 0 for the same.
      spec: the norms of the blocks; those of stems, shortcuts and lateral connections are static.
      width: channels of the slow pathway's stem and of its first stage's inner convolutions.
      stem: ``imagenet`` (7x7 with stride 2, max pooling) or ``small`` (3x3).
      alpha: frames of the fast pathway for each one of the slow pathway.
      resample_rate: frames of the clip for each one of the slow pathway, a multiple of ``alpha``; 0 for ``alpha``.
      beta_inv: how many times narrower the fast pathway is.
      fusion_kernel: temporal extent of the lateral connections, odd.
      fusion_ratio: channels of a lateral connection for each channel of the fast pathway.
      lateral_norm: whether lateral connections end in a norm and a ReLU.
      slow_frames: ``stride`` (frames 0, alpha, 2 alpha, ...) or ``linspace`` (evenly spaced, first to last).
      block: ``basic`` or ``bottleneck``; empty for the usual one of the depth.
      temporal_blocks: blocks of each stage, from the first on, whose kernels have a temporal extent, in the slow and in
        the fast pathway; 0 for all.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
      scan_blocks: see :class:`dnr_jax.models.resnet.ResNet`; not together with ``temporal_blocks``.
      remat: see :class:`dnr_jax.models.resnet.ResNet`.
    """

    depth: int = 50
    fast_depth: int = 0
    spec: DNRSpec = DNRSpec()
    width: int = 64
    stem: str = "imagenet"
    alpha: int = 4
    resample_rate: int = 0
    beta_inv: int = 8
    fusion_kernel: int = 7
    fusion_ratio: int = 2
    lateral_norm: bool = False
    slow_frames: str = "stride"
    block: str = ""
    temporal_blocks: tuple[int, int] = (0, 0)
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    scan_blocks: bool = False
    remat: str = "none"

    @nn.compact
    def __call__(
        self, x: Float[Array, "n t h w c"], *, train: bool
    ) -> tuple[Float[Array, "n t2 h2 w2 c2"], Float[Array, "n t3 h3 w3 c3"]]:
        """Extract features.

        Args:
          x: frames ``[N, T, H, W, 3]``, normalised.
          train: whether norms use, and update with, the statistics of the batch.

        Returns:
          Features of the slow pathway, ``[N, T / resample_rate, H', W', C']``, and of the fast one, with ``alpha``
          times the frames and ``1 / beta_inv`` of the channels.

        Raises:
          ValueError: where ``resample_rate`` does not divide ``T``, or the relay distance the slow pathway's frames.
        """
        slow, fast = self.pathways(x)
        num_groups = frame_groups(self.spec, slow.shape[1])
        slow, fast = self._stem("slow", slow, train), self._stem("fast", fast, train)
        for i in range(4):
            slow = jnp.concatenate([slow, self._lateral(i, fast, train)], axis=-1)
            slow = self._stage("slow", i, slow, num_groups, train)
            fast = self._stage("fast", i, fast, num_groups, train)
        return slow, fast

    @nn.nowrap
    def pathways(self, x: Num[Array, "n t h w c"]) -> tuple[Num[Array, "n t2 h2 w2 c2"], Num[Array, "n t3 h3 w3 c3"]]:
        """Take the slow and the fast pathway's frames out of clips ``[N, T, H, W, C]``.

        Raises:
          ValueError: where ``resample_rate`` does not divide ``T``, or is not a multiple of ``alpha``.
        """
        rate = self.resample_rate or self.alpha
        if rate % self.alpha:
            raise ValueError(f"resample_rate={rate} is not a multiple of alpha={self.alpha}")
        if x.shape[1] % rate:
            raise ValueError(
                f"the slow pathway takes one of {rate} frames, which does not divide the clip of {x.shape[1]} frames"
            )
        fast = x[:, :: rate // self.alpha]
        if self.slow_frames == "stride":
            return fast[:, :: self.alpha], fast
        last, count = fast.shape[1] - 1, fast.shape[1] // self.alpha
        return jnp.stack([fast[:, last * i // max(count - 1, 1)] for i in range(count)], axis=1), fast

    @nn.nowrap
    def _width(self, pathway: str) -> int:
        return self.width if pathway == "slow" else self.width // self.beta_inv

    @nn.nowrap
    def _dtypes(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    @nn.nowrap
    def _stem(self, pathway: str, x: Float[Array, "n t h w c"], train: bool) -> Float[Array, "n t2 h2 w2 c2"]:
        size = stem_size(self.stem, self._width(pathway), STEM_FRAMES[pathway])
        x = stem_features(x, size, self.spec, train, convolution=CLIPS, prefix=f"{pathway}_", **self._dtypes())
        x = stem_pool(self.stem, x)
        self.sow("intermediates", f"{pathway}_stem", x)
        return x

    @nn.nowrap
    def _lateral(self, i: int, fast: Float[Array, "n t h w c"], train: bool) -> Float[Array, "n t2 h2 w2 c2"]:
        """Return what the slow pathway gets to see of the fast one in front of stage ``i + 1``, in its own frames."""
        size = ConvSize(self.fusion_ratio * fast.shape[-1], (self.fusion_kernel, 1, 1), (self.alpha, 1, 1))
        if self.lateral_norm:
            names = {"prefix": f"lateral{i}_", "number": ""}
            x = stem_features(fast, size, self.spec, train, convolution=CLIPS, **names, **self._dtypes())
        else:
            x = clip_conv(fast, size, train, name=f"lateral{i}_conv", **self._dtypes())
        self.sow("intermediates", f"lateral{i}", x)
        return x

    @nn.nowrap
    def _stage(
        self, pathway: str, i: int, x: Float[Array, "n t h w c"], num_groups: int, train: bool
    ) -> Float[Array, "n t2 h2 w2 c2"]:
        slow = pathway == "slow"
        architecture = architecture_of(self.depth if slow else self.fast_depth or self.depth, self.block)
        stage = recomputed(Stage, self.remat == "stage")(
            architecture.block,
            self._width(pathway) * 2**i,
            architecture.stages[i],
            self.spec,
            kernel_frames=STAGE_FRAMES[pathway][i],
            temporal_blocks=self.temporal_blocks[0 if slow else 1],
            strides=1 if i == 0 else 2,
            convolution=CLIPS,
            num_groups=num_groups,
            scan_blocks=self.scan_blocks,
            remat_blocks=self.remat == "block",
            name=f"{pathway}_layer{i + 1}",
            **self._dtypes(),
        )
        return stage(x, train)


_PYSLOWFAST_PATHWAYS = (("slow", "pathway0"), ("fast", "pathway1"))
PYSLOWFAST = Naming(
    rules=(
        (r"^head/fc", "head.projection"),
        (r"^backbone/", ""),
        *((rf"^lateral{i}_", f"s{i + 1}_fuse.") for i in range(4)),
        (r"_fuse\.conv", "_fuse.conv_f2s"),
        (r"_fuse\.norm", "_fuse.bn"),
        *((rf"^{ours}_conv1", f"s1.{theirs}_stem.conv") for ours, theirs in _PYSLOWFAST_PATHWAYS),
        *((rf"^{ours}_norm1", f"s1.{theirs}_stem.bn") for ours, theirs in _PYSLOWFAST_PATHWAYS),
        *(
            (rf"^{ours}_layer{i}/block", f"s{i + 1}.{theirs}_res")
            for ours, theirs in _PYSLOWFAST_PATHWAYS
            for i in range(1, 5)
        ),
        (r"/shortcut_conv$", ".branch1"),
        (r"/shortcut_norm", ".branch1_bn"),
        *((rf"/conv{i}$", f".branch2.{letter}") for i, letter in enumerate("abc", 1)),
        *((rf"/norm{i}\b", f".branch2.{letter}_bn") for i, letter in enumerate("abc", 1)),
    )
)
"""PySlowFast's ``SlowFast`` (``s1`` to ``s5``)."""

VARIANTS = {"8x8": (4, 7), "4x16": (8, 5)}
"""Frames of the fast pathway for each one of the slow pathway, and the temporal extent of the lateral connections."""


@register
@dataclasses.dataclass
class SlowFast(ResNetNetwork):
    """SlowFast; the defaults are MMAction2's 8x8."""

    namings = {"mmaction2": MMACTION2, "torchvision": TORCHVISION, "pyslowfast": PYSLOWFAST}

    alpha: Annotated[int, Ge(1)] = 4
    """Frames of the fast pathway for each one of the slow pathway."""
    resample_rate: Annotated[int, Ge(0)] = 0
    """Frames of the clip for each one of the slow pathway (MMAction2's tau), a multiple of ``alpha``; 0: ``alpha``."""
    beta_inv: Annotated[int, Ge(1)] = 8
    """How many times narrower the fast pathway is."""
    fusion_kernel: Annotated[int, Ge(1)] = 7
    """Temporal extent of the lateral connections, odd."""
    fusion_ratio: Annotated[int, Ge(1)] = 2
    """Channels of a lateral connection for each channel of the fast pathway."""
    lateral_norm: bool = False
    """End lateral connections in a norm and a ReLU."""
    slow_frames: Literal["stride", "linspace"] = "stride"
    """``stride``: frames 0, alpha, 2 alpha, ...; ``linspace``: evenly spaced, first to last."""
    fast_depth: Literal[0] | Depth = 0
    """ResNet depth of the fast pathway; 0: ``depth``."""
    block: Literal["", "basic", "bottleneck"] = ""
    """``basic`` or ``bottleneck`` blocks; empty: the usual ones of the depth."""
    temporal_blocks: tuple[Annotated[int, Ge(0)], Annotated[int, Ge(0)]] = (0, 0)
    """Blocks of each stage, from the first on, whose kernels have a temporal extent, in the slow and in the fast
    pathway; 0: all."""
    head_order: Literal["fast_slow", "slow_fast"] = "fast_slow"
    """Order of the pathways' features in front of the classifier: ``fast_slow`` (MMAction2) or ``slow_fast``."""

    @classmethod
    def mmaction2(cls, variant: str = "8x8", **fields: Any) -> "SlowFast":
        """Return MMAction2's ``8x8`` or ``4x16`` (frames of the slow pathway x their interval in the video)."""
        alpha, fusion_kernel = VARIANTS[variant]
        return cls(alpha=alpha, fusion_kernel=fusion_kernel, **fields)

    @classmethod
    def pyslowfast(cls, variant: str = "8x8", **fields: Any) -> "SlowFast":
        """Return PySlowFast's ``8x8`` or ``4x16``, whose blocks are bottlenecks at every depth."""
        theirs = {"lateral_norm": True, "slow_frames": "linspace", "block": "bottleneck", "head_order": "slow_fast"}
        return cls.mmaction2(variant, **theirs | fields)

    @classmethod
    def zoo(cls) -> dict[str, ZooNetwork]:
        """Return the networks of MMAction2 and of PySlowFast (``fb``), and those of ResNet-18."""
        networks = {
            f"slowfast_r{depth}_{variant}": cls.mmaction2(variant, depth=depth)
            for depth in (18, *DEEP)
            for variant in ("4x16", "8x8")
        }
        networks["slowfast_r50_8x8_lateralnorm"] = cls.mmaction2(lateral_norm=True)
        networks |= {
            f"slowfast_fb_r{depth}_{variant}": cls.pyslowfast(variant, depth=depth)
            for depth in DEEP
            for variant in ("4x16", "8x8")
        }
        for network in networks.values():  # a group of DNR is half a clip, as in the paper
            network.norm.relay_distance = 32 // network.alpha // 2
        return {name: ZooNetwork(network, num_frames=32) for name, network in networks.items()}

    @property
    def rate(self) -> int:
        """Frames of the clip for each one of the slow pathway."""
        return self.resample_rate or self.alpha

    def problems(self) -> Iterator[str]:
        """Refuse pathways that do not fit together."""
        yield from super().problems()
        if self.rate % self.alpha:
            yield f"resample_rate: is {self.rate}; expected a multiple of alpha, which is {self.alpha}"
        if self.fusion_kernel % 2 == 0:
            yield f"fusion_kernel: is {self.fusion_kernel}; expected an odd number"
        if self.width % self.beta_inv:
            yield f"width: is {self.width}; expected a multiple of beta_inv, which is {self.beta_inv}"
        for depth, blocks in zip((self.depth, self.fast_depth or self.depth), self.temporal_blocks, strict=True):
            most = max(ARCHITECTURES[depth].stages) - 1
            if blocks > most:
                expected = f"at most {most} in ResNet-{depth}, or 0 for all"
                yield f"temporal_blocks: is {self.temporal_blocks}; expected {expected}"
        if self.scan_blocks and any(self.temporal_blocks):
            yield "temporal_blocks: must be 0 with scan_blocks, under which the blocks are alike"

    def has_third_norm(self) -> bool:
        """Return whether the blocks of a pathway are bottlenecks."""
        depths = (self.depth, self.fast_depth or self.depth)
        return any(issubclass(architecture_of(depth, self.block).block, BottleneckBlock) for depth in depths)

    def frames_expected(self, num_frames: int) -> str:
        """Return what clips have of which the slow pathway takes whole steps."""
        return f"a multiple of {self.rate}, of which the slow pathway takes one" if num_frames % self.rate else ""

    def relayed_frames(self, num_frames: int) -> int:
        """Return the frames of the slow pathway."""
        return num_frames // self.rate

    def build(self) -> Recognizer:
        """Return the recogniser."""
        own = vars(self).keys() & SlowFastBackbone.__dataclass_fields__.keys()
        backbone = SlowFastBackbone(**{name: getattr(self, name) for name in own} | self.backbone_fields())
        order = (0, 1) if self.head_order == "slow_fast" else (1, 0)
        return Recognizer(
            backbone, PathwayHead(self.num_classes, self.dropout, order, param_dtype=backbone.param_dtype)
        )
