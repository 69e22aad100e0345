"""Every network takes a training step with DNR, batch and group normalisation on eight devices.

``tests/config/test_experiments.py`` takes the steps of the configurations, with DNR on one device; ResNeXt is no file's
default.
"""

import re

import jax
import numpy as np
import pytest

from dnr_jax.config import ExperimentConfig, Network, load_config, registered
from dnr_jax.dnr import BatchNorm, GroupNorm
from dnr_jax.models import create_model
from dnr_jax.models.complexity import abstract_variables
from tests.paths import REPOSITORY
from tests.training import tiny

NETWORKS = {
    "tsn": ("k200_tsn.py", "k200_tsn.py:bn"),
    "resnext": ("k200_tsn.py:resnext101", "k200_tsn.py:resnext101_bn"),
    **{
        name: (f"{file}.py:dnr", f"{file}.py:bn")
        for name, file in {
            "bninception": "k200_bninception",
            "tsm": "k400_tsm",
            "tanet": "k400_tanet",
            "tdn": "k400_tdn",
            "r2plus1d": "k200_r2plus1d",
            "slowfast": "k200_slowfast",
        }.items()
    },
}
"""The configurations of each network, with DNR and with batch normalisation."""
NORMS = ("dnr", "bn", "gn", "dnr_gn")


def reduced(network: str, norms: str, monkeypatch: pytest.MonkeyPatch) -> ExperimentConfig:
    dnr, bn = NETWORKS[network]
    path = REPOSITORY / "configs" / (dnr if norms.startswith("dnr") else bn)
    config = tiny.shrink(load_config(str(path)), monkeypatch)
    config.model.norm.base = GroupNorm(groups=4) if norms.endswith("gn") else BatchNorm()
    return config


def test_every_network_of_the_zoo_is_here():
    ours = {name.lower() for name, part in registered(Network).items() if part.__module__.startswith("dnr_jax.")}
    assert set(NETWORKS) - {"resnext"} == ours


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_is_built_with_every_norm(network, norms, monkeypatch):
    config = reduced(network, norms, monkeypatch)
    variables = abstract_variables(create_model(config.model), config.data.clip_shape)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    assert any("'relay" in path for path in paths) == norms.startswith("dnr")
    running = [path for path in paths if "batch_stats" in path]
    if norms.endswith("gn"):  # those inside of TANet's module are batch normalisation whatever the base
        running = [path for path in running if not (network == "tanet" and "'temporal'" in path)]
    assert bool(running) == (not norms.endswith("gn"))


@pytest.mark.slow
@pytest.mark.parametrize("norms", [pytest.param("dnr", marks=pytest.mark.compat), *NORMS[1:]])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_on_eight_devices_reaches_every_parameter(network, norms, quick_compile, monkeypatch):
    config = reduced(network, norms, monkeypatch)
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


@pytest.mark.slow
@pytest.mark.parametrize(("network", "norms"), [*((network, "bn") for network in NETWORKS), ("resnext", "dnr")])
def test_a_step_on_one_device(network, norms, quick_compile, monkeypatch):
    config = reduced(network, norms, monkeypatch)
    state, metrics = tiny.take_step(config, create_model(config.model), num_devices=1)
    assert int(state.step) == 1
    assert all(np.isfinite(value) for value in metrics.values())
