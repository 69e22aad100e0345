"""Dynamic Normalization and Relay for video action recognition, in JAX and Flax.

Importing the package loads jax and flax, and neither the input pipeline nor a video decoder.
"""

from dnr_jax.dnr import BatchNorm, CrossLayerDNR, CrossTemporalDNR, DNRSpec, RelayCell, interlace
from dnr_jax.models import create_model

__version__ = "0.1.0"
__all__ = [
    "BatchNorm",
    "CrossLayerDNR",
    "CrossTemporalDNR",
    "DNRSpec",
    "RelayCell",
    "create_model",
    "interlace",
]
