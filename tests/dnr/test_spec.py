"""The choice of norms, and what it refuses: all layers refuse the same, in the same words."""

import ast
import dataclasses
import inspect
import math
import re
import typing

import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.dnr import (
    AttentiveNorm,
    BatchRenorm,
    CrossLayerDNR,
    CrossTemporalDNR,
    DNRSpec,
    GroupNorm,
    InstanceLevelMetaNorm,
    RelayCell,
    StaticNorm,
)
from dnr_jax.dnr.fields import changed, field_types, part_problems, problems, split
from dnr_jax.dnr.relay import CellSettings, Prediction, SharedCell
from dnr_jax.dnr.scaling import FrameGroups, KeyEncoder, LayerRelay, LearnedTransform, Mixture
from dnr_jax.dnr.spec import Positions
from dnr_jax.dnr.standardize import LayerSettings, Standardization
from tests.dnr.settings import BASES
from tests.paths import REPOSITORY

LAYERS = (StaticNorm, CrossTemporalDNR, CrossLayerDNR, InstanceLevelMetaNorm, AttentiveNorm, RelayCell)
DEFAULTS = {field.name: getattr(DNRSpec(), field.name) for field in dataclasses.fields(DNRSpec)}


def build(owner: type, **fields):
    return owner(8, **fields) if owner is RelayCell else owner(**fields)


def owners(field: str) -> list[type]:
    """The layers that share a field with the specification: those that take its type from the same place."""
    group = next(cls for cls in DNRSpec.__mro__ if field in vars(cls).get("__annotations__", {}))
    shared = {Standardization: LAYERS[:-1], FrameGroups: (CrossTemporalDNR,)}
    return list(shared.get(group, (CrossTemporalDNR, CrossLayerDNR, RelayCell) if group is Prediction else ()))


def test_defaults_are_the_papers_best_setting():
    spec = DNRSpec()
    assert spec.kinds == ("cl", "ct", "static")
    assert (spec.relay_distance, spec.num_groups) == (4, 0)
    assert (spec.reduction, spec.depth) == (4, 1)


def test_the_authors_code_has_four_groups():
    spec = DNRSpec.authors(reduction=2)
    assert (spec.num_groups, spec.reduction) == (4, 2)
    assert DNRSpec.authors(num_groups=2).num_groups == 2


def test_static_is_batch_normalisation_everywhere():
    assert DNRSpec.static(momentum=0.5) == DNRSpec("static", "static", "static", momentum=0.5)


def test_a_copy_is_checked_and_its_own():
    section = DNRSpec()
    spec = section.spec()
    section.depth = 0
    assert spec == DNRSpec() and hash(spec) == hash(DNRSpec())
    with pytest.raises(ValueError, match="DNRSpec: depth: is 0; expected at least 1"):
        section.spec()


def test_the_counterpart_keeps_the_standardisation_alone():
    spec = DNRSpec(relay="se", relay_distance=2, layer_distance=2, sharing="block", momentum=0.8, statistics="clip")
    assert spec.counterpart() == DNRSpec.static(momentum=0.8, statistics="clip")


def test_another_base_brings_its_own_settings():
    spec = DNRSpec(momentum=0.8, clips_per_statistics=4, epsilon=1e-3)
    assert changed(spec, base="gn") == DNRSpec(base=GroupNorm(epsilon=1e-3))
    spec.base = "gn"
    assert spec == DNRSpec(base="gn", epsilon=1e-3)
    with pytest.raises(
        ValueError, match="momentum: is 0.7, which needs base bn, brn or sn; expected none with base gn"
    ):
        dataclasses.replace(spec, momentum=0.7)


def test_a_layer_and_a_specification_have_their_own_base():
    base = GroupNorm(groups=8)
    layer, spec = StaticNorm(base=base), DNRSpec(base=base)
    base.groups = 4
    assert layer.base == spec.base == GroupNorm(groups=8)
    copied = spec.spec()
    spec.base.groups = 4
    assert copied.base == GroupNorm(groups=8)


def test_what_is_written_under_another_name_is_refused():
    spec = DNRSpec()
    spec.clips_per_statistics = 4
    (problem,) = part_problems(spec, "model.norm.")
    assert problem == (
        "model.norm.clips_per_statistics: there is no such field (did you mean 'base.clips_per_statistics'?)"
    )
    spec = DNRSpec()
    spec.relay_distnce = 4
    assert list(part_problems(spec)) == ["relay_distnce: there is no such field (did you mean 'relay_distance'?)"]


