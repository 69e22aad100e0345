"""The state of a training run: one pytree, of which a checkpoint is a copy."""

from typing import Any

import jax
import optax
from flax import struct


class TrainState(struct.PyTreeNode):
    """Everything that a step reads and writes.

    Attributes:
      step: steps taken, int32 scalar.
      params: parameters of the network.
      batch_stats: its running statistics.
      opt_state: state of the optimiser.
      key: random key of the run; each step folds its number in.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    key: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that ``model.apply`` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}
