"""The section of an experiment that says which norms its network has."""

import dataclasses

from dnr_jax.dnr.spec import DNRSpec


@dataclasses.dataclass
class NormConfig:
    """Which normalisation stands where; mirrors :class:`dnr_jax.dnr.DNRSpec`, which explains each field."""

    norm1: str = "cl"
    norm2: str = "ct"
    norm3: str = "static"
    relay_distance: int = 4
    num_groups: int = 0
    granularity: str = "group"
    direction: str = "forward"
    layer_distance: int = 1
    sharing: str = "stage"
    relay: str = "lstm"
    reduction: int = 4
    depth: int = 1
    initial_state: str = "zeros"
    base: str = "bn"
    channel_groups: int = 32
    channels_per_group: int = 0
    statistics: str = "group"
    clips_per_statistics: int = 0
    momentum: float = 0.9
    epsilon: float = 1e-5
    renorm_limits: tuple[float, float] = (3.0, 5.0)
    renorm_steps: tuple[int, int, int] = (5_000, 40_000, 25_000)

    def spec(self) -> DNRSpec:
        """Return the checked, immutable form; raises ValueError for a value out of range."""
        return DNRSpec(**dataclasses.asdict(self))
