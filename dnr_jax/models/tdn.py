"""Temporal Difference Network (Wang et al., CVPR 2021), as MCG-NJU's repository builds it.

A ResNet on the middle frame of each segment of a video. A short-term module adds what changes between the frames of a
segment, in front of and behind the first stage; a long-term module in each block of the later stages weighs features by
what changes between neighbouring segments, and mixes them over the segments. Convolutions have biases.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Array, Float, Num

from dnr_jax.config import ZooNetwork, register
from dnr_jax.dnr import DNRSpec
from dnr_jax.dnr.aliases import Dtype
from dnr_jax.models.blocks import recomputed
from dnr_jax.models.layers import FRAMES, Convolution, PointwiseConv, conv, frame_conv, kaiming_normal
from dnr_jax.models.naming import Naming
from dnr_jax.models.network import DEEP, ResNetNetwork, score_head
from dnr_jax.models.recognizer import Recognizer
from dnr_jax.models.residual import Stage
from dnr_jax.models.resnet import ARCHITECTURES
from dnr_jax.models.stems import stem_features, stem_pool, stem_size

REDUCTION = 16
"""How many times narrower the features are of which the long-term module takes differences."""
SHIFT_DIVISOR = 8
"""At first, one in so many channels is taken from the next segment, and one from the one before."""
BIASED = Convolution(functools.partial(frame_conv, use_bias=True))


def resize_nearest(x: Num[Array, "n t h w c"], height: int, width: int) -> Num[Array, "n t {height} {width} c"]:
    """Resize frames ``[N, T, H, W, C]`` as torch's ``nearest`` does: to the pixel at ``floor(i * old / new)``.

    ``jax.image.resize`` takes the pixel nearest to the centre, which is another one where the factor is not whole.
    """

    def source(old: int, new: int) -> np.ndarray:
        # torch computes the factor and the product in single precision, whatever it resizes.
        return np.minimum(np.floor(np.arange(new, dtype=np.float32) * np.float32(old / new)), old - 1).astype(np.int32)

    for axis, size in ((2, height), (3, width)):
        if x.shape[axis] != size:
            x = jnp.take(x, source(x.shape[axis], size), axis)
    return x


def halve(x: Float[Array, "n t h w c"]) -> Float[Array, "n t h//2 w//2 c"]:
    """Average 2x2 pixels of ``[N, T, H, W, C]``; an odd last row or column is left out.

    Raises:
      ValueError: where there is a single row or column.
    """
    *batch, height, width, channels = x.shape
    if min(height, width) < 2:
        raise ValueError(
            f"features of {height} x {width} pixels cannot be halved: the sides of the frames must be at least 33, "
            "or 9 with the small stem"
        )
    even = x[:, :, : height // 2 * 2, : width // 2 * 2]
    return jnp.mean(even.reshape(*batch, height // 2, 2, width // 2, 2, channels), axis=(3, 5))


class DifferenceAttention(nn.Module):
    """Weighs features by what changes to the next segment and from the one before; the repository's ``mSEModule``.

    Differences of narrow features, at full and at half resolution, become a factor between 0.5 and 1.5 for each value.
    Both directions pass through the same layers, whose norms are static and see first one and then the other.

    Attributes:
      spec: its static norm is used.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
    """

    spec: DNRSpec
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n t h w c"], train: bool) -> Float[Array, "n t h w c"]:
        """Map ``[N, T, H, W, C]`` to the same shape; ``T`` segments."""
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        channels = x.shape[-1]
        narrow = max(channels // REDUCTION, 1)

        def norm(name: str) -> Any:
            layer = self.spec.norm("static", name=name, param_dtype=self.param_dtype)
            return lambda x: layer(None, x, use_running_average=not train)[1]

        here = norm("norm1")(PointwiseConv(narrow, name="conv1", **dtypes)(x))
        aligned = nn.Conv(
            narrow,
            (3, 3),
            padding=1,
            feature_group_count=narrow,
            use_bias=False,
            kernel_init=kaiming_normal,
            name="conv2",
            **dtypes,
        )(here)
        none = jnp.zeros_like(here[:, :1])
        forward = jnp.concatenate([aligned[:, 1:] - here[:, :-1], none], axis=1)
        backward = jnp.concatenate([none, aligned[:, :-1] - here[:, 1:]], axis=1)
        coarse_conv, coarse_norm = conv(narrow, 3, name="coarse_conv", **dtypes), norm("coarse_norm")
        fine_conv, fine_norm = conv(narrow, 3, name="fine_conv", **dtypes), norm("fine_norm")
        expand, expand_norm = PointwiseConv(channels, name="conv3", **dtypes), norm("norm3")
        gates = []
        for difference in (forward, backward):
            coarse = resize_nearest(coarse_norm(coarse_conv(halve(difference))), *x.shape[2:4])
            fine = fine_norm(fine_conv(difference))
            gates.append(nn.sigmoid(expand_norm(expand((difference + coarse + fine) / 3))) - 0.5)
        return x + x * ((gates[0] + gates[1]) / 2)


class SegmentShift(nn.Module):
    """Convolution of each channel over three segments, at first a shift; the repository's ``ShiftModule``.

    Attributes:
      dtype: dtype of activations.
      param_dtype: dtype of the kernel ``[3, 1, C]``.
    """

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n t h w c"]) -> Float[Array, "n t h w c"]:
        """Map ``[N, T, H, W, C]`` to the same shape; zeros stand beyond the clip."""
        kernel = self.param("kernel", _shifting, (3, 1, x.shape[-1]), self.param_dtype)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        before, here, after = kernel.reshape(3, 1, 1, 1, 1, -1)
        none = jnp.zeros_like(x[:, :1])
        previous = jnp.concatenate([none, x[:, :-1]], axis=1)
        following = jnp.concatenate([x[:, 1:], none], axis=1)
        return previous * before + x * here + following * after


def _shifting(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Float[Array, "3 1 c"]:
    """Take an eighth of the channels from the next segment, an eighth from the one before; an initialiser."""
    del key
    fold = shape[-1] // SHIFT_DIVISOR
    tap = np.full(shape[-1], 1)
    tap[:fold], tap[fold : 2 * fold] = 2, 0
    return jax.nn.one_hot(tap, 3, dtype=dtype, axis=0)[:, None]


class LongTermModule(nn.Module):
    """L-TDM: :class:`DifferenceAttention`, then :class:`SegmentShift`.

    Attributes:
      spec: its static norm is used.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
    """

    spec: DNRSpec
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n t h w c"], train: bool) -> Float[Array, "n t h w c"]:
        """Map ``[N, T, H, W, C]`` to the same shape."""
        x = DifferenceAttention(self.spec, self.dtype, self.param_dtype, name="attention")(x, train)
        return SegmentShift(self.dtype, self.param_dtype, name="shift")(x)


class TDNBackbone(nn.Module):
    """TDN without its classifier: ResNet-50 and 101 in the repository, any depth here.

    Attributes:
      depth: 18, 34, 50, 101 or 152.
      spec: the norms of the blocks; those of the stems, the shortcuts and both temporal modules are static.
      width: channels of the stems and of the first stage's inner convolutions.
      stem: ``imagenet`` (7x7 convolution with stride 2, max pooling) or ``small`` (3x3 convolution).
      frames_per_segment: frames of the clip for each segment, odd; the middle one is what the ResNet sees.
      appearance: share of the ResNet's features where the short-term module's are added; 0 for the repository's, which
        is 0.5 with 8 segments and 0.75 with another number.
      scan_blocks: see :class:`dnr_jax.models.resnet.ResNet`.
      remat: likewise.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
    """

    depth: int = 50
    spec: DNRSpec = DNRSpec()
    width: int = 64
    stem: str = "imagenet"
    frames_per_segment: int = 5
    appearance: float = 0.0
    scan_blocks: bool = False
    remat: str = "none"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n t h w c"], *, train: bool) -> Float[Array, "n t2 h2 w2 c2"]:
        """Extract features.

        Args:
          x: frames ``[N, T, H, W, 3]``, normalised; ``T`` is ``frames_per_segment`` for each segment, one segment after
            the other.
          train: whether norms use, and update with, the statistics of the batch.

        Returns:
          ``[N, T / frames_per_segment, H', W', C']`` in ``dtype``.

        Raises:
          ValueError: where the frames cannot be divided into segments, or are too small to be halved as often.
        """
        appearance, changes = self.split(x)
        motion = self._stem("difference_", halve(changes), train)
        self.sow("intermediates", "difference_stem", motion)
        motion = stem_pool(self.stem, motion)
        # A stem that the repository's checkpoints hold and its network never applies: they fit in both directions.
        if self.is_initializing():
            BIASED.apply(appearance, stem_size(self.stem, self.width), train, name="conv1_temp", **self._dtypes())
        x = stem_pool(self.stem, self._stem("", appearance, train))
        x = self._fuse(x, motion)
        static = self.spec.counterpart()
        motion = self._stage(0, "difference_layer1", static)(motion, train)
        for i in range(4):
            x = self._stage(i, f"layer{i + 1}", self.spec)(x, train)
            x = self._fuse(x, motion) if i == 0 else x
        return x

    @nn.nowrap
    def split(self, x: Num[Array, "n t h w c"]) -> tuple[Num[Array, "n t2 h2 w2 c2"], Num[Array, "n t3 h3 w3 c3"]]:
        """Return the middle frame of each segment, and the differences of neighbouring ones.

        Args:
          x: clips ``[N, T, H, W, 3]``.

        Returns:
          ``[N, S, H, W, 3]``, and ``[N, S, H, W, 3 * (frames_per_segment - 1)]`` with the earliest difference first.

        Raises:
          ValueError: where the frames cannot be divided into segments.
        """
        n, t, *image = x.shape
        if t % self.frames_per_segment:
            raise ValueError(f"a clip of {t} frames cannot be divided into segments of {self.frames_per_segment}")
        segments = x.reshape(n, t // self.frames_per_segment, self.frames_per_segment, *image)
        changes = jnp.moveaxis(segments[:, :, 1:] - segments[:, :, :-1], 2, 4)
        return segments[:, :, self.frames_per_segment // 2], changes.reshape(*changes.shape[:4], -1)

    @nn.nowrap
    def _dtypes(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    @nn.nowrap
    def _stem(self, prefix: str, x: Float[Array, "n t h w c"], train: bool) -> Float[Array, "n t2 h2 w2 c2"]:
        names: dict[str, Any] = {"prefix": prefix, "number": "" if prefix else "1"}
        kind, size = FRAMES if prefix else BIASED, stem_size(self.stem, self.width)
        return stem_features(x, size, self.spec, train, convolution=kind, **names, **self._dtypes())

    @nn.nowrap
    def _stage(self, i: int, name: str, spec: DNRSpec) -> nn.Module:
        architecture = ARCHITECTURES[self.depth]
        return recomputed(Stage, self.remat == "stage")(
            architecture.block,
            self.width * 2**i,
            architecture.stages[i],
            spec,
            strides=1 if i == 0 else 2,
            scan_blocks=self.scan_blocks,
            remat_blocks=self.remat == "block",
            convolution=BIASED,
            temporal=functools.partial(LongTermModule, spec=self.spec, **self._dtypes()) if i else None,
            name=name,
            **self._dtypes(),
        )

    @nn.nowrap
    def _fuse(self, x: Float[Array, "n t h w c"], motion: Float[Array, "n t h2 w2 c"]) -> Float[Array, "n t h w c"]:
        share = self.appearance or (0.5 if x.shape[1] == 8 else 0.75)
        return share * x + (1 - share) * resize_nearest(motion, *x.shape[2:4])


MCG_NJU = Naming(
    rules=(
        (r"^head/fc", "new_fc"),
        (r"^backbone/difference_conv", "backbone/conv1_5.0"),
        (r"^backbone/difference_norm", "backbone/conv1_5.1"),
        (r"^backbone/layer(\d)", r"backbone/layer\1_bak"),
        (r"\bdifference_layer1", "resnext_layer1"),
        (r"^backbone/", "base_model."),
        (r"\bblock(\d+)", r"\1"),
        (r"\btemporal/attention/", "mse."),
        (r"\btemporal/shift", "shift.conv"),
        (r"\bcoarse_conv", "conv3_smallscale2"),
        (r"\bcoarse_norm", "bn3_smallscale2"),
        (r"\bfine_conv", "conv3_smallscale4"),
        (r"\bfine_norm", "bn3_smallscale4"),
        (r"\bnorm(\d)", r"bn\1"),
        (r"\bshortcut_conv", "downsample.0"),
        (r"\bshortcut_norm", "downsample.1"),
    )
)
"""MCG-NJU's ``TSN`` around its ``TDN_Net``."""


@register
@dataclasses.dataclass
class TDN(ResNetNetwork):
    """TDN."""

    namings = {"tdn": MCG_NJU}

    frames_per_segment: Annotated[int, Ge(3)] = 5
    """Frames that the network takes for a segment, odd: one is in the middle."""
    appearance: Annotated[float, Ge(0), Le(1)] = 0.0
    """Share of the middle frame's features where they meet the differences; 0: 0.5 for 8 segments, 0.75 for others."""

    @classmethod
    def zoo(cls) -> dict[str, ZooNetwork]:
        """Return the reference's networks."""
        return {f"tdn_r{depth}": ZooNetwork(cls(depth=depth), num_frames=40) for depth in DEEP}

    def problems(self) -> Iterator[str]:
        """Refuse segments without a middle frame."""
        yield from super().problems()
        if self.frames_per_segment % 2 == 0:
            yield f"frames_per_segment: is {self.frames_per_segment}; expected an odd number, which has a middle one"

    def frames_expected(self, num_frames: int) -> str:
        """Return what clips of whole segments have."""
        frames = self.frames_per_segment
        if num_frames % frames == 0:
            return ""
        return (
            f"a multiple of {frames}, TDN's frames of a segment: Segments with frames_per_segment={frames} gives that"
        )

    def side_expected(self, side: int) -> str:
        """Return the least side of frames that can be halved often enough."""
        least = 9 if self.stem == "small" else 33
        return f"at least {least}, which TDN can halve often enough" if side < least else ""

    def relayed_frames(self, num_frames: int) -> int:
        """Return the number of segments."""
        return num_frames // self.frames_per_segment

    def build(self) -> Recognizer:
        """Return the recogniser."""
        backbone = TDNBackbone(
            **self.backbone_fields(), frames_per_segment=self.frames_per_segment, appearance=self.appearance
        )
        return Recognizer(backbone, score_head(self))
