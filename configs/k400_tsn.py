"""Kinetics-400, TSN with ResNet-50 and batch normalisation, trained from scratch: the baseline of k400_tsn_dnr.py."""

import pathlib

from dnr_jax.config import ConfigError, ExperimentConfig, load_config, with_variant


def get_config(arg: str = "") -> ExperimentConfig:
    if arg not in ("", "bn", "bn_interlace"):
        raise ConfigError(f"no variant {arg!r}. Variants: bn (the default) and bn_interlace")
    return with_variant(load_config(str(pathlib.Path(__file__).with_name("k400_tsn_dnr.py"))), arg or "bn")
