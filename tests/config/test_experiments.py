"""The files in ``configs/``."""

import pathlib

import numpy as np
import pytest

from dnr_jax.config import VARIANTS, ConfigError, ExperimentConfig, flatten, from_json, load_config, to_json, validate
from dnr_jax.data.catalogue.sources import Dataset, load_sources
from dnr_jax.data.clips.pipeline import train_iterator
from dnr_jax.data.clips.sampling import Dense, Linspace, Segments
from dnr_jax.data.clips.transforms import MultiScaleCrop
from dnr_jax.dnr.fields import changed
from dnr_jax.models import SlowFast, create_model
from tests.data import miniatures
from tests.paths import REPOSITORY
from tests.training import tiny

CONFIGS = {path.name: path for path in sorted((REPOSITORY / "configs").glob("*.py"))}
STH_NETWORKS = ("tsn", "tsm", "tanet", "tdn")
ARGUMENTS = {
    "demo.py": ["", *VARIANTS],
    "own_videos.py": ["", *VARIANTS],
    "something_something.py": [
        "",
        *(f"{version}_{name}{arm}" for version in ("v1", "v2") for name in STH_NETWORKS for arm in ("", "_bn")),
        *(f"{version}_tsn_{arm}" for version in ("v1", "v2") for arm in ("bn_interlace", "dnr_no_interlace")),
    ],
    "k200_bninception.py": ["", "dnr", "bn"],
    "prepared.py": ["", *VARIANTS],
    "k200_r2plus1d.py": ["", "dnr", "bn"],
    "k400_tdn.py": ["", "dnr", "bn"],
    "k200_slowfast.py": ["", "dnr", "bn"],
    "k200_tsn.py": ["", "bn", "resnet50_bn", "resnet101", "resnext101", "resnext101_bn"],
    "k400_tanet.py": ["", "dnr", "bn"],
    "k400_tsm.py": ["", "dnr", "bn"],
    "k400_slowfast.py": ["", "8x8", "4x16", "bn", "8x8_bn", "4x16_bn", "pyslowfast_8x8", "pyslowfast_4x16_bn"],
    "k400_tsn.py": ["", "bn_interlace"],
    "k200_ablation.py": [""],  # the rows: tests/test_ablation.py
    "k400_tsn_dnr.py": ["", "authors"],
}
EXPERIMENTS = [(name, argument) for name, arguments in ARGUMENTS.items() for argument in arguments]


def load(name: str, argument: str = "") -> ExperimentConfig:
    return load_config(f"{CONFIGS[name]}:{argument}")


INTERLACE = {"model.interlace", *(f"model.interlace.{field}" for field in ("fraction", "stages", "every"))}


def differences(first: dict, second: dict) -> set[str]:
    return {field for field in first.keys() | second.keys() if first.get(field, first) != second.get(field, second)}


def test_every_config_file_is_tested_and_described():
    assert set(ARGUMENTS) == set(CONFIGS)
    described = (REPOSITORY / "configs" / "README.md").read_text()
    assert all(f"`{name}`" in described for name in CONFIGS)


def with_data(config: ExperimentConfig, folder: pathlib.Path) -> ExperimentConfig:
    """Point the config at files that exist."""
    for split in ("train", "val"):
        (folder / split).mkdir()
        (folder / f"{split}.txt").touch()
    paths = {"root": str(folder), "train_list": str(folder / "train.txt"), "val_list": str(folder / "val.txt")}
    for name in paths.keys() & vars(config.data.source):
        setattr(config.data.source, name, paths[name])
    return config


@pytest.mark.parametrize(("name", "argument"), EXPERIMENTS)
def test_every_config_is_valid(name, argument, tmp_path):
    config = with_data(load(name, argument), tmp_path)
    validate(config, num_devices=8)
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize("name", CONFIGS)
def test_an_unknown_argument_is_refused(name):
    with pytest.raises(ConfigError, match="no variant 'nonsense'"):
        load(name, "nonsense")


