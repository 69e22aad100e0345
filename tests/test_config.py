import dataclasses
import pathlib
import re

import numpy as np
import pytest

from dnr_jax.config import (
    DEPTHS,
    VARIANTS,
    ConfigError,
    DataConfig,
    EvaluationConfig,
    ExperimentConfig,
    ModelConfig,
    SlowFastConfig,
    check_command_line,
    check_overrides,
    expand_path,
    flatten,
    from_json,
    load_config,
    single_view,
    to_json,
    unknown_flag,
    validate,
    with_variant,
    with_views,
)
from dnr_jax.data.pipeline import train_iterator
from dnr_jax.data.sources import load_sources
from dnr_jax.dnr import DNRSpec
from dnr_jax.dnr.fields import changed
from dnr_jax.models import create_model
from dnr_jax.models.resnet import ARCHITECTURES, STEMS
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


def valid_config() -> ExperimentConfig:
    config = ExperimentConfig()
    config.data.source = "demo"
    return config


def problems(config: ExperimentConfig, **devices: int) -> str:
    with pytest.raises(ConfigError) as refused:
        validate(config, **devices)
    return str(refused.value)


def load(name: str, argument: str = "") -> ExperimentConfig:
    return load_config(f"{CONFIGS[name]}:{argument}")


# Fields


def test_the_norm_section_mirrors_the_spec():
    assert dataclasses.asdict(DNRSpec()) == dataclasses.asdict(DNRSpec())
    assert DNRSpec(norm1="static", reduction=8).spec() == DNRSpec(norm1="static", reduction=8)


def test_depths_and_stems_are_those_that_the_models_have():
    assert DEPTHS == tuple(ARCHITECTURES)
    for stem in STEMS:
        config = valid_config()
        config.model.stem = stem
        validate(config)


def test_json_there_and_back():
    config = valid_config()
    config.data.mean = (1.0, 2.0, 3.0)
    config.model.norm.depth = 3
    assert from_json(to_json(config)) == config


def test_an_unknown_field_in_json_is_refused():
    text = to_json(valid_config()).replace('"momentum": 0.9,\n    "nesterov"', '"momentun": 0.9,\n    "nesterov"')
    with pytest.raises(ConfigError, match=r"no field 'optimizer.momentun' \(did you mean 'momentum'\?\)"):
        from_json(text)


def test_a_value_of_the_wrong_type_in_json_is_refused():
    with pytest.raises(ConfigError, match="model.width: is '64'; expected a whole number"):
        from_json(to_json(valid_config()).replace('"width": 64', '"width": "64"'))


def test_flatten_names_every_leaf():
    leaves = flatten(ExperimentConfig())
    assert leaves["model.norm.relay_distance"] == 4
    assert leaves["optimizer.learning_rate"] == 0.1
    assert not any(dataclasses.is_dataclass(value) for value in leaves.values())


@pytest.mark.parametrize(
    ("variant", "norms", "interlace"),
    [
        ("", ("cl", "ct", "static"), True),
        ("dnr", ("cl", "ct", "static"), True),
        ("dnr_no_interlace", ("cl", "ct", "static"), False),
        ("bn", ("static", "static", "static"), False),
        ("bn_interlace", ("static", "static", "static"), True),
    ],
)
def test_variants(variant, norms, interlace):
    model = with_variant(ExperimentConfig(), variant).model
    assert (model.norm.spec().kinds, model.interlace) == (norms, interlace)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match=r"'bnn' \(did you mean 'bn'\?\)"):
        with_variant(ExperimentConfig(), "bnn")


def test_views():
    protocol = EvaluationConfig(batch_size=8, clips=10, crops=3, crop_size=256, average="logit")
    protocol.twice_sample = True
    assert single_view(protocol) == EvaluationConfig(batch_size=8, average="logit")
    assert with_views(protocol, (2, 1)) == dataclasses.replace(protocol, clips=2, crops=1)
    assert with_views(protocol, None) is protocol


# Validation