REFUSED = {
    "base": [("LN", f"one of {', '.join(BASES)} (did you mean 'ln'?)"), ("syncbn", "one of bn"), (None, "one of bn")],
    "relay": [("LSTM", "one of lstm, se, fc, none (did you mean 'lstm'?)"), ("gru", "one of lstm, se, fc, none")],
    "reduction": [(0, "at least 1")],
    "depth": [(0, "at least 1"), (-1, "at least 1")],
    "initial_state": [("ones", "one of zeros, learned")],
    "gain": [(0.0, "more than 0"), (-1.0, "more than 0"), ("4", "a finite number")],
    "relay_distance": [(0, "at least 1"), (-1, "at least 1"), ("4", "a whole number")],
    "num_groups": [(-1, "at least 0")],
    "granularity": [("Frame", "one of group, frame (did you mean 'frame'?)")],
    "direction": [("backward", "one of forward, bidirectional")],
    "layer_distance": [(0, "at least 1")],
    "sharing": [("network", "one of stage, block")],
    "norm1": [("gn", "one of static, cl, ct, ilm, an"), (None, "one of static, cl, ct, ilm, an")],
    "norm2": [("CT", "one of static, cl, ct, ilm, an (did you mean 'ct'?)")],
    "norm3": [("", "one of static, cl, ct, ilm, an")],
}
"""For each field of the specification: values that it may not hold, and how the answer begins."""


@pytest.mark.parametrize(
    ("field", "value", "expected"), [(field, *case) for field, cases in REFUSED.items() for case in cases]
)
def test_what_the_spec_refuses_every_layer_refuses_with_the_same_words(field, value, expected):
    (refusal,) = problems(unchecked(**{field: value}))
    assert refusal.startswith(f"{field}: is {value!r}; expected {expected}")
    for owner in (DNRSpec, *owners(field)):
        with pytest.raises(ValueError) as refused:
            build(owner, **{field: value})
        assert str(refused.value) == f"{owner.__name__}: {refusal}"


def test_every_field_is_in_the_table():
    assert set(REFUSED) == set(DEFAULTS)


def test_the_documentation_lists_every_field_with_its_default_and_choices():
    page = (REPOSITORY / "docs/method.md").read_text()
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|$", page, re.MULTILINE))
    fields = {name: (kind, DEFAULTS[name]) for name, kind in field_types(DNRSpec).items() if name != "base"}
    for base in BASES.values():
        fields |= {f"base.{name}": (kind, getattr(base(), name)) for name, kind in field_types(base).items()}
    assert rows["base"].startswith("`bn` | " + ", ".join(f"`{base}`" for base in BASES))
    for name, (kind, expected) in fields.items():
        default, values, *_ = rows[name].split(" | ")
        assert ast.literal_eval(default) == expected if "`" not in default else default == f"`{expected}`"
        choices = [f"`{choice}`" for choice in typing.get_args(split(kind)[0]) if isinstance(choice, str)]
        assert not choices or values.startswith(", ".join(choices[:3])) or values == "likewise", name


def unchecked(**fields) -> DNRSpec:
    """A section that a person has written into."""
    spec = DNRSpec()
    for name, value in fields.items():
        setattr(spec, name, value)
    return spec


FIELDS_OF_OTHERS = [
    *((base, {"momentum": 0.8}, "bn, brn or sn") for base in ("gn", "in", "ln")),
    *((base, {"clips_per_statistics": 8}, "bn, brn or sn") for base in ("gn", "in", "ln")),
    *((base, {"groups": 16}, "gn") for base in BASES if base != "gn"),
    *((base, {"channels_per_group": 4}, "gn") for base in BASES if base != "gn"),
    *((base, {"limits": (2.0, 1.0)}, "brn") for base in ("bn", "gn", "sn")),
    *((base, {"steps": (1, 2, 3)}, "brn") for base in ("bn", "gn", "sn")),
]
"""Bases, a field that they do not have, and those that do."""


@pytest.mark.parametrize(("base", "field", "bases"), FIELDS_OF_OTHERS)
@pytest.mark.parametrize("owner", [DNRSpec, *LAYERS[:-1]])
def test_a_field_that_the_base_does_not_have_is_refused(owner, base, field, bases):
    ((name, value),) = field.items()
    with pytest.raises(ValueError) as refused:
        owner(base=base, **field)
    expected = f"{name}: is {value!r}, which needs base {bases}; expected none with base {base}"
    assert str(refused.value) == f"{owner.__name__}: {expected}"


IDLE = [
    ({"num_groups": 4, "relay_distance": 2}, "relay_distance", "num_groups 0"),
    ({"relay": "fc", "reduction": 2}, "reduction", "relay lstm, se or none"),
    ({"relay": "none", "initial_state": "learned"}, "initial_state", "relay lstm, se or fc"),
]
"""Settings that have no effect, the field, and what it needs; in every layer that has the field."""