def test_the_authors_configuration():
    """Line by line, configs/DNR_resnet50_kinetics400_rgb_seg1_f8s8.py of their repository."""
    config = load("k400_tsn_dnr.py")
    assert (config.model.depth, config.model.num_classes, config.model.dropout) == (50, 400, 0.4)
    data = config.data
    assert data.sampler == Dense(num_frames=8, interval=8)
    assert (data.short_side, data.crop_size, data.crop, data.flip) == (256, 224, MultiScaleCrop(), True)
    assert (data.mean, data.std) == ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay) == (0.1, 0.9, 1e-4)
    assert (optimizer.clip_norm, optimizer.schedule, optimizer.decay_norm_and_bias) == (40, "cosine", True)
    assert (optimizer.warmup_steps, optimizer.warmup_ratio) == (127_840, 0.01)
    assert (config.train.batch_size, optimizer.base_batch_size, config.train.epochs) == (64, 64, 196)
    evaluation = config.evaluation
    assert (evaluation.clips, evaluation.crops, evaluation.crop_size) == (10, 3, 256)
    assert (config.model.norm.relay_distance, config.model.norm.num_groups) == (4, 0)
    assert load("k400_tsn_dnr.py", "authors").model.norm.num_groups == 4


def test_the_baseline_differs_in_norms_and_interlacing_only():
    dnr, bn = flatten(load("k400_tsn_dnr.py")), flatten(load("k400_tsn.py"))
    assert differences(dnr, bn) == {
        "model.norm.norm1",
        "model.norm.norm2",
        *INTERLACE,
    }


@pytest.mark.parametrize("name", ["k200_r2plus1d", "k200_slowfast", "k400_tanet", "k400_tdn", "k400_tsm"])
def test_baselines_with_a_temporal_module_differ_in_norms_only(name):
    dnr, bn = flatten(load(f"{name}.py")), flatten(load(f"{name}.py", "bn"))
    assert differences(dnr, bn) == {"model.norm.norm1", "model.norm.norm2"}


def test_the_bninception_baseline_differs_in_norms_and_interlacing_only():
    dnr, bn = flatten(load("k200_bninception.py")), flatten(load("k200_bninception.py", "bn"))
    changed = {"model.norm.norm1", "model.norm.norm2", *INTERLACE}
    assert differences(dnr, bn) == changed


def test_a_backbone_of_table_2_differs_from_another_in_nothing_else():
    resnet, resnext = flatten(load("k200_tsn.py")), flatten(load("k200_tsn.py", "resnext101"))
    changed = {field: resnext[field] for field in resnet if resnet[field] != resnext[field]}
    assert changed == {"model.depth": 101, "model.cardinality": 32, "model.base_width": 4}
    bn = flatten(load("k200_tsn.py", "resnext101_bn"))
    assert differences(bn, resnext) == {
        "model.norm.norm1",
        "model.norm.norm2",
        *INTERLACE,
    }


@pytest.mark.parametrize("name", STH_NETWORKS)
def test_the_arms_of_something_something_differ_in_norms(name, tmp_path):
    dnr, bn = (load("something_something.py", f"v1_{name}{arm}") for arm in ("", "_bn"))
    different = differences(flatten(dnr), flatten(bn))
    assert different == {"model.norm.norm1", "model.norm.norm2"} | (INTERLACE if name == "tsn" else set())
    with_data(dnr, tmp_path)
    for config in (dnr, bn):
        config.data.source.root, config.data.sampler.num_frames = dnr.data.source.root, 16
        config.model.norm = changed(config.model.norm, base="gn")
        validate(config)


def test_the_versions_of_something_something_differ_in_data_and_steps():
    first, second = (flatten(load("something_something.py", f"{version}_tsm")) for version in ("v1", "v2"))
    changed = {field: (first[field], second[field]) for field in first if first[field] != second[field]}
    assert changed == {
        "data.source.name": ("sthv1", "sthv2"),
        "data.source.root": ("data/sthv1", "data/sthv2"),
        "optimizer.warmup_steps": (5 * 672, 5 * 1319),  # 5 epochs of whole batches of 128
    }
    assert load("something_something.py") == load("something_something.py", "v2_tsn")