def test_the_defaults_need_only_data():
    validate(valid_config())
    assert "data.train_list" in problems(ExperimentConfig())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.depth", 51, "is 51; expected one of 18, 34, 50, 101, 152"),
        ("model.name", "tsnn", "is 'tsnn' (did you mean 'tsn'?); expected one of tsn, bninception, tsm"),
        ("model.dtype", "float16", "(did you mean 'bfloat16'?); expected one of float32, bfloat16"),
        ("model.stem", "tiny", "expected one of imagenet, small"),
        ("model.width", 0, "is 0; expected at least 1"),
        ("model.dropout", 1.0, "is 1.0; expected a number in [0, 1)"),
        ("model.interlace_fraction", 0.6, "is 0.6; expected a number in [0, 0.5]"),
        ("model.norm.norm1", "gn", "expected one of static, cl, ct"),
        ("model.norm.depth", 0, "is 0; expected at least 1"),
        ("model.norm.relay_distance", 3, "does not divide the clip of 8 frames"),
        ("model.norm.num_groups", 3, "8 frames cannot be cut into 3 equal groups"),
        ("model.norm.clips_per_statistics", 12, "12 does not divide train.batch_size, which is 64"),
        ("data.source", "lists", "(did you mean 'list'?); expected one of list, folder, dataset, records, demo"),
        ("data.sampling", "sparse", "expected one of dense, segments, window, linspace"),
        ("data.out_of_bound", "wrap", "expected one of loop, repeat_last"),
        ("data.frames_per_segment", 5, "is 5, which needs data.sampling 'segments', and that is 'dense'"),
        ("data.window", 0, "is 0; expected at least 1"),
        ("data.random_resized_area", (0.0, 1.0), "expected a smaller and a larger number of at most 1"),
        ("data.random_resized_area", (0.5, 1.5), "of at most 1"),
        ("data.random_resized_aspect", (2.0, 1.0), "expected a smaller and a larger number above 0"),
        ("data.color_jitter", (1.5, 0.0, 0.0, 0.0), "expected numbers in [0, 1], and the last in [0, 0.5]"),
        ("data.color_jitter", (0.0, 0.0, 0.0, 0.6), "and the last in [0, 0.5]"),
        ("data.rand_augment.layers", -1, "is -1; expected at least 0"),
        ("data.rand_augment.magnitude", 11.0, "expected a number in [0, 10]"),
        ("data.rand_augment.probability", 2.0, "expected a number in [0, 1]"),
        ("data.crop_size", 300, "is 300; expected at most data.short_side, which is 256"),
        ("data.std", (1.0, 0.0, 1.0), "expected positive numbers"),
        ("data.max_failures", 1.5, "expected a number in [0, 1]"),
        ("data.num_frames", 0, "is 0; expected at least 1"),
        ("optimizer.learning_rate", 0.0, "is 0.0; expected a positive number"),
        ("optimizer.learning_rate", float("nan"), "expected a positive number"),
        ("optimizer.momentum", -0.1, "expected a number in [0, 1)"),
        ("optimizer.warmup_ratio", 0.0, "expected a number in (0, 1]"),
        ("optimizer.schedule", "cosin", "(did you mean 'cosine'?)"),
        ("train.epochs", 0.0, "or a length in train.steps"),
        ("train.batch_size", 0, "is 0; expected at least 1"),
        ("train.label_smoothing", 1.0, "expected a number in [0, 1)"),
        ("train.mixup", -0.1, "is -0.1; expected at least 0"),
        ("train.cutmix", -1.0, "is -1.0; expected at least 0"),
        ("train.cutmix_probability", 1.5, "expected a number in [0, 1]"),
        ("train.mix_probability", -1.0, "expected a number in [0, 1]"),
        ("evaluation.crops", 2, "is 2; expected one of 1, 3, 10"),
        ("evaluation.crop_size", 512, "expected at most data.short_side"),
        ("evaluation.average", "mean", "expected one of probability, logit"),
        ("model.depth", "50", "is '50'; expected a whole number"),
        ("model.width", True, "is True; expected a whole number"),
        ("data.flip", 1, "is 1; expected true or false"),
        ("data.mean", (1.0, 2.0), "expected 3 numbers"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(field, value, message):
    config = valid_config()
    section, _, name = field.rpartition(".")
    target = config
    for part in section.split("."):
        target = getattr(target, part)
    setattr(target, name, value)
    (line,) = problems(config).splitlines()
    assert line.startswith(f"{field}")
    assert message in line


def test_scanned_blocks_are_alike():
    config = valid_config()
    config.model.scan_blocks, config.model.interlace_every = True, 2
    assert problems(config).startswith("model.interlace_every: must be 1 with model.scan_blocks")
    config.model.name, config.model.interlace_every = "slowfast", 1
    config.model.slowfast.temporal_blocks = (6, 6)
    assert problems(config).startswith("model.slowfast.temporal_blocks: must be 0 with model.scan_blocks")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling": "segments", "frames_per_segment": 0}, "data.frames_per_segment: is 0; expected at least 1"),
        ({"sampling": "window", "window": 7}, "data.window: is 7; expected at least data.num_frames, which is 8"),
        ({"sampling": "segments", "temporal_jitter": True}, "data.temporal_jitter: is True, which needs data.sampling"),
        ({"sampling": "linspace", "out_of_bound": "repeat_last"}, "data.out_of_bound: is 'repeat_last', which needs"),
        ({"target_fps": 30.0}, "data.target_fps: is 30.0, which needs data.sampling 'linspace'"),
    ],
)
def test_options_of_another_sampling_are_refused(fields, message):
    config = valid_config()
    config.data = dataclasses.replace(config.data, **fields)
    (line,) = problems(config).splitlines()
    assert line.startswith(message)


