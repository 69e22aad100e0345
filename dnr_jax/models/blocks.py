"""Running the blocks of a stage one after the other: in a Python loop, or as one scanned program.

A block is a cell over depth: ``block(carry, x, train) -> (carry, y)``, where the carry has one entry for each norm that
may relay, and ``block.cells`` are the stage's shared relay cells.
"""

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float

from dnr_jax.dnr.aliases import Carry
from dnr_jax.dnr.norm import RELAY_STATE, asks_for_state
from dnr_jax.dnr.relay import RelayCell, SharedCell
from dnr_jax.models.complexity import abstract_variables
from dnr_jax.models.layers import Convolution

REMAT = ("none", "block", "stage")
"""What is computed again in the backward pass instead of being kept: nothing, a block's or a stage's inside."""
_COLLECTIONS = ("params", "batch_stats", "moments", "intermediates", "perturbations")


class NormPlace(NamedTuple):
    """Where a norm of a block stands: its kind, and the convolutions beside it as names in the block.

    Attributes:
      kind: as in :attr:`dnr_jax.dnr.DNRSpec.kinds`.
      before: the convolution whose result it normalises, as the path of its kernel and bias.
      behind: likewise the convolution that reads the ReLU of its result, where nothing else does; otherwise empty.
    """

    kind: str
    before: str
    behind: str


def places_in_a_row(
    kinds: Sequence[str], count: int, convolution: Convolution, *, apart: bool = False
) -> tuple[NormPlace, ...]:
    """Return the places of norms that each stand behind a convolution: ``norm1`` between ``conv1`` and ``conv2``, ...

    Args:
      kinds: of the norms.
      count: of the convolutions; behind the last norm there is an addition or a concatenation.
      convolution: their kind.
      apart: another module stands between the first norm and the second convolution.
    """
    before = [f"conv{i + 1}/{convolution.last}".rstrip("/") for i in range(count)]
    behind = [f"conv{i + 1}/{convolution.first}".rstrip("/") for i in range(1, count)] + [""]
    if apart:
        behind[0] = ""
    return tuple(map(NormPlace, kinds, before, behind))


class PredictingNorm(NamedTuple):
    """Where a norm stands whose scale and shift a relay predicts; paths of modules.

    Attributes:
      norm: its path.
      position: 1 for the first norm of a block, 2 for the second, 3.
      chain: what it has in common with the norms at its place in the other blocks of the stage.
      cells: the relay cells that predict for it: one, or in a bidirectional relay two.
      before: see :class:`NormPlace`.
      behind: likewise.
    """

    norm: str
    position: int
    chain: str
    cells: tuple[str, ...]
    before: str
    behind: str


def predicting_norms(model: nn.Module, clip_shape: tuple[int, ...]) -> list[PredictingNorm]:
    """Find the norms of a network that predict their scale and shift; those of a chain in the order of the blocks.

    Blocks, and the branches of blocks, say where their norms stand by ``norm_places``.

    Args:
      model: with its blocks one by one.
      clip_shape: ``(T, H, W, 3)``.
    """
    found: dict[tuple[str, int], PredictingNorm] = {}

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "__call__" and hasattr(context.module, "norm_places"):
            found.update(_predicting(context.module))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        abstract_variables(model, clip_shape)
    return [found[place] for place in sorted(found)]


def _predicting(block: Any) -> Iterator[tuple[tuple[str, int], PredictingNorm]]:
    """Yield the predicting norms of a block by chain and number of the block."""
    path = "/".join(block.path)
    at = next(i for i, name in enumerate(block.path) if re.fullmatch(r"block\d+", name))
    number = int(block.path[at].removeprefix("block"))
    directions = ("relay", "relay_backward") if block.spec.direction == "bidirectional" else ("relay",)
    for i, (kind, before, behind) in enumerate(block.norm_places()):
        norm, chain = f"{path}/norm{i + 1}", "/".join((*block.path[:at], *block.path[at + 1 :], f"norm{i + 1}"))
        own = tuple(f"{norm}/{name}" for name in (directions if kind == "ct" else ("relay",)))
        cell = block.cells[i] if kind == "cl" else None
        cells = own if cell is None else ("/".join((*block.path[:at], cell.name)),)
        if kind in ("cl", "ct"):
            beside = (f"{path}/{before}", behind and f"{path}/{behind}")
            yield (chain, number), PredictingNorm(norm, i + 1, chain, cells, *beside)


def recomputed(module: type[nn.Module], remat: bool) -> type[nn.Module]:
    """Return the module whose inside is computed again in the backward pass, or with ``remat=False`` the module itself.

    Its last argument is ``train``, which Python branches on.
    """
    arguments = len(inspect.signature(module.__call__).parameters)
    return nn.remat(module, static_argnums=(arguments - 1,)) if remat else module


