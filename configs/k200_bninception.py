"""Kinetics-200, TSN with BNInception and DNR, 8 frames, from scratch; with the argument ``bn`` its baseline.

The optimisation is what the paper says of Kinetics-200, the rest that of its ResNet-50. Pixels are normalised as for
the Caffe network, so that its weights (Cadene's port has them) can be trained further with the same configuration.
"""

import pathlib

from dnr_jax.config import ExperimentConfig, kinetics, load_config, with_variant
from dnr_jax.models import BNInception


def get_config(arg: str = "") -> ExperimentConfig:
    config = load_config(str(pathlib.Path(__file__).with_name("k400_tsn_dnr.py")))
    config.model = BNInception(num_classes=200, norm=config.model.norm)
    config.data = kinetics("data/kinetics200", mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), channel_order="bgr")
    config.optimizer.warmup_steps = 60_000
    return with_variant(config, arg)
