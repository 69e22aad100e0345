"""The normalisation layers and relay cells as native ``flax.nnx`` modules.

They are those of :mod:`dnr_jax`: the same settings, functions and numbers, and weights that go both ways.
"""

from dnr_jax.nnx.norm import (
    AttentiveNorm,
    CrossLayerDNR,
    CrossTemporalDNR,
    InstanceLevelMetaNorm,
    RelayStream,
    StaticNorm,
    without_carry,
)
from dnr_jax.nnx.relay import RelayCell
from dnr_jax.nnx.weights import from_linen, to_linen

__all__ = [
    "AttentiveNorm",
    "CrossLayerDNR",
    "CrossTemporalDNR",
    "InstanceLevelMetaNorm",
    "RelayCell",
    "RelayStream",
    "StaticNorm",
    "from_linen",
    "to_linen",
    "without_carry",
]
