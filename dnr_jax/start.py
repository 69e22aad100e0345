"""How the commands start: Ctrl-C ends them without a traceback even while they import jax, which takes seconds."""

import importlib
import os
import signal
from types import ModuleType


def import_quietly(module: str, program: str) -> ModuleType:
    """Import a module; Ctrl-C ends the process meanwhile with a line and status 130.

    Args:
      module: Its full name.
      program: What the line begins with.
    """

    def end(*_: object) -> None:
        os.write(2, f"{program}: interrupted\n".encode())
        os._exit(128 + signal.SIGINT)

    # A program in the background ignores Ctrl-C, and goes on doing so.
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return importlib.import_module(module)
    signal.signal(signal.SIGINT, end)
    try:
        return importlib.import_module(module)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> int:
    """Run the ``dnr`` command and return its exit status."""
    return import_quietly("dnr_jax.cli", "dnr").main()