@pytest.mark.parametrize(("fields", "idle", "needed"), IDLE)
def test_a_setting_without_effect_is_refused_in_the_same_words(fields, idle, needed):
    (refusal,) = problems(unchecked(**fields))
    assert refusal.startswith(f"{idle}: is {fields[idle]!r}, which needs {needed}; expected {DEFAULTS[idle]!r} with ")
    for owner in (DNRSpec, *owners(idle)):
        with pytest.raises(ValueError) as refused:
            build(owner, **fields)
        assert str(refused.value) == f"{owner.__name__}: {refusal}"


@pytest.mark.parametrize("field", [*vars(FrameGroups)["__annotations__"], *vars(Prediction)["__annotations__"]])
def test_relays_are_set_where_there_are_some(field):
    value = {"direction": "bidirectional", "granularity": "frame", "relay": "se", "initial_state": "learned"}
    group = FrameGroups if hasattr(FrameGroups, field) else Prediction
    kinds = "ct" if group is FrameGroups else "cl or ct"
    fields = {field: value.get(field, 2)}
    for norms in (("static",) * 3, ("ilm", "an", "static"), *([("cl", "cl", "static")] if kinds == "ct" else [])):
        (refusal,) = problems(unchecked(norm1=norms[0], norm2=norms[1], norm3=norms[2], **fields))
        assert f"{field}: is {fields[field]!r}, which needs {kinds} in norm1, norm2 or norm3; expected" in refusal
    for norms in (("static", "ct", "static"), ("static", "static", "ct")):
        DNRSpec(*norms, **fields)


@pytest.mark.parametrize(("field", "value"), [("layer_distance", 2), ("sharing", "block")])
def test_chains_are_set_where_there_are_some(field, value):
    with pytest.raises(ValueError, match=f"{field}: is {value!r}, which needs cl in norm1, norm2 or norm3"):
        DNRSpec(norm1="static", **{field: value})
    DNRSpec(norm1="static", norm3="cl", **{field: value})


def test_a_chain_that_relays_nothing_has_no_length():
    with pytest.raises(ValueError, match="layer_distance: is 2, which needs relay lstm, se or fc; expected 1"):
        DNRSpec(relay="none", layer_distance=2)
    with pytest.raises(ValueError, match="relay_distance: is 2, which needs relay lstm, se or fc; expected 1"):
        CrossLayerDNR(relay="none", relay_distance=2)
    cell = RelayCell(8, relay="none")
    for given in (cell, SharedCell({}, cell)):
        with pytest.raises(ValueError, match="relay_distance: is 2, which needs a cell that relays; expected 1"):
            CrossLayerDNR(cell=given, relay_distance=2)


@pytest.mark.parametrize(
    "fields", [{"relay": "se"}, {"reduction": 2}, {"depth": 2}, {"initial_state": "learned"}, {"gain": 4.0}], ids=str
)
def test_a_layer_with_a_given_cell_has_none_to_set(fields):
    ((name, value),) = fields.items()
    with pytest.raises(ValueError, match=f"CrossLayerDNR: {name}: is {value!r}, which needs no cell; expected .* with"):
        CrossLayerDNR(cell=RelayCell(8), **fields)


def test_all_problems_are_named_at_once():
    with pytest.raises(ValueError, match=r"direction: is 'backward'.*; depth: is 0.*; base: is 'x'"):
        DNRSpec(base="x", depth=0, direction="backward", momentum=0.8)
    with pytest.raises(ValueError, match=r"StaticNorm: base\.epsilon: is 0.0; .*; base\.momentum: is 9; expected less"):
        StaticNorm(momentum=9, epsilon=0.0)


