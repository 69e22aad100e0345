"""No setting is without effect: another value changes what is built, read or computed, or it is refused."""

import contextlib
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import (
    ConfigError,
    Crop,
    DataConfig,
    ExperimentConfig,
    Network,
    Optimizer,
    Sampler,
    Source,
    TrainConfig,
    load_config,
    override,
    registered,
    validate_network,
)
from dnr_jax.data.catalogue.sources import Dataset, Demo, Folder, Lists, Records
from dnr_jax.data.clips.decode import FrameCount
from dnr_jax.data.clips.sampling import Dense, Segments
from dnr_jax.dnr import DNRSpec
from dnr_jax.models import TSN, SlowFast, TANet
from dnr_jax.models.resnet import ARCHITECTURES, Architecture
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from tests.config.effects import program, variations
from tests.data.miniatures import MINIATURES
from tests.paths import REPOSITORY
from tests.training import tiny

SAMPLERS = {"TDN": Segments(4, frames_per_segment=15), "SlowFast": Dense(16)}
BASIC = {"cardinality", "base_width"}
"""Fields that basic blocks, of which these networks are, refuse; those of TANet are not."""


def experiment_of(name: str, size: int) -> ExperimentConfig:
    """A small network of a family, and clips that it takes."""
    network = registered(Network)[name](num_classes=3, width=8, stem="small")
    if hasattr(network, "depth") and not isinstance(network, TANet):
        network.depth = 18
    if isinstance(network, SlowFast):
        network.norm.relay_distance = 2
    data = DataConfig(source=Demo(), sampler=SAMPLERS.get(name, Dense(8)), crop_size=size, short_side=0)
    return ExperimentConfig(model=network, data=data)


def accepted(config: ExperimentConfig) -> Iterator[tuple[str, str, Network]]:
    """Field, change and network of every variation that is not refused; the norms' settings of TSN alone."""
    for change, network in variations(config.model):
        field = change.partition("=")[0]
        if not field.startswith("norm.") or isinstance(network, TSN):
            with contextlib.suppress(ConfigError):
                validate_network(dataclasses.replace(config, model=network))
                yield field, change, network


@pytest.mark.parametrize("name", registered(Network))
def test_every_field_of_a_network_reaches_its_modules(name):
    """Another value is in a module that is built, or all others are refused."""
    config = experiment_of(name, size=64)
    validate_network(config)
    before = repr(config.model.build())
    built = {field: False for field, _, _ in accepted(config)}
    for field, _, network in accepted(config):
        built[field] = built[field] or repr(network.build()) != before
    assert [field for field, changed in built.items() if not changed] == []
    fields = {field.name for field in dataclasses.fields(config.model)} - {"norm", "shift"}
    assert fields - built.keys() == (BASIC & fields if name != "TANet" else set())


@pytest.mark.slow
@pytest.mark.parametrize("name", registered(Network))
def test_every_field_of_a_network_changes_what_it_computes(name, monkeypatch):
    """What stands in a module may still have no effect: here the programs and the variables are compared."""
    tiny.shrink_bninception(monkeypatch)
    for depth in ARCHITECTURES:
        stages = {18: (2, 1, 2, 1), 34: (2, 2, 1, 1), 50: (2, 1, 1, 1), 101: (3, 1, 1, 1), 152: (3, 2, 1, 1)}[depth]
        monkeypatch.setitem(ARCHITECTURES, depth, Architecture(ARCHITECTURES[depth].block, stages))
    config = experiment_of(name, size=32 if name == "BNInception" else 16)
    shape = config.data.clip_shape
    before, seen, without_effect = program(config.model, shape), set(), []
    for field, change, network in accepted(config):
        if field not in seen or "(" in change:  # one value of a field, every entry of a tuple
            changed = program(network, shape) != before
            seen |= {field} if changed else set()
            without_effect += [] if changed else [change]
    assert [change for change in without_effect if "(" in change or change.partition("=")[0] not in seen] == []


def frames_of(sampler: Sampler) -> list:
    """What a sampler picks of a short and of a long video."""
    videos = [FrameCount(5, 25.0), FrameCount(90, 25.0)]
    drawn = [sampler.train(video, np.random.default_rng(seed)).tolist() for video in videos for seed in range(3)]
    return drawn + [sampler.test(video, 2).tolist() for video in videos]


def crop_of(crop: Crop) -> list:
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), np.uint8)
    return [crop(frames, 24, 16, np.random.default_rng(seed)).tolist() for seed in range(3)]


