"""What ``dnr train``, ``train.py`` and the other commands have in common: how they end."""

import importlib.metadata
import os
import platform
import signal
import sys
from collections.abc import Callable

import dnr_jax
from dnr_jax.config import ConfigError, RunError, expand_path
from dnr_jax.training.metrics import NonFiniteError

EXIT_STATUS = """\
exit status:
  0    all is well
  1    not all went well: a video cannot be decoded, 'dnr check' found a problem, a file cannot be written
  2    something has to be corrected by a person; the message says what
  130  interrupted by Ctrl-C
  141  nobody reads the output any more"""
"""For the commands' help."""


def version() -> str:
    """Return the versions that a report of a fault should name."""
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "av"))
    return f"dnr_jax {dnr_jax.__version__} ({libraries}, Python {platform.python_version()})"


def local_folder(what: str, text: str) -> str:
    """Return a folder that is written to, as :func:`dnr_jax.config.expand_path` does; it may not be there yet.

    Args:
      what: the argument that names it, for messages.
      text: what a person wrote.

    Raises:
      ConfigError: where the folder has no name, is in a bucket, or is a file.
    """
    path = expand_path(text)
    if not path:
        raise ConfigError(f"{what} is empty; expected a folder")
    if "://" in path:
        raise ConfigError(
            f"{what} is {path}; expected a folder on a local disk, which can be copied to a bucket afterwards"
        )
    if os.path.exists(path) and not os.path.isdir(path):
        raise ConfigError(f"{what} is {path}, a file; expected a folder")
    return path


def run(program: str, command: Callable[[], int | None], interrupted: str = "") -> int:
    """Run a command and return its exit status, which :data:`EXIT_STATUS` explains.

    Args:
      program: what the messages begin with.
      command: what to run. Returns the status, None for 0.
      interrupted: what to say after Ctrl-C beside that, such as how to go on.
    """
    for stream in (sys.stdout, sys.stderr):
        # Names of files and classes are printed whatever they hold, and whatever the terminal understands.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return command() or 0
        finally:
            sys.stdout.flush()  # a reader that has gone is noticed here, not when Python ends
    except (ConfigError, NonFiniteError) as error:
        return _fail(program, str(error))
    except RunError as error:
        return _fail(program, str(error), 1)
    except BrokenPipeError:
        # Python flushes the stream once more when it ends, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno is None:
            raise
        return _fail(program, f"{error.strerror}{f': {error.filename!r}' if error.filename else ''}")
    except KeyboardInterrupt:
        return _fail(program, f"interrupted{interrupted and f'; {interrupted}'}", 128 + signal.SIGINT)


def _fail(program: str, message: str, status: int = 2) -> int:
    print(f"{program}: {message}", file=sys.stderr)
    return status
