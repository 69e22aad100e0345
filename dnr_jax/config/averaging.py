"""What every average of the weights over the steps of a run has."""

import abc
import dataclasses
from typing import Any

from dnr_jax.config.parts import Part


@dataclasses.dataclass
class Averaging(Part, abc.ABC):
    """How weights are averaged over the steps. Averages derive from it and are registered.

    The average is evaluated, and is what ``dnr evaluate``, ``predict``, ``convert`` and ``export`` take from a
    checkpoint. It begins as the weights before the first step.
    """

    room = "dnr_jax.training.parts"

    @abc.abstractmethod
    def update(self, average: Any, trained: Any, step: Any) -> Any:
        """Return the average after a step; traced within the jitted step.

        Args:
          average: the average before it, the network's variables: ``params`` and ``batch_stats``.
          trained: the variables after it, of the same shapes.
          step: steps taken, with this one, int32 scalar.
        """
