"""Bases whose statistics are a clip's own: instance, group and layer normalisation."""

import abc
import dataclasses
import math
from typing import Annotated, Literal

from annotated_types import Ge

from dnr_jax.dnr import functional
from dnr_jax.dnr.aliases import Features
from dnr_jax.dnr.bases.base import Arrays, Base, Observation
from dnr_jax.dnr.fields import Needs
from dnr_jax.dnr.functional import Affine
from dnr_jax.dnr.parts import register


@dataclasses.dataclass(unsafe_hash=True, kw_only=True)
class ClipBase(Base):
    """Statistics of groups of channels within each clip, the same in training and evaluation."""

    @abc.abstractmethod
    def groups_of(self, channels: int) -> int:
        """Return how many groups of consecutive channels have statistics of their own; they divide ``channels``."""

    def standardize(self, seen: Observation, learned: Arrays, running: Arrays, *, train: bool) -> tuple[Affine, Arrays]:
        """Standardise with the clip's own statistics."""
        groups = self.groups_of(seen.moments.mean.shape[-1])
        pooled = functional.instance_moments(seen.moments, seen.runs, groups)
        return functional.standardization(pooled, self.epsilon), running


@dataclasses.dataclass(unsafe_hash=True, kw_only=True)
class _PositionBase(ClipBase):
    """A base that can take the statistics of single positions."""

    statistics: Literal["group", "clip", "frame", "token"] = "group"  # type: ignore[assignment]
    """Which frames share a mean and a variance: those of a frame ``group`` (of cross-temporal DNR; elsewhere the whole
    clip) or of the ``clip``, or each ``frame`` has its own; ``token``: each position of each frame its own."""

    @property
    def by_position(self) -> bool:
        """Whether each position of a frame has statistics of its own."""
        return self.statistics == "token"

    def standardize_positions(self, x: Features) -> Features:
        """Standardise each position of features ``[N, T, *S, C]`` over its groups of channels."""
        return functional.standardize_positions(x, self.groups_of(x.shape[-1]), self.epsilon)


@register
@dataclasses.dataclass(unsafe_hash=True, kw_only=True)
class GroupNorm(_PositionBase):
    """Group normalisation (Wu and He 2018): a clip's groups of channels."""

    alias = "gn"

    groups: Annotated[int, Ge(1), Needs("channels_per_group", 0)] = 32
    """Groups of channels, 32 as in the paper; where they do not divide the channels, their greatest common divisor is
    taken."""
    channels_per_group: Annotated[int, Ge(0)] = 0
    """Channels in a group instead; 0 leaves it to ``groups``."""

    def groups_of(self, channels: int) -> int:
        """Return the number of groups, as near to the wanted one as divides the channels."""
        wanted = channels // self.channels_per_group if self.channels_per_group else self.groups
        return math.gcd(channels, max(wanted, 1))


@register
@dataclasses.dataclass(unsafe_hash=True, kw_only=True)
class InstanceNorm(ClipBase):
    """Instance normalisation (Ulyanov et al. 2016): each channel of a clip."""

    alias = "in"

    def groups_of(self, channels: int) -> int:
        """Return a group for each channel."""
        return channels


@register
@dataclasses.dataclass(unsafe_hash=True, kw_only=True)
class LayerNorm(_PositionBase):
    """Layer normalisation (Ba et al. 2016): all channels and positions of a clip.

    That is not what transformers call so: theirs, over the channels of each position, has ``statistics="token"``.
    """

    alias = "ln"

    def groups_of(self, channels: int) -> int:
        """Return one group of all channels."""
        del channels
        return 1
