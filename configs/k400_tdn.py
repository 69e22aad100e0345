"""Kinetics-400, TDN with ResNet-50 and DNR, 8 segments of 5 frames; with the argument ``bn`` its baseline.

The hyper-parameters are those of TDN's repository, which the paper trained: 16 clips on each of 8 GPUs, which has
statistics of its own, a learning rate of 0.02, 100 epochs, no decay of norms and biases. Two things differ: the
learning rate follows the paper's cosine instead of falling at epochs 50, 75 and 90, and biases learn at the rate of the
other parameters instead of twice that. The paper starts from ImageNet's weights
(``--config.init_from=resnet50.pth --config.init.allow=head,relays,temporal``).
"""

from dnr_jax.config import ExperimentConfig, TrainConfig, kinetics, ten_by_three, with_variant
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.models import TDN
from dnr_jax.training.optimizer import SGD


def get_config(arg: str = "") -> ExperimentConfig:
    config = ExperimentConfig(
        model=TDN(depth=50, num_classes=400),
        data=kinetics(
            "data/kinetics400",
            sampler=Segments(num_frames=8, frames_per_segment=5),
        ),
        optimizer=SGD(
            learning_rate=0.02, base_batch_size=128, weight_decay=1e-4, decay_norm_and_bias=False, clip_norm=20.0
        ),
        train=TrainConfig(batch_size=128, epochs=100.0),
        # 30 views of 40 frames of 256 x 256 are 236 MB a video: 1 video at a time.
        evaluation=ten_by_three(batch_size=1),
    )
    config.model.norm.base.clips_per_statistics = 16
    return with_variant(config, arg)
