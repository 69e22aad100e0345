"""Sources with videos that are none."""

import dataclasses


def with_broken(source, positions, folder):
    """The same source, in which the videos at the given positions are text files."""
    path = folder / "broken.mp4"
    path.write_text("not a video")
    paths = tuple(str(path) if position in positions else p for position, p in enumerate(source.paths))
    return dataclasses.replace(source, paths=paths)
