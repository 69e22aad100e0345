"""From a configuration to a network."""

import jax.numpy as jnp

from dnr_jax.config import ModelConfig
from dnr_jax.dnr.functional import statistics_dtype
from dnr_jax.models.recognizer import TSN, TSNHead
from dnr_jax.models.resnet import ResNet


def create_model(config: ModelConfig) -> TSN:
    """Build the recogniser that ``config`` describes.

    Args:
      config: checked by :func:`dnr_jax.config.validate`.

    Returns:
      A Linen module: ``model.apply(variables, video, train=False)`` maps normalised frames ``[N, T, H, W, 3]`` to
      scores ``[N, num_classes]``.

    Raises:
      ValueError: for a norm setting out of range.
    """
    dtype = jnp.dtype(config.dtype)
    wide = statistics_dtype(dtype)
    backbone = ResNet(
        depth=config.depth,
        spec=config.norm.spec(),
        width=config.width,
        stem=config.stem,
        interlace_fraction=config.interlace_fraction if config.interlace else 0.0,
        interlace_stages=config.interlace_stages,
        interlace_every=config.interlace_every,
        scan_blocks=config.scan_blocks,
        remat=config.remat,
        dtype=dtype,
        param_dtype=wide,
    )
    return TSN(backbone=backbone, head=TSNHead(config.num_classes, config.dropout, param_dtype=wide))
