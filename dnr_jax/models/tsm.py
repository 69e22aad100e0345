"""TSM (Lin et al., ICCV 2019), as MMAction2 builds it: a ResNet whose residual branches see shifted channels."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated

from annotated_types import Ge

from dnr_jax.config import ZooNetwork, register
from dnr_jax.models.naming import MMACTION2, Naming
from dnr_jax.models.network import DEEP, FrameNetwork, Interlace, scan_problems, score_head
from dnr_jax.models.recognizer import Recognizer


def mmaction2_tsm(depth: int) -> Naming:
    """Return the names of MMAction2's ``ResNetTSM``, which puts the convolutions whose input it shifts into a ``net``.

    These are the first convolutions of all blocks, and from ResNet-101 on of every second block.
    """
    shifted = r"\bblock(\d*[02468])/conv1$" if depth >= 101 else r"\bblock(\d+)/conv1$"
    return Naming(((shifted, r"block\1/conv1/net"), *MMACTION2.rules))


@dataclasses.dataclass
class TemporalShift(Interlace):
    """Channels shifted along time at the input of each residual branch, which makes TSM of a ResNet."""

    every: Annotated[int, Ge(0)] = 0
    """Shift in the first of every so many blocks of a stage; 0: every block, and every second from ResNet-101 on."""


@register
@dataclasses.dataclass
class TSM(FrameNetwork):
    """TSM; the shift is what interlaces the channels of TSN."""

    namings = {"mmaction2_tsm": mmaction2_tsm(50), "mmaction2_tsm_r101": mmaction2_tsm(101)}

    shift: TemporalShift = dataclasses.field(default_factory=TemporalShift)
    """Which channels are shifted, and where."""

    @classmethod
    def zoo(cls) -> dict[str, ZooNetwork]:
        """Return the reference's networks."""
        return {f"tsm_r{depth}": ZooNetwork(cls(depth=depth)) for depth in DEEP}

    @property
    def shift_every(self) -> int:
        """In the first of how many blocks of a stage channels are shifted."""
        return self.shift.every or (2 if self.depth >= 101 else 1)

    def problems(self) -> Iterator[str]:
        """Refuse blocks that shift now and then under a scan."""
        yield from super().problems()
        yield from scan_problems(self.scan_blocks, "shift", self.shift_every)

    def build(self) -> Recognizer:
        """Return the recogniser."""
        shift = self.shift.fields() | {"interlace_every": self.shift_every}
        return Recognizer(self.resnet(**shift), score_head(self))
