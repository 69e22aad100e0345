"""Bases with the statistics of the batch, and running ones for evaluation: batch (re)normalisation."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge, Lt

from dnr_jax.dnr import functional
from dnr_jax.dnr.bases.base import Arrays, Base, Observation, Variable
from dnr_jax.dnr.fields import Where
from dnr_jax.dnr.functional import Affine, MeanVariance
from dnr_jax.dnr.parts import register

_Limit = Annotated[float, Ge(0)]
_Step = Annotated[int, Ge(0)]


@dataclasses.dataclass(unsafe_hash=True, kw_only=True)
class BatchBase(Base):
    """Statistics of the batch in training, running averages of them in evaluation."""

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Share of the running statistics kept at each update (torch's momentum is ``1 - momentum``)."""
    clips_per_statistics: Annotated[int, Ge(0)] = 0
    """Consecutive clips of the batch that share batch statistics, in every norm; 0 means all."""

    @property
    def clips_shared(self) -> int:
        """Consecutive clips of a batch that share statistics; 0 for all."""
        return self.clips_per_statistics

    def running(self, channels: int) -> dict[str, Variable]:
        """Return mean and variance of each channel."""
        return {"mean": Variable((channels,), 0.0), "var": Variable((channels,), 1.0)}

    def batch(self, seen: Observation, running: Arrays, *, train: bool) -> tuple[MeanVariance, Arrays]:
        """Return mean and variance to standardise with, and the running ones after the batch.

        In evaluation both are the running ones.
        """
        if not train:
            return _running_pair(running), running
        observed, devices = functional.batch_moments(seen.moments, seen.runs, self.clips_per_statistics), 1
        if seen.axis_name is not None:
            observed, devices = functional.across_axis(observed, seen.axis_name)
        clips, frames, _ = seen.moments.mean.shape
        sets = observed.mean.shape[0]
        values = devices * clips * frames * seen.positions // (sets * seen.runs)
        new = {"mean": observed.mean, "var": functional.unbiased(observed.variance, values)}
        averages = {name: functional.updated_average(running[name], new[name], self.momentum) for name in new}
        pair = observed.mean, observed.variance
        if sets > 1:  # one set for all clips is left to broadcast
            pair = jnp.repeat(pair[0], clips // sets, axis=0), jnp.repeat(pair[1], clips // sets, axis=0)
        return pair, {**running, **averages}


def _running_pair(running: Arrays) -> MeanVariance:
    return running["mean"][None, None], running["var"][None, None]


@register
@dataclasses.dataclass(unsafe_hash=True, kw_only=True)
class BatchNorm(BatchBase):
    """Batch normalisation (Ioffe and Szegedy 2015): each channel, over all clips; numerically torch's."""

    alias = "bn"

    def standardize(self, seen: Observation, learned: Arrays, running: Arrays, *, train: bool) -> tuple[Affine, Arrays]:
        """Standardise with the statistics of the batch, or with the running ones in evaluation."""
        pair, running = self.batch(seen, running, train=train)
        return functional.standardization(pair, self.epsilon), running


@register
@dataclasses.dataclass(unsafe_hash=True, kw_only=True)
class BatchRenorm(BatchBase):
    """Batch renormalisation (Ioffe 2017): batch statistics, drawn towards the running ones."""

    alias = "brn"

    limits: tuple[Annotated[float, Ge(1)], _Limit] = (3.0, 5.0)
    """``r_max`` and ``d_max`` at the end of their schedule."""
    steps: Annotated[
        tuple[_Step, _Step, _Step],
        Where("a start and two later ends", lambda steps: steps[0] <= min(steps[1:])),
    ] = (5_000, 40_000, 25_000)
    """Training steps with batch statistics alone; step at which ``r_max`` is reached; step at which ``d_max`` is."""

    def running(self, channels: int) -> dict[str, Variable]:
        """Return mean and variance of each channel, and the training step."""
        return super().running(channels) | {"step": Variable((), 0, jnp.int32)}

    def standardize(self, seen: Observation, learned: Arrays, running: Arrays, *, train: bool) -> tuple[Affine, Arrays]:
        """Standardise with the statistics of the batch, corrected; with the running ones in evaluation."""
        pair, updated = self.batch(seen, running, train=train)
        standardized = functional.standardization(pair, self.epsilon)
        if not train:
            return standardized, updated
        return self._corrected(standardized, pair, running), {**updated, "step": running["step"] + 1}

    def _corrected(self, standardized: Affine, batch: MeanVariance, running: Arrays) -> Affine:
        """Correct a standardisation towards the running statistics, within limits (Algorithm 1)."""
        mean, variance = _running_pair(running)
        start, *ends = self.steps
        r_max, d_max = (
            low + (high - low) * jnp.clip((running["step"] - start).astype(mean.dtype) / max(end - start, 1), 0, 1)
            for low, high, end in zip((1.0, 0.0), self.limits, ends, strict=True)
        )
        deviation, running_deviation = (jnp.sqrt(v + self.epsilon) for v in (batch[1], variance))
        r = jax.lax.stop_gradient(deviation / running_deviation)
        d = jax.lax.stop_gradient((batch[0] - mean) / running_deviation)
        return functional.transform(standardized, jnp.clip(r, 1 / r_max, r_max), jnp.clip(d, -d_max, d_max))
