"""Bounds and choices beside fields."""

import dataclasses
from typing import Annotated, Any, Literal

import flax.linen as nn
import numpy as np
import pytest
from annotated_types import Ge, Gt, Interval, Lt

from dnr_jax.dnr.fields import describe, problems, refuse, unmet


@dataclasses.dataclass
class Part:
    base: Literal["bn", "gn"] = "bn"
    depth: Annotated[int, Ge(1)] = 1
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    share: Annotated[float, Interval(ge=0, le=1)] | None = None
    limits: tuple[Annotated[float, Gt(0)], float] = (1.0, 2.0)
    anything: Any = None


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("base", "GN", "one of bn, gn (did you mean 'gn'?)"),
        ("base", "xyz", "one of bn, gn"),
        ("base", None, "one of bn, gn"),
        ("depth", 0, "at least 1"),
        ("depth", 1.5, "a whole number, at least 1"),
        ("depth", True, "a whole number, at least 1"),
        ("depth", "2", "a whole number, at least 1"),
        ("momentum", 1.0, "less than 1"),
        ("momentum", -0.1, "at least 0"),
        ("momentum", 9, "less than 1"),
        ("momentum", float("nan"), "a finite number, at least 0, less than 1"),
        ("momentum", -float("inf"), "a finite number, at least 0, less than 1"),
        ("share", 2.0, "a finite number, at least 0, at most 1 or None"),
        ("limits", (0.0, 1.0), "a tuple of 2 (a finite number, more than 0; a finite number)"),
        ("limits", (1.0,), "a tuple of 2 (a finite number, more than 0; a finite number)"),
        ("limits", 3.0, "a tuple of 2 (a finite number, more than 0; a finite number)"),
    ],
)
def test_refused(field, value, expected):
    part = dataclasses.replace(Part(), **{field: value})
    assert list(problems(part, "model.")) == [f"model.{field}: is {value!r}; expected {expected}"]
    with pytest.raises(ValueError, match="^Part: "):
        refuse(part)


@pytest.mark.parametrize(
    "fields",
    [{}, {"depth": np.int32(3)}, {"momentum": 0}, {"share": 1.0}, {"limits": (1, np.float32(2))}, {"anything": "x"}],
)
def test_accepted(fields):
    refuse(dataclasses.replace(Part(), **fields))


def test_all_problems_are_named():
    with pytest.raises(ValueError, match=r"base: .*; depth: is 0"):
        refuse(Part(base="x", depth=0))


def test_modules_have_settings_beside_name_and_parent():
    class Layer(nn.Module):
        depth: Annotated[int, Ge(1)] = 1

        def __post_init__(self):
            refuse(self)
            super().__post_init__()

    Layer(name="layer")
    with pytest.raises(ValueError, match="depth: is 0; expected at least 1"):
        Layer(depth=0)


def test_entries_of_long_tuples():
    assert unmet((1, 0), tuple[Annotated[int, Ge(1)], ...]) == "a tuple, each entry a whole number, at least 1"
    assert unmet((), tuple[int, ...]) == ""


def test_description_of_optional_fields():
    assert describe(Annotated[int, Ge(1)] | None) == "a whole number, at least 1 or None"
