"""Kinetics-400, TSN with ResNet-50 and DNR, trained from scratch: the authors' configuration.

The argument ``authors`` follows their released code where it differs from the paper: four groups of frames instead of a
relay distance of four frames, no channel interlacing, and scores averaged before the softmax.
"""

from dnr_jax.config import (
    ConfigError,
    DataConfig,
    EvaluationConfig,
    ExperimentConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)


def get_config(arg: str = "") -> ExperimentConfig:
    config = ExperimentConfig(
        model=ModelConfig(depth=50, num_classes=400, dropout=0.4),
        data=DataConfig(
            source="list",
            root="data/kinetics400",
            train_list="data/kinetics400/train_list.txt",
            val_list="data/kinetics400/val_list.txt",
            num_frames=8,
            sampling="dense",
            frame_interval=8,
            short_side=256,
            crop_size=224,
            multi_scale_crop=True,
            flip=True,
        ),
        optimizer=OptimizerConfig(
            learning_rate=0.1,
            base_batch_size=64,
            momentum=0.9,
            weight_decay=1e-4,
            clip_norm=40.0,
            warmup_steps=127_840,
            warmup_ratio=0.01,
        ),
        train=TrainConfig(batch_size=64, epochs=196.0),
        # 30 views of 8 frames of 256 x 256 are 47 MB a video: 8 videos at a time.
        evaluation=EvaluationConfig(batch_size=8, clips=10, crops=3, crop_size=256),
    )
    # The authors' clips share statistics on one GPU, of which each held 8.
    config.model.norm.clips_per_statistics = 8
    if arg == "authors":
        config.model.norm.num_groups = 4
        config.model.interlace = False
        config.evaluation.average = "logit"
    elif arg:
        raise ConfigError(f"no variant {arg!r}. Variants: authors, or none")
    return config
