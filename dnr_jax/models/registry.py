"""From a configuration to a network."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from dnr_jax.config import ModelConfig
from dnr_jax.dnr.functional import statistics_dtype
from dnr_jax.models.inception import BNInception
from dnr_jax.models.r2plus1d import R2Plus1D
from dnr_jax.models.recognizer import Recognizer, TSNHead
from dnr_jax.models.resnet import ResNet
from dnr_jax.models.resnet3d import PathwayHead
from dnr_jax.models.slowfast import SlowFast
from dnr_jax.models.tanet import TemporalAdaptiveModule
from dnr_jax.models.tdn import TDN


def create_model(config: ModelConfig) -> nn.Module:
    """Build the recogniser that ``config`` describes.

    Args:
      config: checked by :func:`dnr_jax.config.validate`.

    Returns:
      A Linen module: ``model.apply(variables, video, train=False)`` maps normalised frames ``[N, T, H, W, 3]`` to
      scores ``[N, num_classes]``.

    Raises:
      ValueError: for a norm setting out of range.
    """
    return BUILDERS[config.name](config)


def _dtypes(config: ModelConfig) -> dict[str, Any]:
    dtype = jnp.dtype(config.dtype)
    return {"dtype": dtype, "param_dtype": statistics_dtype(dtype)}


def _backbone(config: ModelConfig) -> dict[str, Any]:
    """Return the fields that every ResNet here has."""
    return {
        "depth": config.depth,
        "spec": config.norm.spec(),
        "width": config.width,
        "stem": config.stem,
        "scan_blocks": config.scan_blocks,
        "remat": config.remat,
    }


def _interlacing(config: ModelConfig) -> dict[str, Any]:
    """Return the fields of networks on frames; the shift of TSM is what interlaces the channels of TSN."""
    fraction, every = config.interlacing
    return {
        "interlace_fraction": fraction,
        "interlace_stages": config.interlace_stages,
        "interlace_every": every,
    }


def _tsn(config: ModelConfig) -> Recognizer:
    return Recognizer(_resnet(config), _frame_head(config))


def _tsm(config: ModelConfig) -> Recognizer:
    return Recognizer(_resnet(config), _frame_head(config, frame_scores=True, init_std=0.001))


def _tanet(config: ModelConfig) -> Recognizer:
    module = functools.partial(TemporalAdaptiveModule, config.norm.spec(), **_dtypes(config))
    return Recognizer(_resnet(config, temporal=module), _frame_head(config, frame_scores=True, init_std=0.001))


def _resnet(config: ModelConfig, **fields: Any) -> ResNet:
    return ResNet(
        **_backbone(config),
        **_interlacing(config),
        cardinality=config.cardinality,
        base_width=config.base_width,
        **fields,
        **_dtypes(config),
    )


def _frame_head(config: ModelConfig, **fields: Any) -> TSNHead:
    return TSNHead(config.num_classes, config.dropout, param_dtype=_dtypes(config)["param_dtype"], **fields)


def _bninception(config: ModelConfig) -> Recognizer:
    backbone = BNInception(
        config.norm.spec(),
        config.width,
        config.stem,
        **_interlacing(config),
        remat=config.remat,
        **_dtypes(config),
    )
    return Recognizer(backbone, _frame_head(config))


def _tdn(config: ModelConfig) -> Recognizer:
    backbone = TDN(**_backbone(config), **dataclasses.asdict(config.tdn), **_dtypes(config))
    return Recognizer(backbone, _frame_head(config, frame_scores=True, init_std=0.001))


def _r2plus1d(config: ModelConfig) -> Recognizer:
    dtypes = _dtypes(config)
    head = PathwayHead(config.num_classes, config.dropout, param_dtype=dtypes["param_dtype"])
    return Recognizer(R2Plus1D(**_backbone(config), **dtypes), head)


def _slowfast(config: ModelConfig) -> Recognizer:
    dtypes, fields = _dtypes(config), dataclasses.asdict(config.slowfast)
    order = (0, 1) if fields.pop("head_order") == "slow_fast" else (1, 0)
    head = PathwayHead(config.num_classes, config.dropout, order, param_dtype=dtypes["param_dtype"])
    return Recognizer(SlowFast(**_backbone(config), **fields, **dtypes), head)


BUILDERS: Mapping[str, Callable[[ModelConfig], nn.Module]] = {
    "tsn": _tsn,
    "tsm": _tsm,
    "bninception": _bninception,
    "tdn": _tdn,
    "tanet": _tanet,
    "r2plus1d": _r2plus1d,
    "slowfast": _slowfast,
}
"""The networks by their name in the configuration."""
