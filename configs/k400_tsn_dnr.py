"""Kinetics-400, TSN with ResNet-50 and DNR, trained from scratch: the authors' configuration.

The argument ``authors`` follows their released code where it differs from the paper: four groups of frames instead of a
relay distance of four frames, no channel interlacing, and scores averaged before the softmax.
"""

from dnr_jax.config import ConfigError, ExperimentConfig, TrainConfig, kinetics, ten_by_three
from dnr_jax.data.clips.sampling import Dense
from dnr_jax.data.clips.transforms import MultiScaleCrop
from dnr_jax.models import TSN
from dnr_jax.training.optimizer import SGD


def get_config(arg: str = "") -> ExperimentConfig:
    config = ExperimentConfig(
        model=TSN(depth=50, num_classes=400, dropout=0.4),
        data=kinetics(
            "data/kinetics400",
            sampler=Dense(num_frames=8, interval=8),
            short_side=256,
            crop_size=224,
            crop=MultiScaleCrop(),
            flip=True,
        ),
        optimizer=SGD(
            learning_rate=0.1,
            base_batch_size=64,
            momentum=0.9,
            weight_decay=1e-4,
            clip_norm=40.0,
            warmup_steps=127_840,
            warmup_ratio=0.01,
        ),
        train=TrainConfig(batch_size=64, epochs=196.0),
        evaluation=ten_by_three(batch_size=8),
    )
    # The authors' clips share statistics on one GPU, of which each held 8.
    config.model.norm.base.clips_per_statistics = 8
    if arg == "authors":
        config.model.norm.num_groups = 4
        config.model.interlace = None
        config.evaluation.average = "logit"
    elif arg:
        raise ConfigError(f"no variant {arg!r}. Variants: authors, or none")
    return config
