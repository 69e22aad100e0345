"""Other values for every field, made from its type, and what tells whether a network is another one with them."""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp

from dnr_jax.config import Network
from dnr_jax.config.parts import with_fields
from dnr_jax.dnr.fields import field_types, split, unmet
from dnr_jax.models.complexity import abstract_variables


def variations(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The part with another value of one field, for every field and several values, in the parts within it too."""
    for name, kind in field_types(type(part)).items():
        value = getattr(part, name)
        if dataclasses.is_dataclass(value):
            for inner, changed in variations(value, f"{prefix}{name}."):
                yield inner, with_fields(part, {name: changed})
        for other in other_values(kind, value):
            yield f"{prefix}{name}={other}", with_fields(part, {name: other})


def other_values(kind: Any, value: Any) -> Iterator[Any]:
    """Values of a field's type that are not its value."""
    base, _ = split(kind)
    candidates: list[Any] = []
    if typing.get_origin(base) is Literal:
        candidates = list(typing.get_args(base))
    elif typing.get_origin(base) in (typing.Union, types.UnionType):
        candidates = [None, *(other for choice in typing.get_args(base) for other in other_values(choice, value))]
    elif base is str:
        candidates = [f"{value}x", ""]
    elif base is bool:
        candidates = [not value]
    elif isinstance(value, tuple):
        kinds = [*typing.get_args(base)]
        candidates += [value[:-1]] if kinds[-1] is ... else []
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        for i, entry in enumerate(value):
            candidates += [(*value[:i], other, *value[i + 1 :]) for other in other_values(kinds[i], entry)]
    elif base is int and not dataclasses.is_dataclass(value):
        candidates = [value + 1, value + 2, value - 2, value + 8, 2 * value, value // 2]
    elif base is float and isinstance(value, int | float):
        candidates = [value / 2, value + 0.125, 2 * value]
    seen: list[Any] = [value]
    for other in candidates:
        if other not in seen and not unmet(other, kind):
            seen.append(other)
            yield other


def program(network: Network, clip_shape: tuple[int, ...]) -> tuple[str, str]:
    """What a network computes in training, and what its variables are called."""
    model = network.build()
    variables = abstract_variables(model, clip_shape)
    clips = jax.ShapeDtypeStruct((2, *clip_shape), jnp.float32)
    key = jax.eval_shape(functools.partial(jax.random.key, 0))
    train = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    jaxpr = jax.make_jaxpr(lambda v, x, k: train(v, x, rngs={"dropout": k}))(variables, clips, key)
    shapes = jax.tree_util.tree_flatten_with_path(variables)[0]
    return str(jaxpr), ";".join(f"{jax.tree_util.keystr(path)}{math.prod(leaf.shape)}" for path, leaf in shapes)
