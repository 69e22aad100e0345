"""The recipes of CONTRIBUTING.md, as they are written there."""

import importlib
import re
import sys

import jax
import numpy as np
import optax
import pytest

from dnr_jax import models
from dnr_jax.config import (
    ConfigError,
    DataConfig,
    ExperimentConfig,
    Network,
    Optimizer,
    from_json,
    load_config,
    override,
    parts,
    read_command_line,
    registered,
    to_json,
    validate_network,
)
from dnr_jax.convert import from_state_dict, namings, recognize, to_state_dict
from dnr_jax.convert.export import export_program
from dnr_jax.convert.source import template_of
from dnr_jax.data.datasets import DATASETS
from dnr_jax.data.decode import encode_video
from dnr_jax.data.sources import load_sources
from dnr_jax.dnr import CrossTemporalDNR, DNRSpec, StaticNorm, bases
from dnr_jax.dnr.parts import _registry
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.evaluation.profile import profile
from dnr_jax.models import create_model
from dnr_jax.models.zoo import zoo
from dnr_jax.training.optimizer import make_optimizer
from tests.config.effects import program, variations
from tests.data.videos import moving_frames
from tests.paths import REPOSITORY
from tests.training import tiny

PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text()
DEMO = str(REPOSITORY / "configs" / "demo.py")


def recipe(title: str) -> str:
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


