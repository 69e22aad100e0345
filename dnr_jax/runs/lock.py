"""A lock on the folder of a run: two processes that train in one folder would write over each other.

Reading a run (``dnr evaluate``, ``predict``, ``export``) needs no lock.
"""

import contextlib
import pathlib
from collections.abc import Iterator

from dnr_jax.config import ConfigError
from dnr_jax.locks import HeldError, hold

LOCK_FILE = "run.lock"


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Hold the folder of a run within a ``with`` block; only the first of several processes of a run does.

    Raises:
      ConfigError: where another process holds it, naming that, or where nothing can be written to the folder.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(workdir / LOCK_FILE))
        except HeldError as held:
            raise ConfigError(
                f"'{workdir}' is in use: {held} trains in it. Wait for its end, stop it, or choose another --workdir"
            ) from None
        except OSError as error:
            raise ConfigError(f"nothing can be written to '{workdir}' ({error.strerror or error})") from error
        yield
