"""Dynamic Normalization and Relay for video action recognition, in JAX and Flax.

Importing the package loads nothing; its first name that is used loads jax and flax, and neither the input pipeline nor
a video decoder. ``Predictor``, which reads videos, loads these when it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dnr_jax.dnr import (
        AttentiveNorm,
        BatchNorm,
        BatchRenorm,
        CrossLayerDNR,
        CrossTemporalDNR,
        DNRSpec,
        GroupNorm,
        InstanceLevelMetaNorm,
        InstanceNorm,
        LayerNorm,
        RelayCell,
        StaticNorm,
        SwitchableNorm,
        interlace,
        precise_statistics,
        without_carry,
    )
    from dnr_jax.evaluation.predict import Predictor
    from dnr_jax.explain import RelayTrace, inspect, plot_relays
    from dnr_jax.models import create_model

__version__ = "0.1.0"
__all__ = [
    "AttentiveNorm",
    "BatchNorm",
    "BatchRenorm",
    "CrossLayerDNR",
    "CrossTemporalDNR",
    "DNRSpec",
    "GroupNorm",
    "InstanceLevelMetaNorm",
    "InstanceNorm",
    "LayerNorm",
    "Predictor",
    "RelayCell",
    "RelayTrace",
    "StaticNorm",
    "SwitchableNorm",
    "create_model",
    "inspect",
    "interlace",
    "plot_relays",
    "precise_statistics",
    "without_carry",
]
_ROOMS = ("dnr", "explain", "models")
_READING = {"Predictor": "evaluation.predict"}
"""Names that need the trainer's packages, and where they are."""


def __getattr__(name: str) -> Any:
    """Return a public name, or a room, when it is first asked for: commands start before jax is imported."""
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _READING:
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_READING[name]}"), name)
        return value
    if name in __all__:
        rooms = (importlib.import_module(f"{__name__}.{room}") for room in _ROOMS)
        value = globals()[name] = next(getattr(room, name) for room in rooms if name in room.__all__)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted({*globals(), *__all__})
