"""Kinetics-400, SlowFast with ResNet-50, 32 frames, from scratch: ``8x8`` (the default) or ``4x16``.

With ``_bn`` behind it it is the baseline with batch normalisation, otherwise with DNR; ``bn`` is short for ``8x8_bn``.
The hyper-parameters are MMAction2's (``slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py``). With ``pyslowfast_`` in
front of it network, frames and pixels are as PySlowFast has them (``SLOWFAST_8x8_R50.yaml``), for its weights.
"""

import pathlib

from dnr_jax.config import ConfigError, ExperimentConfig, kinetics, load_config, with_variant
from dnr_jax.data.clips.sampling import Dense, Linspace
from dnr_jax.models import SlowFast
from dnr_jax.models.slowfast import VARIANTS

ARGUMENTS = (
    "bn",
    *(f"{base}{variant}{arm}" for base in ("", "pyslowfast_") for variant in VARIANTS for arm in ("", "_bn")),
)


def get_config(arg: str = "") -> ExperimentConfig:
    if arg and arg not in ARGUMENTS:
        raise ConfigError(f"no variant {arg!r}. Variants: {', '.join(ARGUMENTS)}")
    parts = arg.split("_")
    variant = "4x16" if "4x16" in parts else "8x8"
    config = load_config(str(pathlib.Path(__file__).with_name("k200_slowfast.py")))
    form = SlowFast.pyslowfast if "pyslowfast" in parts else SlowFast.mmaction2
    config.model = form(variant, depth=50, num_classes=400, norm=config.model.norm)
    config.data = kinetics(
        "data/kinetics400",
        sampler=Dense(num_frames=32, interval=2),
    )
    if "pyslowfast" in parts:
        config.data.sampler = Linspace(num_frames=32, interval=2, target_fps=30.0)
        config.data.mean, config.data.std = (114.75, 114.75, 114.75), (57.375, 57.375, 57.375)
    # A group of frames is 32 frames of video, as in the paper's clips: 4 of the slow pathway's in 8x8, 2 in 4x16.
    config.model.norm.relay_distance = 4 if variant == "8x8" else 2
    # A tenth of the learning rate at first, all of it after 34 epochs of Kinetics-400's 3760 steps.
    config.optimizer.warmup_steps, config.optimizer.warmup_ratio = 127_840, 0.1
    config.train.epochs = 256.0
    return with_variant(config, "bn" if "bn" in parts else "dnr")
