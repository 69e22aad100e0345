"""The normalisation layers and relay cells as native ``flax.nnx`` modules."""

from dnr_jax.nnx.relay import RelayCell

__all__ = ["RelayCell"]
