"""Every network with a temporal dimension of its own takes a training step, with and without DNR, on several devices.

``tests/test_config.py`` takes the steps of the configurations, with DNR on one device.
"""

import jax
import numpy as np
import pytest

from dnr_jax.config import load_config
from dnr_jax.models import create_model
from tests.paths import REPOSITORY
from tests.training import tiny

CONFIGS = REPOSITORY / "configs"


@pytest.mark.parametrize("variant", ["dnr", "bn"])
@pytest.mark.parametrize("name", ["k200_r2plus1d", "k200_slowfast"])
def test_a_step_on_eight_devices_reaches_every_parameter(name, variant, quick_compile, monkeypatch):
    config = tiny.shrink(load_config(f"{CONFIGS / name}.py:{variant}"), monkeypatch)
    config.model.norm.clips_per_statistics = 0
    config.optimizer.weight_decay = 0.0  # what is left in the momentum is the gradient
    state, metrics = tiny.take_step(config, create_model(config.model), num_devices=8)
    assert np.isfinite(metrics["loss"])
    still = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state)
        if not np.any(leaf)
    ]
    # At this width a relay has a hidden unit or two, which noise may leave behind the ReLU.
    assert all("['relay" in path for path in still)


def test_r2plus1d_without_dnr_takes_a_step_on_one_device(quick_compile, monkeypatch):
    config = tiny.shrink(load_config(f"{CONFIGS / 'k200_r2plus1d'}.py:bn"), monkeypatch)
    state, metrics = tiny.take_step(config, create_model(config.model), num_devices=1)
    assert int(state.step) == 1
    assert np.isfinite(metrics["loss"])
