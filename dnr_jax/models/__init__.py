"""Backbones and recognisers."""

from dnr_jax.models.recognizer import TSN, TSNHead
from dnr_jax.models.registry import create_model
from dnr_jax.models.resnet import ResNet

__all__ = ["TSN", "ResNet", "TSNHead", "create_model"]
