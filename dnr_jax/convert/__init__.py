"""Weights of other frameworks, in and out."""

from dnr_jax.convert.state_dict import (
    AUTHORS,
    CADENE,
    MMACTION2,
    PYSLOWFAST,
    TDN,
    TORCHVISION,
    ConversionError,
    Naming,
    from_state_dict,
    to_state_dict,
)

__all__ = [
    "AUTHORS",
    "CADENE",
    "MMACTION2",
    "PYSLOWFAST",
    "TDN",
    "TORCHVISION",
    "ConversionError",
    "Naming",
    "from_state_dict",
    "to_state_dict",
]
