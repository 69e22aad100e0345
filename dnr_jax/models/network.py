"""What the settings of several networks have in common: those of ResNets, and the interlacing of channels."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from annotated_types import Ge, Gt, Le

from dnr_jax.config import Depth, Network
from dnr_jax.dnr.fields import refuse
from dnr_jax.dnr.functional import statistics_dtype
from dnr_jax.models.heads import TSNHead
from dnr_jax.models.residual import BottleneckBlock
from dnr_jax.models.resnet import ARCHITECTURES, ResNet

Stem = Literal["imagenet", "small"]
DEEP: tuple[Literal[50], Literal[101]] = (50, 101)
"""The depths of the peers' published networks."""


def create_model(config: Network) -> nn.Module:
    """Build the recogniser that ``config`` describes.

    Returns:
      A Linen module: ``model.apply(variables, video, train=False)`` maps normalised frames ``[N, T, H, W, 3]`` to
      scores ``[N, num_classes]``.

    Raises:
      ValueError: for fields out of range or that exclude one another, with what would be right.
      TypeError: for a dtype that is not floating point.
    """
    # Experiments are in float32 or bfloat16; whoever enables float64 in JAX may build networks in it.
    refuse(dataclasses.replace(config, dtype="float32"))
    return config.build()


def dtypes(config: Network) -> dict[str, Any]:
    """Return the dtypes of a network's modules: of activations, and of parameters and statistics."""
    dtype = jnp.dtype(config.dtype)
    return {"dtype": dtype, "param_dtype": statistics_dtype(dtype)}


def frame_head(config: Network, **fields: Any) -> TSNHead:
    """Return the head of networks on frames."""
    return TSNHead(config.num_classes, config.dropout, param_dtype=dtypes(config)["param_dtype"], **fields)


def score_head(config: Network) -> TSNHead:
    """Return MMAction2's ``TSMHead``, which scores frames one by one."""
    return frame_head(config, frame_scores=True, init_std=0.001)


@dataclasses.dataclass
class Interlace:
    """Channels shifted along time at the input of each residual branch (Section 3.3 of the paper)."""

    fraction: Annotated[float, Gt(0), Le(0.5)] = 0.125
    """Share of the channels taken from the next frame, and as many from the one before (TSM's 1 / shift_div)."""
    stages: tuple[bool, ...] = (True, True, True, True)
    """Stages whose blocks interlace channels."""
    every: Annotated[int, Ge(1)] = 1
    """Interlace in the first of every so many blocks of a stage."""

    def problems(self) -> Iterator[str]:
        """Refuse interlacing that stands nowhere, and a wrong number of stages."""
        count = len(type(self)().stages)
        if len(self.stages) != count:
            yield f"stages: is {self.stages}; expected {count} entries, one a stage"
        elif not any(self.stages):
            yield f"stages: is {self.stages}; expected a stage that interlaces, or None for the whole section"

    def fields(self) -> dict[str, Any]:
        """Return the fields of a backbone that interlaces channels so."""
        return {
            "interlace_fraction": self.fraction,
            "interlace_stages": self.stages,
            "interlace_every": self.every,
        }


@dataclasses.dataclass
class ResNetNetwork(Network):
    """A network whose backbone is a ResNet."""

    depth: Depth = 50
    """ResNet depth: 18, 34, 50, 101 or 152."""
    width: Annotated[int, Ge(1)] = 64
    """Channels of the stem (64 in the papers); narrower networks for small experiments."""
    stem: Stem = "imagenet"
    """``imagenet``: 7x7 stride 2 and max pooling; ``small``: 3x3 stride 1, for frames of about 32 pixels."""
    scan_blocks: bool = False
    """Run the identical blocks of a stage under one scan, which compiles very deep networks (152 layers) sooner."""

    def unscanned(self) -> Network:
        """Return the same network with its blocks one by one."""
        return dataclasses.replace(self, scan_blocks=False)

    def has_third_norm(self) -> bool:
        """Return whether blocks are bottlenecks."""
        return issubclass(ARCHITECTURES[self.depth].block, BottleneckBlock)

    def backbone_fields(self) -> dict[str, Any]:
        """Return the fields that every ResNet here has."""
        return {
            "depth": self.depth,
            "spec": self.norm.spec(),
            "width": self.width,
            "stem": self.stem,
            "scan_blocks": self.scan_blocks,
            "remat": self.remat,
            **dtypes(self),
        }


@dataclasses.dataclass
class FrameNetwork(ResNetNetwork):
    """A network whose backbone is a ResNet or ResNeXt on frames."""

    cardinality: Annotated[int, Ge(1)] = 1
    """Groups of channels that the 3x3 convolutions of bottlenecks keep apart (ResNeXt: 32)."""
    base_width: Annotated[int, Ge(1)] = 64
    """Channels of such a group, in a first stage of 64 (ResNeXt-101 32x4d: 4)."""

    def problems(self) -> Iterator[str]:
        """Refuse groups of channels in blocks that have no bottleneck, and such without a channel."""
        yield from super().problems()
        for name, plain in (("cardinality", 1), ("base_width", 64)):
            if getattr(self, name) != plain and not self.has_third_norm():
                yield f"{name}: is {getattr(self, name)}; expected {plain} below 50 layers, without bottlenecks"
        if self.width * self.base_width < 64:
            least = -(-64 // self.width)
            yield f"base_width: is {self.base_width}; expected at least {least} with a width of {self.width}"

    def resnet(self, **fields: Any) -> ResNet:
        """Return the backbone."""
        return ResNet(**self.backbone_fields(), cardinality=self.cardinality, base_width=self.base_width, **fields)


def interlacing_arms(network: Any) -> dict[str, Network]:
    """Return the four arms that tell the contribution of DNR from that of the interlacing; see ``Network.arms``."""
    static = network.with_static_norms()
    return {
        "dnr": network,
        "bn": dataclasses.replace(static, interlace=None),
        "bn_interlace": static,
        "dnr_no_interlace": dataclasses.replace(network, interlace=None),
    }


def scan_problems(scan_blocks: bool, name: str, every: int) -> Iterator[str]:
    """Refuse blocks that interlace now and then under a scan, where all are alike."""
    if scan_blocks and every > 1:
        yield f"{name}.every: must be 1 with scan_blocks, under which the blocks of a stage are alike"