def test_the_frames_of_all_segments_are_a_clip():
    config = valid_config()
    config.data.sampling, config.data.frames_per_segment = "segments", 5
    validate(config)
    assert config.data.clip_shape == (40, 224, 224, 3)


def test_what_init_is_about_needs_init_from():
    config = ExperimentConfig()
    config.init.allow, config.init.checkpoint = "head", "best"
    with pytest.raises(ConfigError) as error:
        validate(config)
    assert "init.allow: is 'head', but there is no init_from" in str(error.value)
    assert "init.checkpoint: is 'best', but there is no init_from" in str(error.value)
    config.init_from = "weights.safetensors"
    with pytest.raises(ConfigError) as error:
        validate(config)
    assert "init" not in str(error.value)


def test_nesterov_needs_momentum():
    config = valid_config()
    config.optimizer.nesterov, config.optimizer.momentum = True, 0.0
    assert problems(config) == "optimizer.nesterov: needs optimizer.momentum above 0"


def test_a_batch_is_divided_over_devices_and_processes():
    config = valid_config()
    validate(config, num_devices=8, num_processes=2)
    config.train.batch_size = 20
    expected = (
        "train.batch_size: 20 clips cannot be divided over 8 devices of 2 processes; the nearest that can: 16 or 24"
    )
    assert problems(config, num_devices=8, num_processes=2) == expected


def test_all_problems_are_told_at_once():
    config = valid_config()
    config.model.depth, config.model.norm.norm1, config.model.norm.epsilon = 51, "x", 0.0
    config.optimizer.clip_norm, config.evaluation.clips = -1.0, 0
    fields = [re.split(r"[: ]", line)[0] for line in problems(config).splitlines()]
    assert fields == [
        "model.depth",
        "optimizer.clip_norm",
        "evaluation.clips",
        "model.norm.norm1",
        "model.norm.epsilon",
    ]


def test_paths_are_looked_for(tmp_path):
    config = ExperimentConfig()
    config.data.train_list, config.data.root = str(tmp_path / "train.txt"), str(tmp_path / "videos")
    lines = problems(config).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["data.train_list", "data.val_list", "data.root"]
    (tmp_path / "train.txt").touch()
    (tmp_path / "videos" / "train").mkdir(parents=True)
    config.data.val_list = config.data.train_list
    validate(config)
    config.data.source = "folder"
    message = (
        f"data.root: there is no folder '{tmp_path}/videos/val'; expected <class>/<video> in it. Move about a fifth"
    )
    assert problems(config).startswith(message)


