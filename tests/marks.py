"""Marks of parametrised tests."""

from typing import Any

import pytest


def thorough(*values: Any) -> list:
    """Return parameters, each a value or a tuple of them, whose tests are slow and which another quick test implies."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow) for value in values
    ]
