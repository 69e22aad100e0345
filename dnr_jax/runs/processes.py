"""What the processes of a run have in common, where there are several: its folder.

Each writes its share of every checkpoint. Where they do not see one another's files, as with a folder on the local disk
of each host, they would wait for one another without an end.
"""

import pathlib
import random
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from dnr_jax.config import ConfigError, RunError

PATIENCE = 15.0
"""Seconds that a network file system has to show a new file to all hosts."""


def require_shared(folder: pathlib.Path) -> None:
    """Return when all processes see the same folder; at once where there is one process.

    Args:
      folder: of the run. It has to be there for the first process.

    Raises:
      ConfigError: in every process, where some do not see what the first one writes, naming them.
      RunError: where another process has ended, which says why.
    """
    if jax.process_count() == 1:
        return
    is_first, number = jax.process_index() == 0, random.randrange(2**31)
    if is_first:
        _mark(folder, number).touch()
    try:
        mark = _mark(folder, int(multihost_utils.broadcast_one_to_all(np.asarray(number, np.int32))))
        seen = np.ravel(multihost_utils.process_allgather(np.asarray(_appears(mark))))
    except jax.errors.JaxRuntimeError as error:
        raise RunError(
            "another process of this run has ended, or cannot be reached; its own output says why"
        ) from error
    finally:
        if is_first:
            _mark(folder, number).unlink(missing_ok=True)
    if not seen.all():
        without = ", ".join(map(str, np.flatnonzero(~seen)))
        raise ConfigError(
            f"--workdir: '{folder}' is not the same folder in all processes: what process 0 writes there is not seen "
            f"by process {without}. Choose a folder on a disk that all hosts share, such as NFS"
        )


def _mark(folder: pathlib.Path, number: int) -> pathlib.Path:
    return folder / f".shared-{number}"


def _appears(file: pathlib.Path) -> bool:
    end = time.monotonic() + PATIENCE
    while not file.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