@pytest.mark.parametrize(
    ("there", "offer"),
    [
        ([], "It holds nothing; 'dnr prepare' reads public data sets"),
        (["a.mp4", "b.mp4"], "It holds 2 files and no folder"),
        (["jump/a.mp4", "run/b.mp4", ".cache/x", "@eaDir/x"], "It holds 2 folders (jump, run): if these are classes"),
        (["training/jump/a.mp4", "val/jump/b.mp4"], "It holds 'training': rename that to 'train'"),
        (["train/jump/a.mp4", "test/jump/b.mp4"], "It holds 'test': rename that to 'val'"),
        (
            ["videos/a.mp4", "train_list.txt", "val_list.txt"],
            "train_list={root}/train_list.txt --config.data.val_list=",
        ),
        (["ucf101/1.0.0/dataset_info.json"], "--config=configs/prepared.py"),
    ],
)
def test_a_folder_without_splits_is_offered_what_it_holds(there, offer, tmp_path):
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    config = valid_config()
    config.data.source, config.data.root = "folder", str(tmp_path)
    (line,) = problems(config).splitlines()
    assert offer.format(root=tmp_path) in line


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", ""),
        ("/", "/"),
        ("videos/", "videos"),
        ("~/my videos//", "/home/me/my videos"),
        ("a~b", "a~b"),
        ("file:///data/my%20videos/", "/data/my videos"),
        ("file://localhost/data", "/data"),
        ("gs://bucket/videos/", "gs://bucket/videos"),
        ("$HOME/videos", "$HOME/videos"),
        ("2021-05-03T12:30:00.mp4", "2021-05-03T12:30:00.mp4"),
        (pathlib.Path("a") / "b", "a/b"),
    ],
)
def test_paths_are_read_as_people_write_them(written, read, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_path(written) == read


def test_every_field_that_is_a_path_is_expanded_whoever_sets_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    paths = {name: "~/x" for name in DataConfig.PATHS}
    config = ExperimentConfig(init_from="~/w.pth", data=DataConfig(**paths))
    config.data.root = "~/y/"
    assert (config.init_from, config.data.val_list, config.data.root) == ("/home/me/w.pth", "/home/me/x", "/home/me/y")
    assert from_json('{"data": {"cache_dir": "~"}}').data.cache_dir == "/home/me"
    assert set(flatten(config)) >= {"init_from", *(f"data.{name}" for name in DataConfig.PATHS)}
    assert config.data.dataset == ""


def test_a_variable_that_the_shell_did_not_replace_is_pointed_out(monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    config = valid_config()
    config.data.source, config.data.root = "folder", "$DATA/videos"
    assert "no folder '$DATA/videos' (the shell puts in the value of $DATA, but not within single quotes)" in problems(
        config
    )


def test_the_folder_of_a_data_set_is_looked_for(tmp_path):
    config = valid_config()
    config.data.source = "dataset"
    lines = ["data.root: is empty; data.source 'dataset' needs the folder of the data set"]
    name = "data.dataset: is empty; data.source 'dataset' needs a name, such as 'kinetics400'"
    assert problems(config).splitlines() == [*lines, name]
    config.data.root, config.data.dataset, config.data.annotations = str(tmp_path), "ucf101", str(tmp_path / "lists")
    assert problems(config) == f"data.annotations: there is no folder '{tmp_path}/lists'"
    (tmp_path / "lists").mkdir()
    validate(config)
    config.data.fold = 0
    assert problems(config).startswith("data.fold: is 0")
    config.data = dataclasses.replace(valid_config().data, source="records", root=str(tmp_path / "none"))
    assert problems(config) == f"data.root: there is no folder '{tmp_path}/none'"
    config.data.root = str(tmp_path)
    validate(config)


# The command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.optimizer.learning_rat=1"], "no field 'optimizer.learning_rat' (did you mean 'learning_rate'?)"),
        (["--config.optimiser.momentum=1"], "(did you mean 'optimizer'?). Fields of the config: model, data,"),
        (["--config.learning_rate=1"], "(did you mean 'optimizer.learning_rate'?)"),
        (["--config.model.norm.dept=1"], "(did you mean 'depth'?). Fields of section 'model.norm': norm1,"),
        (["--config.train.steps.x=1"], "no field 'train.steps.x'"),
        (["--config.train=1"], "train is a section; set one of its fields: batch_size,"),
        (["--config.train.steps=many"], "--config.train.steps: 'many' does not fit; expected a whole number"),
        (["--config.train.steps=1.5"], "expected a whole number"),
        (["--config.train.steps", "many"], "'many' does not fit"),
        (["--config.train.steps"], "has no value; expected a whole number"),
        (["--noconfig.train.steps"], "has no value"),
        (["--config.data.flip=maybe"], "expected true or false"),
        (["--config.data.mean=(1,2)"], "'(1,2)' does not fit; expected 3 numbers"),
        (["--config.optimizer.learning_rate=fast"], "expected a number"),
    ],
)
def test_a_wrong_override_gets_one_readable_line(arguments, message):
    with pytest.raises(ConfigError) as refused:
        check_overrides(arguments, ExperimentConfig())
    (line,) = str(refused.value).splitlines()
    assert message in line


def test_right_overrides_pass():
    arguments = ["--config.optimizer.learning_rate=1e-3", "--config.train.steps", "7", "--noconfig.data.flip"]
    more = ["--config.data.flip", "--config.data.mean=(1.0, 2, 3)", "--config.data.root=a=b", "--workdir=x", "--other"]
    check_overrides(arguments + more, ExperimentConfig())