@pytest.mark.parametrize(("argument", "frames"), [("v1_tdn", 40), ("v2_tsm", 8)])
def test_something_something_is_read_as_it_is_on_the_disk(argument, frames, tmp_path):
    config = load("something_something.py", argument)
    _, write = miniatures.MINIATURES[config.data.source.name]
    miniature = write(tmp_path)
    config.data.source.root, config.data.crop_size, config.data.short_side = str(tmp_path), 16, 0
    training, validation = load_sources(config.data)
    assert tuple(training.classes) == tuple(miniature.classes)
    assert (len(training), len(validation)) == (2, 1)
    with train_iterator(training, config.data, batch_size=2, seed=0) as batches:
        batch = next(batches)
    assert batch["video"].shape == (2, frames, 16, 16, 3)
    labels = [miniature.classes.index(name) for _, name in miniature.splits["train"]]
    assert sorted(batch["label"].tolist()) == sorted(labels)
    assert not (batch["failed"] >= 0).any()


@pytest.mark.parametrize(
    ("name", "batch", "rate", "decay", "epochs", "dropout", "clip", "warmup", "views"),
    [
        ("tsn", 256, 0.01, 1e-4, 50, 0.5, 40, 0, (1, 1, 0)),
        ("tsm", 128, 0.02, 5e-4, 50, 0.5, 20, 6595, (2, 3, 256)),
        ("tanet", 64, 0.01, 1e-3, 50, 0.6, 20, 0, (2, 3, 256)),
        ("tdn", 64, 0.01, 5e-4, 60, 0.5, 20, 0, (1, 1, 0)),
    ],
)
def test_the_recipes_of_something_something_are_the_peers(
    name, batch, rate, decay, epochs, dropout, clip, warmup, views
):
    """Those of the files that the configuration names: learning rate, batch on 8 GPUs, decay, clipping, views."""
    config = load("something_something.py", f"v2_{name}")
    optimizer, evaluation = config.optimizer, config.evaluation
    assert (config.train.batch_size, optimizer.base_batch_size) == (batch, batch)
    assert config.model.norm.base.clips_per_statistics == batch // 8
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.clip_norm) == (rate, decay, clip)
    assert (config.train.epochs, config.model.dropout, optimizer.warmup_steps) == (epochs, dropout, warmup)
    assert optimizer.decay_norm_and_bias == (name == "tsn")
    assert (evaluation.num_clips, evaluation.crops, evaluation.crop_size) == views
    assert (type(config.data.sampler), config.data.sampler.num_frames, config.data.flip) == (Segments, 8, True)
    assert config.data.clip_shape[0] == (40 if name == "tdn" else 8)
    assert (config.model.num_classes, type(config.data.source)) == (174, Dataset)


@pytest.mark.parametrize("variant", ["8x8", "4x16"])
def test_pyslowfasts_network_frames_and_pixels(variant):
    """SLOWFAST_8x8_R50.yaml, and what slowfast/config/defaults.py has for the rest, in pixels from 0 to 255."""
    config = load("k400_slowfast.py", f"pyslowfast_{variant}_bn")
    assert config.model == SlowFast.pyslowfast(variant, norm=config.model.norm).arms()["bn"]
    assert config.model.depth == 50
    assert config.data.sampler == Linspace(num_frames=32, interval=2, target_fps=30.0)
    assert (config.data.mean, config.data.std) == ((0.45 * 255,) * 3, (0.225 * 255,) * 3)
    mmaction2, pyslowfast = (flatten(load("k400_slowfast.py", f"{base}{variant}")) for base in ("", "pyslowfast_"))
    changed = {field.partition(".")[0] for field in differences(mmaction2, pyslowfast)}
    assert changed == {"model", "data"}


def test_a_group_of_frames_is_as_long_in_both_slowfasts():
    for variant in ("8x8", "4x16"):
        config = load("k400_slowfast.py", variant)
        frames = config.model.norm.relay_distance * config.model.alpha * config.data.sampler.interval
        assert frames == 32


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_network_takes_a_step_at_reduced_size(name, quick_compile, monkeypatch):
    """The norms, the optimiser and the step of the config; depth, width and frames reduced."""
    argument = {"k400_slowfast.py": "bn", "something_something.py": "v1_tsm_bn"}.get(name, "")
    config = tiny.shrink(load(name, argument), monkeypatch)
    config.train.batch_size = 2
    config.model.norm.base.clips_per_statistics = min(config.model.norm.base.clips_per_statistics, 2)
    state, metrics = tiny.take_step(config, create_model(config.model), num_devices=1)
    assert int(state.step) == 1
    assert all(np.isfinite(value) for value in metrics.values())
