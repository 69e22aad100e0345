"""The networks other than TSN with a ResNet take a training step, with and without DNR, on several devices.

``tests/test_config.py`` takes the steps of the configurations, with DNR on one device.
"""

import re

import jax
import numpy as np
import pytest

from dnr_jax.config import load_config
from dnr_jax.models import create_model
from tests.paths import REPOSITORY
from tests.training import tiny

pytestmark = pytest.mark.slow

CONFIGS = REPOSITORY / "configs"

NAMES = ("k200_bninception", "k200_r2plus1d", "k200_slowfast", "k400_tanet", "k400_tdn", "k400_tsm")
EXPERIMENTS = [
    *(f"{name}.py:{variant}" for name in NAMES for variant in ("dnr", "bn")),
    "k200_tsn.py:resnext101",
    "k200_tsn.py:resnext101_bn",
]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_step_on_eight_devices_reaches_every_parameter(experiment, quick_compile, monkeypatch):
    config = tiny.shrink(load_config(f"{CONFIGS / experiment}"), monkeypatch)
    config.model.norm.clips_per_statistics = 0
    config.optimizer.weight_decay = 0.0  # what is left in the momentum is the gradient
    state, metrics = tiny.take_step(config, create_model(config.model), num_devices=8)
    assert np.isfinite(metrics["loss"])
    still = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state)
        if not np.any(leaf)
    ]
    # At this width a relay has a hidden unit or two, which noise may leave behind the ReLU. A bias has no influence in
    # front of a static norm, and one in front of a convolution and a norm has little; the rest of rounding that they
    # leave may be none. TDN's second stem is there for its checkpoints.
    without = r"\['relay|conv\w*'\]\['bias'\]|(coarse|fine)_norm'\]\['bias'\]|\['conv1_temp'\]"
    assert [path for path in still if not re.search(without, path)] == []


@pytest.mark.parametrize("experiment", [*(f"{name}.py:bn" for name in NAMES), *EXPERIMENTS[-2:]])
def test_a_step_on_one_device(experiment, quick_compile, monkeypatch):
    config = tiny.shrink(load_config(f"{CONFIGS / experiment}"), monkeypatch)
    config.model.norm.clips_per_statistics = 0
    state, metrics = tiny.take_step(config, create_model(config.model), num_devices=1)
    assert int(state.step) == 1
    assert np.isfinite(metrics["loss"])