def test_the_command_line_names_its_config_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo = REPOSITORY / "configs" / "demo.py"
    default = ("configs/demo.py", REPOSITORY)
    assert check_command_line(["train.py"], *default) == ["train.py", f"--config={demo}"]
    given = ["train.py", "--config.train.steps=3", "--config", "configs/demo.py:bn", "--workdir=w"]
    expected = ["train.py", f"--config={demo}:bn", "--config.train.steps=3", "--workdir=w"]
    assert check_command_line(given, *default) == expected
    with pytest.raises(ConfigError, match="there is no config file .*dem.py' \\(did you mean .*demo.py'\\?\\)"):
        check_command_line(["train.py", "--config=configs/dem.py"], *default)
    (tmp_path / "mine.py").write_text(
        "from dnr_jax import config\ndef get_config(arg): return config.ExperimentConfig()"
    )
    assert check_command_line(["train.py", "--config=mine.py"], *default) == ["train.py", "--config=mine.py"]
    for name, found in [("demo", demo), ("demo:bn", f"{demo}:bn"), ("configs/demo", demo), ("mine", "mine.py")]:
        assert check_command_line(["train.py", f"--config={name}"], *default) == ["train.py", f"--config={found}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo"], "'demo' belongs to no flag; did you mean --config=.*configs/demo.py"),
        (["runs/x"], "'runs/x' belongs to no flag; expected --config="),
        (["--config.data.flip", "false"], "'false' belongs to no flag; write it behind the flag's name"),
        (["--workdir=w", "x"], "'x' belongs to no flag"),
        (["--config=demo", "--config=demo:bn"], "--config is given 2 times"),
        (["--config="], "--config is empty"),
        (["--config"], "--config is empty"),
        (["--config=configs"], "'configs' is a folder; expected a config file. Config files: .*demo.py"),
        (["--config=README.md"], "'.*README.md' is no file in Python"),
    ],
)
def test_words_that_mean_nothing_are_refused_with_what_would_be_right(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        check_command_line(["train.py", *arguments], "configs/demo.py", REPOSITORY)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("workdr", " (did you mean --workdir?)"),
        ("print-config", " (did you mean --print_config?)"),
        ("batch_size", " (did you mean --config.train.batch_size?)"),
        ("data.root", " (did you mean --config.data.root?)"),
        ("learning_rat", " (did you mean --config.optimizer.learning_rate?)"),
        ("xyzzy", ""),
    ],
)
def test_an_unknown_flag_is_told_the_nearest(name, suggestion):
    message = unknown_flag(name, ["config", "workdir", "print_config"])
    assert message.startswith(f"there is no flag --{name}{suggestion}. Flags: --config, --workdir")


def test_values_of_flags_are_no_loose_words():
    arguments = ["--workdir", "w", "--config.train.steps", "7", "--config.data.flip", "--config", "demo", "--workdir=w"]
    assert check_command_line(["train.py", *arguments], "configs/demo.py", REPOSITORY)[2:4] == ["--workdir", "w"]


