"""The choice of norms: what is refused, and that every setting reaches its layer."""

import dataclasses

import jax.numpy as jnp
import pytest

from dnr_jax.config import NormConfig
from dnr_jax.dnr import (
    AttentiveNorm,
    CrossLayerDNR,
    CrossTemporalDNR,
    DNRSpec,
    InstanceLevelMetaNorm,
    RelayCell,
    StaticNorm,
)


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


def test_config_mirrors_the_spec():
    assert dataclasses.asdict(NormConfig()) == dataclasses.asdict(DNRSpec())
    assert NormConfig(norm3="ct", depth=2).spec() == DNRSpec(norm3="ct", depth=2)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("norm1", "gn", "norm1 must be one of static, cl, ct, ilm, an; got 'gn'"),
        ("norm2", "CT", "norm2 must be one of static, cl, ct, ilm, an; got 'CT'"),
        ("norm3", None, "norm3 must be one of static, cl, ct, ilm, an; got None"),
        ("granularity", "clip", "granularity must be one of group, frame; got 'clip'"),
        ("statistics", "batch", "statistics must be one of group, clip, frame; got 'batch'"),
        ("base", "syncbn", "base must be one of bn, gn, in, ln, brn, sn; got 'syncbn'"),
        ("relay", "gru", "relay must be one of lstm, se, fc, none; got 'gru'"),
        ("initial_state", "ones", "initial_state must be one of zeros, learned; got 'ones'"),
        ("direction", "backward", "direction must be one of forward, bidirectional; got 'backward'"),
        ("sharing", "network", "sharing must be one of stage, block; got 'network'"),
        ("layer_distance", 0, "layer_distance must be at least 1; got 0"),
        ("channel_groups", 0, "channel_groups must be at least 1; got 0"),
        ("channels_per_group", -1, "channels_per_group must be at least 0; got -1"),
        ("renorm_limits", (0.5, 1.0), r"renorm_limits must be at least \(1, 0\); got \(0.5, 1.0\)"),
        ("renorm_steps", (5, 4, 9), r"renorm_steps must be a start from 0 and two later ends; got \(5, 4, 9\)"),
        ("relay_distance", 0, "relay_distance must be at least 1; got 0"),
        ("num_groups", -1, "num_groups must be at least 0; got -1"),
        ("reduction", 0, "reduction must be at least 1; got 0"),
        ("depth", 0, "depth must be at least 1; got 0"),
        ("clips_per_statistics", -1, "clips_per_statistics must be at least 0; got -1"),
        ("momentum", 1.0, r"momentum must be in \[0, 1\); got 1.0"),
        ("momentum", -0.1, r"momentum must be in \[0, 1\); got -0.1"),
        ("epsilon", 0.0, "epsilon must be positive; got 0.0"),
    ],
)
def test_what_cannot_be_built_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        DNRSpec(**{field: value})


def test_a_state_that_nothing_reads_is_refused():
    with pytest.raises(ValueError, match="initial_state 'learned' has no effect with relay 'none'"):
        DNRSpec(relay="none", initial_state="learned")


STANDARDIZATION = {
    "base": "brn",
    "channel_groups": 3,
    "channels_per_group": 4,
    "statistics": "clip",
    "momentum": 0.8,
    "epsilon": 0.9,
    "clips_per_statistics": 7,
    "renorm_limits": (2.0, 3.0),
    "renorm_steps": (1, 2, 3),
}
PREDICTION = {"relay": "se", "reduction": 5, "depth": 6, "initial_state": "learned"}
TEMPORAL = {"relay_distance": 2, "num_groups": 3, "granularity": "frame", "direction": "bidirectional"}
SPEC = DNRSpec(**STANDARDIZATION, **PREDICTION, **TEMPORAL, layer_distance=8)
SHARED = STANDARDIZATION | {"param_dtype": jnp.float16, "name": "norm"}


@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("static", StaticNorm(**SHARED)),
        ("cl", CrossLayerDNR(cell=RelayCell(8), relay_distance=8, **PREDICTION, **SHARED)),
        ("ct", CrossTemporalDNR(**TEMPORAL, **PREDICTION, **SHARED)),
        ("ilm", InstanceLevelMetaNorm(**SHARED)),
        ("an", AttentiveNorm(**SHARED)),
    ],
)
def test_settings_reach_the_layer(kind, layer):
    assert SPEC.norm(kind, RelayCell(8), name="norm", param_dtype=jnp.float16) == layer


def test_settings_reach_the_shared_cell():
    spec = dataclasses.replace(SPEC, norm2="cl")
    assert spec.relay_cell(1, 8) == RelayCell(8, **PREDICTION, name="relay2")
    assert dataclasses.replace(spec, sharing="block").relay_cell(1, 8) is None


def test_only_cross_layer_positions_share_a_cell():
    spec = DNRSpec("ct", "cl", "cl", reduction=2, depth=3)
    assert spec.relay_cell(0, 8) is None
    assert spec.relay_cell(1, 8, jnp.float16) == RelayCell(8, 2, 3, jnp.float16, name="relay2")
    assert spec.relay_cell(2, 8).name == "relay3"