@pytest.mark.parametrize(
    ("layer", "fields", "expected"),
    [
        (RelayCell, {"features": 0}, "features: is 0; expected at least 1"),
        (StaticNorm, {"param_dtype": jnp.int32}, "expected a floating-point dtype"),
        (StaticNorm, {"dtype": "int8"}, "expected a floating-point dtype or None"),
        (StaticNorm, {"param_dtype": None}, "param_dtype: is None; expected a floating-point dtype"),
        (RelayCell, {"features": 8, "param_dtype": 2.5}, "param_dtype: is 2.5; expected a floating-point dtype"),
        (
            StaticNorm,
            {"dtype": "half precision"},
            "dtype: is 'half precision'; expected a floating-point dtype or None",
        ),
        (StaticNorm, {"use_bias": np.array([True, False])}, "use_bias: is array.*; expected True or False"),
        (RelayCell, {"features": 8, "depth": np.ones(2)}, "depth: is array.*; expected a whole number, at least 1"),
        (RelayCell, {"features": 8, "gain": math.inf}, "gain: is inf; expected a finite number"),
        (StaticNorm, {"use_running_average": "yes"}, "expected True or False or None"),
        (StaticNorm, {"scale_init": 1}, "expected a function"),
        (StaticNorm, {"use_scale": False, "scale_init": jnp.zeros}, "which needs use_scale True"),
        (CrossLayerDNR, {"cell": RelayCell}, "expected a relay cell or None"),
        (CrossLayerDNR, {"cell": "lstm"}, "cell: is 'lstm'; expected a relay cell or None"),
        (InstanceLevelMetaNorm, {"key_channels": 0}, "key_channels: is 0; expected at least 1"),
        (AttentiveNorm, {"num_mixtures": 0}, "num_mixtures: is 0; expected at least 1"),
        (
            StaticNorm,
            {"base": "gn", "axis_name": "batch"},
            "needs base bn, brn or sn; expected None with base gn",
        ),
        (StaticNorm, {"clips_per_statistics": 2, "axis_name": "batch"}, "axis_name: .* expected None with base.clips"),
    ],
)
def test_fields_of_layers_alone(layer, fields, expected):
    with pytest.raises(ValueError, match=f"^{layer.__name__}: .*{expected}"):
        layer(**fields)


@pytest.mark.parametrize(
    "group",
    [
        *(Standardization, LayerSettings, LearnedTransform, Prediction, FrameGroups, LayerRelay, KeyEncoder, Mixture),
        *(CellSettings, Positions, DNRSpec, *LAYERS, *BASES.values()),
    ],
)
def test_fields_have_their_docstring_beside_them(group):
    source = inspect.getsource(group).splitlines()
    for name in vars(group).get("__annotations__", {}):
        if name in ("parent", "name"):
            continue
        start = next(i for i, line in enumerate(source) if line.startswith(f"    {name}: "))
        following = next(line for line in source[start + 1 :] if line.startswith('    """') or ": " in line[:30])
        assert following.startswith('    """'), name


STANDARDIZATION = {
    "base": BatchRenorm(
        statistics="clip",
        momentum=0.8,
        epsilon=0.9,
        clips_per_statistics=7,
        limits=(2.0, 3.0),
        steps=(1, 2, 3),
    )
}
PREDICTION = {"relay": "se", "reduction": 5, "depth": 6, "initial_state": "learned", "gain": 4.0}
TEMPORAL = {"num_groups": 3, "granularity": "frame", "direction": "bidirectional"}
SPEC = DNRSpec(**STANDARDIZATION, **PREDICTION, **TEMPORAL, layer_distance=8)
SHARED = STANDARDIZATION | {"param_dtype": jnp.float16, "name": "norm"}


@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("static", StaticNorm(**SHARED)),
        ("cl", CrossLayerDNR(cell=RelayCell(8), relay_distance=8, **SHARED)),
        ("ct", CrossTemporalDNR(**TEMPORAL, **PREDICTION, **SHARED)),
        ("ilm", InstanceLevelMetaNorm(**SHARED)),
        ("an", AttentiveNorm(**SHARED)),
    ],
)
def test_settings_reach_the_layer(kind, layer):
    assert SPEC.norm(kind, RelayCell(8), name="norm", param_dtype=jnp.float16) == layer


def test_other_settings_reach_the_layer():
    groups = {"base": "gn", "channels_per_group": 4}
    assert DNRSpec(**groups, relay_distance=2).norm("ct") == CrossTemporalDNR(relay_distance=2, **groups)
    assert DNRSpec(base="gn", groups=3).norm("static") == StaticNorm(base=GroupNorm(groups=3))
    own = {"relay": "se", "reduction": 2}
    assert DNRSpec(**own, sharing="block").norm("cl") == CrossLayerDNR(**own)


def test_a_kind_that_there_is_not():
    with pytest.raises(ValueError, match=r"no norm is called 'CT' \(did you mean 'ct'\?\); there are static, cl, ct"):
        DNRSpec().norm("CT")


def test_settings_reach_the_shared_cell():
    spec = dataclasses.replace(SPEC, norm2="cl", norm3="ct")
    assert spec.relay_cell(1, 8) == RelayCell(8, **PREDICTION, name="relay2")
    assert dataclasses.replace(spec, sharing="block").relay_cell(1, 8) is None


def test_only_cross_layer_positions_share_a_cell():
    spec = DNRSpec("ct", "cl", "cl", reduction=2, depth=3)
    assert spec.relay_cell(0, 8) is None
    assert spec.relay_cell(1, 8, jnp.float16) == RelayCell(8, 2, 3, jnp.float16, name="relay2")
    assert spec.relay_cell(2, 8).name == "relay3"