def run_blocks(
    make_block: Callable[..., nn.Module],
    num_blocks: int,
    cells: tuple[RelayCell | None, ...],
    x: Float[Array, "n t h w c"],
    train: bool,
    *,
    scan_blocks: bool = False,
    remat: bool = False,
) -> Float[Array, "n t2 h2 w2 c2"]:
    """Thread features and the relays' carry through the blocks of a stage; call it in the stage's compact method.

    Args:
      make_block: ``make_block(index, remat=remat, cells=cells, name=name)`` returns a block; all but the first are
        alike.
      num_blocks: at least 1.
      cells: the stage's relay cells, one or None for each entry of the carry.
      x: features.
      train: handed to the blocks.
      scan_blocks: run all blocks but the first (which may have a shortcut and a stride of its own) under one
        ``nn.scan``. Their variables are stacked along a new first axis, under ``blocks/block`` instead of ``block1``,
        ``block2``, ...; see :func:`stack_blocks`.
      remat: compute the inside of each block again in the backward pass.

    Returns:
      The features after the last block.
    """

    def block(index: int, cells: Any, name: str) -> nn.Module:
        return make_block(index, remat=remat, cells=cells, name=name)

    carry: Carry = (None,) * len(cells)
    first = block(0, cells, "block0")
    carry, x = first(carry, x, train)
    if not scan_blocks:
        for i in range(1, num_blocks):
            carry, x = block(i, cells, f"block{i}")(carry, x, train)
        return x
    if num_blocks > 1:
        scanned = nn.scan(
            _Repeated,
            variable_axes=dict.fromkeys((*_COLLECTIONS, *_streamed(first)), 0),
            split_rngs={"params": True},
            in_axes=(nn.broadcast,),
            length=num_blocks - 1,
        )
        shared = tuple(None if cell is None else cell.shared() for cell in cells)
        (_, x), _ = scanned(make_block=block, train=train, name="blocks")((carry, x), shared)
    return x


def _streamed(first: nn.Module) -> tuple[str, ...]:
    """Return the collection of relay states where the stage, whose first block has run, keeps them.

    Under a scan that threads it, a block would take it for one that the caller of ``apply`` has named.
    """
    return (RELAY_STATE,) if asks_for_state(first) or RELAY_STATE in first.variables else ()


class _Repeated(nn.Module):
    """A block of the scan."""

    make_block: Callable[..., nn.Module]
    train: bool

    @nn.compact
    def __call__(
        self, state: tuple[Carry, Float[Array, "n t h w c"]], cells: tuple[SharedCell | None, ...]
    ) -> tuple[tuple[Carry, Float[Array, "n t h w c"]], None]:
        return self.make_block(1, cells, "block")(*state, self.train), None


def stack_blocks(variables: dict[str, Any]) -> dict[str, Any]:
    """Turn the variables of a network with ``scan_blocks=False`` into those of the same one with ``scan_blocks=True``.

    Args:
      variables: collections with ``.../block0/...``, ``.../block1/...``; a tree of gradients converts as well.
    """
    stacked: dict[tuple[str, ...], Any] = {}
    parts: dict[tuple[str, ...], dict[int, Any]] = {}
    for path, leaf in traverse_util.flatten_dict(variables).items():
        found = [(i, int(match[1])) for i, name in enumerate(path) if (match := re.fullmatch(r"block(\d+)", name))]
        if found and found[0][1] > 0:
            at, index = found[0]
            parts.setdefault((*path[:at], "blocks", "block", *path[at + 1 :]), {})[index - 1] = leaf
        else:
            stacked[path] = leaf
    stacked |= {path: jnp.stack([leaves[i] for i in sorted(leaves)]) for path, leaves in parts.items()}
    return traverse_util.unflatten_dict(stacked)


def place_of_blocks(path: Sequence[str]) -> int | None:
    """Return where ``blocks/block`` begins in the path of a variable of scanned blocks; None in any other path."""
    return next((i for i, pair in enumerate(itertools.pairwise(path)) if pair == ("blocks", "block")), None)


def unstack_blocks(variables: dict[str, Any]) -> dict[str, Any]:
    """Undo :func:`stack_blocks`."""

    def unstacked() -> Iterable[tuple[tuple[str, ...], Any]]:
        for path, leaf in traverse_util.flatten_dict(variables).items():
            at = place_of_blocks(path)
            if at is None:
                yield path, leaf
                continue
            for i in range(leaf.shape[0]):
                yield (*path[:at], f"block{i + 1}", *path[at + 2 :]), leaf[i]

    return traverse_util.unflatten_dict(dict(unstacked()))
