"""EMA: exponential moving average of the weights."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge, Lt
from jaxtyping import Array, Int

from dnr_jax.config import Averaging, register
from dnr_jax.dnr.statistics import Variables


@register
@dataclasses.dataclass
class EMA(Averaging):
    """Exponential moving average of parameters and running statistics (timm's ``ModelEmaV3``).

    With the share ``d``, after each step::

        average = d * average + (1 - d) * trained,    d = min(decay, (1 + step) / (10 + step))

    The second term lets the average follow the first steps, as in TensorFlow; ``warmup=False`` leaves it out. What is
    no floating-point number, such as a count of steps, is that of the trained variables.
    """

    decay: Annotated[float, Ge(0), Lt(1)] = 0.9999
    """Share of the average that a step keeps: the weights of about the last ``1 / (1 - decay)`` steps count."""
    warmup: bool = True
    """Keep less in the first steps, so that the initial weights do not count for long."""

    def update(self, average: Variables, trained: Variables, step: Int[Array, ""]) -> Variables:
        """Return the average with the weights after ``step`` steps."""
        now = step.astype(jnp.float32)
        kept = jnp.minimum(self.decay, (1 + now) / (10 + now)) if self.warmup else jnp.float32(self.decay)

        def averaged(mean: jax.Array, leaf: jax.Array) -> jax.Array:
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            return mean + (leaf - mean) * (1 - kept).astype(leaf.dtype)

        return jax.tree.map(averaged, average, trained)