def steps_of(optimizer: Optimizer) -> list:
    """What an optimizer makes of parameters in a few steps."""
    schedule = make_schedule(optimizer, batch_size=16, total_steps=4)
    tx, params = make_optimizer(optimizer, schedule), {"kernel": jnp.ones(3), "bias": jnp.ones(3)}
    state, shares = tx.init(params), jnp.asarray([1e-8, 1.0, 2.0])  # also one that an epsilon is to
    for step in range(2):
        gradients = jax.tree.map(lambda leaf, step=step: 9.0 * (step + 1) * shares * leaf, params)
        with jax.numpy_dtype_promotion("standard"):  # optax takes powers of a whole number
            updates, state = tx.update(gradients, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return jax.tree.map(lambda leaf: leaf.tolist(), params)


@pytest.mark.parametrize(
    ("kind", "outcome", "starts"),
    [
        (Sampler, frames_of, {}),
        (Crop, crop_of, {}),
        (Optimizer, steps_of, {"warmup_steps": 2, "rate_factors": ("bias=0.5",)}),
    ],
)
def test_every_field_of_other_parts_changes_what_they_do_or_is_refused(kind, outcome, starts):
    for part in registered(kind).values():
        start = part(**starts)
        before, built = outcome(start), set()
        for change, changed in variations(start):
            field = change.partition("=")[0]
            if field not in built and not list(changed.problems()):
                built.add(field)
                assert outcome(changed) != before, f"{part.__name__}: {change}"
        assert built == {field.name for field in dataclasses.fields(part)}


@pytest.fixture
def starts(tmp_path) -> dict[str, Source]:
    """A source of each class that finds videos, whose files may be empty here."""
    root = tmp_path / "videos"
    for split in ("train", "val"):
        (root / split / "a").mkdir(parents=True)
        (root / split / "a" / "x.mp4").touch()
        (tmp_path / f"{split}.txt").write_text(f"{split}/a/x.mp4 0\n")
        (tmp_path / f"index_{split}.jsonl").write_text('{"name": "x", "label": 0}\n')
    (tmp_path / "map.txt").write_text("a\n")
    (tmp_path / "dataset_info.json").write_text('{"name": "x"}')
    (tmp_path / "label.labels.txt").write_text("a\n")
    MINIATURES["hmdb51_split1"][1](tmp_path / "hmdb51")
    lists = Lists(str(root), *(str(tmp_path / name) for name in ("train.txt", "val.txt", "map.txt")))
    public = Dataset("hmdb51", str(tmp_path / "hmdb51"))
    known = [lists, Folder(str(root)), public, Records(str(tmp_path)), Demo(8, 8, str(tmp_path / "demo"))]
    return {type(source).__name__: source for source in known}


def found_by(source: Source) -> str:
    """The videos that a source finds, or why it finds none."""
    if problems := [*source.problems(), *source.path_problems()]:
        return str(problems)
    try:
        return str([(videos.paths, videos.labels, videos.classes) for videos in source.load()])
    except (FileNotFoundError, ValueError) as error:
        return str(error)


def test_every_field_of_a_source_changes_what_it_finds_or_is_refused(starts):
    assert starts.keys() == registered(Source).keys()
    for name, source in starts.items():
        before, built = found_by(source), set()
        assert "x.mp4" in before or name in ("Dataset", "Records", "Demo")
        for change, changed in variations(source):
            field = change.partition("=")[0]
            if field not in built:
                built.add(field)
                assert found_by(changed) != before, f"{name}: {change}"
        assert built == {field.name for field in dataclasses.fields(source)}


def test_shares_of_mixtures_need_mixtures():
    mixes = {"mixup", "cutmix", "mix_probability", "cutmix_probability"}
    refused = {change.partition("=")[0] for change, train in variations(TrainConfig()) if list(train.problems())}
    assert refused & mixes == {"mix_probability", "cutmix_probability"}


DEMO, SLOWFAST, TDN = "demo.py", "k200_slowfast.py", "k400_tdn.py"


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        (DEMO, "alpha=8"),
        (DEMO, "head_order=slow_fast"),
        (DEMO, "appearance=0.5"),
        (DEMO, "norm.norm3=ct"),  # ResNet-18, whose blocks have two norms
        (DEMO, "norm.base=gn norm.base.clips_per_statistics=8"),
        (DEMO, "norm.base=LayerNorm norm.base.groups=8"),
        (DEMO, "norm.base.limits=(4.0,5.0)"),
        (DEMO, "norm.base.statistics=token"),  # of layer and group normalisation
        (DEMO, "norm.base=gn norm.base.groups=8 norm.base.channels_per_group=4"),
        (f"{DEMO}:bn", "norm.relay_distance=2"),
        (f"{DEMO}:bn", "norm.reduction=8"),
        (f"{DEMO}:bn", "interlace.fraction=0.25"),
        (TDN, "cardinality=32"),
        (TDN, "interlace=None"),
        ("k200_bninception.py", "depth=101"),
        ("k200_bninception.py", "scan_blocks=True"),
        ("k200_bninception.py", "cardinality=32"),
        ("k200_r2plus1d.py", "norm.base.epsilon=1e-4"),
        ("k200_r2plus1d.py", "base_width=4"),
        (SLOWFAST, "frames_per_segment=5"),
        (SLOWFAST, "interlace.every=2"),
        ("k400_tsm.py", "interlace=None"),
        (DEMO, "data.sampler.interval=4"),  # segments
        (DEMO, "data.sampler.out_of_bound=repeat_last"),
        (SLOWFAST, "data.sampler.window=32"),
        (DEMO, "data.crop.area=(0.5,1.0)"),
        (DEMO, "data.rand_augment.magnitude=9.0"),
        (DEMO, "optimizer.momentum=0.0 optimizer.nesterov=True"),
        (DEMO, "optimizer.warmup_steps=0 optimizer.warmup_ratio=0.5"),
        (DEMO, "train.mix_probability=0.5"),
    ],
)
def test_a_setting_without_effect_cannot_be_written(config, flags):
    sections = ("data.", "optimizer.", "train.")
    arguments = [
        f"--config.{'' if flag.startswith(sections) else 'model.'}{flag.replace('model.data', 'data')}"
        for flag in flags.split()
    ]
    with pytest.raises(ConfigError, match=r"no field|is None|expected|needs"):
        validate_network(override(load_config(f"{REPOSITORY}/configs/{config}"), arguments)[0])


def test_the_baseline_has_no_settings_of_dnr():
    spec = DNRSpec(relay_distance=2, reduction=8).counterpart()
    assert spec == DNRSpec.static()
