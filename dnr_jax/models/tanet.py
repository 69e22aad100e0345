"""TANet's temporal adaptive module (Liu et al., ICCV 2021), as MMAction2 builds it."""

import dataclasses
import functools
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from annotated_types import Ge
from jaxtyping import Array, Float

from dnr_jax.config import ZooNetwork, register
from dnr_jax.dnr import BatchNorm, DNRSpec
from dnr_jax.dnr.aliases import Dtype
from dnr_jax.dnr.functional import statistics_dtype
from dnr_jax.dnr.parts import exchanged, with_fields
from dnr_jax.models.layers import kaiming_normal
from dnr_jax.models.naming import MMACTION2, Naming
from dnr_jax.models.network import DEEP, FrameNetwork, dtypes, score_head
from dnr_jax.models.recognizer import Recognizer

_TAM = (
    ("global_dense1", "G.0"),
    ("global_norm", "G.1"),
    ("global_dense2", "G.3"),
    ("local_conv1", "L.0"),
    ("local_norm", "L.1"),
    ("local_conv2", "L.3"),
)
MMACTION2_TANET = Naming(
    (
        (r"\bblock(\d+)/temporal", r"\1/tam"),
        (r"\bblock(\d+)/", r"\1/block/"),
        *MMACTION2.rules,
        *((rf"\b{ours}$", theirs) for ours, theirs in _TAM),
    )
)
"""MMAction2's ``TANet``, whose residual blocks stand beside their temporal modules in a ``TABlock``."""


class TemporalAdaptiveModule(nn.Module):
    """Weights every frame's channels, then filters each channel over time with a kernel of the clip's own (TAM).

    Both come from the frames' spatial means. The local branch, two convolutions over time, gives a weight in (0, 1) to
    each frame and channel; the global branch, two linear maps over the frames of a channel, a kernel whose taps sum
    to 1. Its weights fix the number of frames.

    The norms inside are batch normalisation whatever ``spec`` has as its base, as in the reference: their features have
    no spatial extent and, in the global branch, frames for channels, which leaves nothing to normalise within a frame.

    Attributes:
      spec: momentum, epsilon and the clips that share statistics.
      expansion: width of the global branch for each frame; the paper's alpha.
      reduction: channels of the module for each one of the local branch; the paper's beta.
      kernel_size: of the adaptive kernel and of the local branch, in frames; odd.
      dtype: dtype of activations; the branches run in float32 or wider.
      param_dtype: dtype of parameters and statistics.
    """

    spec: DNRSpec = DNRSpec()
    expansion: int = 2
    reduction: int = 4
    kernel_size: int = 3
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n t h w c"], train: bool) -> Float[Array, "n t h w c"]:
        """Map ``[N, T, H, W, C]`` to the same shape; ``train`` is for the norms.

        Raises:
          ValueError: for clips of another length than that which the weights are for.
        """
        self._check_frames(x.shape[1])
        means = jnp.mean(x.astype(statistics_dtype(x.dtype)), axis=(2, 3))
        weights = self._local(means, train).astype(self.dtype)
        kernel = self._global(jnp.swapaxes(means, 1, 2), train).astype(self.dtype)
        weighted = x * weights[:, :, None, None]
        frames, half = x.shape[1], self.kernel_size // 2
        padded = jnp.pad(weighted, ((0, 0), (half, half), (0, 0), (0, 0), (0, 0)))
        taps = (padded[:, i : i + frames] * kernel[:, None, None, None, :, i] for i in range(self.kernel_size))
        return sum(taps, start=jnp.zeros_like(weighted))

    @nn.nowrap
    def _check_frames(self, frames: int) -> None:
        if not self.has_variable("params", "global_dense1"):
            return
        kernel: Any = self.get_variable("params", "global_dense1")["kernel"]
        weights = kernel.shape[0]
        if frames != weights:
            raise ValueError(
                f"{'/'.join(self.path) or type(self).__name__}: its weights are for clips of one length; "
                f"expected {weights} frames, got {frames}"
            )

    @nn.nowrap
    def _local(self, means: Float[Array, "n t c"], train: bool) -> Float[Array, "n t c"]:
        """Map means ``[N, T, C]`` to weights ``[N, T, C]``."""
        channels = means.shape[-1]
        y = self._conv(channels // self.reduction, self.kernel_size, "local_conv1")(means)
        y = nn.relu(self._norm(y[:, :, None], train, "local_norm")[:, :, 0])
        return nn.sigmoid(self._conv(channels, 1, "local_conv2")(y))

    @nn.nowrap
    def _global(self, means: Float[Array, "n c t"], train: bool) -> Float[Array, "n c {self.kernel_size}"]:
        """Map means ``[N, C, T]`` to kernels ``[N, C, kernel_size]``."""
        y = self._dense(self.expansion * means.shape[-1], "global_dense1")(means)
        y = nn.relu(self._norm(y[:, None], train, "global_norm")[:, 0])
        return nn.softmax(self._dense(self.kernel_size, "global_dense2")(y))

    @nn.nowrap
    def _norm(self, x: Float[Array, "n t s c"], train: bool, name: str) -> Float[Array, "n t s c"]:
        """Normalise ``[N, T, S, C]`` over all axes but the last."""
        base = with_fields(exchanged(self.spec.base, BatchNorm), {"statistics": "clip"})
        spec = DNRSpec.static(base=base)
        return spec.norm("static", name=name, param_dtype=self.param_dtype)(None, x, use_running_average=not train)[1]

    @nn.nowrap
    def _conv(self, features: int, kernel_size: int, name: str) -> nn.Conv:
        return nn.Conv(
            features,
            (kernel_size,),
            padding=kernel_size // 2,
            use_bias=False,
            kernel_init=kaiming_normal,
            param_dtype=self.param_dtype,
            name=name,
        )

    @nn.nowrap
    def _dense(self, features: int, name: str) -> nn.Dense:
        # MMAction2's init_std: a softmax of small numbers, so the kernels start as a mean over the frames around.
        init = nn.initializers.normal(0.001)
        return nn.Dense(features, use_bias=False, kernel_init=init, param_dtype=self.param_dtype, name=name)


@register
@dataclasses.dataclass
class TANet(FrameNetwork):
    """TANet: a ResNet of bottlenecks with a temporal adaptive module in each."""

    namings = {"mmaction2_tanet": MMACTION2_TANET}

    depth: Literal[50, 101, 152] = 50
    """ResNet depth: 50, 101 or 152, whose blocks are bottlenecks."""
    width: Annotated[int, Ge(4)] = 64
    """Channels of the stem (64 in the paper); the modules' local branches have a quarter of a block's."""

    @classmethod
    def zoo(cls) -> dict[str, ZooNetwork]:
        """Return the reference's networks."""
        return {f"tanet_r{depth}": ZooNetwork(cls(depth=depth)) for depth in DEEP}

    def build(self) -> Recognizer:
        """Return the recogniser."""
        module = functools.partial(TemporalAdaptiveModule, self.norm.spec(), **dtypes(self))
        return Recognizer(self.resnet(temporal=module), score_head(self))
