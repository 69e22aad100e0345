"""Readers that do what hostile files make of real ones, or tell of themselves.

In a module of their own, which other processes import.
"""

import os
import time
from typing import Any


def crash(*arguments: Any) -> None:
    os._exit(11)


def hang(*arguments: Any) -> None:
    time.sleep(60)


def process(*arguments: Any) -> int:
    return os.getpid()
