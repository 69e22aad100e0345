"""Your own videos: a small network for short clips of small frames, from scratch, in minutes on a laptop.

The videos are in folders, ``<root>/train/<class>/<video>`` and ``<root>/val/<class>/<video>``::

    python train.py --config=configs/own_videos.py --config.data.source.root=my_videos

or in lists with ``path label`` lines, whose paths are relative to the root::

    python train.py --config=configs/own_videos.py --config.data.source=Lists \
        --config.data.source.root=my_videos --config.data.source.train_list=my_videos/train_list.txt \
        --config.data.source.val_list=my_videos/val_list.txt

For large videos and thousands of them, raise ``model.depth`` and ``model.width`` to 50 and 64, ``data.short_side`` and
``data.crop_size`` to 256 and 224, and use an accelerator. The argument is the arm of the comparison: ``dnr`` (default),
``bn``, ``bn_interlace`` or ``dnr_no_interlace``.
"""

from dnr_jax.config import DataConfig, ExperimentConfig, TrainConfig, with_variant
from dnr_jax.data.catalogue.sources import Folder
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.data.clips.transforms import MultiScaleCrop
from dnr_jax.models import TSN
from dnr_jax.training.optimizer import SGD


def get_config(arg: str = "") -> ExperimentConfig:
    config = ExperimentConfig(
        model=TSN(depth=18, width=16, stem="small", num_classes=0, dropout=0.4),
        data=DataConfig(
            source=Folder(),
            sampler=Segments(num_frames=8),
            short_side=40,  # a pace that a laptop keeps up with; see above for more
            crop_size=32,
            crop=MultiScaleCrop(),
            flip=False,  # safe for classes with a left or a right; switch it on where there are none
        ),
        optimizer=SGD(learning_rate=0.05, base_batch_size=8, warmup_steps=50),
        train=TrainConfig(batch_size=8, steps=600, eval_every=100, log_every=20),
    )
    return with_variant(config, arg)