@pytest.mark.parametrize(
    ("content", "argument", "message"),
    [
        ("def get_config(:", "", r"line 1: SyntaxError: invalid syntax"),
        ("import nothing_of_this_name", "", "line 1: ModuleNotFoundError: No module named"),
        ("x = 1", "", "has no function get_config"),
        ("def get_config(): pass", "", "get_config returned nothing; expected an ExperimentConfig"),
        ("def get_config(arg=''): return {}", "", "get_config returned a dict; expected an ExperimentConfig"),
        ("def get_config(arg=''):\n  return {}[arg]", ":bn", "line 2: KeyError: 'bn'"),
        ("def get_config(): pass", ":bn", "TypeError: get_config.. takes 0 positional arguments but 1 was given"),
        ("raise __import__('dnr_jax').config.ConfigError('no such arm')", "", "^no such arm$"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(content, argument, message, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_config(f"{file}{argument}")


def test_the_config_of_a_run_is_no_config_file(tmp_path):
    (tmp_path / "config.json").write_text(to_json(valid_config()))
    with pytest.raises(ConfigError, match="is what a run saved; expected a config file in Python"):
        load_config(str(tmp_path / "config.json"))


def test_a_colon_in_a_path_is_no_argument(tmp_path):
    folder = tmp_path / "12:30"
    folder.mkdir()
    (folder / "mine.py").write_text("from dnr_jax.config import *\ndef get_config(arg=''): return ExperimentConfig()")
    assert load_config(f"{folder}/mine.py:arm") == load_config(f"{folder}/mine.py") == ExperimentConfig()
    given = ["train.py", f"--config={folder}/mine.py:arm"]
    assert check_command_line(given, "configs/demo.py", REPOSITORY) == given


@pytest.mark.parametrize(
    ("model", "fraction", "every"),
    [
        (ModelConfig(), 1 / 8, 1),
        (ModelConfig(depth=101, interlace_fraction=0.25, interlace_every=3), 0.25, 3),
        (ModelConfig(depth=101), 1 / 8, 1),
        (ModelConfig(interlace=False), 0, 1),
        (ModelConfig("tsm", interlace=False), 1 / 8, 1),
        (ModelConfig("tsm", 101), 1 / 8, 2),
        (ModelConfig("tsm", 101, interlace_every=1), 1 / 8, 1),
        (ModelConfig("slowfast"), 0, 1),
    ],
)
def test_channels_are_interlaced_in_tsn_and_shifted_in_tsm(model, fraction, every):
    assert model.interlacing == (fraction, every)


def test_a_deep_tsm_is_scanned_only_where_every_block_shifts():
    config = valid_config()
    config.model = ModelConfig("tsm", 101, scan_blocks=True)
    assert "model.interlace_every: must be 1 with model.scan_blocks" in problems(config)
    config.model.interlace_every = 1
    validate(config)


def bninception_config(stem: str, crop_size: int, evaluated: int) -> ExperimentConfig:
    config = valid_config()
    config.model.name, config.model.stem = "bninception", stem
    config.data.crop_size, config.evaluation.crop_size = crop_size, evaluated
    return config


def test_bninception_takes_frames_that_it_can_halve():
    for stem, crop_size, evaluated in (("imagenet", 224, 256), ("imagenet", 31, 70), ("small", 40, 9)):
        validate(bninception_config(stem, crop_size, evaluated))
    expected = "expected a multiple of 32, or at most 1 less or 6 more, which BNInception can halve"
    assert problems(bninception_config("imagenet", 30, 224)) == f"data.crop_size: is 30; {expected}"
    assert problems(bninception_config("imagenet", 112, 224)) == f"data.crop_size: is 112; {expected}"
    expected = "expected a multiple of 8, or at most 0 less or 1 more, which BNInception can halve"
    assert problems(bninception_config("small", 33, 34)) == f"evaluation.crop_size: is 34; {expected}"


def test_the_bninception_baseline_differs_in_norms_and_interlacing_only():
    dnr, bn = flatten(load("k200_bninception.py")), flatten(load("k200_bninception.py", "bn"))
    changed = {"model.norm.norm1", "model.norm.norm2", "model.interlace"}
    assert {field for field in dnr if dnr[field] != bn[field]} == changed


def tdn_config(frames: int = 8, per_segment: int = 5, stem: str = "imagenet", size: int = 224, **tdn):
    config = valid_config()
    config.model.name, config.model.stem, config.data.crop_size = "tdn", stem, size
    config.data.sampling, config.data.num_frames, config.data.frames_per_segment = "segments", frames, per_segment
    config.model.tdn = dataclasses.replace(config.model.tdn, **tdn)
    return config


def test_tdn_relays_over_segments():
    validate(tdn_config())
    validate(tdn_config(40, 1))
    validate(tdn_config(per_segment=3, frames_per_segment=3, stem="small", size=9))
    assert "relay_distance=4 does not divide the clip of 6 frames" in problems(tdn_config(6))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cardinality": 0}, "model.cardinality: is 0; expected at least 1"),
        ({"base_width": 0}, "model.base_width: is 0; expected at least 1"),
        ({"depth": 34, "cardinality": 32}, "model.cardinality: is 32; expected 1 below 50 layers"),
        ({"depth": 18, "base_width": 4}, "model.base_width: is 4; expected 64 below 50 layers"),
        ({"name": "r2plus1d", "cardinality": 2}, "model.cardinality: is 2; expected 1 in r2plus1d"),
        ({"name": "tanet", "depth": 18}, "model.depth: is 18; expected 50, 101 or 152 in tanet"),
        ({"name": "tanet", "width": 2}, "model.width: is 2; expected at least 4 in tanet"),
        ({"width": 8, "base_width": 4}, "model.base_width: is 4; expected at least 8 with model.width 8"),
    ],
)
def test_bottlenecks_that_cannot_be_built_are_refused(fields, message):
    config = valid_config()
    config.model = ModelConfig(**fields)
    assert message in problems(config)
    config.model = ModelConfig(cardinality=32, base_width=4, depth=101)
    validate(config)


def test_a_backbone_of_table_2_differs_from_another_in_nothing_else():
    resnet, resnext = flatten(load("k200_tsn.py")), flatten(load("k200_tsn.py", "resnext101"))
    changed = {field: resnext[field] for field in resnet if resnet[field] != resnext[field]}
    assert changed == {"model.depth": 101, "model.cardinality": 32, "model.base_width": 4}
    bn = flatten(load("k200_tsn.py", "resnext101_bn"))
    assert {field for field in bn if bn[field] != resnext[field]} == {
        "model.norm.norm1",
        "model.norm.norm2",
        "model.interlace",
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"per_segment": 1}, "data.num_frames: 8 frames of a clip cannot be divided into TDN's segments of 5 frames"),
        ({"per_segment": 4, "frames_per_segment": 4}, "model.tdn.frames_per_segment: is 4; expected an odd number"),
        ({"frames_per_segment": 1}, "model.tdn.frames_per_segment: is 1; expected at least 3"),
        ({"appearance": 1.5}, "model.tdn.appearance: is 1.5; expected a number in [0, 1]"),
        ({"size": 32}, "data.crop_size: is 32; expected at least 33"),
        ({"size": 8, "stem": "small"}, "data.crop_size: is 8; expected at least 9"),
    ],
)
def test_what_tdn_cannot_be_built_of_is_refused(fields, message):
    assert message in problems(tdn_config(**fields))


