"""The choice of a normalisation for every position of a residual block."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from dnr_jax.dnr.norm import BatchNorm, CrossLayerDNR, CrossTemporalDNR
from dnr_jax.dnr.relay import RelayCell

KINDS = ("static", "cl", "ct")
_CHOICES = {
    "norm1": KINDS,
    "norm2": KINDS,
    "norm3": KINDS,
    "granularity": ("group", "frame"),
    "statistics": ("group", "clip"),
}


@dataclasses.dataclass(frozen=True)
class DNRSpec:
    """What stands at the first, second and third normalisation of a residual block, and how it is set.

    The defaults are the paper's best setting: cross-layer DNR at the first norm, cross-temporal at the second with a
    relay distance of 4 frames, ``r = 4``, ``d = 1`` (Table 1). Basic blocks have no third norm.

    Attributes:
      norm1: ``static`` (a learned scale and shift), ``cl`` or ``ct``.
      norm2: likewise.
      norm3: likewise.
      relay_distance: frames in a group of cross-temporal DNR.
      num_groups: number of groups instead; 0 leaves it to ``relay_distance``.
      granularity: ``group`` or ``frame``; see :class:`CrossTemporalDNR`.
      reduction: bottleneck reduction ``r`` of every cell.
      depth: layers ``d`` of every cell.
      statistics: batch statistics of cross-temporal DNR per ``group`` or per ``clip``.
      clips_per_statistics: clips of the batch that share statistics, in every norm; 0 means all.
      momentum: share of the running statistics kept at each update.
      epsilon: added to variances.

    Raises:
      ValueError: for a value outside its range, naming the field.
    """

    norm1: str = "cl"
    norm2: str = "ct"
    norm3: str = "static"
    relay_distance: int = 4
    num_groups: int = 0
    granularity: str = "group"
    reduction: int = 4
    depth: int = 1
    statistics: str = "group"
    clips_per_statistics: int = 0
    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            if value not in choices:
                raise ValueError(f"{field} must be one of {', '.join(choices)}; got {value!r}")
        for field, least in (("relay_distance", 1), ("num_groups", 0), ("reduction", 1), ("depth", 1)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}; got {getattr(self, field)}")
        if self.clips_per_statistics < 0:
            raise ValueError(f"clips_per_statistics must not be negative; got {self.clips_per_statistics}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1); got {self.momentum}")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be positive; got {self.epsilon}")

    @classmethod
    def static(cls, **fields: Any) -> "DNRSpec":
        """Return the baseline: batch normalisation everywhere."""
        return cls(norm1="static", norm2="static", norm3="static", **fields)

    @classmethod
    def authors(cls, **fields: Any) -> "DNRSpec":
        """Return the setting of the authors' released code: four groups, whatever the clip's length."""
        return cls(**{"num_groups": 4} | fields)

    @property
    def kinds(self) -> tuple[str, str, str]:
        """The kinds of the three positions."""
        return self.norm1, self.norm2, self.norm3

    def relay_cell(self, position: int, features: int, param_dtype: Any = jnp.float32) -> RelayCell | None:
        """Return the cell that a stage shares among its blocks' norms at ``position`` (0 to 2), or None.

        The cell is named ``relay1`` to ``relay3`` in the module that calls this.
        """
        if self.kinds[position] != "cl":
            return None
        return RelayCell(features, self.reduction, self.depth, param_dtype, name=f"relay{position + 1}")

    def norm(
        self, kind: str, cell: nn.Module | None = None, *, name: str | None = None, param_dtype: Any = jnp.float32
    ) -> BatchNorm | CrossTemporalDNR | CrossLayerDNR:
        """Return a layer of ``kind``; ``cell`` is the stage's shared cell, used by cross-layer DNR alone."""
        shared: dict[str, Any] = {
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "clips_per_statistics": self.clips_per_statistics,
            "param_dtype": param_dtype,
            "name": name,
        }
        if kind == "cl":
            return CrossLayerDNR(cell=cell, **shared)
        if kind == "ct":
            return CrossTemporalDNR(
                relay_distance=self.relay_distance,
                num_groups=self.num_groups,
                granularity=self.granularity,
                statistics=self.statistics,
                reduction=self.reduction,
                depth=self.depth,
                **shared,
            )
        return BatchNorm(**shared)
