"""Kinetics-200, TSN with BNInception and DNR, 8 frames, from scratch; with the argument ``bn`` its baseline.

The optimisation is what the paper says of Kinetics-200, the rest that of its ResNet-50. Pixels are normalised as for
the Caffe network, so that its weights (Cadene's port has them) can be trained further with the same configuration.
"""

import pathlib

from dnr_jax.config import ConfigError, ExperimentConfig, load_config, with_variant


def get_config(arg: str = "") -> ExperimentConfig:
    if arg not in ("", "dnr", "bn"):
        raise ConfigError(f"no variant {arg!r}. Variants: dnr (the default) and bn")
    config = load_config(str(pathlib.Path(__file__).with_name("k400_tsn_dnr.py")))
    config.model.name, config.model.num_classes = "bninception", 200
    config.data.root = "data/kinetics200"
    config.data.train_list = "data/kinetics200/train_list.txt"
    config.data.val_list = "data/kinetics200/val_list.txt"
    config.data.mean, config.data.std, config.data.channel_order = (104.0, 117.0, 128.0), (1.0, 1.0, 1.0), "bgr"
    config.optimizer.warmup_steps = 60_000
    return with_variant(config, arg)
