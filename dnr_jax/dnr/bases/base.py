"""What every base of a norm is: its settings, the arrays that it keeps, and the standardisation that it computes."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import jax.numpy as jnp
from annotated_types import Gt
from jaxtyping import Array, Num

from dnr_jax.dnr.aliases import Dtype, Features
from dnr_jax.dnr.fields import refuse
from dnr_jax.dnr.functional import Affine, Moments
from dnr_jax.dnr.parts import Part, registered

Arrays = Mapping[str, Num[Array, "..."]]
"""Arrays that a base keeps, by name."""
Epsilon = Annotated[float, Gt(0)]


class Variable(NamedTuple):
    """An array that a base keeps from step to step.

    Attributes:
      shape: of the array.
      start: value of all its entries at the start.
      dtype: None: that of the layer's parameters, or for a running statistic float32 where that is wider.
    """

    shape: tuple[int, ...]
    start: float
    dtype: Dtype | None = None

    def create(self, dtype: Dtype) -> Num[Array, "..."]:
        """Return the array at the start, in ``dtype`` unless it has one of its own."""
        return jnp.full(self.shape, self.start, self.dtype or dtype)


class Observation(NamedTuple):
    """What a base learns of features ``[N, T, *S, C]``.

    Attributes:
      moments: those of the frames, ``[N, T, C]``.
      runs: runs of consecutive frames with statistics of their own, ``F``.
      positions: spatial positions of a frame.
      axis_name: axis of ``jax.pmap`` or ``jax.shard_map`` over which batch statistics are taken as well, or None.
    """

    moments: Moments
    runs: int
    positions: int
    axis_name: str | tuple[str, ...] | None = None


@dataclasses.dataclass(unsafe_hash=True, kw_only=True)
class Base(Part, abc.ABC):
    """Standardisation (Equation 1) over batch, channel groups or both. Bases derive from it and are registered.

    A base keeps no arrays itself: it says which it has (:meth:`learned`, :meth:`running`), is given them, and returns
    the running ones as they are after the batch. It thus works in layers of any kind.

    Raises:
      ValueError: for settings out of range or without effect, naming them.
    """

    room = "dnr_jax.dnr.bases"

    epsilon: Epsilon = 1e-5
    """Added to the variance."""
    statistics: Literal["group", "clip", "frame"] = "group"
    """Which frames share a mean and a variance. ``group``: those of a frame group (in cross-temporal DNR, where running
    statistics are updated once a group, in order, as in the authors' code; elsewhere the whole clip); ``clip``: those
    of the clip; ``frame``: each its own, which is what per-image normalisation of a 2D network on single frames
    computes."""

    def __post_init__(self) -> None:
        """Refuse what cannot be computed, and settings without effect."""
        refuse(self)

    @classmethod
    def choices(cls) -> list[str]:
        """Return the shortest names of all bases."""
        return [base.label() for base in registered(Base).values()]

    @property
    def clips_shared(self) -> int:
        """Consecutive clips of a batch that share statistics, which thus divide it; 0 where the batch may be any."""
        return 0

    @property
    def by_position(self) -> bool:
        """Whether each position of a frame has statistics of its own; see :meth:`standardize_positions`."""
        return False

    def runs(self, num_frames: int, num_groups: int) -> int:
        """Return the runs of frames that have statistics of their own, in a clip that a layer cuts into groups."""
        return {"group": num_groups, "clip": 1}.get(self.statistics, num_frames)

    def learned(self, channels: int) -> dict[str, Variable]:
        """Return the parameters of the base by name."""
        del channels
        return {}

    def running(self, channels: int) -> dict[str, Variable]:
        """Return the running statistics of the base by name; ``mean`` and ``var`` are those that can be estimated anew.

        :func:`dnr_jax.dnr.precise_statistics` does that.
        """
        del channels
        return {}

    @abc.abstractmethod
    def standardize(self, seen: Observation, learned: Arrays, running: Arrays, *, train: bool) -> tuple[Affine, Arrays]:
        """Return the standardisation as a multiply-add, and the running statistics after the batch.

        Args:
          seen: moments of the features, and which of them share statistics.
          learned: parameters, as :meth:`learned` names them.
          running: running statistics, as :meth:`running` names them.
          train: standardise with the batch's statistics and update the running ones, if there are any.

        Returns:
          ``1 / sigma`` and ``-mu / sigma``, each ``[N or 1, F, C]``; ``running`` where nothing is updated.

        Raises:
          ValueError: where clips, frames or channels cannot be divided as the settings say.
        """

    def standardize_positions(self, x: Features) -> Features:
        """Standardise each position of features ``[N, T, *S, C]``, for bases that are :attr:`by_position`."""
        raise NotImplementedError(f"{type(self).__name__} has no statistics of single positions")
