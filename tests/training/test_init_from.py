"""Training that starts from given weights."""

import copy
import dataclasses
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import ConfigError, Network
from dnr_jax.convert import read_weight_file, source, write_weight_file
from dnr_jax.convert.source import read_source
from dnr_jax.training.resolve import resolve
from tests.training.tiny import known, opened, tiny_config, train


@pytest.fixture
def first_run(videos, tmp_path):
    """The folder of a run of two steps, and its weights by name."""
    train(tiny_config(videos, steps=2, eval_every=1), tmp_path / "first")
    return tmp_path / "first", read_source(tmp_path / "first").state


def started(config, workdir):
    """The state before the first step of a run."""
    with opened(config, workdir) as trainer:
        return trainer.state


def values(state):
    return source.to_state_dict(state.variables, source.OWN)


def test_a_run_starts_from_another(first_run, videos, tmp_path, capsys, caplog):
    folder, weights = first_run
    config = tiny_config(videos)
    config.init_from = str(folder)
    state = started(config, tmp_path / "second")
    found = values(state)
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array)
    assert int(state.step) == 0
    assert not any(np.any(leaf) for leaf in source.jax.tree.leaves(state.opt_state))
    line = f"weights of {folder} (latest checkpoint, step 2) (own): {len(weights)} of {len(weights)} arrays loaded"
    assert line in capsys.readouterr().out
    assert (tmp_path / "second" / "init_report.txt").read_text().startswith(line)
    assert not caplog.records
    config.data.mean = (114.75, 114.75, 114.75)
    resolve(config)
    assert [record.getMessage() for record in caplog.records] == [
        "data.mean is (114.75, 114.75, 114.75), and was (123.675, 116.28, 103.53) where the weights of "
        f"{folder} (latest checkpoint, step 2) were trained"
    ]


def test_a_run_starts_from_a_file_and_a_new_head(first_run, videos, tmp_path):
    _, weights = first_run
    write_weight_file(tmp_path / "a.safetensors", weights | {"fc/kernel": np.zeros((6, 9)), "fc/bias": np.zeros(9)})
    config = tiny_config(videos)
    config.init_from = str(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"shape: fc/bias is \(9,\); here fc/bias is \(3,\)"):
        train(config, tmp_path / "second")
    config.init.allow = "fc/*"
    found = values(started(config, tmp_path / "second"))
    np.testing.assert_array_equal(found["conv/kernel"], weights["conv/kernel"])
    assert found["fc/kernel"].any()


def test_what_does_not_fit_is_told_before_anything_is_compiled(videos, tmp_path):
    config = tiny_config(videos)
    config.init_from = str(tmp_path / "none.pth")
    with pytest.raises(ConfigError, match="there is no file"):
        train(config, tmp_path / "run")
    write_weight_file(tmp_path / "a.safetensors", {"stem.weight": np.zeros(3)})
    config.init_from = str(tmp_path / "a.safetensors")
    for act in (resolve, lambda config: train(config, tmp_path / "run")):
        with pytest.raises(ConfigError, match="the names in it are not those"):
            act(config)
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_does_not_need_the_weights_again(first_run, videos, tmp_path):
    _, weights = first_run
    path = tmp_path / "a.safetensors"
    write_weight_file(path, weights)
    assert read_weight_file(path).state.keys() == weights.keys()
    config = tiny_config(videos, steps=1, eval_every=1)
    config.init_from = str(path)
    train(config, tmp_path / "second")
    path.unlink()
    config.train.steps = 2
    train(config, tmp_path / "second")
    other = tiny_config(videos, steps=2, eval_every=1)
    with pytest.raises(ConfigError, match="init_from"):
        train(other, tmp_path / "second")


class Headed(nn.Module):
    """A network whose classifier is called as those of the real ones are."""

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Dense(3, name="body", use_bias=False)(jnp.mean(x, axis=(1, 2, 3)))
        return nn.Dense(self.num_classes, name="head")(x)


@dataclasses.dataclass
class HeadedNetwork(Network):
    """The part of it."""

    def build(self) -> Headed:
        return Headed(self.num_classes)


def headed_config(videos, num_classes):
    config = tiny_config(videos)
    config.model = HeadedNetwork(num_classes=num_classes)
    return config


