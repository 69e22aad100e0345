"""Something-Something V1 and V2: TSN, TSM, TANet or TDN with ResNet-50 and DNR, 8 segments of the video.

The argument is the version, the network and the arm: ``v1_tsm`` is with DNR, ``v1_tsm_bn`` its baseline. TSN also has
``bn_interlace`` and ``dnr_no_interlace``; the others have a temporal module of their own and are not interlaced.
``--config.model.norm.base=GroupNorm`` puts group normalisation under either arm,
``--config.data.sampler.num_frames=16`` takes 16 segments.

The videos lie in ``data.source.root`` as the data set's own archives hold them (``docs/data.md``)::

    python train.py --config=configs/something_something.py:v2_tsm --config.data.source.root=/data/sthv2

or as the records that ``dnr prepare sthv2`` wrote (``--config.data.source=Records``). Mirrored clips get the label of
the class with left and right exchanged. Nobody trains this data from scratch: the paper's TSN starts from its training
on Kinetics-400 (``--config.init_from=runs/k400_dnr --config.init.allow=head``), the recipes of the others start from
ImageNet (``--config.init_from=resnet50.pth --config.init.allow=head,relays,temporal``).

The paper has results of TSN alone, and says of its fine-tuning that a video is scored by one clip and the centre crop;
its text leaves the optimisation to the supplement. So :data:`RECIPES` are the peers': MMAction2's of TSN and TSM on V2
(``tsn_imagenet-pretrained-r50_8xb32-1x1x8-50e_sthv2-rgb.py``,
``tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb.py``) and of TANet on V1
(``tanet_imagenet-pretrained-r50_8xb8-1x1x8-50e_sthv1-rgb.py``), and that of TDN's repository on V1, each for both
versions. What differs is what differs in ``k400_tsm.py`` and its like: the learning rate follows the paper's cosine
instead of falling in steps, all layers learn at one rate, and training crops lie at 5 places instead of 13.
"""

import dataclasses

from dnr_jax.config import (
    ConfigError,
    DataConfig,
    EvaluationConfig,
    ExperimentConfig,
    Network,
    TrainConfig,
    with_variant,
)
from dnr_jax.data.catalogue.sources import Dataset
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.models import TDN, TSM, TSN, TANet
from dnr_jax.training.optimizer import SGD

GPUS = 8
TRAIN_VIDEOS = {"v1": 86_017, "v2": 168_913}
"""Training videos of the versions."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a peer trains a network on Something-Something.

    Attributes:
      batch_size: clips a step; those on one of 8 GPUs share batch statistics.
      learning_rate: for that batch.
      weight_decay: of the kernels, and in TSN of norms and biases too.
      epochs: length of the training.
      dropout: before the classifier.
      clip_norm: largest norm of the gradient.
      warmup_epochs: until the learning rate has grown from a tenth to all of it.
      views: whether two clips and three crops of 256 pixels are scored, instead of one clip and the centre crop.
    """

    batch_size: int
    learning_rate: float
    weight_decay: float
    epochs: float = 50.0
    dropout: float = 0.5
    clip_norm: float = 20.0
    warmup_epochs: int = 0
    views: bool = False


RECIPES = {
    "tsn": Recipe(batch_size=256, learning_rate=0.01, weight_decay=1e-4, clip_norm=40.0),
    "tsm": Recipe(batch_size=128, learning_rate=0.02, weight_decay=5e-4, warmup_epochs=5, views=True),
    "tanet": Recipe(batch_size=64, learning_rate=0.01, weight_decay=1e-3, dropout=0.6, views=True),
    "tdn": Recipe(batch_size=64, learning_rate=0.01, weight_decay=5e-4, epochs=60.0),
}
NETWORKS: dict[str, type[Network]] = {"tsn": TSN, "tsm": TSM, "tanet": TANet, "tdn": TDN}
ARGUMENTS = tuple(
    f"{version}_{name}{'' if arm == 'dnr' else f'_{arm}'}"
    for version in TRAIN_VIDEOS
    for name, network in NETWORKS.items()
    for arm in network().arms()
)


def get_config(arg: str = "") -> ExperimentConfig:
    arg = arg or "v2_tsn"
    if arg not in ARGUMENTS:
        raise ConfigError(f"no variant {arg!r}. Variants: {', '.join(ARGUMENTS)}")
    version, name, *rest = arg.split("_", 2)
    recipe = RECIPES[name]
    data = DataConfig(
        source=Dataset(f"sth{version}", f"data/sth{version}"),
        sampler=Segments(num_frames=8, frames_per_segment=5 if name == "tdn" else 1),
    )
    if name == "tanet":
        data.mean = (123.675, 116.28, 103.5)
    config = ExperimentConfig(
        model=NETWORKS[name](num_classes=174, dropout=recipe.dropout),
        data=data,
        optimizer=SGD(
            learning_rate=recipe.learning_rate,
            base_batch_size=recipe.batch_size,
            weight_decay=recipe.weight_decay,
            decay_norm_and_bias=name == "tsn",
            clip_norm=recipe.clip_norm,
            warmup_steps=recipe.warmup_epochs * (TRAIN_VIDEOS[version] // recipe.batch_size),
            warmup_ratio=0.1 if recipe.warmup_epochs else 0.01,
        ),
        train=TrainConfig(batch_size=recipe.batch_size, epochs=recipe.epochs),
        # At most 6 views of 8 frames of 256 x 256, or 40 frames of 224 x 224, are 9 MB a video.
        evaluation=EvaluationConfig(
            batch_size=32,
            twice_sample=recipe.views,
            crops=3 if recipe.views else 1,
            crop_size=256 if recipe.views else 0,
        ),
    )
    config.model.norm.base.clips_per_statistics = recipe.batch_size // GPUS
    return with_variant(config, rest[0] if rest else "dnr")
