"""Kinetics-400, TANet with ResNet-50 and DNR, 8 frames; with the argument ``bn`` its baseline.

The hyper-parameters are MMAction2's (``tanet_imagenet-pretrained-r50_8xb8-dense-1x1x8-100e_kinetics400-rgb.py``),
with its mean of the blue channel; norms and biases are not decayed. One thing differs: the learning rate follows the
paper's cosine instead of falling at epochs 50, 75 and 90. Frames are 8 apart and views 10 x 3 of 256 x 256 pixels, as
in all of the paper's Table 6. The paper starts from ImageNet's weights.
"""

from dnr_jax.config import ExperimentConfig, TrainConfig, kinetics, ten_by_three, with_variant
from dnr_jax.data.clips.sampling import Dense
from dnr_jax.models import TANet
from dnr_jax.training.optimizer import SGD


def get_config(arg: str = "") -> ExperimentConfig:
    config = ExperimentConfig(
        model=TANet(depth=50, num_classes=400),
        data=kinetics(
            "data/kinetics400",
            sampler=Dense(num_frames=8, interval=8),
            mean=(123.675, 116.28, 103.5),
        ),
        optimizer=SGD(
            learning_rate=0.01, base_batch_size=64, weight_decay=1e-4, decay_norm_and_bias=False, clip_norm=20.0
        ),
        train=TrainConfig(batch_size=64, epochs=100.0),
        evaluation=ten_by_three(batch_size=8),
    )
    config.model.norm.base.clips_per_statistics = 8
    return with_variant(config, arg)
