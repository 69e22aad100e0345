"""Kinetics-400, TSM with ResNet-50 and DNR, 8 frames; with the argument ``bn`` its baseline.

The hyper-parameters are MMAction2's (``tsm_imagenet-pretrained-r50_8xb16-dense-1x1x8-50e_kinetics400-rgb.py``), with
which the paper reproduced its baseline; norms and biases are not decayed. Two things differ: the learning rate follows
the paper's cosine instead of falling at epochs 25 and 45, and the classifier learns at the rate of the other layers
instead of five times that. Frames are 8 apart and views 10 x 3 of 256 x 256 pixels, as in all of the paper's Table 6.
The paper starts from ImageNet's weights.
"""

from dnr_jax.config import ExperimentConfig, TrainConfig, kinetics, ten_by_three, with_variant
from dnr_jax.data.clips.sampling import Dense
from dnr_jax.models import TSM
from dnr_jax.training.optimizer import SGD


def get_config(arg: str = "") -> ExperimentConfig:
    config = ExperimentConfig(
        model=TSM(depth=50, num_classes=400),
        data=kinetics(
            "data/kinetics400",
            sampler=Dense(num_frames=8, interval=8),
        ),
        optimizer=SGD(
            learning_rate=0.02,
            base_batch_size=128,
            weight_decay=1e-4,
            decay_norm_and_bias=False,
            clip_norm=20.0,
            warmup_steps=9_400,  # 5 epochs of 1880 steps
            warmup_ratio=0.1,
        ),
        train=TrainConfig(batch_size=128, epochs=50.0),
        evaluation=ten_by_three(batch_size=8),
    )
    config.model.norm.base.clips_per_statistics = 16
    return with_variant(config, arg)
