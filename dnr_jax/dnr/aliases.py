"""Names of types that several modules share.

Shapes are those of jaxtyping: ``n`` clips, ``t`` frames, ``*s`` spatial axes (``h w``), ``c`` channels, ``f`` runs of
frames, ``g`` frame groups, ``r`` sets of clips. They are checked at run time in the tests alone.
"""

from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dnr_jax.dnr.fields import Where

Dtype: TypeAlias = jax.typing.DTypeLike
"""What JAX takes for a dtype."""
FloatDtype = Annotated[Any, Where("a floating-point dtype", lambda dtype: _is_floating(dtype))]
"""The same in a field, which refuses others than those of floating-point numbers."""
Features: TypeAlias = Float[Array, "n t *s c"]
Carry: TypeAlias = PyTree[Float[Array, "..."]]
"""What a cell over depth hands on: the states of relays, or None where nothing is relayed yet."""
ScaleShift: TypeAlias = tuple[Float[Array, "n f c"], Float[Array, "n f c"]]
"""Gamma and beta for ``f`` runs of frames of equal length, of each clip or (``n`` of 1) of all."""


def _is_floating(dtype: Any) -> bool:
    """Return whether this is a dtype of floating-point numbers; None, which NumPy takes for one, is none."""
    try:
        return dtype is not None and jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except (TypeError, ValueError):
        return False
