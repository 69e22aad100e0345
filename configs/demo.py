"""Demo: generated videos whose classes come in pairs that differ only in the order of time. Minutes on two cores.

The argument is the arm of the comparison: ``dnr`` (default), ``bn``, ``bn_interlace`` or ``dnr_no_interlace``.
"""

from dnr_jax.config import DataConfig, ExperimentConfig, TrainConfig, with_variant
from dnr_jax.data.catalogue.sources import Demo
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.data.clips.transforms import CenterCrop
from dnr_jax.models import TSN
from dnr_jax.training.optimizer import SGD


def get_config(arg: str = "") -> ExperimentConfig:
    config = ExperimentConfig(
        model=TSN(depth=18, width=16, stem="small", num_classes=0, dropout=0.2),
        data=DataConfig(
            source=Demo(),
            sampler=Segments(num_frames=8),
            short_side=0,
            crop_size=32,
            crop=CenterCrop(),
            flip=False,  # a mirrored video that moves left is one that moves right
        ),
        optimizer=SGD(learning_rate=0.05, base_batch_size=8, warmup_steps=50),
        train=TrainConfig(batch_size=8, steps=600, eval_every=200, log_every=20),
    )
    return with_variant(config, arg)