@pytest.fixture
def classifier(tmp_path):
    """A file with a classifier of five classes, and what follows for the data's three from it."""
    shapes = {"body/kernel": (3, 3), "head/kernel": (3, 5), "head/bias": (5,)}
    state = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}

    def fit(classes, shown, allow="", num_classes=5):
        config = headed_config(tmp_path, num_classes)
        config.init.allow = allow
        write_weight_file(tmp_path / "a.safetensors", state, source.own_metadata(config, classes, "own"))
        start, names = source.fit_classes(read_source(tmp_path / "a.safetensors"), config, shown)
        return "head/kernel" in start.report.loaded, names

    with known(HeadedNetwork):
        yield fit


def test_a_classifier_brings_its_classes_along(classifier):
    names = ("e", "light", "grey", "dark", "a")
    assert classifier(names, ["dark", "grey"]) == (True, names)
    assert classifier((), ["dark", "grey"]) == (True, ())  # other code bases name none


def test_a_classifier_of_other_classes_is_refused_or_starts_anew(classifier):
    with pytest.raises(ConfigError, match=r"the data shows 'x', which is none of its 5: 'a', .*allow=head begins"):
        classifier(("a", "b", "c", "d", "e"), ["a", "x"])
    assert classifier(("a", "b", "c", "d", "e"), ["a", "x"], "head") == (False, ())
    assert classifier(("a", "b", "c", "d", "e"), ["x"], "head", 2) == (False, ())


@pytest.mark.parametrize(
    ("allow", "num_classes"),
    [("", 5), ("body/*", 5), ("head", 3), ("head/kernel,head/bias", 3)],
)
def test_a_run_that_keeps_a_classifier_has_as_many_classes_where_it_leaves_their_number_open(
    allow, num_classes, classifier, videos, tmp_path
):
    names = ("light", "more", "dark", "grey", "most")
    classifier(names, ["dark"])
    config = headed_config(videos, num_classes=0)
    config.init_from, config.init.allow = str(tmp_path / "a.safetensors"), allow
    found = resolve(config)
    assert found.config.model.num_classes == num_classes
    assert found.training.classes == (names if num_classes == 5 else ("dark", "grey", "light"))
    assert ("head/kernel" in found.start.report.loaded) == (num_classes == 5)


def test_a_classifier_of_another_size_is_refused_with_what_would_be_right(classifier, videos, tmp_path):
    classifier(("light", "more", "dark", "white", "most"), ["dark"])
    config = headed_config(videos, num_classes=0)
    config.init_from = str(tmp_path / "a.safetensors")
    with pytest.raises(
        ConfigError, match=r"head/kernel is \(3, 5\).*\n  --config.init.allow=head .* begins with a new"
    ):
        resolve(config)
    config.init.allow = "head"
    assert resolve(config).training.classes == ("dark", "grey", "light")


def test_a_run_has_the_classes_of_the_classifier_that_it_starts_from(classifier, videos, tmp_path):
    """Two more than the data shows, in an order of their own."""
    names = ("light", "more", "dark", "grey", "most")
    classifier(names, ["dark"])
    config = headed_config(videos, num_classes=5)
    plain = resolve(headed_config(videos, num_classes=3))
    config.init_from = str(tmp_path / "a.safetensors")
    before = copy.deepcopy(config)
    found = resolve(config)
    assert found.start.complete and plain.start is None
    assert found.training.classes == found.validation.classes == names
    assert [names[label] for label in found.training.labels] == [
        plain.training.classes[label] for label in plain.training.labels
    ]
    assert config == before


def test_classes_that_a_mirror_turns_into_none_are_warned_of(videos, tmp_path, caplog):
    """Where clips are mirrored, and never of classes that the mirror exchanges."""
    root = tmp_path / "videos"
    shutil.copytree(videos, root)
    config = tiny_config(str(root))
    config.data.flip = True
    resolve(config)
    assert not caplog.records
    (root / "train" / "dark").rename(root / "train" / "turn_left")
    (root / "val" / "dark").rename(root / "val" / "turn_left")
    resolve(config)
    assert [record.getMessage() for record in caplog.records] == [
        "data.flip mirrors half of the clips, and no class is the mirror image of turn_left: mirrored clips keep that "
        "label. Where it names a side of the picture, set data.flip=False"
    ]
    config.data.flip = False
    resolve(config)
    assert len(caplog.records) == 1


def test_what_is_left_to_the_data_is_filled_in_and_the_callers_config_is_not_changed(videos, monkeypatch):
    monkeypatch.chdir(videos.parent)
    config = tiny_config(videos.name)
    before = copy.deepcopy(config)
    found = resolve(config)
    assert config == before and config.model.num_classes == 0
    assert (found.config.model.num_classes, found.config.data.source.root) == (3, str(videos))
    assert found.contents["classes"] == ["dark", "grey", "light"]
    assert (len(found.training), len(found.validation)) == (12, 7)
