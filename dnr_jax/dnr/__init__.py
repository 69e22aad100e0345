"""Dynamic Normalization and Relay: pure functions, relay cells and normalisation layers."""

from dnr_jax.dnr.bases import BatchNorm, BatchRenorm, GroupNorm, InstanceNorm, LayerNorm, SwitchableNorm
from dnr_jax.dnr.functional import interlace
from dnr_jax.dnr.norm import (
    AttentiveNorm,
    CrossLayerDNR,
    CrossTemporalDNR,
    InstanceLevelMetaNorm,
    StaticNorm,
    without_carry,
)
from dnr_jax.dnr.relay import RelayCell
from dnr_jax.dnr.spec import DNRSpec
from dnr_jax.dnr.statistics import precise_statistics

__all__ = [
    "AttentiveNorm",
    "BatchNorm",
    "BatchRenorm",
    "CrossLayerDNR",
    "CrossTemporalDNR",
    "DNRSpec",
    "GroupNorm",
    "InstanceLevelMetaNorm",
    "InstanceNorm",
    "LayerNorm",
    "RelayCell",
    "StaticNorm",
    "SwitchableNorm",
    "interlace",
    "precise_statistics",
    "without_carry",
]
