"""The networks of the paper and of its comparisons, by name, as configurations."""

import dataclasses
from collections.abc import Mapping
from typing import get_args

from dnr_jax.config import Depth, ModelConfig, SlowFastConfig

DEEP: tuple[Depth, ...] = (50, 101)


@dataclasses.dataclass(frozen=True)
class ZooNetwork:
    """A network, and the clips that it was made for.

    Attributes:
      config: with DNR; :func:`dnr_jax.config.with_variant` sets other norms. Copy it before changing it.
      num_frames: of a clip.
    """

    config: ModelConfig
    num_frames: int = 8

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Shape of a clip of 224 x 224 pixels: ``(T, H, W, 3)``."""
        return self.num_frames, 224, 224, 3


def _tsn(depth: Depth) -> ZooNetwork:
    return ZooNetwork(ModelConfig(depth=depth))


def _slowfast(depth: Depth, slowfast: SlowFastConfig) -> ZooNetwork:
    # A group of DNR is half a clip, as in the paper's: 4 of the 8 frames of the slow pathway, or 2 of its 4.
    network = ZooNetwork(ModelConfig("slowfast", depth, dropout=0.5, slowfast=slowfast), num_frames=32)
    network.config.norm.relay_distance = network.num_frames // slowfast.alpha // 2
    return network


ZOO: Mapping[str, ZooNetwork] = {
    **{f"tsn_r{depth}": _tsn(depth) for depth in get_args(Depth)},
    **{
        f"tsn_resnext{depth}_32x4d": ZooNetwork(ModelConfig(depth=depth, cardinality=32, base_width=4))
        for depth in DEEP
    },
    **{f"tsm_r{depth}": ZooNetwork(ModelConfig("tsm", depth, dropout=0.5)) for depth in DEEP},
    "tsn_bninception": ZooNetwork(ModelConfig("bninception")),
    **{f"tdn_r{depth}": ZooNetwork(ModelConfig("tdn", depth, dropout=0.5), num_frames=40) for depth in DEEP},
    **{f"tanet_r{depth}": ZooNetwork(ModelConfig("tanet", depth, dropout=0.5)) for depth in DEEP},
    "r2plus1d_r34": ZooNetwork(ModelConfig("r2plus1d", 34, dropout=0.5)),
    **{
        f"slowfast_r{depth}_{variant}": _slowfast(depth, SlowFastConfig.mmaction2(variant))
        for depth in (18, *DEEP)
        for variant in ("4x16", "8x8")
    },
    "slowfast_r50_8x8_lateralnorm": _slowfast(50, dataclasses.replace(SlowFastConfig.mmaction2(), lateral_norm=True)),
    **{
        f"slowfast_fb_r{depth}_{variant}": _slowfast(depth, SlowFastConfig.pyslowfast(variant))
        for depth in DEEP
        for variant in ("4x16", "8x8")
    },
}
"""Networks for 400 classes by name: family, (``fb``: PySlowFast's form of it,) ResNet, variant."""
