"""AdamW."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated

import optax
from annotated_types import Ge, Gt, Lt

from dnr_jax.config import Optimizer, register
from dnr_jax.training.optimizer import decayed


@register
@dataclasses.dataclass
class AdamW(Optimizer):
    """``torch.optim.AdamW``: Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    With the clipped gradient ``g``, the learning rate ``lr``, the step ``t`` counted from 1, ``m`` and ``v`` 0 at the
    start::

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g ** 2
        w = w - lr * (m / (1 - beta1 ** t) / (sqrt(v / (1 - beta2 ** t)) + epsilon) + weight_decay * w)
    """

    learning_rate: Annotated[float, Gt(0)] = 1e-3
    """At ``base_batch_size``; scaled linearly with the batch."""
    beta1: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Share of the mean of the gradients that a step keeps."""
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    """Share of the mean of their squares that a step keeps."""
    epsilon: Annotated[float, Gt(0)] = 1e-8
    """Added to the root of the mean square."""
    weight_decay: Annotated[float, Ge(0)] = 0.05
    """Added to the direction, times the parameters."""
    decay_norm_and_bias: bool = False
    """Decay the norms' parameters and the biases too."""

    def problems(self) -> Iterator[str]:
        """Refuse a choice of parameters for no decay."""
        yield from super().problems()
        if self.decay_norm_and_bias and not self.weight_decay:
            yield "decay_norm_and_bias: is True, which needs a weight_decay above 0"

    def rules(self) -> tuple[optax.GradientTransformation, ...]:
        """Return Adam's direction and the decay."""
        direction = optax.scale_by_adam(self.beta1, self.beta2, self.epsilon)
        return direction, decayed(self.weight_decay, self.decay_norm_and_bias)
