"""Arguments that several commands take: how they are read, and flags that mean the same everywhere.

What a function here raises, argparse prints with the name of the argument in front.
"""

import argparse
from collections.abc import Callable

from dnr_jax.config import expand_path


def path_from(text: str) -> str:
    """Return a path as :func:`dnr_jax.config.expand_path` does.

    Raises:
      argparse.ArgumentTypeError: for an empty one, as an unset variable of a shell is: it would mean this folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("is empty; expected a path")
    return expand_path(text)


def whole(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number from ``lowest`` to ``highest``, both included; None: without an end.

    What it returns raises argparse.ArgumentTypeError for any other text.
    """
    bounds = f"of {lowest} or more" if highest is None else f"from {lowest} to {highest}"

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest or (highest is not None and int(text) > highest):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {bounds}")
        return int(text)

    return read


def add_checkpoint(command: argparse.ArgumentParser, more: str = "") -> None:
    """Add ``--checkpoint``, which network of a run is taken; ``more`` ends its help."""
    command.add_argument(
        "--checkpoint",
        choices=("latest", "best"),
        default="latest",
        help=f"latest (default): after the last step; best: with the best validation top-1{more}",
    )
