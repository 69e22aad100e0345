"""What experiments are made of: their parts, their checks, the command line, their form on the disk."""

from dnr_jax.config.data import Crop, DataConfig, RandAugment, Sampler
from dnr_jax.config.experiment import (
    VARIANTS,
    EvaluationConfig,
    ExperimentConfig,
    InitConfig,
    TrainConfig,
    single_view,
    with_variant,
    with_views,
)
from dnr_jax.config.network import Depth, Network, ZooNetwork
from dnr_jax.config.optimizer import Optimizer
from dnr_jax.config.overrides import load_config, override, read_command_line
from dnr_jax.config.parts import ConfigError, Part, RunError, field_docs, flatten, named, register, registered
from dnr_jax.config.recipes import kinetics, ten_by_three
from dnr_jax.config.serialization import from_json, to_dict, to_json
from dnr_jax.config.validation import part_problems, validate, validate_network

__all__ = [
    "VARIANTS",
    "ConfigError",
    "Crop",
    "DataConfig",
    "Depth",
    "EvaluationConfig",
    "ExperimentConfig",
    "InitConfig",
    "Network",
    "Optimizer",
    "Part",
    "RandAugment",
    "RunError",
    "Sampler",
    "TrainConfig",
    "ZooNetwork",
    "field_docs",
    "flatten",
    "from_json",
    "kinetics",
    "load_config",
    "named",
    "override",
    "part_problems",
    "read_command_line",
    "register",
    "registered",
    "single_view",
    "ten_by_three",
    "to_dict",
    "to_json",
    "validate",
    "validate_network",
    "with_variant",
    "with_views",
]
