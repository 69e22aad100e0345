"""The bases of norms: which features share a mean and a variance.

Each is a class with its own settings, and pure functions of arrays. A module of this package, or one that
``DNR_JAX_PARTS`` names, adds one by registering it.
"""

from dnr_jax.dnr.bases.base import Arrays, Base, Observation, Variable
from dnr_jax.dnr.bases.batch import BatchBase, BatchNorm, BatchRenorm
from dnr_jax.dnr.bases.clip import ClipBase, GroupNorm, InstanceNorm, LayerNorm
from dnr_jax.dnr.bases.switchable import SwitchableNorm

__all__ = [
    "Arrays",
    "Base",
    "BatchBase",
    "BatchNorm",
    "BatchRenorm",
    "ClipBase",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Observation",
    "SwitchableNorm",
    "Variable",
]
