"""The modules that register optimizers and averages of weights; one of your own adds its line."""

from dnr_jax.training import adamw, ema, optimizer

__all__ = ["adamw", "ema", "optimizer"]
