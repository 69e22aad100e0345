"""Where the tests find the project, and the golden values and real videos that are not part of it."""

import os
import pathlib

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def shared_folder() -> pathlib.Path:
    """Return the folder that has ``golden/`` and ``data/``: ``$DNR_SHARED``, or ``shared`` beside the repository."""
    return pathlib.Path(os.environ.get("DNR_SHARED", REPOSITORY.parent / "shared"))
