"""Blocks that several experiments of the paper share."""

from typing import Any

from dnr_jax.config.data import DataConfig, Source
from dnr_jax.config.experiment import EvaluationConfig
from dnr_jax.config.parts import named


def kinetics(root: str, **fields: Any) -> DataConfig:
    """Return the videos of a Kinetics, whose ``train_list.txt`` and ``val_list.txt`` lie beside them.

    Args:
      root: folder of the videos and the lists.
      **fields: others of the data.
    """
    lists = {"train_list": f"{root}/train_list.txt", "val_list": f"{root}/val_list.txt"}
    return DataConfig(source=named(Source, "Lists")(root=root, **lists), **fields)


def ten_by_three(batch_size: int) -> EvaluationConfig:
    """Return the paper's protocol on Kinetics: 10 clips of a video, 3 crops of 256 x 256 pixels of each.

    Args:
      batch_size: videos a step. 30 views of 8 frames are 47 MB a video.
    """
    return EvaluationConfig(batch_size=batch_size, clips=10, crops=3, crop_size=256)
