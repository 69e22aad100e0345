"""What each network refuses of its settings and of the clips it is given, and its presets."""

import dataclasses
from typing import get_args

import pytest

from dnr_jax.config import (
    ConfigError,
    Depth,
    EvaluationConfig,
    ExperimentConfig,
    Network,
    single_view,
    validate,
    with_variant,
    with_views,
)
from dnr_jax.data.clips.sampling import Dense, Segments
from dnr_jax.models import TDN, TSM, TSN, BNInception, Interlace, R2Plus1D, SlowFast, TANet, TemporalShift
from dnr_jax.models.resnet import ARCHITECTURES
from tests.config.experiments import problems, valid_config


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
    assert (model.norm.spec().kinds, bool(model.interlace)) == (norms, interlace)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match=r"'bnn' \(did you mean 'bn'\?\)"):
        with_variant(ExperimentConfig(), "bnn")
    with pytest.raises(ConfigError, match="Variants: dnr, bn$"):
        with_variant(ExperimentConfig(model=TSM()), "bn_interlace")


def test_views():
    protocol = EvaluationConfig(batch_size=8, clips=10, crops=3, crop_size=256, average="logit")
    protocol.twice_sample = True
    assert single_view(protocol) == EvaluationConfig(batch_size=8, average="logit")
    assert with_views(protocol, (2, 1)) == dataclasses.replace(protocol, clips=2, crops=1)
    assert with_views(protocol, None) is protocol


def config_of(model: Network, **data) -> ExperimentConfig:
    config = valid_config()
    return dataclasses.replace(config, model=model, data=dataclasses.replace(config.data, **data))


def test_scanned_blocks_are_alike():
    interlaced = config_of(TSN(scan_blocks=True, interlace=Interlace(every=2)))
    assert problems(interlaced).startswith("model.interlace.every: must be 1 with scan_blocks")
    slowfast = slowfast_config(scan_blocks=True, temporal_blocks=(3, 3))
    assert problems(slowfast).startswith("model.temporal_blocks: must be 0 with scan_blocks")


def test_a_deep_tsm_is_scanned_only_where_every_block_shifts():
    config = config_of(TSM(depth=101, scan_blocks=True))
    assert "model.shift.every: must be 1 with scan_blocks" in problems(config)
    config.model.shift.every = 1
    validate(config)


@pytest.mark.parametrize(
    ("stages", "message"),
    [((True,) * 3, "expected 4 entries, one a stage"), ((False,) * 4, "expected a stage that interlaces, or None")],
)
def test_interlacing_stands_somewhere(stages, message):
    assert message in problems(config_of(TSN(interlace=Interlace(stages=stages))))


def test_basic_blocks_have_no_third_norm():
    network = TSN(depth=34)
    network.norm.norm3 = "ct"
    expected = "model.norm.norm3: is 'ct'; expected 'static', because its blocks have two norms"
    assert problems(config_of(network)) == expected
    validate(config_of(dataclasses.replace(network, depth=50)))


def test_r2plus1d_has_the_references_epsilons():
    network = R2Plus1D()
    network.norm.base.epsilon = 1e-4
    assert problems(config_of(network)).startswith(
        "model.norm.base.epsilon: is 0.0001; expected 1e-05, which stands for"
    )


def bninception_config(stem: str, crop_size: int, evaluated: int) -> ExperimentConfig:
    config = config_of(BNInception(stem=stem), crop_size=crop_size)
    config.evaluation.crop_size = evaluated
    return config


def test_bninception_takes_frames_that_it_can_halve():
    for stem, crop_size, evaluated in (("imagenet", 224, 256), ("imagenet", 31, 70), ("small", 40, 9)):
        validate(bninception_config(stem, crop_size, evaluated))
    expected = "expected a multiple of 32, or at most 1 less or 6 more, which BNInception can halve"
    assert problems(bninception_config("imagenet", 30, 224)) == f"data.crop_size: is 30; {expected}"
    assert problems(bninception_config("imagenet", 112, 224)) == f"data.crop_size: is 112; {expected}"
    expected = "expected a multiple of 8, or at most 0 less or 1 more, which BNInception can halve"
    assert problems(bninception_config("small", 33, 34)) == f"evaluation.crop_size: is 34; {expected}"


def tdn_config(frames: int = 8, per_segment: int = 5, size: int = 224, **fields) -> ExperimentConfig:
    return config_of(TDN(**fields), crop_size=size, sampler=Segments(frames, frames_per_segment=per_segment))


