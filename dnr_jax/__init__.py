"""Dynamic Normalization and Relay for video action recognition, in JAX and Flax.

Importing the package loads jax and flax, and neither the input pipeline nor a video decoder.
"""

from dnr_jax.dnr import (
    AttentiveNorm,
    BatchNorm,
    BatchRenorm,
    CrossLayerDNR,
    CrossTemporalDNR,
    DNRSpec,
    GroupNorm,
    InstanceLevelMetaNorm,
    InstanceNorm,
    LayerNorm,
    RelayCell,
    StaticNorm,
    SwitchableNorm,
    interlace,
    precise_statistics,
    without_carry,
)
from dnr_jax.explain import RelayTrace, inspect, plot_relays
from dnr_jax.models import create_model

__version__ = "0.1.0"
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
    "RelayTrace",
    "StaticNorm",
    "SwitchableNorm",
    "create_model",
    "inspect",
    "interlace",
    "plot_relays",
    "precise_statistics",
    "without_carry",
]
