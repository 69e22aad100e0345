"""What every network of an experiment has, and what a network answers to the parts around it."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Lt

from dnr_jax.config.parts import Part
from dnr_jax.dnr.spec import DNRSpec

Depth = Literal[18, 34, 50, 101, 152]
"""The ResNets there are."""
Share = Annotated[float, Ge(0), Lt(1)]


@dataclasses.dataclass(frozen=True)
class ZooNetwork:
    """A network, and the clips that it was made for.

    Attributes:
      config: with DNR; :func:`dnr_jax.config.with_variant` sets other norms. Copy it before changing it.
      num_frames: of a clip.
    """

    config: "Network"
    num_frames: int = 8

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Shape of a clip of 224 x 224 pixels: ``(T, H, W, 3)``."""
        return self.num_frames, 224, 224, 3


@dataclasses.dataclass
class Network(Part, abc.ABC):
    """A recogniser: its settings, its checks and its construction. Networks derive from it and are registered."""

    room = "dnr_jax.models"
    namings: ClassVar[Mapping[str, Any]] = {}
    """The code bases that its weights may come from, as :class:`dnr_jax.models.naming.Naming` by name."""

    num_classes: Annotated[int, Ge(0)] = 400
    """0: as many as the data has."""
    dropout: Share = 0.5
    """Share of the features in front of the classifier that are dropped in training."""
    remat: Literal["none", "block", "stage"] = "none"
    """Compute the inside of each ``block`` or ``stage`` again in the backward pass, to save memory; or ``none``."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Activations: ``float32`` or ``bfloat16``. Parameters, statistics and relay states stay in float32."""
    norm: DNRSpec = dataclasses.field(default_factory=DNRSpec)
    """Which normalisation stands where."""

    @abc.abstractmethod
    def build(self) -> Any:
        """Return the Linen module: ``apply(variables, video, train=False)`` maps normalised frames to scores.

        Frames are ``[N, T, H, W, 3]``, scores ``[N, num_classes]``.

        Raises:
          ValueError: for a norm setting out of range.
        """

    @classmethod
    def zoo(cls) -> dict[str, ZooNetwork]:
        """Return the published forms of the network by name, for 400 classes."""
        return {}

    def frames_expected(self, num_frames: int) -> str:
        """Return what the network expects of clips that cannot have ``num_frames``; empty where they can."""
        return ""

    def side_expected(self, side: int) -> str:
        """Return what the network expects of frames whose sides cannot have so many pixels; empty where they can."""
        return ""

    def relayed_frames(self, num_frames: int) -> int:
        """Return the frames over which the relay distance is counted, of a clip of ``num_frames``."""
        return num_frames

    def unscanned(self) -> "Network":
        """Return the same network with its blocks one by one, as other code bases name them."""
        return self

    def arms(self) -> dict[str, "Network"]:
        """Return this network, as ``dnr``, and those that tell what is DNR's contribution; ``bn`` is the baseline."""
        return {"dnr": self, "bn": self.with_static_norms()}

    def with_static_norms(self) -> Self:
        """Return the same network with batch normalisation, or what is the base of its norms, in place of DNR."""
        return dataclasses.replace(self, norm=self.norm.counterpart())

    def problems(self) -> Iterator[str]:
        """Refuse a norm at a position that no block has."""
        if self.norm.norm3 != "static" and not self.has_third_norm():
            yield f"norm.norm3: is {self.norm.norm3!r}; expected 'static', because its blocks have two norms"

    def has_third_norm(self) -> bool:
        """Return whether blocks have a third norm."""
        return True