def test_tdn_relays_over_segments():
    validate(tdn_config())
    validate(tdn_config(40, 1))
    validate(tdn_config(per_segment=3, frames_per_segment=3, stem="small", size=9))
    assert "relay_distance=4 does not divide the clip of 6 frames" in problems(tdn_config(6))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (TSN(cardinality=0), "model.cardinality: is 0; expected at least 1"),
        (TSN(base_width=0), "model.base_width: is 0; expected at least 1"),
        (TSN(depth=34, cardinality=32), "model.cardinality: is 32; expected 1 below 50 layers"),
        (TSM(depth=18, base_width=4), "model.base_width: is 4; expected 64 below 50 layers"),
        (TANet(depth=18), "model.depth: is 18; expected one of 50, 101, 152"),
        (TANet(width=2), "model.width: is 2; expected at least 4"),
        (TSN(width=8, base_width=4), "model.base_width: is 4; expected at least 8 with a width of 8"),
    ],
)
def test_bottlenecks_that_cannot_be_built_are_refused(network, message):
    assert message in problems(config_of(network))
    validate(config_of(TSN(cardinality=32, base_width=4, depth=101)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"per_segment": 1},
            "data.sampler: clips have 8 frames; expected a multiple of 5, TDN's frames of a segment",
        ),
        ({"per_segment": 4, "frames_per_segment": 4}, "model.frames_per_segment: is 4; expected an odd number"),
        ({"frames_per_segment": 1}, "model.frames_per_segment: is 1; expected at least 3"),
        ({"appearance": 1.5}, "model.appearance: is 1.5; expected at most 1"),
        ({"size": 32}, "data.crop_size: is 32; expected at least 33"),
        ({"size": 8, "stem": "small"}, "data.crop_size: is 8; expected at least 9"),
    ],
)
def test_what_tdn_cannot_be_built_of_is_refused(fields, message):
    assert message in problems(tdn_config(**fields))


def slowfast_config(num_frames: int = 32, **fields) -> ExperimentConfig:
    return config_of(SlowFast(**fields), sampler=Dense(num_frames))


def test_slowfast_relays_over_the_slow_pathways_frames():
    validate(slowfast_config())
    validate(slowfast_config(alpha=8, fusion_kernel=5))
    config = slowfast_config(24)
    assert "relay_distance=4 does not divide the clip of 6 frames" in problems(config)


@pytest.mark.parametrize(
    ("num_frames", "fields", "message"),
    [
        (30, {}, "data.sampler: clips have 30 frames; expected a multiple of 4"),
        (32, {"resample_rate": 6}, "model.resample_rate: is 6; expected a multiple of alpha, which is 4"),
        (32, {"fusion_kernel": 4}, "model.fusion_kernel: is 4; expected an odd number"),
        (32, {"beta_inv": 5}, "model.width: is 64; expected a multiple of beta_inv, which is 5"),
        (32, {"alpha": 0}, "model.alpha: is 0; expected at least 1"),
        (32, {"slow_frames": "random"}, "model.slow_frames: is 'random'; expected one of stride, linspace"),
        (32, {"fast_depth": 19}, "model.fast_depth: is 19"),
        (32, {"head_order": "fast"}, "model.head_order: is 'fast'"),
        (
            32,
            {"temporal_blocks": (0, 6)},
            "model.temporal_blocks: is (0, 6); expected at most 5 in ResNet-50, or 0 for all",
        ),
        (
            32,
            {"temporal_blocks": (6, -1)},
            "model.temporal_blocks: is (6, -1); expected a tuple of 2 (a whole number, at least 0;",
        ),
    ],
)
def test_what_slowfast_cannot_be_built_of_is_refused(num_frames, fields, message):
    assert message in problems(slowfast_config(num_frames, **fields))


def test_the_presets_are_the_peers():
    """MMAction2: configs/recognition/slowfast; PySlowFast: configs/Kinetics/SLOWFAST_{8x8,4x16}_R50.yaml."""
    assert SlowFast.mmaction2() == SlowFast.mmaction2("8x8") == SlowFast()
    for preset in (SlowFast.mmaction2, SlowFast.pyslowfast):
        assert (preset("8x8").alpha, preset("8x8").fusion_kernel) == (4, 7)
        assert (preset("4x16").alpha, preset("4x16").fusion_kernel) == (8, 5)
    facebook = SlowFast.pyslowfast("4x16")
    assert (facebook.lateral_norm, facebook.slow_frames, facebook.head_order) == (True, "linspace", "slow_fast")


def test_depths_are_those_that_there_are():
    assert get_args(Depth) == tuple(ARCHITECTURES)


def test_channels_are_interlaced_in_tsn_and_shifted_in_tsm():
    """Share of the channels that each neighbouring frame gives, and in the first of how many blocks."""

    def interlacing(network: Network) -> tuple[float, int]:
        backbone = network.build().backbone
        return backbone.interlace_fraction, backbone.interlace_every

    assert interlacing(TSN()) == interlacing(TSN(depth=101)) == interlacing(TSM()) == (1 / 8, 1)
    assert interlacing(TSN(interlace=Interlace(0.25, every=3))) == (0.25, 3)
    assert interlacing(TSN(interlace=None))[0] == 0
    assert interlacing(TSM(depth=101)) == (1 / 8, 2)
    assert interlacing(TSM(depth=101, shift=TemporalShift(every=1))) == (1 / 8, 1)
