"""The choice of a normalisation for every position of a residual block."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from dnr_jax.dnr.norm import (
    DIRECTIONS,
    GRANULARITIES,
    AttentiveNorm,
    CrossLayerDNR,
    CrossTemporalDNR,
    InstanceLevelMetaNorm,
    Norm,
    StaticNorm,
)
from dnr_jax.dnr.relay import INITIAL_STATES, RELAYS, RelayCell
from dnr_jax.dnr.standardize import BASES, STATISTICS

KINDS = ("static", "cl", "ct", "ilm", "an")
_CHOICES = {
    "norm1": KINDS,
    "norm2": KINDS,
    "norm3": KINDS,
    "base": BASES,
    "statistics": STATISTICS,
    "relay": tuple(RELAYS),
    "initial_state": INITIAL_STATES,
    "granularity": GRANULARITIES,
    "direction": DIRECTIONS,
    "sharing": ("stage", "block"),
}
_AT_LEAST = {
    "relay_distance": 1,
    "num_groups": 0,
    "layer_distance": 1,
    "reduction": 1,
    "depth": 1,
    "channel_groups": 1,
    "channels_per_group": 0,
    "clips_per_statistics": 0,
}


@dataclasses.dataclass(frozen=True)
class DNRSpec:
    """What stands at the first, second and third normalisation of a residual block, and how it is set.

    The defaults are the paper's best setting: cross-layer DNR at the first norm, cross-temporal at the second with a
    relay distance of 4 frames, ``r = 4``, ``d = 1`` (Table 1). Basic blocks have no third norm.

    Attributes:
      norm1: ``static`` (a learned scale and shift), ``cl``, ``ct``, or what DNR is compared with: ``ilm``
        (:class:`InstanceLevelMetaNorm`), ``an`` (:class:`AttentiveNorm`).
      norm2: likewise.
      norm3: likewise.
      relay_distance: frames in a group of cross-temporal DNR.
      num_groups: number of groups instead; 0 leaves it to ``relay_distance``.
      granularity: ``group`` or ``frame``; see :class:`CrossTemporalDNR`.
      direction: ``forward`` or ``bidirectional``; see :class:`CrossTemporalDNR`.
      layer_distance: blocks from one to the next of a cross-layer chain.
      sharing: cross-layer cells are shared by the blocks of a ``stage``, or each ``block`` has its own.
      relay: ``lstm``, ``se``, ``fc`` or ``none``; see :class:`RelayCell`.
      reduction: bottleneck reduction ``r`` of every cell.
      depth: layers ``d`` of every cell.
      initial_state: ``zeros`` or ``learned``; see :class:`RelayCell`.
      base: standardisation under every norm: ``bn``, ``gn``, ``in``, ``ln``, ``brn`` or ``sn``; see
        :class:`Standardize`.
      channel_groups: groups of ``gn``.
      channels_per_group: channels in a group of ``gn`` instead; 0 leaves it to ``channel_groups``.
      statistics: frames that share statistics: those of a ``group``, of a ``clip``, or each ``frame`` its own.
      clips_per_statistics: clips of the batch that share batch statistics, in every norm; 0 means all.
      momentum: share of the running statistics kept at each update.
      epsilon: added to variances.
      renorm_limits: ``r_max`` and ``d_max`` of ``brn``.
      renorm_steps: start and ends of their schedules.

    Raises:
      ValueError: for a value outside its range, naming the field.
    """

    norm1: str = "cl"
    norm2: str = "ct"
    norm3: str = "static"
    relay_distance: int = 4
    num_groups: int = 0
    granularity: str = "group"
    direction: str = "forward"
    layer_distance: int = 1
    sharing: str = "stage"
    relay: str = "lstm"
    reduction: int = 4
    depth: int = 1
    initial_state: str = "zeros"
    base: str = "bn"
    channel_groups: int = 32
    channels_per_group: int = 0
    statistics: str = "group"
    clips_per_statistics: int = 0
    momentum: float = 0.9
    epsilon: float = 1e-5
    renorm_limits: tuple[float, float] = (3.0, 5.0)
    renorm_steps: tuple[int, int, int] = (5_000, 40_000, 25_000)

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            if value not in choices:
                raise ValueError(f"{field} must be one of {', '.join(choices)}; got {value!r}")
        for field, least in _AT_LEAST.items():
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}; got {getattr(self, field)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1); got {self.momentum}")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be positive; got {self.epsilon}")
        r_max, d_max = self.renorm_limits
        if r_max < 1 or d_max < 0:
            raise ValueError(f"renorm_limits must be at least (1, 0); got {self.renorm_limits}")
        if not 0 <= self.renorm_steps[0] <= min(self.renorm_steps[1:]):
            raise ValueError(f"renorm_steps must be a start from 0 and two later ends; got {self.renorm_steps}")
        if self.relay == "none" and self.initial_state != "zeros":
            raise ValueError(f"initial_state {self.initial_state!r} has no effect with relay 'none'; use 'zeros'")

    @classmethod
    def static(cls, **fields: Any) -> "DNRSpec":
        """Return the baseline: learned scales and shifts, on batch normalisation unless ``base`` is given."""
        return cls(norm1="static", norm2="static", norm3="static", **fields)

    @classmethod
    def authors(cls, **fields: Any) -> "DNRSpec":
        """Return the setting of the authors' released code: four groups, whatever the clip's length."""
        return cls(**{"num_groups": 4} | fields)

    @property
    def kinds(self) -> tuple[str, str, str]:
        """The kinds of the three positions."""
        return self.norm1, self.norm2, self.norm3

    def relay_cell(
        self, position: int, features: int, param_dtype: Any = jnp.float32, *, name: str = ""
    ) -> RelayCell | None:
        """Return the cell that a stage shares among its blocks' norms at ``position`` (0 to 2), or None.

        The cell is named ``relay1`` to ``relay3`` in the module that calls this, unless ``name`` is given.
        """
        if self.kinds[position] != "cl" or self.sharing != "stage":
            return None
        return RelayCell(
            features,
            self.reduction,
            self.depth,
            param_dtype,
            self.relay,
            self.initial_state,
            name=name or f"relay{position + 1}",
        )

    def norm(
        self, kind: str, cell: nn.Module | None = None, *, name: str | None = None, param_dtype: Any = jnp.float32
    ) -> Norm:
        """Return a layer of ``kind``; ``cell`` is the stage's shared cell, used by cross-layer DNR alone."""
        standardization: dict[str, Any] = {
            "base": self.base,
            "channel_groups": self.channel_groups,
            "channels_per_group": self.channels_per_group,
            "statistics": self.statistics,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "clips_per_statistics": self.clips_per_statistics,
            "renorm_limits": self.renorm_limits,
            "renorm_steps": self.renorm_steps,
            "param_dtype": param_dtype,
            "name": name,
        }
        prediction: dict[str, Any] = {
            "relay": self.relay,
            "reduction": self.reduction,
            "depth": self.depth,
            "initial_state": self.initial_state,
        }
        if kind == "cl":
            return CrossLayerDNR(cell=cell, relay_distance=self.layer_distance, **prediction, **standardization)
        if kind == "ct":
            return CrossTemporalDNR(
                relay_distance=self.relay_distance,
                num_groups=self.num_groups,
                granularity=self.granularity,
                direction=self.direction,
                **prediction,
                **standardization,
            )
        other = {"static": StaticNorm, "ilm": InstanceLevelMetaNorm, "an": AttentiveNorm}
        return other[kind](**standardization)
