"""What all optimizers share (clipping, schedule, warm-up), and that of the paper's recipe: SGD with momentum."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Lt

from dnr_jax.config import Optimizer, register


def peak_learning_rate(config: Optimizer, batch_size: int) -> float:
    """Return the learning rate before the schedule: scaled linearly with the batch (Goyal et al., 2017)."""
    return config.learning_rate * batch_size / config.base_batch_size


def make_schedule(config: Optimizer, batch_size: int, total_steps: int) -> optax.Schedule:
    """Return the learning rate as a function of the step, counted from 0.

    The regular rate is ``peak * (1 + cos(pi * step / total_steps)) / 2``, or constant. The linear warm-up multiplies
    it, as mmcv does, by a factor that grows from ``warmup_ratio`` at step 0 to 1 at ``warmup_steps``.

    Args:
      config: the optimiser's section.
      batch_size: clips a step, over all devices.
      total_steps: length of the run.
    """
    peak = peak_learning_rate(config, batch_size)

    def schedule(step: jax.Array | int) -> jax.Array:
        now = jnp.asarray(step, jnp.float32)
        rate = jnp.float32(peak)
        if config.schedule == "cosine":
            rate = rate * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(now / total_steps, 1.0)))
        if config.warmup_steps:
            missing = jnp.maximum(1.0 - now / config.warmup_steps, 0.0)
            rate = rate * (1.0 - missing * (1.0 - config.warmup_ratio))
        return rate

    return schedule


def warmup_note(config: Optimizer, total_steps: int) -> str:
    """Return a sentence about a warm-up that a run does not get out of; empty where it does."""
    if config.warmup_steps < total_steps:
        return ""
    return (
        f"optimizer.warmup_steps: is {config.warmup_steps}, and the run has {total_steps} steps, so that its learning "
        "rate only grows and never is that of the schedule; expected fewer"
    )


def decay_mask(params: optax.Params) -> optax.Params:
    """Return which parameters are weights proper: true for kernels, false for biases and the norms' scales."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def decayed(weight_decay: float, norm_and_bias: bool) -> optax.GradientTransformation:
    """Return what adds the decay: of all parameters, or of those that :func:`decay_mask` names."""
    return optax.add_decayed_weights(weight_decay, mask=None if norm_and_bias else decay_mask)


@register
@dataclasses.dataclass
class SGD(Optimizer):
    """``torch.optim.SGD``, with the authors' settings.

    With the clipped gradient ``g``, the buffer ``v`` (0 at the start) and the learning rate ``lr``::

        g = g + weight_decay * w
        v = momentum * v + g
        w = w - lr * v                       (Nesterov: w - lr * (g + momentum * v))
    """

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Share of the buffer that a step keeps."""
    nesterov: bool = False
    """Nesterov's form of the momentum."""
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    """Added to the gradient, times the parameters."""
    decay_norm_and_bias: bool = True
    """Decay the norms' parameters and the biases too, as the authors' configuration does."""

    def problems(self) -> Iterator[str]:
        """Refuse Nesterov's form of no momentum, and a choice of parameters for no decay."""
        yield from super().problems()
        if self.nesterov and not self.momentum:
            yield "nesterov: needs a momentum above 0"
        if not self.decay_norm_and_bias and not self.weight_decay:
            yield "decay_norm_and_bias: is False, which needs a weight_decay above 0"

    def rules(self) -> tuple[optax.GradientTransformation, ...]:
        """Return decay and momentum."""
        return (
            decayed(self.weight_decay, self.decay_norm_and_bias),
            optax.trace(self.momentum, self.nesterov) if self.momentum else optax.identity(),
        )


def make_optimizer(config: Optimizer, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Return the update rule: the gradient clipped as ``clip_grad_norm_`` does, the optimizer's rules, the rate.

    Args:
      config: the optimiser's section.
      schedule: the learning rate, from :func:`make_schedule`.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, *config.rules(), optax.scale_by_learning_rate(schedule))
