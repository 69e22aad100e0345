"""What is refused before anything is compiled, in every section but the network's own."""

import dataclasses
import math
import operator
import re

import pytest

from dnr_jax.config import ConfigError, ExperimentConfig, RandAugment, validate
from dnr_jax.config.parts import flatten
from dnr_jax.data.clips.sampling import Dense, Segments, Window
from dnr_jax.data.clips.transforms import RandomResizedCrop
from tests.config.experiments import problems, valid_config

pytestmark = pytest.mark.compat


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        ("data", "root", "no field 'data.root': it is 'data.source.root' now, a field of Lists, Folder"),
        (
            "data",
            "crop_sise",
            r"DataConfig has no field 'crop_sise' \(did you mean 'crop_size'\?\); it has source, sampler",
        ),
        ("data.source", "root", r"Demo has no field 'root'; it has train_videos, val_videos, cache_dir"),
        ("model", "dept", r"TSN has no field 'dept' \(did you mean 'depth'\?\)"),
    ],
)
def test_what_is_no_field_cannot_be_set(part, name, message):
    with pytest.raises(ConfigError, match=message):
        setattr(operator.attrgetter(part)(valid_config()), name, "x")


def test_the_defaults_need_only_data():
    validate(valid_config())
    assert "data.source.train_list" in problems(ExperimentConfig())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.depth", 51, "is 51; expected one of 18, 34, 50, 101, 152"),
        ("model.dtype", "float16", "expected one of float32, bfloat16 (did you mean 'bfloat16'?)"),
        ("model.stem", "tiny", "expected one of imagenet, small"),
        ("model.width", 0, "is 0; expected at least 1"),
        ("model.dropout", 1.0, "is 1.0; expected less than 1"),
        ("model.interlace.fraction", 0.6, "is 0.6; expected at most 0.5"),
        ("model.norm.norm1", "gn", "expected one of static, cl, ct"),
        ("model.norm.depth", 0, "is 0; expected at least 1"),
        ("model.norm.relay_distance", 3, "does not divide the clip of 8 frames"),
        ("model.norm.num_groups", 3, "8 frames cannot be cut into 3 equal groups"),
        ("model.norm.base.clips_per_statistics", 12, "12 does not divide train.batch_size, which is 64"),
        ("data.source", "list", "is 'list'; expected Source"),
        ("data.sampler", "sparse", "is 'sparse'; expected Sampler"),
        ("data.sampler.out_of_bound", "wrap", "expected one of loop, repeat_last"),
        ("data.color_jitter", (1.5, 0.0, 0.0, 0.0), "expected a tuple of 4 (a finite number, at least 0, at most 1;"),
        ("data.color_jitter", (0.0, 0.0, 0.0, 0.6), "a finite number, at least 0, at most 0.5)"),
        ("train.seed", 2**32, "is 4294967296; expected less than 4294967296"),
        ("train.epochs", float("inf"), "is inf; expected a finite number"),
        ("train.epochs", float("nan"), "is nan; expected a finite number"),
        ("data.crop_size", 300, "is 300; expected at most data.short_side, which is 256"),
        ("data.std", (1.0, 0.0, 1.0), "expected a tuple of 3 (a finite number, more than 0; "),
        ("data.std", (0.225,) * 3, "from 0 to 1, write mean and std times 255: std (57.375, 57.375, 57.375)"),
        ("data.max_failures", 1.5, "expected at most 1"),
        ("data.sampler.num_frames", 0, "is 0; expected at least 1"),
        ("optimizer.learning_rate", 0.0, "is 0.0; expected more than 0"),
        ("optimizer.learning_rate", float("nan"), "expected a finite number, more than 0"),
        ("optimizer.momentum", -0.1, "expected at least 0"),
        ("optimizer.warmup_ratio", 0.0, "expected more than 0"),
        ("optimizer.schedule", "cosin", "(did you mean 'cosine'?)"),
        ("train.epochs", 0.0, "or a length in steps"),
        ("train.batch_size", 0, "is 0; expected at least 1"),
        ("train.label_smoothing", 1.0, "expected less than 1"),
        ("train.mixup", -0.1, "is -0.1; expected at least 0"),
        ("train.cutmix", -1.0, "is -1.0; expected at least 0"),
        ("train.cutmix_probability", 1.5, "expected at most 1"),
        ("train.mix_probability", -1.0, "expected at least 0"),
        ("evaluation.crops", 2, "is 2; expected one of 1, 3, 10"),
        ("evaluation.crop_size", 512, "expected at most data.short_side"),
        ("evaluation.average", "mean", "expected one of probability, logit"),
        ("model.depth", "50", "is '50'; expected one of 18, 34, 50, 101, 152"),
        ("model.width", True, "is True; expected a whole number"),
        ("data.flip", 1, "is 1; expected True or False"),
        ("data.mean", (1.0, 2.0), "expected a tuple of 3 (a finite number; a finite number; a finite number)"),
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


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_number_may_be_infinite_or_none_at_all(value):
    fields = [name for name, default in flatten(valid_config()).items() if isinstance(default, float)]
    assert {"optimizer.learning_rate", "optimizer.clip_norm", "train.mixup", "train.epochs"} <= set(fields)
    for field in fields:
        config = valid_config()
        section, _, name = field.rpartition(".")
        setattr(operator.attrgetter(section)(config), name, value)
        assert f"{field}: is {value!r}; expected a finite number" in problems(config)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"sampler": Segments(frames_per_segment=0)}, "data.sampler.frames_per_segment: is 0; expected at least 1"),
        ({"sampler": Window(window=7)}, "data.sampler.window: is 7; expected at least num_frames, which is 8"),
        ({"sampler": Window(window=0)}, "data.sampler.window: is 0; expected at least 1"),
        ({"sampler": Dense(interval=1, jitter=True)}, "data.sampler.jitter: is True, which needs an interval above 1"),
        ({"crop": RandomResizedCrop(area=(0.0, 1.0))}, "data.crop.area: is (0.0, 1.0); expected a tuple of 2"),
        ({"crop": RandomResizedCrop(area=(0.5, 1.5))}, "data.crop.area: is (0.5, 1.5); expected a tuple of 2"),
        ({"crop": RandomResizedCrop(aspect=(2.0, 1.0))}, "data.crop.aspect: is (2.0, 1.0); expected the smaller"),
        ({"rand_augment": RandAugment(layers=0)}, "data.rand_augment.layers: is 0; expected at least 1"),
        ({"rand_augment": RandAugment(magnitude=11.0)}, "data.rand_augment.magnitude: is 11.0; expected at most 10"),
        ({"rand_augment": RandAugment(probability=2.0)}, "data.rand_augment.probability: is 2.0; expected at most 1"),
    ],
)
def test_parts_of_the_data_refuse_what_they_cannot_do(data, message):
    config = valid_config()
    (line,) = problems(dataclasses.replace(config, data=dataclasses.replace(config.data, **data))).splitlines()
    assert line.startswith(message)


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ("train", {"mix_probability": 0.5}, "train.mix_probability: is 0.5, which needs mixup or cutmix above 0"),
        ("train", {"mixup": 0.2, "cutmix_probability": 0.1}, "train.cutmix_probability: is 0.1, which needs mixup and"),
        ("optimizer", {"warmup_ratio": 0.1}, "optimizer.warmup_ratio: is 0.1, which needs warmup_steps above 0"),
        (
            "optimizer",
            {"weight_decay": 0.0, "decay_norm_and_bias": False},
            "optimizer.decay_norm_and_bias: is False, which needs a weight_decay above 0",
        ),
    ],
)
def test_settings_without_effect_are_refused(section, fields, message):
    config = valid_config()
    setattr(config, section, dataclasses.replace(getattr(config, section), **fields))
    assert problems(config).startswith(message)


