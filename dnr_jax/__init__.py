"""Dynamic Normalization and Relay for video action recognition, in JAX and Flax.

Importing the package loads jax and flax, and neither the input pipeline nor a video decoder.
"""

from dnr_jax.dnr import (
    AttentiveNorm,
    CrossLayerDNR,
    CrossTemporalDNR,
    DNRSpec,
    InstanceLevelMetaNorm,
    RelayCell,
    StaticNorm,
    interlace,
    precise_statistics,
    without_carry,
)
from dnr_jax.explain import RelayTrace, inspect, plot_relays
from dnr_jax.models import create_model

__version__ = "0.1.0"
__all__ = [
    "AttentiveNorm",
    "CrossLayerDNR",
    "CrossTemporalDNR",
    "DNRSpec",
    "InstanceLevelMetaNorm",
    "RelayCell",
    "RelayTrace",
    "StaticNorm",
    "create_model",
    "inspect",
    "interlace",
    "plot_relays",
    "precise_statistics",
    "without_carry",
]