def executed(title: str) -> dict:
    names = {"__name__": title.replace(" ", "_")}
    exec(recipe(title), names)
    return names


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The network of the recipe, in a file outside the package, which the environment names."""
    (tmp_path / "shallow.py").write_text(recipe("A network"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(parts.PARTS_VARIABLE, "shallow")
    yield registered(Network)["Shallow"]
    _registry[Network].pop("Shallow")
    sys.modules.pop("shallow")
    importlib.invalidate_caches()


def test_a_network_in_the_package_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "shallow.py").write_text(recipe("A network"))
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    try:
        assert registered(Network)["Shallow"].__module__ == "dnr_jax.models.shallow"
    finally:
        _registry[Network].pop("Shallow", None)
        sys.modules.pop("dnr_jax.models.shallow", None)


def shallow_experiment() -> ExperimentConfig:
    flags = ["--config.model=Shallow", "--config.model.blocks=1", "--config.model.num_classes=3"]
    return override(load_config(DEMO), flags)[0]


def test_a_network_from_outside_is_chosen_checked_and_saved(outside):
    config = shallow_experiment()
    assert type(config.model) is outside and (config.model.blocks, config.model.width) == (1, 16)
    validate_network(config)
    assert from_json(to_json(config)) == config
    config.data.crop_size = 31
    with pytest.raises(ConfigError, match="data.crop_size: is 31; expected an even number"):
        validate_network(config)
    with pytest.raises(ConfigError, match=r"no field 'model.block' \(did you mean 'blocks'\?\)"):
        override(config, ["--config.model.block=3"])
    assert zoo()["shallow_2"].config == outside()


def test_the_command_of_the_page_is_accepted(outside):
    words = re.search(r"python (train\.py .*)", PAGE)[1].split()
    config, _, rest = read_command_line(words, "configs/demo.py", REPOSITORY)
    assert (config.model.dropout, rest) == (0.2, ["train.py"])  # what the demo set stays


def test_a_network_from_outside_is_known_to_all_that_runs_over_networks(outside):
    config = shallow_experiment()
    bn, dnr = profile("shallow", config.model, (8, 16, 16, 3), repeats=0)
    assert dnr.parameters > bn.parameters
    config.model = config.model.arms()["bn"]
    template = template_of(config)
    variables = jax.tree.map(lambda leaf: np.random.default_rng(0).normal(size=leaf.shape).astype(leaf.dtype), template)
    state = to_state_dict(variables, namings()["shallow_torch"])
    assert "backbone.layer1.0.bn2.running_var" in state and "fc.weight" in state
    assert recognize(state, template).name == "shallow_torch"
    returned = from_state_dict(state, template, namings()["shallow_torch"])
    jax.tree.map(np.testing.assert_array_equal, returned, variables)


def test_every_field_of_the_recipes_network_has_an_effect(outside):
    config = shallow_experiment()
    before = program(config.model, (4, 8, 8, 3))
    fields = {change.partition("=")[0]: network for change, network in variations(config.model)}
    fields = {field: network for field, network in fields.items() if not field.startswith("norm.")}
    for field, network in fields.items():
        assert program(network, (4, 8, 8, 3)) != before, field
    assert set(fields) == {"num_classes", "dropout", "remat", "dtype", "width", "blocks"}


@pytest.mark.slow
def test_a_network_from_outside_is_trained_and_exported(outside, quick_compile):
    config = shallow_experiment()
    config.data.crop_size, config.train.batch_size = 16, 4
    state, metrics = tiny.take_step(config, create_model(config.model), num_devices=1)
    assert int(state.step) == 1 and np.isfinite(metrics["loss"])
    exported = export_program(create_model(config.model), jax.device_get(state.variables), config)
    assert str(exported.out_avals[0].shape) == "(batch, 3)"


@pytest.fixture(params=["outside", "inside"])
def rms(request, tmp_path, monkeypatch):
    """The base of the recipe, in a file outside the package, which the environment names, or in that of the bases."""
    (tmp_path / "rms.py").write_text(recipe("A base for norms"))
    if request.param == "outside":
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv(parts.PARTS_VARIABLE, "rms")
    else:
        monkeypatch.setattr(bases, "__path__", [*bases.__path__, str(tmp_path)])
    yield registered(bases.Base)["RMSNorm"]
    _registry[bases.Base].pop("RMSNorm")
    sys.modules.pop("rms", None)
    sys.modules.pop("dnr_jax.dnr.bases.rms", None)
    importlib.invalidate_caches()


def test_a_base_of_ones_own_works_in_layers_specifications_and_experiments(rms):
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 8)) + 1
    layer = StaticNorm(base="rms", groups=2, statistics="frame", use_running_average=False)
    assert layer.base == rms(groups=2, statistics="frame")
    variables = layer.init(jax.random.key(0), None, x)
    assert set(variables) == {"params"}
    _, y = layer.apply(variables, None, x)
    grouped = x.reshape(2, 4, 3, 2, 4)
    expected = grouped / np.sqrt(np.mean(np.square(grouped), axis=(2, 4), keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, expected.reshape(x.shape), rtol=1e-5)
    assert DNRSpec(base="rms", groups=2).norm("ct").base == rms(groups=2)
    flags = ["--config.model.norm.base=RMSNorm", "--config.model.norm.base.groups=2"]
    config, _ = override(load_config(DEMO), flags)
    assert from_json(to_json(config)) == config and config.model.norm.base == rms(groups=2)
    validate_network(config)
    with pytest.raises(ConfigError, match=r"no field 'model.norm.base.group' \(did you mean 'groups'\?\)"):
        override(config, ["--config.model.norm.base.group=2"])
    with pytest.raises(ValueError, match="CrossTemporalDNR: base.groups: is 0; expected at least 1"):
        CrossTemporalDNR(base="rms", groups=0)


def test_without_the_variable_a_network_from_outside_is_not_known():
    with pytest.raises(ConfigError, match="no Network is called 'Shallow'; there are .*DNR_JAX_PARTS names the module"):
        override(load_config(DEMO), ["--config.model=Shallow"])


def test_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "gestures", executed("A data set")["GESTURES"])
    (tmp_path / "classes.txt").write_text("wave\npoint\n")
    for split, name, label in (("train", "a", "point"), ("val", "b", "wave")):
        (tmp_path / f"{split}.csv").write_text(f"{name};{label}\n")
        (tmp_path / label).mkdir()
        encode_video(str(tmp_path / label / f"{name}.mp4"), moving_frames(4, seed=0), options={"preset": "ultrafast"})
    training, validation = load_sources(DataConfig(source="dataset", dataset="gestures", root=str(tmp_path)))
    assert training.classes == ("wave", "point")
    assert (training.labels.tolist(), validation.labels.tolist()) == ([1], [0])


def test_an_optimizer():
    adamw = executed("An optimizer")["AdamW"]
    try:
        config, _ = override(load_config(DEMO), ["--config.optimizer=AdamW", "--config.optimizer.beta2=0.99"])
        assert (config.optimizer.beta2, config.optimizer.warmup_steps) == (0.99, 50)
        assert from_json(to_json(config)) == config
        parameters = {"kernel": np.float32([1, 2]), "bias": np.float32([3])}
        rates = optax.constant_schedule(0.1)
        ours = make_optimizer(adamw(clip_norm=0.0, beta2=0.99), rates)
        theirs = optax.adamw(rates, b2=0.99, weight_decay=0.05, mask={"kernel": True, "bias": False})
        with jax.numpy_dtype_promotion("standard"):
            updates = [tx.update(parameters, tx.init(parameters), parameters)[0] for tx in (ours, theirs)]
        jax.tree.map(np.testing.assert_allclose, *updates)
    finally:
        _registry[Optimizer].pop("AdamW")


def test_a_report(tmp_path):
    scores = np.float32([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    report = Report(scores, np.int32([0, 1, 1]), ("a", "b", "c"), ("wave", "point"))
    executed("A report")["write_hardest"](report, tmp_path, count=2)
    assert (tmp_path / "hardest.csv").read_text() == ("video,label,probability\nb,point,0.200000\nc,point,0.700000\n")
