"""BNInception on frames (Ioffe and Szegedy 2015), as the Caffe network and its port to PyTorch (Cadene) have it.

Blocks of parallel branches, whose results are concatenated. Convolutions have biases; pooling with a stride has no
padding and rounds sizes up. A block is a cell over depth, ``(carry, x) -> (carry, y)``, as in
:mod:`dnr_jax.models.resnet`: the carry has the states of the cross-layer relay of each branch.
"""

import dataclasses
import math
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge
from jaxtyping import Array, Float

from dnr_jax.config import Network, ZooNetwork, register
from dnr_jax.config.network import Share
from dnr_jax.dnr import DNRSpec, interlace
from dnr_jax.dnr.aliases import Carry, Dtype
from dnr_jax.models.blocks import NormPlace, places_in_a_row, recomputed
from dnr_jax.models.derivatives import max_pool
from dnr_jax.models.layers import FRAMES, conv, static_norm
from dnr_jax.models.naming import Naming
from dnr_jax.models.network import Interlace, Stem, dtypes, frame_head, interlacing_arms
from dnr_jax.models.recognizer import Recognizer

Layers = tuple[tuple[int, int, int], ...]
"""Channels, kernel size and stride of the convolutions of a branch."""


class InceptionBlockSize(NamedTuple):
    """Widths of the branches of a block.

    Attributes:
      pointwise: channels of the 1x1 branch.
      single: channels of the 1x1 and the 3x3 convolution of the branch that has one 3x3.
      double: channels of the 1x1 and of both 3x3 convolutions of the branch that has two.
      pool: 3x3 pooling of the last branch: ``avg`` or ``max``.
      projection: channels of the 1x1 convolution behind the pooling.

    A block without ``pointwise`` and ``projection`` halves the frames' size: the last convolutions of its branches, and
    its pooling, have a stride of 2.
    """

    pointwise: int
    single: tuple[int, int]
    double: tuple[int, int]
    pool: str
    projection: int

    def branches(self, width: int) -> tuple[tuple[str, Layers], ...]:
        """Return name and convolutions of each branch, in the order of the result, for a stem of ``width`` channels."""
        strides = 1 if self.pointwise else 2
        branches: dict[str, Layers] = {
            "1x1": ((self.pointwise, 1, 1),),
            "3x3": ((self.single[0], 1, 1), (self.single[1], 3, strides)),
            "double_3x3": ((self.double[0], 1, 1), (self.double[1], 3, 1), (self.double[1], 3, strides)),
            "pool": ((self.projection, 1, 1),),
        }
        return tuple(
            (name, tuple((max(features * width // STEM_WIDTH, 1), size, stride) for features, size, stride in layers))
            for name, layers in branches.items()
            if layers[0][0]
        )


STEM_WIDTH = 64
STAGES: dict[int, tuple[InceptionBlockSize, ...]] = {
    3: (
        InceptionBlockSize(64, (64, 64), (64, 96), "avg", 32),
        InceptionBlockSize(64, (64, 96), (64, 96), "avg", 64),
        InceptionBlockSize(0, (128, 160), (64, 96), "max", 0),
    ),
    4: (
        InceptionBlockSize(224, (64, 96), (96, 128), "avg", 128),
        InceptionBlockSize(192, (96, 128), (96, 128), "avg", 128),
        InceptionBlockSize(160, (128, 160), (128, 160), "avg", 128),
        InceptionBlockSize(96, (128, 192), (160, 192), "avg", 128),
        InceptionBlockSize(0, (128, 192), (192, 256), "max", 0),
    ),
    5: (
        InceptionBlockSize(352, (192, 320), (160, 224), "avg", 128),
        InceptionBlockSize(352, (192, 320), (192, 224), "max", 128),
    ),
}
"""The blocks 3a to 3c, 4a to 4e, 5a and 5b, with the widths that they have behind a stem of :data:`STEM_WIDTH`."""


def max_pool_ceil(x: Float[Array, "n t h w c"], size: int = 3, strides: int = 2) -> Float[Array, "n t h2 w2 c"]:
    """Pool frames without padding, rounding sizes up: Caffe's rule, and torch's ``ceil_mode``.

    A last window that is not full takes what there is of it; none starts beyond the frame.

    Args:
      x: ``[N, T, H, W, C]``.
      size: of the square window, at least ``strides``.
      strides: of the window.
    """

    def overhang(pixels: int) -> int:
        windows = max(math.ceil((pixels - size) / strides) + 1, 1)
        return max((windows - 1) * strides + size - pixels, 0)

    return max_pool(x, size, strides, ((0, overhang(x.shape[2])), (0, overhang(x.shape[3]))))


def same_size_pool(kind: str, x: Float[Array, "n t h w c"]) -> Float[Array, "n t h w c"]:
    """Pool 3x3 pixels around each one of ``[N, T, H, W, C]``, by ``max`` or ``avg`` (zeros beyond the frame count)."""
    around = ((1, 1), (1, 1))
    if kind == "max":
        return max_pool(x, 3, 1, around)
    return nn.pooling.pool(x, 0.0, jax.lax.add, (1, 3, 3), (1, 1, 1), ((0, 0), *around)) / 9


class Branch(nn.Module):
    """Convolutions in a row, each followed by a norm and a ReLU.

    The norms are those of ``spec`` in order. A branch of one convolution is a projection, as a residual block's
    shortcut is: its norm is static.

    Attributes:
      layers: the convolutions.
      spec: the norms.
      cells: the stage's shared relay cells, one or None for each norm.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
    """

    layers: Layers
    spec: DNRSpec
    cells: tuple[Any, ...]
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.nowrap
    def norm_places(self) -> tuple[NormPlace, ...]:
        """Return the kind of each norm, and the convolutions before and behind it."""
        kinds = self.spec.kinds if len(self.layers) > 1 else ("static",)
        return places_in_a_row(kinds, len(self.layers), FRAMES)

    @nn.compact
    def __call__(
        self, carry: Carry, x: Float[Array, "n t h w c"], train: bool
    ) -> tuple[Carry, Float[Array, "n t2 h2 w2 c2"]]:
        """Map ``[N, T, H, W, C]`` to ``[N, T, H', W', C']``; the carry has an entry for each norm."""
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        places, relayed = self.norm_places(), []
        for i, (features, kernel_size, strides) in enumerate(self.layers):
            x = conv(features, kernel_size, strides, use_bias=True, name=f"conv{i + 1}", **dtypes)(x)
            norm = self.spec.norm(places[i].kind, self.cells[i], name=f"norm{i + 1}", param_dtype=self.param_dtype)
            state, x = norm(carry[i], x, use_running_average=not train)
            relayed.append(state)
            x = nn.relu(x)
        return tuple(relayed), x


class InceptionBlock(nn.Module):
    """Branches side by side.

    Attributes:
      branches: name and convolutions of each branch; ``pool`` pools before them, or alone where it has none.
      pool: ``avg`` or ``max``.
      spec: the norms, see :class:`Branch`.
      cells: the stage's shared relay cells, for each branch one or None a norm.
      interlace_fraction: share of channels exchanged with each neighbouring frame at the input of the branches that
        have a first and a second norm; 0 for none.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
    """

    branches: tuple[tuple[str, Layers], ...]
    pool: str
    spec: DNRSpec
    cells: tuple[tuple[Any, ...], ...]
    interlace_fraction: float = 0.0
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, carry: Carry, x: Float[Array, "n t h w c"], train: bool
    ) -> tuple[Carry, Float[Array, "n t2 h2 w2 c2"]]:
        """Apply the block.

        Args:
          carry: states of the relay of each branch, one a norm; a branch that is not there starts its chains.
          x: ``[N, T, H, W, C]``.
          train: whether norms use, and update with, the statistics of the batch.

        Returns:
          The new carry and ``[N, T, H', W', C']``.

        Raises:
          ValueError: where a block that halves the frames' size meets an odd one.
        """
        projects = any(name == "pool" for name, _ in self.branches)
        if not projects and (x.shape[2] % 2 or x.shape[3] % 2):
            raise ValueError(
                f"features of {x.shape[2]} x {x.shape[3]} pixels cannot be halved: the sides of the frames must be "
                "multiples of 32 (at most 1 less or 6 more), or of 8 with the small stem (at most 1 more)"
            )
        pooled = same_size_pool(self.pool, x) if projects else max_pool_ceil(x)
        exchanged = interlace(x, self.interlace_fraction)
        carry, results = dict(carry), []
        for (name, layers), cells in zip(self.branches, self.cells, strict=True):
            source = exchanged if len(layers) > 1 else pooled if name == "pool" else x
            branch = Branch(layers, self.spec, cells, self.dtype, self.param_dtype, name=f"branch_{name}")
            carry[name], y = branch(carry.get(name, (None,) * len(layers)), source, train)
            results.append(y)
        return carry, jnp.concatenate(results if projects else [*results, pooled], axis=-1)


class InceptionStage(nn.Module):
    """Blocks on features of one size, which the last may halve. Owns the cross-layer cells that its blocks share.

    A chain of the relay belongs to a branch: it runs from a norm of the branch in one block to the same norm in the
    next. Where they have the same width, they share a cell; where the width changes, another cell goes on from the
    state of the channels that both have (:class:`dnr_jax.dnr.CrossLayerDNR`).

    Attributes:
      sizes: of the blocks.
      width: channels of the network's stem, which scales the blocks' widths.
      spec: the norms.
      interlace_fraction: see :class:`InceptionBlock`.
      interlace_every: interlace in the first of every so many blocks.
      remat_blocks: compute the inside of each block again in the backward pass.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
    """

    sizes: tuple[InceptionBlockSize, ...]
    width: int
    spec: DNRSpec
    interlace_fraction: float = 0.0
    interlace_every: int = 1
    remat_blocks: bool = False
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n t h w c"], train: bool) -> Float[Array, "n t2 h2 w2 c2"]:
        """Map ``[N, T, H, W, C]`` to ``[N, T, H', W', C']``."""
        shared: dict[str, nn.Module | None] = {}

        def cell(branch: str, position: int, features: int) -> nn.Module | None:
            name = f"relay{position + 1}_{branch}_{features}"
            if name not in shared:
                shared[name] = self.spec.relay_cell(position, features, self.param_dtype, name=name)
            return shared[name]

        carry: dict[str, Carry] = {}
        for i, size in enumerate(self.sizes):
            branches = size.branches(self.width)
            block = recomputed(InceptionBlock, self.remat_blocks)(
                branches=branches,
                pool=size.pool,
                spec=self.spec,
                cells=tuple(
                    tuple(cell(name, j, features) for j, (features, _, _) in enumerate(layers))
                    if len(layers) > 1
                    else (None,)
                    for name, layers in branches
                ),
                interlace_fraction=0.0 if i % self.interlace_every else self.interlace_fraction,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"block{i}",
            )
            carry, x = block(carry, x, train)
        return x


class BNInceptionBackbone(nn.Module):
    """BNInception without its classifier, applied to each frame.

    Attributes:
      spec: the norms of the blocks, see :class:`Branch`; those of the stem are static.
      width: channels of the first convolution; the others' are scaled with it.
      stem: ``imagenet`` (7x7 with stride 2, and two poolings) or ``small`` (3x3, and one), for frames of 32 pixels.
      interlace_fraction: see :class:`InceptionBlock`.
      interlace_stages: stages whose blocks interlace channels: ``inception3``, 4 and 5.
      interlace_every: interlace in the first of every so many blocks of a stage.
      remat: compute the inside of each ``block`` or ``stage`` again in the backward pass, or of ``none``.
      dtype: dtype of activations.
      param_dtype: dtype of parameters and statistics.
    """

    spec: DNRSpec = DNRSpec()
    width: int = STEM_WIDTH
    stem: str = "imagenet"
    interlace_fraction: float = 0.0
    interlace_stages: tuple[bool, ...] = (True, True, True)
    interlace_every: int = 1
    remat: str = "none"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n t h w c"], *, train: bool) -> Float[Array, "n t2 h2 w2 c2"]:
        """Extract features.

        Args:
          x: frames ``[N, T, H, W, 3]``, normalised; ``H`` and ``W`` are multiples of 32, or at most 1 less or 6 more;
            with the small stem of 8, or 1 more.
          train: whether norms use, and update with, the statistics of the batch.

        Returns:
          ``[N, T, H / 32, W / 32, 1024]``, rounded, in ``dtype``, at the full width.

        Raises:
          ValueError: for frames of another size.
        """
        small = self.stem == "small"
        x = self._convolve(x, 1, self.width, 3 if small else 7, 1 if small else 2, train)
        x = x if small else max_pool_ceil(x)
        self.sow("intermediates", "pool1", x)
        x = self._convolve(x, 2, self.width, 1, 1, train)
        x = self._convolve(x, 3, 3 * self.width, 3, 1, train)
        x = max_pool_ceil(x)
        self.sow("intermediates", "pool2", x)
        for i, (number, sizes) in enumerate(STAGES.items()):
            stage = recomputed(InceptionStage, self.remat == "stage")(
                sizes,
                self.width,
                self.spec,
                interlace_fraction=self.interlace_fraction if self.interlace_stages[i] else 0.0,
                interlace_every=self.interlace_every,
                remat_blocks=self.remat == "block",
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"inception{number}",
            )
            x = stage(x, train)
        return x

    def _convolve(
        self, x: Float[Array, "n t h w c"], i: int, features: int, size: int, strides: int, train: bool
    ) -> Float[Array, "n t2 h2 w2 c2"]:
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = conv(features, size, strides, use_bias=True, name=f"conv{i}", **dtypes)(x)
        return nn.relu(static_norm(self.spec, x, train, f"norm{i}", self.param_dtype))


_CADENE_CONVOLUTIONS = {
    "backbone/conv1": "conv1_7x7_s2",
    "backbone/conv2": "conv2_3x3_reduce",
    "backbone/conv3": "conv2_3x3",
    "branch_1x1/conv1": "1x1",
    "branch_3x3/conv1": "3x3_reduce",
    "branch_3x3/conv2": "3x3",
    "branch_double_3x3/conv1": "double_3x3_reduce",
    "branch_double_3x3/conv2": "double_3x3_1",
    "branch_double_3x3/conv3": "double_3x3_2",
    "branch_pool/conv1": "pool_proj",
}
CADENE = Naming(
    rules=(
        (r"^head/fc", "last_linear"),
        *((rf"\b{ours}\b", theirs) for ours, theirs in _CADENE_CONVOLUTIONS.items()),
        *((rf"\b{ours.replace('conv', 'norm')}\b", f"{theirs}_bn") for ours, theirs in _CADENE_CONVOLUTIONS.items()),
        (r"^backbone/", ""),
        *((rf"^inception(\d)/block{i}/", rf"inception_\1{letter}_") for i, letter in enumerate("abcde")),
    )
)
"""Cadene's port of the Caffe network BNInception (``pretrainedmodels``), whose names are the Caffe layers'."""


@dataclasses.dataclass
class InceptionInterlace(Interlace):
    """Channels shifted along time at the input of the branches that have a first and a second norm."""

    stages: tuple[bool, ...] = (True, True, True)
    """Stages whose blocks interlace channels: 3, 4 and 5 in the paper's names."""


@register
@dataclasses.dataclass
class BNInception(Network):
    """TSN with BNInception."""

    namings = {"cadene": CADENE}

    dropout: Share = 0.4
    """Share of the features in front of the classifier that are dropped in training."""
    width: Annotated[int, Ge(1)] = STEM_WIDTH
    """Channels of the first convolution (64 in the paper); the others' are scaled with it."""
    stem: Stem = "imagenet"
    """``imagenet``: 7x7 stride 2 and two poolings; ``small``: 3x3 and one, for frames of about 32 pixels."""
    interlace: InceptionInterlace | None = dataclasses.field(default_factory=InceptionInterlace)
    """Shift channels along time at the input of the branches; None: do not."""

    @classmethod
    def zoo(cls) -> dict[str, ZooNetwork]:
        """Return the paper's network."""
        return {"tsn_bninception": ZooNetwork(cls())}

    def side_expected(self, side: int) -> str:
        """Return the sides of frames that the blocks can halve."""
        # Convolution and poolings of the stem round up and down before the blocks halve what has to be even.
        multiple, less, more = (8, 0, 1) if self.stem == "small" else (32, 1, 6)
        if side + less >= multiple and (side + less) % multiple <= less + more:
            return ""
        return f"a multiple of {multiple}, or at most {less} less or {more} more, which BNInception can halve"

    def arms(self) -> dict[str, Network]:
        """Return the network with and without DNR, with and without interlaced channels."""
        return interlacing_arms(self)

    def build(self) -> Recognizer:
        """Return the recogniser."""
        interlacing = self.interlace.fields() if self.interlace else {}
        backbone = BNInceptionBackbone(
            self.norm.spec(), self.width, self.stem, remat=self.remat, **interlacing, **dtypes(self)
        )
        return Recognizer(backbone, frame_head(self))
