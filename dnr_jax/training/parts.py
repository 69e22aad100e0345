"""The modules that register optimizers and averages of weights; one of your own adds its line."""

from dnr_jax.training import optimizer

__all__ = ["optimizer"]
