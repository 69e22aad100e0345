"""Kinetics-200, TSN with the backbones of the paper's Table 2 and DNR, 8 frames, from scratch.

The argument is the backbone, ``resnet50`` (the default), ``resnet101`` or ``resnext101`` (32x4d), and with ``_bn``
behind it its baseline. The recipe is that of the ablations on the same data (``k200_ablation.py``).
"""

import pathlib
from typing import Any

from dnr_jax.config import ConfigError, ExperimentConfig, load_config

BACKBONES: dict[str, dict[str, Any]] = {
    "resnet50": {"depth": 50},
    "resnet101": {"depth": 101},
    "resnext101": {"depth": 101, "cardinality": 32, "base_width": 4},
}
ARGUMENTS = ("bn", *BACKBONES, *(f"{backbone}_bn" for backbone in BACKBONES))


def get_config(arg: str = "") -> ExperimentConfig:
    if arg and arg not in ARGUMENTS:
        raise ConfigError(f"no variant {arg!r}. Variants: {', '.join(ARGUMENTS)}")
    parts = arg.split("_")
    row = "table=1a,method=baseline" if "bn" in parts else ""
    config = load_config(f"{pathlib.Path(__file__).with_name('k200_ablation.py')}:{row}")
    for field, value in BACKBONES.get(parts[0], BACKBONES["resnet50"]).items():
        setattr(config.model, field, value)
    return config
