"""Backbones and recognisers."""

from dnr_jax.models.inception import BNInception
from dnr_jax.models.r2plus1d import R2Plus1D
from dnr_jax.models.recognizer import Recognizer, TSNHead
from dnr_jax.models.registry import create_model
from dnr_jax.models.resnet import ResNet
from dnr_jax.models.resnet3d import PathwayHead
from dnr_jax.models.slowfast import SlowFast
from dnr_jax.models.tanet import TemporalAdaptiveModule
from dnr_jax.models.tdn import TDN

__all__ = [
    "TDN",
    "BNInception",
    "PathwayHead",
    "R2Plus1D",
    "Recognizer",
    "ResNet",
    "SlowFast",
    "TSNHead",
    "TemporalAdaptiveModule",
    "create_model",
]