def slowfast_config(num_frames: int = 32, **fields) -> ExperimentConfig:
    config = valid_config()
    config.model.name, config.data.num_frames = "slowfast", num_frames
    config.model.slowfast = dataclasses.replace(config.model.slowfast, **fields)
    return config


def test_slowfast_relays_over_the_slow_pathways_frames():
    validate(slowfast_config())
    validate(slowfast_config(alpha=8, fusion_kernel=5))
    config = slowfast_config(24)
    assert "relay_distance=4 does not divide the clip of 6 frames" in problems(config)


@pytest.mark.parametrize(
    ("num_frames", "fields", "message"),
    [
        (30, {}, "data.num_frames: is 30; expected a multiple of 4"),
        (32, {"resample_rate": 6}, "model.slowfast.resample_rate: is 6; expected a multiple of alpha, which is 4"),
        (32, {"fusion_kernel": 4}, "model.slowfast.fusion_kernel: is 4; expected an odd number"),
        (32, {"beta_inv": 5}, "model.width: is 64; expected a multiple of beta_inv, which is 5"),
        (32, {"alpha": 0}, "model.slowfast.alpha: is 0; expected at least 1"),
        (32, {"slow_frames": "random"}, "model.slowfast.slow_frames: is 'random'; expected one of stride, linspace"),
        (32, {"fast_depth": 19}, "model.slowfast.fast_depth: is 19"),
        (32, {"head_order": "fast"}, "model.slowfast.head_order: is 'fast'"),
        (32, {"temporal_blocks": (6, -1)}, "model.slowfast.temporal_blocks: is (6, -1); expected at least 0"),
    ],
)
def test_what_slowfast_cannot_be_built_of_is_refused(num_frames, fields, message):
    assert message in problems(slowfast_config(num_frames, **fields))


def test_the_presets_are_the_peers():
    """MMAction2: configs/recognition/slowfast; PySlowFast: configs/Kinetics/SLOWFAST_{8x8,4x16}_R50.yaml."""
    assert SlowFastConfig.mmaction2() == SlowFastConfig.mmaction2("8x8") == SlowFastConfig()
    for preset in (SlowFastConfig.mmaction2, SlowFastConfig.pyslowfast):
        assert (preset("8x8").alpha, preset("8x8").fusion_kernel) == (4, 7)
        assert (preset("4x16").alpha, preset("4x16").fusion_kernel) == (8, 5)
    facebook = SlowFastConfig.pyslowfast("4x16")
    assert (facebook.lateral_norm, facebook.slow_frames, facebook.head_order) == (True, "linspace", "slow_fast")


# The files in configs/


def test_every_config_file_is_tested_and_described():
    assert set(ARGUMENTS) == set(CONFIGS)
    described = (REPOSITORY / "configs" / "README.md").read_text()
    assert all(f"`{name}`" in described for name in CONFIGS)


def with_data(config: ExperimentConfig, folder: pathlib.Path) -> ExperimentConfig:
    """Point the config at files that exist."""
    for split in ("train", "val"):
        (folder / split).mkdir()
        (folder / f"{split}.txt").touch()
    config.data.root = str(folder)
    config.data.train_list, config.data.val_list = str(folder / "train.txt"), str(folder / "val.txt")
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
    assert (data.num_frames, data.frame_interval, data.sampling) == (8, 8, "dense")
    assert (data.short_side, data.crop_size, data.multi_scale_crop, data.flip) == (256, 224, True, True)
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
    assert {name for name in dnr if dnr[name] != bn[name]} == {
        "model.norm.norm1",
        "model.norm.norm2",
        "model.interlace",
    }


@pytest.mark.parametrize("name", ["k200_r2plus1d", "k200_slowfast", "k400_tanet", "k400_tdn", "k400_tsm"])
def test_baselines_with_a_temporal_module_differ_in_norms_only(name):
    dnr, bn = flatten(load(f"{name}.py")), flatten(load(f"{name}.py", "bn"))
    assert {field for field in dnr if dnr[field] != bn[field]} == {"model.norm.norm1", "model.norm.norm2"}


