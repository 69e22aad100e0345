"""What a folder holds, told by the sources themselves."""

from collections.abc import Iterator

from dnr_jax.config import Source, registered


def sources_in(folder: str) -> Iterator[Source]:
    """Yield the sources that tell by a folder that they are there, in the order in which they are registered."""
    for cls in registered(Source).values():
        if (source := cls.found_in(folder)) is not None:
            yield source
