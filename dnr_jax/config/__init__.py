"""What experiments are made of: their parts, their checks, the command line, their form on the disk."""

from dnr_jax.config.averaging import Averaging
from dnr_jax.config.data import Crop, DataConfig, RandAugment, Sampler, Source
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
from dnr_jax.config.files import find_config, list_configs, load_config, run_name, split_config_path
from dnr_jax.config.listing import list_fields
from dnr_jax.config.network import Depth, Network, ZooNetwork
from dnr_jax.config.optimizer import Optimizer
from dnr_jax.config.overrides import override, read_command_line, unknown_flag
from dnr_jax.config.parts import (
    ConfigError,
    Part,
    RunError,
    exchanged,
    field_docs,
    flatten,
    named,
    register,
    registered,
)
from dnr_jax.config.paths import Location, expand_path, locations, make_paths_absolute, missing_path
from dnr_jax.config.recipes import kinetics, ten_by_three
from dnr_jax.config.serialization import from_json, to_dict, to_json
from dnr_jax.config.validation import validate, validate_network
from dnr_jax.config.videos import Catalogue, Problem, VideoSource, refuse_conflicts
from dnr_jax.dnr.fields import part_problems

__all__ = [
    "VARIANTS",
    "Averaging",
    "Catalogue",
    "ConfigError",
    "Crop",
    "DataConfig",
    "Depth",
    "EvaluationConfig",
    "ExperimentConfig",
    "InitConfig",
    "Location",
    "Network",
    "Optimizer",
    "Part",
    "Problem",
    "RandAugment",
    "RunError",
    "Sampler",
    "Source",
    "TrainConfig",
    "VideoSource",
    "ZooNetwork",
    "exchanged",
    "expand_path",
    "field_docs",
    "find_config",
    "flatten",
    "from_json",
    "kinetics",
    "list_configs",
    "list_fields",
    "load_config",
    "locations",
    "make_paths_absolute",
    "missing_path",
    "named",
    "override",
    "part_problems",
    "read_command_line",
    "refuse_conflicts",
    "register",
    "registered",
    "single_view",
    "run_name",
    "split_config_path",
    "ten_by_three",
    "to_dict",
    "to_json",
    "unknown_flag",
    "validate",
    "validate_network",
    "with_variant",
    "with_views",
]
