"""Shapes in signatures are checked while the tests run."""

import importlib

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from dnr_jax.dnr import functional
from dnr_jax.models.stems import halve
from tests import typechecking


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (functional.frame_moments, [jnp.ones((2, 4, 3, 8), jnp.int32)]),
        (functional.group_frames, [jnp.ones((2, 4, 3, 8)), 2]),
        (functional.updated_average, [jnp.ones(8), jnp.ones((1, 2, 4)), 0.9]),
        (halve, [jnp.ones((2, 4, 8, 8))]),
    ],
)
def test_arrays_of_another_dtype_or_shape_are_refused(function, arguments):
    with pytest.raises(TypeCheckError, match="problem arose whilst typechecking parameter"):
        function(*arguments)


def test_the_modules_that_are_checked_exist():
    for name in typechecking.MODULES:
        importlib.import_module(name)
