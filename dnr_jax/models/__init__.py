"""The networks, each a part of an experiment, and the modules that they are built of."""

from dnr_jax.models.heads import PathwayHead, TSNHead
from dnr_jax.models.inception import BNInception, BNInceptionBackbone
from dnr_jax.models.network import FrameNetwork, Interlace, ResNetNetwork, create_model
from dnr_jax.models.r2plus1d import R2Plus1D, R2Plus1DBackbone
from dnr_jax.models.recognizer import Recognizer
from dnr_jax.models.resnet import ResNet
from dnr_jax.models.slowfast import SlowFast, SlowFastBackbone
from dnr_jax.models.tanet import TANet, TemporalAdaptiveModule
from dnr_jax.models.tdn import TDN, TDNBackbone
from dnr_jax.models.tsm import TSM, TemporalShift
from dnr_jax.models.tsn import TSN

__all__ = [
    "TDN",
    "TSM",
    "TSN",
    "BNInception",
    "BNInceptionBackbone",
    "FrameNetwork",
    "Interlace",
    "PathwayHead",
    "R2Plus1D",
    "R2Plus1DBackbone",
    "Recognizer",
    "ResNet",
    "ResNetNetwork",
    "SlowFast",
    "SlowFastBackbone",
    "TANet",
    "TDNBackbone",
    "TSNHead",
    "TemporalAdaptiveModule",
    "TemporalShift",
    "create_model",
]
