"""SlowFast: which frames, widths and kernels each pathway has, and how DNR is counted in them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from dnr_jax.dnr import CrossTemporalDNR, DNRSpec, StaticNorm
from dnr_jax.models import SlowFast, SlowFastBackbone, create_model
from tests.models.inspection import norms_of

CLIP = jax.ShapeDtypeStruct((1, 32, 32, 32, 3), jnp.float32)


def params_of(model, x=CLIP):
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)["params"]


def frames_of(num_frames: int, **fields) -> list[list[int]]:
    clip = jnp.arange(num_frames).reshape(1, -1, 1, 1, 1)
    return [frames.ravel().tolist() for frames in SlowFastBackbone(**fields).pathways(clip)]


@pytest.mark.parametrize(
    ("num_frames", "fields", "slow", "fast"),
    [
        (32, {}, range(0, 32, 4), range(32)),
        (32, {"alpha": 8}, range(0, 32, 8), range(32)),
        (32, {"alpha": 4, "resample_rate": 8}, range(0, 32, 8), range(0, 32, 2)),
        # PySlowFast: torch.linspace(0, 31, 8).long()
        (32, {"slow_frames": "linspace"}, [0, 4, 8, 13, 17, 22, 26, 31], range(32)),
        (32, {"slow_frames": "linspace", "alpha": 8}, [0, 10, 20, 31], range(32)),
        (8, {"slow_frames": "linspace", "alpha": 8}, [0], range(8)),
    ],
)
def test_frames_of_the_pathways(num_frames, fields, slow, fast):
    assert frames_of(num_frames, **fields) == [list(slow), list(fast)]


def test_clips_that_cannot_be_divided_are_refused():
    with pytest.raises(ValueError, match="one of 4 frames, which does not divide the clip of 30 frames"):
        frames_of(30)
    with pytest.raises(ValueError, match="resample_rate=6 is not a multiple of alpha=4"):
        frames_of(24, resample_rate=6)


def test_the_fast_pathway_is_narrow_and_the_slow_one_sees_it():
    params = params_of(SlowFastBackbone(50, spec=DNRSpec.static(), fusion_kernel=7, lateral_norm=True))
    assert params["slow_conv1"]["kernel"].shape == (1, 7, 7, 3, 64)
    assert params["fast_conv1"]["kernel"].shape == (5, 7, 7, 3, 8)
    laterals = [params[f"lateral{i}_conv"]["kernel"].shape for i in range(4)]
    assert laterals == [(7, 1, 1, fast, 2 * fast) for fast in (8, 32, 64, 128)]
    assert [f"lateral{i}_norm" in params for i in range(4)] == [True] * 4
    first = [params[f"slow_layer{i}"]["block0"]["conv1"]["kernel"].shape for i in range(1, 5)]
    assert first == [(1, 1, 1, 80, 64), (1, 1, 1, 320, 128), (3, 1, 1, 640, 256), (3, 1, 1, 1280, 512)]


def test_pathways_of_different_depth_and_blocks():
    model = SlowFastBackbone(101, 50, DNRSpec.static(), width=8, temporal_blocks=(6, 6))
    params = params_of(model)
    assert len(params["slow_layer3"]) == 23
    assert len(params["fast_layer3"]) == 6
    kernels = [params["slow_layer3"][f"block{i}"]["conv1"]["kernel"].shape[0] for i in range(23)]
    assert kernels == [3] * 6 + [1] * 17
    bottlenecks = params_of(SlowFastBackbone(18, spec=DNRSpec.static(), width=8, block="bottleneck"))
    assert set(bottlenecks["slow_layer4"]["block1"]) == {f"{kind}{i}" for kind in ("conv", "norm") for i in (1, 2, 3)}


@pytest.mark.parametrize(
    ("alpha", "distance", "groups"),
    [(4, 4, 2), (4, 2, 4), (8, 4, 1), (8, 2, 2)],
    ids=["8x8", "8x8 d2", "4x16", "4x16 d2"],
)
def test_groups_last_as_long_in_both_pathways(alpha, distance, groups):
    """``distance`` frames of the slow pathway are ``alpha * distance`` frames of the fast one."""
    model = SlowFastBackbone(18, spec=DNRSpec(relay_distance=distance), width=8, alpha=alpha)
    norms = norms_of(model, CLIP)
    relayed = {path: norm for path, norm in norms.items() if isinstance(norm[0], CrossTemporalDNR)}
    stages = {path.partition("/")[0] for path in relayed}
    assert stages == {f"{pathway}_layer{i}" for pathway in ("slow", "fast") for i in range(1, 5)}
    assert {path.partition("/")[2] for path in relayed} == {"block0/norm2", "block1/norm2"}
    for path, (norm, frames) in relayed.items():
        assert frames == (32 if path.startswith("fast") else 32 // alpha)
        assert norm.groups(frames) == groups
    assert all(isinstance(norms[f"{pathway}_norm1"][0], StaticNorm) for pathway in ("slow", "fast"))


def test_each_pathway_has_cells_of_its_own():
    params = params_of(SlowFastBackbone(18, width=8))
    sizes = {
        path: params[f"{path}_layer1"]["relay1"]["layer_0"]["input"]["expand"]["bias"].shape
        for path in ("slow", "fast")
    }
    assert sizes == {"slow": (32,), "fast": (4,)}


@pytest.mark.parametrize("head_order", ["fast_slow", "slow_fast"])
def test_a_config_builds_it(head_order):
    config = SlowFast.pyslowfast("4x16", depth=18, width=8, num_classes=5, dtype="bfloat16", head_order=head_order)
    model = create_model(config)
    own = {field.name for field in dataclasses.fields(config)} & {
        field.name for field in dataclasses.fields(model.backbone)
    }
    assert own > {"alpha", "beta_inv", "fusion_kernel", "lateral_norm", "slow_frames", "block", "temporal_blocks"}
    assert all(getattr(model.backbone, name) == getattr(config, name) for name in own - {"dtype"})
    assert model.head.order == {"fast_slow": (1, 0), "slow_fast": (0, 1)}[head_order]
    scores, _ = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), CLIP)
    assert (scores.shape, scores.dtype) == ((1, 5), jnp.float32)
