"""Everything about an experiment that can be checked before the data is read and anything is compiled."""

from collections.abc import Iterator

from dnr_jax.config.experiment import ExperimentConfig, InitConfig
from dnr_jax.config.parts import ConfigError, flatten
from dnr_jax.dnr.fields import part_problems


def validate(
    config: ExperimentConfig, num_devices: int | None = None, num_processes: int = 1, with_data: bool = True
) -> None:
    """Check everything that can be checked before the data is read and anything is compiled.

    Args:
      config: the experiment.
      num_devices: devices of all processes, over which a batch is divided; None: not known yet, so that what depends
        on them is not checked.
      num_processes: processes, each of which reads its share of a batch.
      with_data: whether to look for the data too.

    Raises:
      ConfigError: all problems, one a line: the field, what is wrong, what would be right.
    """
    problems = list(_problems(config))
    if not problems:
        problems += _init_problems(config)
        problems += _fsdp_problems(config, num_devices) if num_devices else ()
        problems += _batch_problems(config, num_devices or 1, num_processes)
    if with_data and not any(problem.startswith("data.") for problem in problems):
        problems += [f"data.source.{problem}" for problem in config.data.source.path_problems()]
    if problems:
        raise ConfigError("\n".join(problems))


def validate_network(config: ExperimentConfig) -> None:
    """Check what a network and its clips are, and nothing that only training needs.

    Raises:
      ConfigError: as :func:`validate` does.
    """
    if problems := list(_problems(config)):
        raise ConfigError("\n".join(problems))


def _problems(config: ExperimentConfig) -> Iterator[str]:
    """Find fields out of range, and in experiments without such what the parts exclude in each other."""
    found = list(part_problems(config))
    yield from found
    if not found:
        yield from _clip_problems(config)


def _init_problems(config: ExperimentConfig) -> Iterator[str]:
    if not config.init_from:
        for name, value in flatten(config.init).items():
            if value != getattr(InitConfig, name):
                yield f"init.{name}: is {value!r}, but there is no init_from whose weights it is about"


def _clip_problems(config: ExperimentConfig) -> Iterator[str]:
    """Compare clips with what the network and its norms can take."""
    network, data, norm = config.model, config.data, config.model.norm
    frames = data.clip_shape[0]
    if expected := network.frames_expected(frames):
        yield f"data.sampler: clips have {frames} frames; expected {expected}"
    elif "ct" in norm.spec().kinds:
        try:
            norm.spec().norm("ct").groups(network.relayed_frames(frames))
        except ValueError as error:
            yield f"model.norm.{'num_groups' if norm.num_groups else 'relay_distance'}: {error}"
    for name, size in (("data", data.crop_size), ("evaluation", config.evaluation.crop_size)):
        if size and (expected := network.side_expected(size)):
            yield f"{name}.crop_size: is {size}; expected {expected}"
        if 0 < data.short_side < size:
            yield f"{name}.crop_size: is {size}; expected at most data.short_side, which is {data.short_side}"


def _fsdp_problems(config: ExperimentConfig, num_devices: int) -> Iterator[str]:
    if num_devices % config.train.fsdp_devices:
        divisors = [str(size) for size in range(1, num_devices + 1) if num_devices % size == 0]
        yield (
            f"train.fsdp_devices: is {config.train.fsdp_devices}; expected a divisor of the {num_devices} devices: "
            f"{', '.join(divisors)}"
        )


def _batch_problems(config: ExperimentConfig, num_devices: int, num_processes: int) -> Iterator[str]:
    # Evaluation pads its batches, so its batch size is free.
    size, clips, parts = config.train.batch_size, config.model.norm.base.clips_shared, config.train.accumulate
    if size % num_devices or size % num_processes:
        smaller = size - size % num_devices
        nearest = f"{smaller} or {smaller + num_devices}" if smaller else f"{num_devices}"
        yield (
            f"train.batch_size: {size} clips cannot be divided over {num_devices} devices of {num_processes} "
            f"processes; the nearest that can: {nearest}"
        )
    elif size % (num_devices * parts):
        yield (
            f"train.accumulate: {parts} parts of train.batch_size, which is {size}, cannot be divided over "
            f"{num_devices} devices; expected a divisor of {size // num_devices}"
        )
    if clips > 0 and size % clips:
        yield f"model.norm.base.clips_per_statistics: {clips} does not divide train.batch_size, which is {size}"
    elif clips > 0 and size % (parts * clips):
        yield (
            f"train.accumulate: is {parts}; expected a divisor of the {size // clips} sets of "
            f"model.norm.base.clips_per_statistics={clips} clips in train.batch_size, which is {size}"
        )
