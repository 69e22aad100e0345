"""Kinetics-200, SlowFast 8x8 with ResNet-18 and DNR, 32 frames, from scratch; with the argument ``bn`` its baseline.

The network is MMAction2's ``slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb.py`` at depth 18, whose clips share statistics
on one GPU, of which each holds 8. The optimisation is what the paper says of Kinetics-200.
"""

from dnr_jax.config import ExperimentConfig, TrainConfig, kinetics, ten_by_three, with_variant
from dnr_jax.data.clips.sampling import Dense
from dnr_jax.models import SlowFast
from dnr_jax.training.optimizer import SGD


def get_config(arg: str = "") -> ExperimentConfig:
    config = ExperimentConfig(
        model=SlowFast.mmaction2("8x8", depth=18, num_classes=200),
        data=kinetics(
            "data/kinetics200",
            sampler=Dense(num_frames=32, interval=2),
        ),
        optimizer=SGD(warmup_steps=60_000, warmup_ratio=0.01),
        train=TrainConfig(batch_size=64, epochs=196.0),
        # 30 views of 32 frames of 256 x 256 are 189 MB a video: 2 videos at a time.
        evaluation=ten_by_three(batch_size=2),
    )
    config.model.norm.base.clips_per_statistics = 8
    return with_variant(config, arg)
