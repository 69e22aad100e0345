"""Training that starts from given weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import ConfigError
from dnr_jax.convert import read_weight_file, source, write_weight_file
from dnr_jax.convert.source import read_source
from dnr_jax.runs import folder as run
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


class Headed(nn.Module):
    """A network whose classifier is called as those of the real ones are."""

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Dense(3, name="body", use_bias=False)(jnp.mean(x, axis=(1, 2, 3)))
        return nn.Dense(self.num_classes, name="head")(x)


@pytest.fixture
def classifier(monkeypatch, tmp_path):
    """A file with a classifier of five classes, and what follows for the data's three from it."""
    monkeypatch.setattr(source, "create_model", lambda config: Headed(config.num_classes))
    shapes = {"body/kernel": (3, 3), "head/kernel": (3, 5), "head/bias": (5,)}
    state = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}

    def fit(classes, shown, allow="", num_classes=5):
        config = tiny_config(tmp_path)
        config.model.num_classes, config.init.allow = num_classes, allow
        write_weight_file(tmp_path / "a.safetensors", state, source.own_metadata(config, classes, "own"))
        start, names = source.fit_classes(read_source(tmp_path / "a.safetensors"), config, shown)
        return "head/kernel" in start.report.loaded, names

    return fit


def test_a_classifier_brings_its_classes_along(classifier):
    names = ("e", "light", "grey", "dark", "a")
    assert classifier(names, ["dark", "grey"]) == (True, names)
    assert classifier((), ["dark", "grey"]) == (True, ())  # other code bases name none


def test_a_classifier_of_other_classes_is_refused_or_starts_anew(classifier):
    with pytest.raises(ConfigError, match=r"the data shows 'x', which is none of its 5: 'a', .*allow=head begins"):
        classifier(("a", "b", "c", "d", "e"), ["a", "x"])
    assert classifier(("a", "b", "c", "d", "e"), ["a", "x"], "head") == (False, ())
    assert classifier(("a", "b", "c", "d", "e"), ["x"], "head", 2) == (False, ())


def test_a_run_has_the_classes_of_the_classifier_that_it_starts_from(videos, tmp_path, monkeypatch):
    """Two more than the data shows, in an order of their own."""
    names = ("light", "more", "dark", "grey", "most")
    monkeypatch.setattr(loop, "read_source", lambda *args: None)
    monkeypatch.setattr(loop, "fit_classes", lambda found, config, shown: (shown, names))
    config = tiny_config(videos)
    config.init_from, config.model.num_classes = "a.safetensors", 5
    plain = loop._load_sources(config)
    (training, validation), shown = loop._begin(config, plain)
    assert shown == ["dark", "grey", "light"]
    assert training.classes == validation.classes == names
    assert [names[label] for label in training.labels] == [plain[0].classes[label] for label in plain[0].labels]
