"""Weights of other frameworks, in and out."""

from dnr_jax.convert.state_dict import (
    AUTHORS,
    CADENE,
    MMACTION2,
    MMACTION2_TORCHVISION,
    PYSLOWFAST,
    TDN,
    TORCHVISION,
    ConversionError,
    Naming,
    from_state_dict,
    mmaction2_tsm,
    to_state_dict,
)

__all__ = [
    "AUTHORS",
    "CADENE",
    "MMACTION2",
    "MMACTION2_TORCHVISION",
    "PYSLOWFAST",
    "TDN",
    "TORCHVISION",
    "ConversionError",
    "Naming",
    "from_state_dict",
    "mmaction2_tsm",
    "to_state_dict",
]
