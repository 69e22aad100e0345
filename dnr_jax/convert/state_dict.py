"""PyTorch state dicts in and out: names and layouts, without torch.

A state dict here is a mapping from torch's names to numpy arrays in torch's layouts.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from dnr_jax.config import Network, registered
from dnr_jax.models.blocks import unstack_blocks
from dnr_jax.models.naming import OWN, ConversionError, Naming

StateDict = dict[str, np.ndarray]


def namings() -> dict[str, Naming]:
    """Return the code bases whose weights are recognised, those of all networks, by the names that a person gives."""
    found: dict[str, Naming] = {"own": OWN}
    for network in registered(Network).values():
        found |= network.namings
    return found


def named_naming(name: str) -> Naming:
    """Return the code base of that name; raises ConversionError with those that there are."""
    known = namings()
    if name not in known:
        raise ConversionError(f"{name!r} is no code base whose names are known; expected one of {', '.join(known)}")
    return known[name]


def flat(variables: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Key every leaf by its collection and its path."""
    return {
        (collection, path): leaf
        for collection, tree in variables.items()
        for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()
    }


def to_state_dict(variables: Mapping[str, Any], naming: Naming) -> StateDict:
    """Export ``params`` and ``batch_stats`` under another code base's names and in torch's layouts.

    Args:
      variables: collections of a network here, or of any part of it; gradients and other trees of the same structure
        convert as well. Blocks that are stacked (``scan_blocks``) are taken one by one.
      naming: the code base.

    Returns:
      One array for each variable. torch's ``num_batches_tracked`` counters are left out.

    Raises:
      ConversionError: for a variable that the code base has no name for, and for two that have one name there.
    """
    state: StateDict = {}
    paths: dict[str, str] = {}
    for (collection, path), leaf in flat(unstack_blocks(dict(variables))).items():
        key = naming.key(path)
        if key in state:
            both = f"{paths[key]} and {collection}/{path}"
            raise ConversionError(f"{both} would both be {key}; one of them would be lost")
        state[key], paths[key] = naming.encode(np.asarray(leaf)), f"{collection}/{path}"
    return state