@pytest.mark.parametrize("name", STH_NETWORKS)
def test_the_arms_of_something_something_differ_in_norms(name, tmp_path):
    dnr, bn = (load("something_something.py", f"v1_{name}{arm}") for arm in ("", "_bn"))
    fields, others = flatten(dnr), flatten(bn)
    different = {field for field in fields if fields[field] != others[field]}
    assert different == {"model.norm.norm1", "model.norm.norm2"} | ({"model.interlace"} if name == "tsn" else set())
    with_data(dnr, tmp_path)
    for config in (dnr, bn):
        config.data.root, config.data.num_frames = dnr.data.root, 16
        config.model.norm = changed(config.model.norm, base="gn")
        validate(config)


def test_the_versions_of_something_something_differ_in_data_and_steps():
    first, second = (flatten(load("something_something.py", f"{version}_tsm")) for version in ("v1", "v2"))
    changed = {field: (first[field], second[field]) for field in first if first[field] != second[field]}
    assert changed == {
        "data.dataset": ("sthv1", "sthv2"),
        "data.root": ("data/sthv1", "data/sthv2"),
        "optimizer.warmup_steps": (5 * 672, 5 * 1319),  # 5 epochs of whole batches of 128
    }
    assert load("something_something.py") == load("something_something.py", "v2_tsn")


@pytest.mark.parametrize(("argument", "frames"), [("v1_tdn", 40), ("v2_tsm", 8)])
def test_something_something_is_read_as_it_is_on_the_disk(argument, frames, tmp_path):
    config = load("something_something.py", argument)
    _, write = miniatures.MINIATURES[config.data.dataset]
    miniature = write(tmp_path)
    config.data.root, config.data.crop_size, config.data.short_side = str(tmp_path), 16, 0
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
    assert config.model.norm.clips_per_statistics == batch // 8
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.clip_norm) == (rate, decay, clip)
    assert (config.train.epochs, config.model.dropout, optimizer.warmup_steps) == (epochs, dropout, warmup)
    assert optimizer.decay_norm_and_bias == (name == "tsn")
    assert (evaluation.num_clips, evaluation.crops, evaluation.crop_size) == views
    assert (config.data.sampling, config.data.num_frames, config.data.flip) == ("segments", 8, True)
    assert config.data.clip_shape[0] == (40 if name == "tdn" else 8)
    assert (config.model.num_classes, config.data.source) == (174, "dataset")


@pytest.mark.parametrize("variant", ["8x8", "4x16"])
def test_pyslowfasts_network_frames_and_pixels(variant):
    """SLOWFAST_8x8_R50.yaml, and what slowfast/config/defaults.py has for the rest, in pixels from 0 to 255."""
    config = load("k400_slowfast.py", f"pyslowfast_{variant}_bn")
    assert config.model.slowfast == SlowFastConfig.pyslowfast(variant)
    assert (config.model.depth, config.data.num_frames, config.data.frame_interval) == (50, 32, 2)
    assert (config.data.sampling, config.data.target_fps) == ("linspace", 30)
    assert (config.data.mean, config.data.std) == ((0.45 * 255,) * 3, (0.225 * 255,) * 3)
    mmaction2, pyslowfast = (flatten(load("k400_slowfast.py", f"{base}{variant}")) for base in ("", "pyslowfast_"))
    changed = {field.rpartition(".")[0] for field in mmaction2 if mmaction2[field] != pyslowfast[field]}
    assert changed == {"model.slowfast", "data"}


def test_a_group_of_frames_is_as_long_in_both_slowfasts():
    for variant in ("8x8", "4x16"):
        config = load("k400_slowfast.py", variant)
        frames = config.model.norm.relay_distance * config.model.slowfast.alpha * config.data.frame_interval
        assert frames == 32


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_network_takes_a_step_at_reduced_size(name, quick_compile, monkeypatch):
    """The norms, the optimiser and the step of the config; depth, width and frames reduced."""
    argument = {"k400_slowfast.py": "bn", "something_something.py": "v1_tsm_bn"}.get(name, "")
    config = tiny.shrink(load(name, argument), monkeypatch)
    config.train.batch_size = 2
    config.model.norm.clips_per_statistics = min(config.model.norm.clips_per_statistics, 2)
    state, metrics = tiny.take_step(config, create_model(config.model), num_devices=1)
    assert int(state.step) == 1
    assert all(np.isfinite(value) for value in metrics.values())
