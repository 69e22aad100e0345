"""TSN (Wang et al., ECCV 2016): a ResNet or ResNeXt on each frame, whose features are averaged over the clip."""

import dataclasses
from collections.abc import Iterator
from typing import get_args

from dnr_jax.config import Depth, Network, ZooNetwork, register
from dnr_jax.config.network import Share
from dnr_jax.models.naming import AUTHORS, MMACTION2, MMACTION2_TORCHVISION, TORCHVISION
from dnr_jax.models.network import DEEP, FrameNetwork, Interlace, frame_head, interlacing_arms, scan_problems
from dnr_jax.models.recognizer import Recognizer


@register
@dataclasses.dataclass
class TSN(FrameNetwork):
    """The paper's network: TSN with DNR and interlaced channels."""

    namings = {
        "torchvision": TORCHVISION,
        "mmaction2": MMACTION2,
        "mmaction2_torchvision": MMACTION2_TORCHVISION,
        "authors": AUTHORS,
    }

    dropout: Share = 0.4
    """Share of the features in front of the classifier that are dropped in training."""
    interlace: Interlace | None = dataclasses.field(default_factory=Interlace)
    """Shift channels along time at the input of each residual branch; None: do not."""

    @classmethod
    def zoo(cls) -> dict[str, ZooNetwork]:
        """Return the networks of the paper's Table 2 and the other ResNets."""
        resnets = {f"tsn_r{depth}": ZooNetwork(cls(depth=depth)) for depth in get_args(Depth)}
        return resnets | {
            f"tsn_resnext{depth}_32x4d": ZooNetwork(cls(depth=depth, cardinality=32, base_width=4)) for depth in DEEP
        }

    def problems(self) -> Iterator[str]:
        """Refuse blocks that interlace now and then under a scan."""
        yield from super().problems()
        yield from scan_problems(self.scan_blocks, "interlace", self.interlace.every if self.interlace else 1)

    def arms(self) -> dict[str, Network]:
        """Return the network with and without DNR, with and without interlaced channels."""
        return interlacing_arms(self)

    def build(self) -> Recognizer:
        """Return the recogniser."""
        return Recognizer(self.resnet(**self.interlace.fields() if self.interlace else {}), frame_head(self))
