"""Weights of other frameworks, in and out."""

from dnr_jax.convert.files import WeightFile, read_weight_file, write_weight_file
from dnr_jax.convert.matching import GROUPS, ImportReport, Match, from_state_dict, match, recognize
from dnr_jax.convert.state_dict import (
    AUTHORS,
    CADENE,
    MMACTION2,
    MMACTION2_TANET,
    MMACTION2_TORCHVISION,
    NAMINGS,
    OWN,
    PYSLOWFAST,
    TDN,
    TORCHVISION,
    ConversionError,
    Naming,
    mmaction2_tsm,
    to_state_dict,
)

__all__ = [
    "AUTHORS",
    "CADENE",
    "GROUPS",
    "MMACTION2",
    "MMACTION2_TANET",
    "MMACTION2_TORCHVISION",
    "NAMINGS",
    "OWN",
    "PYSLOWFAST",
    "TDN",
    "TORCHVISION",
    "ConversionError",
    "ImportReport",
    "Match",
    "Naming",
    "WeightFile",
    "from_state_dict",
    "mmaction2_tsm",
    "match",
    "read_weight_file",
    "recognize",
    "to_state_dict",
    "write_weight_file",
]