def test_the_frames_of_all_segments_are_a_clip():
    config = valid_config()
    config.data.sampler = Segments(frames_per_segment=5)
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
    assert problems(config) == "optimizer.nesterov: needs a momentum above 0"


def test_a_batch_is_divided_over_devices_and_processes():
    config = valid_config()
    validate(config, num_devices=8, num_processes=2)
    config.train.batch_size = 20
    expected = (
        "train.batch_size: 20 clips cannot be divided over 8 devices of 2 processes; the nearest that can: 16 or 24"
    )
    assert problems(config, num_devices=8, num_processes=2) == expected


def test_a_state_is_sharded_over_a_divisor_of_the_devices():
    config = valid_config()
    config.train.fsdp_devices = 4
    validate(config)  # how many devices there are is not known yet
    validate(config, num_devices=8)
    assert problems(config, num_devices=2) == "train.fsdp_devices: is 4; expected a divisor of the 2 devices: 1, 2"
    config.train.fsdp_devices = 0
    assert problems(config) == "train.fsdp_devices: is 0; expected at least 1"


def test_the_parts_of_a_batch_are_divided_likewise():
    config = valid_config()
    config.train.batch_size, config.train.accumulate = 64, 4
    validate(config, num_devices=8)
    config.train.accumulate = 16
    assert problems(config, num_devices=8) == (
        "train.accumulate: 16 parts of train.batch_size, which is 64, cannot be divided over 8 devices; "
        "expected a divisor of 8"
    )
    config.model.norm.base.clips_per_statistics = 8
    assert problems(config) == (
        "train.accumulate: is 16; expected a divisor of the 8 sets of model.norm.base.clips_per_statistics=8 clips in "
        "train.batch_size, which is 64"
    )


def test_all_problems_are_told_at_once():
    config = valid_config()
    config.model.depth, config.model.norm.norm1, config.model.norm.base.epsilon = 51, "x", 0.0
    config.optimizer.clip_norm, config.evaluation.clips = -1.0, 0
    fields = [re.split(r"[: ]", line)[0] for line in problems(config).splitlines()]
    assert fields == [
        "model.depth",
        "model.norm.norm1",
        "model.norm.base.epsilon",
        "optimizer.clip_norm",
        "evaluation.clips",
    ]
