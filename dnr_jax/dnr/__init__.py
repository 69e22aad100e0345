"""Dynamic Normalization and Relay: pure functions, relay cells and normalisation layers."""

from dnr_jax.dnr.functional import interlace
from dnr_jax.dnr.norm import BatchNorm, CrossLayerDNR, CrossTemporalDNR
from dnr_jax.dnr.relay import RelayCell
from dnr_jax.dnr.spec import DNRSpec

__all__ = ["BatchNorm", "CrossLayerDNR", "CrossTemporalDNR", "DNRSpec", "RelayCell", "interlace"]
