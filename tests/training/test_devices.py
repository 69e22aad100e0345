"""With which options of the compiler steps are compiled."""

import jax
import numpy as np
import pytest

from dnr_jax.config import load_config
from dnr_jax.models import create_model
from dnr_jax.runs import devices
from tests.training import tiny

PRESET = {"xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_COMPILE"}
CHOSEN = "--xla_cpu_opt_preset=CPU_OPT_PRESET_DEFAULT"


@pytest.mark.compat
def test_the_preset_is_that_of_cpus_and_a_chosen_one_is_kept(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert devices.compiler_options("cpu") == (PRESET if devices._has_preset() else None)
    assert devices.compiler_options("gpu") is None and devices.compiler_options("tpu") is None
    monkeypatch.setenv("XLA_FLAGS", CHOSEN)
    assert devices.compiler_options("cpu") is None


@pytest.mark.compat
def test_a_compiler_without_presets_is_recognised(monkeypatch):
    monkeypatch.setattr(devices, "_PRESET", "xla_cpu_no_such_option")
    assert not devices._has_preset.__wrapped__()


def test_a_step_computes_the_same_with_the_preset(monkeypatch, quick_compile):
    config = tiny.shrink(load_config("demo"), monkeypatch)
    model = create_model(config.model)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with_preset, _ = tiny.take_step(config, model, 1)
    monkeypatch.setenv("XLA_FLAGS", CHOSEN)
    without, _ = tiny.take_step(config, model, 1)
    for found, expected in zip(*map(jax.tree.leaves, (with_preset.params, without.params)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
