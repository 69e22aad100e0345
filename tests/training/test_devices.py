"""With which options of the compiler steps are compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax import CrossTemporalDNR, inspect, without_carry
from dnr_jax.config import load_config
from dnr_jax.convert import source
from dnr_jax.explain import relays
from dnr_jax.models import create_model
from dnr_jax.models.complexity import abstract_variables
from dnr_jax.runs import devices
from dnr_jax.runs.inference import make_eval_step
from dnr_jax.training import state
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import create_state
from tests.training import tiny

PRESET = {"xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_COMPILE"}
CHOSEN = "--xla_cpu_opt_preset=CPU_OPT_PRESET_DEFAULT"


@pytest.mark.compat
def test_the_preset_is_that_of_cpus_and_a_chosen_one_is_kept(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert devices.compiler_options("cpu") == (PRESET if devices._has_preset() else None)
    assert devices.compiler_options("tpu") is None
    monkeypatch.setenv("XLA_FLAGS", CHOSEN)
    assert devices.compiler_options("cpu") is None


@pytest.mark.compat
def test_products_on_gpus_are_left_to_cublas_before_jax_0_12_unless_it_is_chosen(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    for version, options in (((0, 10, 2), {"xla_gpu_enable_triton_gemm": "False"}), ((0, 12, 0), None)):
        monkeypatch.setattr(jax, "__version_info__", version)
        assert devices.compiler_options("gpu") == devices.brief_options("gpu") == options
    monkeypatch.setattr(jax, "__version_info__", (0, 10, 2))
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_triton_gemm=true")
    assert devices.compiler_options("gpu") is None


@pytest.mark.compat
def test_first_weights_are_the_same_to_rounding_with_fewer_passes(monkeypatch):
    config = tiny.shrink(load_config("demo"), monkeypatch)
    model, mesh = create_model(config.model), devices.make_mesh(jax.devices()[:1])
    tx = make_optimizer(config.optimizer, make_schedule(config.optimizer, 8, 10))
    monkeypatch.setenv("XLA_FLAGS", "")
    assert devices.initializer_options("gpu") is None
    assert devices.initializer_options("cpu") == {"xla_backend_optimization_level": "1"}
    few = create_state(model, tx, config.data.clip_shape, mesh, seed=1)
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    assert devices.initializer_options("cpu") is None
    all_passes = create_state(model, tx, config.data.clip_shape, mesh, seed=1)
    assert jax.tree.leaves(few.params)
    # Of one release of XLA they are the same bits; another adds in another order.
    jax.tree.map(lambda a, b: np.testing.assert_array_max_ulp(a, b, maxulp=2), few.params, all_passes.params)


def test_programs_that_run_a_few_times_have_the_options_of_both(monkeypatch):
    monkeypatch.setattr(devices, "compiler_options", lambda platform: {"preset": "fast"} if platform == "cpu" else None)
    assert devices.brief_options("cpu") == {"preset": "fast", "xla_backend_optimization_level": "1"}
    assert devices.brief_options("gpu") is None
    layer = CrossTemporalDNR(relay_distance=1)
    clips = jnp.ones((1, 2, 2, 2, 3))
    variables = layer.init(jax.random.key(0), None, clips, use_running_average=True)
    monkeypatch.setattr(relays, "brief_options", lambda platform: {"xla_cpu_no_such_option": "1"})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_no_such_option"):
        inspect(without_carry(CrossTemporalDNR)(relay_distance=1), variables, clips, use_running_average=True)


def test_first_weights_are_compiled_with_the_options(monkeypatch):
    """An option that the compiler does not know is refused where it arrives."""
    config = tiny.shrink(load_config("demo"), monkeypatch)
    model, mesh = create_model(config.model), devices.make_mesh(jax.devices()[:1])
    tx = make_optimizer(config.optimizer, make_schedule(config.optimizer, 8, 10))
    for module in (state, source):
        monkeypatch.setattr(module, "initializer_options", lambda platform: {"xla_cpu_no_such_option": "1"})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_no_such_option"):
        create_state(model, tx, config.data.clip_shape, mesh, seed=1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_no_such_option"):
        source._initialize(config)


@pytest.mark.compat
def test_a_compiler_without_presets_is_recognised(monkeypatch):
    monkeypatch.setattr(devices, "_PRESET", "xla_cpu_no_such_option")
    assert not devices._has_preset.__wrapped__()


@pytest.mark.slow
def test_steps_are_compiled_with_the_options(monkeypatch, quick_compile):
    """An option that the compiler does not know is refused where it arrives."""
    config = tiny.shrink(load_config("demo"), monkeypatch)
    model = create_model(config.model)
    monkeypatch.setattr(devices, "compiler_options", lambda platform: {"xla_cpu_no_such_option": "1"})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_no_such_option"):
        tiny.take_step(config, model, 1)
    step = make_eval_step(model, config, devices.make_mesh(jax.devices()[:1]))
    views = {"video": np.zeros((1, 1, *config.data.clip_shape), np.uint8)}
    shapes = abstract_variables(model, config.data.clip_shape)
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_no_such_option"):
        step(variables, views)


@pytest.mark.slow
def test_a_step_computes_the_same_with_the_preset(monkeypatch, quick_compile):
    config = tiny.shrink(load_config("demo"), monkeypatch)
    model = create_model(config.model)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with_preset, _ = tiny.take_step(config, model, 1)
    monkeypatch.setenv("XLA_FLAGS", CHOSEN)
    without, _ = tiny.take_step(config, model, 1)
    for found, expected in zip(*map(jax.tree.leaves, (with_preset.params, without.params)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
