"""What layers and cells may be given: the checks of arrays, made while a program is traced and free in what it runs."""

from typing import Any

import jax
import jax.numpy as jnp

from dnr_jax.dnr.functional import check_axes, statistics_dtype


def as_features(x: Any) -> jax.Array:
    """Return features ``[N, T, *S, C]`` as an array.

    Raises:
      TypeError: for what is no array of floating-point numbers.
      ValueError: for an array with fewer axes than clips, frames and channels, or with an empty one.
    """
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise TypeError(f"features must be an array [N, T, *S, C], got {type(x).__name__}")
    x = jnp.asarray(x)
    statistics_dtype(x.dtype)
    check_axes(x)
    if not x.size:
        raise ValueError(f"features [N, T, *S, C] need at least one value along each axis, got the shape {x.shape}")
    return x


def check_width(x: jax.Array, width: int, owner: str) -> None:
    """Raise ValueError unless the last axis of ``x`` has ``width`` channels, those of ``owner``."""
    if x.shape[-1] == width:
        return
    hint = ""
    if width in x.shape[1:-1]:
        axis = x.shape.index(width, 1)
        hint = f"; axis {axis} has {width}: where channels come first, jnp.moveaxis(x, {axis}, -1) puts them last"
    raise ValueError(f"{owner} has {width} channels, and what it is given has {x.shape[-1]}: {x.shape}{hint}")


def check_state(state: Any, depth: int, batch_shape: tuple[int, ...], width: int | None, what: str) -> None:
    """Raise ValueError unless ``state`` is that of a relay cell.

    Args:
      state: to be checked.
      depth: layers of the cell, each of which has a pair ``(h, c)``.
      batch_shape: what stands before the channels.
      width: channels; None: any number.
      what: what to call the state.
    """
    pairs = isinstance(state, tuple | list) and len(state) == depth
    pairs = pairs and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in state)
    if not pairs or not all(_fits(leaf, batch_shape, width) for pair in state for leaf in pair):
        found = jax.tree.map(jnp.shape, state)
        sizes = ", ".join(map(str, (*batch_shape, "C" if width is None else width)))
        layers = "1 layer" if depth == 1 else f"{depth} layers"
        raise ValueError(f"{what}: expected a pair (h, c) of [{sizes}] for the {layers} of the cell, got {found}")


def _fits(leaf: Any, batch_shape: tuple[int, ...], width: int | None) -> bool:
    # Sizes may be symbols, in programs that are exported for any number of clips.
    shape = getattr(leaf, "shape", None)
    return shape is not None and len(shape) > 0 and shape[:-1] == batch_shape and width in (None, shape[-1])
