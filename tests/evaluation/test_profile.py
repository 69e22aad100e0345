"""The costs of networks: what is counted, what is measured, and the tables."""

import time

import jax.numpy as jnp
import pytest

from dnr_jax.config import ModelConfig
from dnr_jax.dnr import DNRSpec
from dnr_jax.evaluation import profile as module
from dnr_jax.evaluation.profile import COLUMNS, Profile, measure_in_turns, profile, table, variants
from dnr_jax.models import create_model
from dnr_jax.models.complexity import abstract_variables, count_macs, count_parameters
from tests.training import tiny

SHAPE = (8, 16, 16, 3)
SMALL = ModelConfig(depth=18, width=8, stem="small", num_classes=0)


def test_a_network_is_profiled_with_and_without_dnr():
    found = variants(SMALL)
    assert list(found) == ["BN", "DNR"]
    assert found["DNR"] is SMALL
    assert (found["BN"].norm.spec().kinds, found["BN"].interlace) == (("static",) * 3, False)
    assert SMALL.norm.norm1 == "cl"
    assert list(variants(found["BN"])) == ["BN"]


def test_counts_need_no_compiled_program():
    bn, dnr = profile("small", SMALL, SHAPE, repeats=0)
    for result, config in ((bn, variants(SMALL)["BN"]), (dnr, SMALL)):
        model = create_model(ModelConfig(**{**vars(config), "num_classes": 1}))
        assert result.parameters == count_parameters(abstract_variables(model, SHAPE))
        assert result.macs == count_macs(model, SHAPE)
        assert (result.memory, result.latency, result.relative_latency) == (None, None, None)
    assert dnr.parameters > bn.parameters
    assert dnr.macs > bn.macs


def test_memory_and_latency_are_measured(quick_compile, monkeypatch):
    tiny.shrink_resnet18(monkeypatch)
    bn, dnr = profile("small", SMALL, SHAPE, repeats=2)
    features = 8 * 16 * 16 * 8 * 4  # the stem's activations in bytes, which have to be somewhere
    for result in (bn, dnr):
        assert result.memory >= features
        assert result.latency > 0
    assert bn.relative_latency == 1
    assert dnr.relative_latency > 0


def test_functions_are_timed_in_turns_after_one_call_to_warm_up():
    calls = []

    def run(name: str, seconds: float):
        def call():
            calls.append(name)
            time.sleep(seconds * (100 if calls.count(name) == 1 else 1))  # the first call would be an outlier
            return jnp.zeros(())

        return call

    fast, slow = measure_in_turns([run("fast", 0.001), run("slow", 0.004)], repeats=3)
    assert calls == ["fast", "slow"] * 4
    assert len(fast) == len(slow) == 3
    assert 0.001 <= min(fast) < 0.1
    assert 0.004 <= min(slow) < 0.4


def test_latency_is_relative_within_a_turn(monkeypatch):
    """The machine is ten times slower in the second of three turns."""
    monkeypatch.setattr(module, "_compile", lambda model, clip_shape: (7, None))
    monkeypatch.setattr(module, "measure_in_turns", lambda runs, repeats: [[1.0, 10.0, 2.0], [1.5, 12.0, 2.8]])
    bn, dnr = profile("small", SMALL, SHAPE, repeats=3)
    assert (bn.memory, bn.latency, bn.relative_latency) == (7, 2.0, 1.0)
    assert (dnr.latency, dnr.relative_latency) == (2.8, 1.4)


RESULTS = [
    Profile("net", "BN", (8, 32, 40, 3), 1_234_567, 2_000_000_000, 3 * 2**20, 0.0125, 1.0),
    Profile("net", "DNR", (8, 32, 40, 3), 10_000_000, 2_100_000_000),
]


def test_a_markdown_table_has_a_row_a_network_and_leaves_open_what_was_not_measured():
    header, rule, bn, dnr = table(RESULTS, markdown=True).splitlines()
    columns = [column for column in COLUMNS if column != "latency, ms"]
    assert header == f"| {' | '.join(columns)} |"
    assert rule.count("---") == len(columns)
    assert bn == "| net | BN | 8 x 32 x 40 | 1.23 | 2.000 | 3.0 | 1.00 |"
    assert dnr == "| net | DNR | 8 x 32 x 40 | 10.00 | 2.100 |  |  |"


def test_a_text_table_is_aligned():
    header, bn, dnr = table(RESULTS).splitlines()
    assert header.index("parameters") == bn.index("1.23") == dnr.index("10.00")
    assert header.index("latency, ms") == bn.index("12.5")
    assert dnr == dnr.rstrip()


@pytest.mark.parametrize("norms", [("static", "static", "ct"), ("cl", "static", "static")])
def test_any_relay_is_dnr(norms):
    assert list(variants(ModelConfig(norm=DNRSpec(*norms)))) == ["BN", "DNR"]
