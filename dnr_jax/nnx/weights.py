"""Arrays of NNX modules as variables of Linen modules, and back.

The layers of this package have the same names for their arrays in both. A whole network moves where its other modules
have the same names as well: an attribute of the NNX module for each submodule of the Linen one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import jax
from flax import nnx, traverse_util

from dnr_jax.nnx.norm import CrossLayerDNR
from dnr_jax.nnx.relay import RelayCell

COLLECTIONS = {"params": nnx.Param, "batch_stats": nnx.BatchStat}
"""Linen's collections, and the variables that are in them."""

M = TypeVar("M", bound=nnx.Module)
Path = tuple[Any, ...]


def to_linen(module: nnx.Module) -> dict[str, Any]:
    """Return the variables of the Linen module that computes the same: ``params`` and ``batch_stats``, where there are.

    A relay cell that layers share is where the network keeps it (``self.cell = cell``), as in Linen it is where it was
    made; without such a place, in the first of the layers.
    """
    found: dict[Path, Any] = {path: variable[...] for path, variable in _variables(module)}
    return traverse_util.unflatten_dict(found)


def from_linen(module: M, variables: Mapping[str, Any]) -> M:
    """Give an NNX module the arrays of a Linen module that computes the same; the inverse of :func:`to_linen`.

    Args:
      module: its arrays are replaced.
      variables: of the Linen module; other collections than ``params`` and ``batch_stats`` are not read.

    Returns:
      The module.

    Raises:
      ValueError: where an array is missing, left over, or of another shape or dtype; nothing is replaced then.
    """
    given = {
        (collection, *path): array
        for collection in COLLECTIONS
        for path, array in traverse_util.flatten_dict(dict(variables.get(collection, {}))).items()
    }
    own = dict(_variables(module))
    problems = [f"{'/'.join(path)}: is missing" for path in own if path not in given]
    problems += [f"{'/'.join(path)}: is not in the module" for path in given if path not in own]
    for path in own.keys() & given.keys():
        wanted, found = (f"{array.dtype} {array.shape}" for array in (own[path][...], given[path]))
        problems += [f"{'/'.join(path)}: is {found}; expected {wanted}"] if wanted != found else []
    if problems:
        raise ValueError("; ".join(sorted(problems)))
    for path, variable in own.items():
        variable[...] = jax.numpy.asarray(given[path])
    return module


def _variables(module: nnx.Module) -> Iterator[tuple[Path, nnx.Variable]]:
    """Yield parameters and running statistics by their Linen path, collection first."""
    homes = _homes(module)
    for collection, kind in COLLECTIONS.items():
        for path, _ in nnx.to_flat_state(nnx.state(module, kind)):
            owner: Any = module
            names: Path = ()
            for key in path:
                names = (*names, getattr(type(owner), "LINEN_NAMES", {}).get(key, str(key)))
                owner = getattr(owner, key) if isinstance(key, str) else owner[key]
                names = homes.get(id(owner), names)
            yield (collection, *names), owner


def _homes(module: nnx.Module) -> dict[int, Path]:
    """Return where cells are kept that several layers share, by their identity."""
    found: dict[int, Path] = {}
    for path, owner in nnx.iter_graph(module):
        for name, value in vars(owner).items() if isinstance(owner, nnx.Module) else ():
            if isinstance(value, RelayCell) and not (isinstance(owner, CrossLayerDNR) and name == "cell"):
                names = getattr(type(owner), "LINEN_NAMES", {})
                found[id(value)] = (*map(str, path), names.get(name, name))
    return found
