"""The recipes of CONTRIBUTING.md, as they are written there."""

import importlib
import re
import sys
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from dnr_jax import cli, models
from dnr_jax.config import (
    Averaging,
    ConfigError,
    DataConfig,
    ExperimentConfig,
    Network,
    Optimizer,
    Source,
    from_json,
    load_config,
    locations,
    override,
    parts,
    read_command_line,
    registered,
    to_json,
    validate,
    validate_network,
)
from dnr_jax.convert import from_state_dict, namings, recognize, to_state_dict
from dnr_jax.convert.export import export_program
from dnr_jax.convert.source import template_of
from dnr_jax.data.catalogue import records
from dnr_jax.data.catalogue.datasets import DATASETS
from dnr_jax.data.catalogue.sources import load_sources, source_at
from dnr_jax.data.clips.decode import encode_video
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


def recipe(title: str, number: int = 0) -> str:
    """Return a program of a section."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)[number]


def executed(title: str, number: int = 0) -> dict:
    names = {"__name__": title.replace(" ", "_")}
    exec(recipe(title, number), names)
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
    # What the demo set stays where it means the same: this network has another dropout by default than TSN.
    assert (config.model.dropout, config.model.num_classes, rest) == (0.5, 0, ["train.py"])


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


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    """Puts the program of a recipe into a file outside the package, which the environment names."""

    def write(title: str, module: str) -> None:
        (tmp_path / f"{module}.py").write_text(recipe(title))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv(parts.PARTS_VARIABLE, module)
        written.append(module)

    written: list[str] = []
    yield write
    for module in written:
        sys.modules.pop(module)
    DATASETS.pop("gestures", None)
    _registry[Source].pop("Clips", None)
    importlib.invalidate_caches()


def test_a_data_set(tmp_path, own_file):
    own_file("A data set", "gestures")
    (tmp_path / "classes.txt").write_text("wave\npoint\n")
    for split, name, label in (("train", "a", "point"), ("val", "b", "wave")):
        (tmp_path / f"{split}.csv").write_text(f"{name};{label}\n")
        (tmp_path / label).mkdir()
        encode_video(str(tmp_path / label / f"{name}.mp4"), moving_frames(4, seed=0), options={"preset": "ultrafast"})
    source = source_at("gestures", str(tmp_path))
    training, validation = load_sources(DataConfig(source))
    assert training.classes == ("wave", "point")
    assert (training.labels.tolist(), validation.labels.tolist()) == ([1], [0])
    assert {split: len(videos) for split, videos in source.open().splits.items()} == {"train": 1, "val": 1}


def test_a_source_of_videos(tmp_path, own_file, capsys):
    own_file("A source of videos", "clips")
    for number in range(12):
        file = tmp_path / f"{number:04d}_{('jump', 'run')[number % 2]}.mp4"
        encode_video(str(file), moving_frames(4, seed=number), options={"preset": "ultrafast"})
    flags = ["source=Clips", f"source.root={tmp_path}", "source.every=4"]
    config, _ = override(load_config(DEMO), [f"--config.data.{flag}" for flag in flags])
    validate(config)
    training, validation = load_sources(config.data)
    assert (training.classes, len(training), validation.labels.tolist()) == (("jump", "run"), 9, [0, 0, 0])
    assert from_json(to_json(config)) == config and list(locations(config)) == ["data.source.root"]
    assert validation.names == config.data.source.load_split("val").names
    config.data.source.root = "none"
    with pytest.raises(
        ConfigError, match=r"data.source.root: there is no folder 'none'; expected videos called <number>_"
    ):
        validate(config)
    out = str(tmp_path / "out")
    assert cli.main(["prepare", "Clips", "--root", str(tmp_path), "--out", out, "--workers", "1"]) == 0
    assert records.find(out).classes == ("jump", "run")
    report = ["--report", str(tmp_path / "report"), "--workers", "1", "--min-frames", "1"]
    assert cli.main(["check", "Clips", "--root", str(tmp_path), *report]) == 0
    assert "train: 10 videos\nval: 2 videos\nnothing wrong" in capsys.readouterr().out
    with pytest.raises(ValueError, match="Clips has no split 'test'; expected train or val"):
        source_at("Clips", str(tmp_path)).load_split("test")


def test_an_optimizer():
    lion = executed("An optimizer")["Lion"]
    try:
        config, _ = override(load_config(DEMO), ["--config.optimizer=Lion", "--config.optimizer.beta2=0.9"])
        assert (config.optimizer.beta2, config.optimizer.warmup_steps) == (0.9, 50)
        assert from_json(to_json(config)) == config
        parameters = {"kernel": np.float32([1, 2]), "bias": np.float32([3])}
        rates = optax.constant_schedule(0.1)
        ours = make_optimizer(lion(clip_norm=0.0, beta2=0.9), rates)
        theirs = optax.lion(rates, b2=0.9, weight_decay=0.1, mask={"kernel": True, "bias": False})
        with jax.numpy_dtype_promotion("standard"):
            updates = [tx.update(parameters, tx.init(parameters), parameters)[0] for tx in (ours, theirs)]
        jax.tree.map(np.testing.assert_allclose, *updates)
    finally:
        _registry[Optimizer].pop("Lion")


def test_a_training_feature():
    swa = executed("A training feature")["SWA"]
    try:
        flags = ["--config.train.averaging=SWA", "--config.train.averaging.begin=2"]
        config, _ = override(load_config(DEMO), flags)
        assert config.train.averaging == swa(begin=2) and from_json(to_json(config)) == config
        average = {"params": np.float32(7), "batch_stats": {}}
        for step, weight in enumerate([1, 2, 6], start=1):
            trained = {"params": jax.numpy.float32(weight), "batch_stats": {}}
            average = config.train.averaging.update(average, trained, jax.numpy.int32(step))
        assert average["params"] == 4
    finally:
        _registry[Averaging].pop("SWA")


def test_a_hook():
    hook, rows = executed("A training feature", 1)["WeightNorm"](), []
    state = SimpleNamespace(params={"kernel": jax.numpy.float32([3, 4])})
    hook.after_evaluation(SimpleNamespace(state=state, record=lambda *row: rows.append(row)), None)
    assert rows == [("weights", {"norm": 5.0}, {})]


def test_a_report(tmp_path):
    scores = np.float32([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    report = Report(scores, np.int32([0, 1, 1]), ("a", "b", "c"), ("wave", "point"))
    executed("A report")["write_hardest"](report, tmp_path, count=2)
    assert (tmp_path / "hardest.csv").read_text() == ("video,label,probability\nb,point,0.200000\nc,point,0.700000\n")
