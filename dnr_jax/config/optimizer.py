"""What every optimizer of an experiment has: learning rate, schedule and clipping."""

import abc
import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from dnr_jax.config.parts import Part
from dnr_jax.dnr.fields import GoesWith


@dataclasses.dataclass
class Optimizer(Part, abc.ABC):
    """How gradients change parameters. Optimizers derive from it and are registered."""

    room = "dnr_jax.training.parts"

    learning_rate: Annotated[float, Gt(0)] = 0.1
    """At ``base_batch_size``; scaled linearly with the batch."""
    base_batch_size: Annotated[int, Ge(1), GoesWith("learning_rate")] = 64
    """Clips a step for which the learning rate is meant."""
    clip_norm: Annotated[float, Ge(0)] = 40.0
    """Largest global norm of the gradient; 0 switches clipping off."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """``cosine`` (to 0 at the end) or ``constant``."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Steps in which the learning rate grows linearly to that of the schedule."""
    warmup_ratio: Annotated[float, Gt(0), Le(1)] = 0.01
    """The warm-up starts at this share of the learning rate."""

    @abc.abstractmethod
    def rules(self) -> tuple[Any, ...]:
        """Return what turns clipped gradients into directions: optax transformations, applied in turn."""

    def problems(self) -> Iterator[str]:
        """Refuse the start of a warm-up that there is not."""
        if not self.warmup_steps and self.warmup_ratio != 0.01:
            yield f"warmup_ratio: is {self.warmup_ratio}, which needs warmup_steps above 0"
