"""Wider numbers for a while."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Compute in float64 inside of a ``with``.

    ``jax.enable_x64`` does this from jax 0.8 on, ``jax.experimental.enable_x64`` before; all releases have the setting.
    """
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)
