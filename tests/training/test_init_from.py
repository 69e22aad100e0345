"""Training that starts from given weights."""

import numpy as np
import pytest

from dnr_jax.config import ConfigError
from dnr_jax.convert import read_weight_file, source, write_weight_file
from dnr_jax.convert.source import read_source
from dnr_jax.evaluation import run
from dnr_jax.training import loop
from tests.training import tiny
from tests.training.tiny import tiny_config


@pytest.fixture
def networks(tiny_loop, monkeypatch):
    monkeypatch.setattr(run, "create_model", tiny.tiny_network)
    monkeypatch.setattr(source, "create_model", tiny.tiny_network)


@pytest.fixture
def first_run(networks, videos, tmp_path):
    """The folder of a run of two steps, and its weights by name."""
    loop.train(tiny_config(videos, steps=2, eval_every=1), tmp_path / "first")
    return tmp_path / "first", read_source(tmp_path / "first").state


def started(monkeypatch, config, workdir):
    """The weights by name before the first step of a run."""
    seen = {}
    monkeypatch.setattr(loop.Trainer, "fit", lambda trainer: seen.update(state=trainer.state))
    monkeypatch.setattr(loop.Trainer, "finish", lambda trainer: None)
    loop.train(config, workdir)
    return seen["state"]


def values(state):
    return source.to_state_dict(state.variables, source.OWN)


def test_a_run_starts_from_another(first_run, videos, tmp_path, monkeypatch, capsys):
    folder, weights = first_run
    config = tiny_config(videos)
    config.init_from = str(folder)
    state = started(monkeypatch, config, tmp_path / "second")
    found = values(state)
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array)
    assert int(state.step) == 0
    assert not any(np.any(leaf) for leaf in source.jax.tree.leaves(state.opt_state))
    line = f"weights of {folder} (latest checkpoint, step 2) (own): {len(weights)} of {len(weights)} arrays loaded"
    assert line in capsys.readouterr().out
    assert (tmp_path / "second" / "init_report.txt").read_text().startswith(line)


def test_a_run_starts_from_a_file_and_a_new_head(first_run, videos, tmp_path, monkeypatch):
    _, weights = first_run
    write_weight_file(tmp_path / "a.safetensors", weights | {"fc/kernel": np.zeros((6, 9)), "fc/bias": np.zeros(9)})
    config = tiny_config(videos)
    config.init_from = str(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"shape: fc/bias is \(9,\); here fc/bias is \(3,\)"):
        loop.train(config, tmp_path / "second")
    config.init.allow = "fc/*"
    found = values(started(monkeypatch, config, tmp_path / "second"))
    np.testing.assert_array_equal(found["conv/kernel"], weights["conv/kernel"])
    assert found["fc/kernel"].any()


def test_what_does_not_fit_is_told_before_anything_is_compiled(networks, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "create_state", lambda *args: pytest.fail("the network was initialised"))
    config = tiny_config(videos)
    config.init_from = str(tmp_path / "none.pth")
    with pytest.raises(ConfigError, match="there is no file"):
        loop.train(config, tmp_path / "run")
    write_weight_file(tmp_path / "a.safetensors", {"stem.weight": np.zeros(3)})
    config.init_from = str(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="the names in it are not those"):
        loop.train(config, tmp_path / "run")


def test_a_run_that_goes_on_does_not_need_the_weights_again(first_run, videos, tmp_path):
    _, weights = first_run
    path = tmp_path / "a.safetensors"
    write_weight_file(path, weights)
    assert read_weight_file(path).state.keys() == weights.keys()
    config = tiny_config(videos, steps=1, eval_every=1)
    config.init_from = str(path)
    loop.train(config, tmp_path / "second")
    path.unlink()
    config.train.steps = 2
    loop.train(config, tmp_path / "second")
    other = tiny_config(videos, steps=2, eval_every=1)
    with pytest.raises(ConfigError, match="init_from"):
        loop.train(other, tmp_path / "second")
