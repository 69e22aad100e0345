"""Kinetics-200, SlowFast 8x8 with ResNet-18 and DNR, 32 frames, from scratch; with the argument ``bn`` its baseline.

The network is MMAction2's ``slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb.py`` at depth 18, whose clips share statistics
on one GPU, of which each holds 8. The optimisation is what the paper says of Kinetics-200.
"""

from dnr_jax.config import (
    ConfigError,
    DataConfig,
    EvaluationConfig,
    ExperimentConfig,
    ModelConfig,
    OptimizerConfig,
    SlowFastConfig,
    TrainConfig,
    with_variant,
)


def get_config(arg: str = "") -> ExperimentConfig:
    if arg not in ("", "dnr", "bn"):
        raise ConfigError(f"no variant {arg!r}. Variants: dnr (the default) and bn")
    config = ExperimentConfig(
        model=ModelConfig(
            name="slowfast", depth=18, num_classes=200, dropout=0.5, slowfast=SlowFastConfig.mmaction2("8x8")
        ),
        data=DataConfig(
            source="list",
            root="data/kinetics200",
            train_list="data/kinetics200/train_list.txt",
            val_list="data/kinetics200/val_list.txt",
            num_frames=32,
            sampling="dense",
            frame_interval=2,
        ),
        optimizer=OptimizerConfig(warmup_steps=60_000, warmup_ratio=0.01),
        train=TrainConfig(batch_size=64, epochs=196.0),
        # 30 views of 32 frames of 256 x 256 are 189 MB a video: 2 videos at a time.
        evaluation=EvaluationConfig(batch_size=2, clips=10, crops=3, crop_size=256),
    )
    config.model.norm.clips_per_statistics = 8
    return with_variant(config, "bn" if arg == "bn" else "dnr_no_interlace")  # 3D networks are not interlaced
