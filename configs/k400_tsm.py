"""Kinetics-400, TSM with ResNet-50 and DNR, 8 frames; with the argument ``bn`` its baseline.

The hyper-parameters are MMAction2's (``tsm_imagenet-pretrained-r50_8xb16-dense-1x1x8-50e_kinetics400-rgb.py``), with
which the paper reproduced its baseline; norms and biases are not decayed. Two things differ: the learning rate follows
the paper's cosine instead of falling at epochs 25 and 45, and the classifier learns at the rate of the other layers
instead of five times that. Frames are 8 apart and views 10 x 3 of 256 x 256 pixels, as in all of the paper's Table 6.
The paper starts from ImageNet's weights.
"""

from dnr_jax.config import (
    ConfigError,
    DataConfig,
    EvaluationConfig,
    ExperimentConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    with_variant,
)


def get_config(arg: str = "") -> ExperimentConfig:
    if arg not in ("", "dnr", "bn"):
        raise ConfigError(f"no variant {arg!r}. Variants: dnr (the default) and bn")
    config = ExperimentConfig(
        model=ModelConfig(name="tsm", depth=50, num_classes=400, dropout=0.5),
        data=DataConfig(
            source="list",
            root="data/kinetics400",
            train_list="data/kinetics400/train_list.txt",
            val_list="data/kinetics400/val_list.txt",
            num_frames=8,
            sampling="dense",
            frame_interval=8,
        ),
        optimizer=OptimizerConfig(
            learning_rate=0.02,
            base_batch_size=128,
            weight_decay=1e-4,
            decay_norm_and_bias=False,
            clip_norm=20.0,
            warmup_steps=9_400,  # 5 epochs of 1880 steps
            warmup_ratio=0.1,
        ),
        train=TrainConfig(batch_size=128, epochs=50.0),
        # 30 views of 8 frames of 256 x 256 are 47 MB a video: 8 videos at a time.
        evaluation=EvaluationConfig(batch_size=8, clips=10, crops=3, crop_size=256),
    )
    config.model.norm.clips_per_statistics = 16
    return with_variant(config, "bn" if arg == "bn" else "dnr_no_interlace")  # the shift is TSM's own
