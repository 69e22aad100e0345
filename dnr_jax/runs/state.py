"""The state of a training run: one pytree, of which a checkpoint is a copy."""

from typing import Any

import jax
import optax
from flax import struct
from jax.sharding import Mesh

from dnr_jax.dnr.statistics import Variables
from dnr_jax.runs.devices import along_largest, replicated


class TrainState(struct.PyTreeNode):
    """Everything that a step reads and writes.

    Attributes:
      step: steps taken, int32 scalar.
      params: parameters of the network.
      batch_stats: its running statistics.
      opt_state: state of the optimiser.
      key: random key of the run; each step folds its number in.
      average: average of the variables over the steps, where there is one.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    key: jax.Array
    average: Variables | None = None

    @property
    def variables(self) -> Variables:
        """The variables that are trained."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def evaluated(self) -> Variables:
        """The variables that are evaluated and exported: the average, or where there is none those that are trained."""
        return self.variables if self.average is None else self.average

    def with_statistics(self, batch_stats: Any) -> "TrainState":
        """Return the state with other running statistics of what is evaluated."""
        if self.average is None:
            return self.replace(batch_stats=batch_stats)
        return self.replace(average=self.average | {"batch_stats": batch_stats})


def placed(state: TrainState, mesh: Mesh) -> TrainState:
    """Return the sharding of each array of a state, in a tree like it.

    Parameters, their average and what the optimiser keeps of them are sharded as
    :func:`dnr_jax.runs.devices.along_largest` says; the rest, running statistics among it, are copies on every device.

    Args:
      state: arrays, or their shapes.
      mesh: the devices.
    """

    def shard(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: along_largest(mesh, leaf.shape), tree)

    places = jax.tree.map(lambda _: replicated(mesh), state)
    if state.average is not None:
        places = places.replace(average=places.average | {"params": shard(state.average["params"])})
    return places.replace(params=shard(state.params), opt_state=shard(state.opt_state))
