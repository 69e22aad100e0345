"""Kinetics-200, R(2+1)D with ResNet-34 and DNR, 8 frames, from scratch; with the argument ``bn`` its baseline.

Where the paper gives no numbers for its 3D networks: the network and the shared statistics are MMAction2's
(``r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb.py``), the optimisation is what the paper says of Kinetics-200.
"""

from dnr_jax.config import ExperimentConfig, TrainConfig, kinetics, ten_by_three, with_variant
from dnr_jax.data.clips.sampling import Dense
from dnr_jax.models import R2Plus1D
from dnr_jax.training.optimizer import SGD


def get_config(arg: str = "") -> ExperimentConfig:
    config = ExperimentConfig(
        model=R2Plus1D(depth=34, num_classes=200),
        data=kinetics(
            "data/kinetics200",
            sampler=Dense(num_frames=8, interval=8),
        ),
        optimizer=SGD(warmup_steps=60_000, warmup_ratio=0.01),
        train=TrainConfig(batch_size=64, epochs=196.0),
        evaluation=ten_by_three(batch_size=8),
    )
    return with_variant(config, arg)
