"""What every optimizer of an experiment has: learning rate, schedule and clipping."""

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from dnr_jax.config.parts import ConfigError, Part
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
    rate_factors: tuple[str, ...] = ()
    """Factors of the learning rate of some parameters, in a list such as ``backbone=0,relays=4``: names in
    :data:`dnr_jax.convert.GROUPS`, the beginnings of paths, and patterns of them; the last that fits counts. What has 0
    stays as it is, and no gradient of it is taken."""

    def factors(self) -> tuple[tuple[str, float], ...]:
        """Return the entries of ``rate_factors``: what each is of, and the factor.

        Raises:
          ConfigError: for an entry that is no ``NAME=FACTOR``, or has a factor below 0.
        """
        return tuple(map(_factor, self.rate_factors))

    @abc.abstractmethod
    def rules(self) -> tuple[Any, ...]:
        """Return what turns clipped gradients into directions: optax transformations, applied in turn."""

    def problems(self) -> Iterator[str]:
        """Refuse the start of a warm-up that there is not, and what are no factors."""
        if not self.warmup_steps and self.warmup_ratio != 0.01:
            yield f"warmup_ratio: is {self.warmup_ratio}, which needs warmup_steps above 0"
        try:
            names = [name for name, _ in self.factors()]
        except ConfigError as error:
            yield f"rate_factors: {error}"
        else:
            if twice := sorted({name for name in names if names.count(name) > 1}):
                yield f"rate_factors: has {', '.join(twice)} more than once; expected one factor each"


def _factor(entry: str) -> tuple[str, float]:
    """Return the two sides of ``NAME=FACTOR``; raises ConfigError for anything else."""
    name, _, text = (side.strip() for side in entry.partition("="))
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not name or not 0 <= factor < math.inf:
        raise ConfigError(f"{entry!r} does not fit; expected NAME=FACTOR with a number of at least 0, such as relays=4")
    return name, factor
