"""A lock on the folder of a run: two processes that train in one folder would write over each other.

The lock is the kernel's (``flock``), so it ends with the process that holds it, however that ends, and a file that a
killed run left behind blocks nobody. Reading a run (``dnr evaluate``, ``predict``, ``export``) needs no lock.
"""

import contextlib
import datetime
import errno
import json
import logging
import os
import pathlib
import shlex
import socket
import sys
import textwrap
from collections.abc import Iterator

import filelock

from dnr_jax.config import ConfigError

LOCK_FILE = "run.lock"
_NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Hold the folder of a run within a ``with`` block; only the first of several processes of a run does.

    On a file system without locks nothing is held, which a warning says. Those of NFS hold between hosts from version 4
    on, and before where its lock daemon runs.

    Raises:
      ConfigError: where another process holds it, naming that, or where nothing can be written to the folder.
    """
    lock = filelock.FileLock(workdir / LOCK_FILE, blocking=False, fallback_to_soft=False, on_acquired=_sign)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ConfigError(
            f"'{workdir}' is in use: {_holder(workdir / LOCK_FILE)} trains in it. Wait for its end, stop it, or "
            "choose another --workdir"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise ConfigError(f"nothing can be written to '{workdir}' ({error.strerror or error})") from error
        _logger.warning("the file system of '%s' has no locks: see to it that no second run writes there", workdir)
    try:
        yield
    finally:
        lock.release()


def _sign(descriptor: int) -> None:
    """Note who holds the lock, in its file."""
    now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    command = textwrap.shorten(shlex.join(sys.argv), 200, placeholder=" ...")
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": now, "command": command}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode() + b"\n", 0)


def _holder(file: pathlib.Path) -> str:
    """Return who holds a lock, as far as its file tells."""
    try:
        owner = json.loads(file.read_text())
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']} ({owner['command']}),"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
