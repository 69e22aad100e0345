"""What ``dnr prepare`` wrote: TSN with ResNet-50 and DNR, 8 frames, from scratch, on any prepared data set.

The data set is prepared once, and named by its folder::

    dnr prepare ucf101 --root /data/ucf101 --out data/prepared
    python train.py --config=configs/prepared.py --config.data.source.root=data/prepared

The number of classes is that of the records. The argument is the arm of the comparison: ``dnr`` (default), ``bn``,
``bn_interlace`` or ``dnr_no_interlace``.
"""

from dnr_jax.config import (
    DataConfig,
    ExperimentConfig,
    TrainConfig,
    ten_by_three,
    with_variant,
)
from dnr_jax.data.catalogue.sources import Records
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.data.clips.transforms import MultiScaleCrop
from dnr_jax.models import TSN
from dnr_jax.training.optimizer import SGD


def get_config(arg: str = "") -> ExperimentConfig:
    config = ExperimentConfig(
        model=TSN(depth=50, num_classes=0, dropout=0.4),
        data=DataConfig(
            source=Records("data/prepared"),
            sampler=Segments(num_frames=8),
            short_side=256,
            crop_size=224,
            crop=MultiScaleCrop(),
            flip=False,  # safe for classes with a left or a right; switch it on where there are none
        ),
        optimizer=SGD(learning_rate=0.1, base_batch_size=64, clip_norm=40.0, warmup_steps=1000),
        train=TrainConfig(batch_size=64, epochs=100.0),
        evaluation=ten_by_three(batch_size=8),
    )
    config.model.norm.base.clips_per_statistics = 8
    return with_variant(config, arg)
