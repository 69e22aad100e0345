"""Locks between processes on folders that they write to.

A lock is the kernel's (``flock``), so it ends with the process that holds it, however that ends, and a file that a
killed process left behind blocks nobody.
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

_NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})

_logger = logging.getLogger(__name__)


class HeldError(Exception):
    """Another process holds a lock; the message is what is known of it."""


@contextlib.contextmanager
def hold(file: pathlib.Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file within a ``with`` block.

    On a file system without locks nothing is held, which a warning says. Those of NFS hold between hosts from version 4
    on, and before where its lock daemon runs.

    Args:
      file: the file, which is made, and holds who has the lock.
      wait: seconds to wait for another process that holds it.

    Raises:
      HeldError: where another process holds it.
      OSError: where nothing can be written to the folder.
    """
    lock = filelock.FileLock(file, timeout=wait, fallback_to_soft=False, on_acquired=_sign)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise HeldError(_holder(file)) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _logger.warning("the file system of '%s' has no locks: see to it that nobody else writes there", file.parent)
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
