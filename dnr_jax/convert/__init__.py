"""Weights of other frameworks, in and out."""

from dnr_jax.convert.files import WeightFile, read_weight_file, write_weight_file
from dnr_jax.convert.matching import GROUPS, ImportReport, Match, from_state_dict, match, recognize
from dnr_jax.convert.state_dict import namings, to_state_dict
from dnr_jax.models.inception import CADENE
from dnr_jax.models.naming import (
    AUTHORS,
    MMACTION2,
    MMACTION2_TORCHVISION,
    OWN,
    TORCHVISION,
    ConversionError,
    Naming,
)
from dnr_jax.models.slowfast import PYSLOWFAST
from dnr_jax.models.tanet import MMACTION2_TANET
from dnr_jax.models.tdn import MCG_NJU
from dnr_jax.models.tsm import mmaction2_tsm

__all__ = [
    "AUTHORS",
    "CADENE",
    "GROUPS",
    "MMACTION2",
    "MMACTION2_TANET",
    "MMACTION2_TORCHVISION",
    "OWN",
    "PYSLOWFAST",
    "MCG_NJU",
    "TORCHVISION",
    "ConversionError",
    "ImportReport",
    "Match",
    "Naming",
    "WeightFile",
    "from_state_dict",
    "mmaction2_tsm",
    "match",
    "namings",
    "read_weight_file",
    "recognize",
    "to_state_dict",
    "write_weight_file",
]
