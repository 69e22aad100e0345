"""What all optimizers share (clipping, schedule, warm-up), and that of the paper's recipe: SGD with momentum."""

import collections
import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Lt

from dnr_jax.config import ConfigError, Optimizer, register
from dnr_jax.config.parts import nearest
from dnr_jax.convert import GROUPS


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


def rate_factors(config: Optimizer, params: optax.Params) -> optax.Params:
    """Return the factor of the learning rate of each parameter, as ``optimizer.rate_factors`` says.

    An entry is of the parameters whose path, or the beginning of it up to a slash, is its name or fits it as a pattern
    (``fnmatch``); a name in :data:`dnr_jax.convert.GROUPS` stands for the patterns of that group. The last entry that
    is of a parameter counts.

    Args:
      config: the optimiser's section.
      params: of the network, or their gradients.

    Returns:
      Numbers in the structure of ``params``; 1 where no entry is of them.

    Raises:
      ConfigError: for an entry that is of no parameter, and where all parameters have the factor 0.
    """
    factors = dict(reversed(config.factors()))
    idle = dict(config.factors())

    def factor_of(path: Sequence[jax.tree_util.DictKey], _: jax.Array) -> float:
        name = "/".join(key.key for key in path)
        counts = next((entry for entry in factors if _is_of(entry, name)), None)
        if counts is None:
            return 1.0
        idle.pop(counts, None)
        return factors[counts]

    found = jax.tree_util.tree_map_with_path(factor_of, params)
    if idle:
        raise ConfigError(f"optimizer.rate_factors: {_of_none(idle, params)}")
    if not any(jax.tree.leaves(found)):
        raise ConfigError("optimizer.rate_factors: are 0 for all parameters of this network; expected some to train")
    return found


def _of_none(idle: Mapping[str, float], params: optax.Params) -> str:
    """Return what is wrong with entries that count for no parameter."""
    paths = ["/".join(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    entry = next(iter(idle))
    if any(_is_of(entry, path) for path in paths):
        return f"{entry}={idle[entry]:g} has no effect, because later entries are of all its parameters"
    places = ["/".join(path.split("/")[:end]) for path in paths for end in range(1, path.count("/") + 2)]
    groups = [name for name in GROUPS if any(_is_of(name, path) for path in paths)]
    return (
        f"{entry}={idle[entry]:g} is of no parameter of this network{nearest(entry, [*groups, *places])}; expected "
        f"{', '.join(groups) or 'a path'}, or the beginning of a path such as {places[0]}"
    )


def _is_of(entry: str, path: str) -> bool:
    """Return whether a name of a group, a path, the beginning of one or a pattern is of a parameter."""
    patterns = GROUPS.get(entry, (entry, f"{entry}/*"))
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def without_gradient(config: Optimizer, params: optax.Params) -> optax.Params:
    """Return the parameters, of which those with the factor 0 have the gradient 0, which costs nothing to compute."""
    if not config.rate_factors:
        return params
    return jax.tree.map(
        lambda factor, leaf: leaf if factor else jax.lax.stop_gradient(leaf), rate_factors(config, params), params
    )


def rates_note(config: Optimizer, params: optax.Params) -> str:
    """Return how many numbers of a network are trained at which factor of the rate; empty where all are at the same."""
    if not config.rate_factors:
        return ""
    counts: collections.Counter[float] = collections.Counter()
    for factor, leaf in zip(jax.tree.leaves(rate_factors(config, params)), jax.tree.leaves(params), strict=True):
        counts[factor] += leaf.size
    words = {factor: f"x {factor:g}" if factor else "as they are" for factor in counts}
    return ", ".join(f"{counts[factor]:,} parameters {words[factor]}" for factor in sorted(counts))


def _scaled(config: Optimizer) -> optax.GradientTransformation:
    """Return what multiplies the direction of each parameter by its factor."""

    def init(params: optax.Params) -> optax.EmptyState:
        rate_factors(config, params)  # refuses before anything is compiled
        return optax.EmptyState()

    def update(
        updates: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.EmptyState]:
        return jax.tree.map(lambda factor, leaf: factor * leaf, rate_factors(config, updates), updates), state

    return optax.GradientTransformation(init, update)


def make_optimizer(config: Optimizer, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Return the update rule: the gradient clipped as ``clip_grad_norm_`` does, the optimizer's rules, the rate.

    Args:
      config: the optimiser's section.
      schedule: the learning rate, from :func:`make_schedule`. What ``rate_factors`` are of has that factor of it.

    Returns:
      The transformation. Its ``init`` raises ConfigError where ``rate_factors`` do not fit the parameters.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    scaled = (_scaled(config),) if config.rate_factors else ()  # states of runs without them have no place for it
    return optax.chain(clip, *config.rules(), *scaled, optax.scale_by_learning_rate(schedule))
