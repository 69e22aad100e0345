"""The bases as parts: found by name, checked when they are made, and pure functions of arrays."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.dnr import BatchNorm, GroupNorm, StaticNorm, functional, parts
from dnr_jax.dnr.bases import Base, Observation
from dnr_jax.dnr.fields import part_problems
from dnr_jax.dnr.parts import ConfigError, exchanged, named
from tests.config.effects import variations
from tests.dnr.settings import BASES, RENORM, RUNNING, C, features


@pytest.mark.parametrize(("alias", "cls"), BASES.items())
def test_a_base_is_found_by_the_name_of_its_class_and_by_its_short_one(alias, cls):
    assert named(Base, alias) is named(Base, cls.__name__) is cls
    assert StaticNorm(base=alias) == StaticNorm(base=cls.__name__) == StaticNorm(base=cls())


@pytest.mark.parametrize(("name", "near"), [("GN", "gn"), ("batchnorm", "BatchNorm"), ("GroupNrom", "GroupNorm")])
def test_another_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(
        ConfigError, match=rf"no Base is called {name!r} \(did you mean {near!r}\?\); there are BatchNorm"
    ):
        named(Base, name)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="^gn is the name of a class in dnr_jax.dnr.bases.clip already"):
        parts.register(dataclasses.make_dataclass("Another", [], bases=(GroupNorm,)))


REFUSED = [
    ("gn", {"groups": 0}, "groups: is 0; expected at least 1"),
    ("gn", {"groups": 1.5}, "groups: is 1.5; expected a whole number, at least 1"),
    ("gn", {"channels_per_group": -1}, "channels_per_group: is -1; expected at least 0"),
    (
        "gn",
        {"groups": 16, "channels_per_group": 4},
        "groups: is 16, which needs channels_per_group 0; expected 32",
    ),
    *(
        (base, {"statistics": "token"}, "statistics: is 'token'; expected one of group, clip, frame")
        for base in ("bn", "in", "brn", "sn")
    ),
    *(
        (
            base,
            {"statistics": "Frame"},
            "statistics: is 'Frame'; expected one of group, clip, frame, token (did you mean",
        )
        for base in ("gn", "ln")
    ),
    *((base, {"epsilon": 0.0}, "epsilon: is 0.0; expected more than 0") for base in BASES),
    *((base, {"epsilon": float("inf")}, "epsilon: is inf; expected a finite number") for base in BASES),
    ("bn", {"epsilon": "1e-5"}, "epsilon: is '1e-5'; expected a finite number"),
    *(
        (base, {"momentum": value}, f"momentum: is {value}; expected less than 1")
        for base in RUNNING
        for value in (9, 1.0)
    ),
    ("bn", {"momentum": -0.1}, "momentum: is -0.1; expected at least 0"),
    ("sn", {"momentum": float("nan")}, "momentum: is nan; expected a finite number, at least 0"),
    ("bn", {"clips_per_statistics": -1}, "clips_per_statistics: is -1; expected at least 0"),
    ("bn", {"clips_per_statistics": True}, "clips_per_statistics: is True; expected a whole number, at least 0"),
    ("brn", {"limits": (0.5, 1.0)}, "limits: is (0.5, 1.0); expected a tuple of 2 (a finite number, at least 1"),
    ("brn", {"limits": 3.0}, "limits: is 3.0; expected a tuple of 2"),
    ("brn", {"steps": (5, 4, 9)}, "steps: is (5, 4, 9); expected a start and two later ends"),
    ("brn", {"steps": (-1, 4, 9)}, "steps: is (-1, 4, 9); expected a tuple of 3"),
]


@pytest.mark.parametrize(("alias", "fields", "message"), REFUSED)
def test_what_a_base_refuses_its_layers_refuse_too(alias, fields, message):
    with pytest.raises(ValueError, match=re.escape(f"{BASES[alias].__name__}: {message}")):
        BASES[alias](**fields)
    with pytest.raises(ValueError, match=re.escape(f"StaticNorm: base.{message}")):
        StaticNorm(base=alias, **fields)


def test_another_base_keeps_what_both_have():
    assert exchanged(BatchNorm(epsilon=1e-3, momentum=0.8, statistics="clip"), GroupNorm) == GroupNorm(
        epsilon=1e-3, statistics="clip"
    )
    assert exchanged(GroupNorm(statistics="token"), BatchNorm) == BatchNorm()  # which has no such statistics


def seen(x: jax.Array) -> Observation:
    return Observation(functional.frame_moments(x), 1, x.shape[2])


def started(variables: dict) -> dict:
    return {name: variable.create(jnp.float32) for name, variable in variables.items()}


@pytest.mark.parametrize("alias", BASES)
def test_a_base_is_a_function_of_arrays(alias):
    """Without any layer: what it keeps is what it says, in training and evaluation."""
    base, x = BASES[alias](), features(2, 4, 3).astype(jnp.float32)
    learned, running = started(base.learned(C)), started(base.running(C))
    assert set(running) == ({"mean", "var"} if alias in RUNNING else set()) | ({"step"} if alias == "brn" else set())
    scaled, after = base.standardize(seen(x), learned, running, train=True)
    assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, running)
    assert all((after[name] != running[name]).all() for name in running)
    if alias != "sn":  # which mixes means
        y = functional.modulate(x, scaled)
        np.testing.assert_allclose(jnp.mean(y, (0, 1, 2) if alias in RUNNING else (1, 2, 3)), 0, atol=1e-5)
    _, kept = base.standardize(seen(x), learned, running, train=False)
    assert all(kept[name] is running[name] for name in running)


@pytest.mark.parametrize("alias", BASES)
def test_every_field_of_a_base_changes_what_its_layers_compute(alias):
    x = features(8, 4, 3)

    def program(base: Base) -> str:
        layer = StaticNorm(base=base)
        init = functools.partial(layer.init, use_running_average=True)
        variables = jax.eval_shape(init, jax.random.key(0), None, x)
        train = functools.partial(layer.apply, use_running_average=False, mutable=["batch_stats"])
        return str(jax.make_jaxpr(train)(variables, None, x))

    before, changed = program(BASES[alias]()), set()
    for change, base in variations(BASES[alias]()):
        field = change.partition("=")[0]
        if field not in changed and not list(part_problems(base)) and program(base) != before:
            changed.add(field)
    assert changed == {field.name for field in dataclasses.fields(BASES[alias])}


def test_statistics_of_positions_are_those_of_two_bases():
    x = features(1, 2, 3)
    for alias, base in BASES.items():
        if alias in ("gn", "ln"):
            assert base(statistics="token").by_position and not base().by_position
        else:
            with pytest.raises(NotImplementedError, match=f"{base.__name__} has no statistics of single positions"):
                base().standardize_positions(x)


def test_runs_are_those_of_the_statistics():
    for statistics, runs in (("group", 2), ("clip", 1), ("frame", 8)):
        assert BatchNorm(statistics=statistics).runs(8, 2) == runs
    assert BASES["brn"](**RENORM).clips_shared == 0 and BatchNorm(clips_per_statistics=4).clips_shared == 4
