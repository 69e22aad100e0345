"""Switchable normalisation, a mixture of other bases."""

import dataclasses

import jax

from dnr_jax.dnr import functional
from dnr_jax.dnr.bases.base import Arrays, Observation, Variable
from dnr_jax.dnr.bases.batch import BatchBase
from dnr_jax.dnr.functional import Affine
from dnr_jax.dnr.parts import register


@register
@dataclasses.dataclass(unsafe_hash=True, kw_only=True)
class SwitchableNorm(BatchBase):
    """Switchable normalisation (Luo et al. 2019): a learned mixture of instance, layer and batch statistics."""

    alias = "sn"

    def learned(self, channels: int) -> dict[str, Variable]:
        """Return the weights of instance, layer and batch, before their softmax."""
        return {"mean_weights": Variable((3,), 1.0), "var_weights": Variable((3,), 1.0)}

    def standardize(self, seen: Observation, learned: Arrays, running: Arrays, *, train: bool) -> tuple[Affine, Arrays]:
        """Standardise with the mixed statistics (Equation 3 of the paper)."""
        batch, running = self.batch(seen, running, train=train)
        instance, layer = (functional.instance_moments(seen.moments, seen.runs, groups) for groups in (0, 1))
        parts = {
            "mean_weights": (instance.mean, layer.mean, batch[0]),
            "var_weights": (instance.variance, layer.variance, batch[1]),
        }
        mean, variance = (
            sum(weight * part for weight, part in zip(jax.nn.softmax(learned[name]), mixed, strict=True))
            for name, mixed in parts.items()
        )
        return functional.standardization((mean, variance), self.epsilon), running
