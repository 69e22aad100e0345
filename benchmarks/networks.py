"""The networks that the benchmarks here compare, and their clips."""

import dataclasses
from typing import NamedTuple

from dnr_jax.config import Network
from dnr_jax.dnr import DNRSpec
from dnr_jax.models import TSN, create_model
from dnr_jax.models.complexity import count_macs


class Benchmarked(NamedTuple):
    """A network and the shape of its clips ``(N, T, H, W, 3)``."""

    config: TSN
    clips: tuple[int, int, int, int, int]


NETWORKS = {
    "tiny": Benchmarked(TSN(depth=18, width=8, stem="small", num_classes=8), (2, 8, 16, 16, 3)),
    "demo": Benchmarked(TSN(depth=18, width=16, stem="small", num_classes=8), (8, 8, 32, 32, 3)),
    "r18": Benchmarked(TSN(depth=18), (2, 8, 112, 112, 3)),
    "r50": Benchmarked(TSN(depth=50), (2, 8, 112, 112, 3)),
}
"""The demo's, and TSN at half of the usual side; ``tiny`` is for tests."""
NORMS = {"bn": DNRSpec.static(), "dnr": DNRSpec()}


def configured(name: str, norm: str, dtype: str) -> TSN:
    """Return a network of :data:`NETWORKS`, without dropout and interlaced channels."""
    return dataclasses.replace(NETWORKS[name].config, norm=NORMS[norm], dtype=dtype, interlace=None, dropout=0.0)


def gigaflops(config: Network, clips: tuple[int, ...]) -> dict[str, float]:
    """Return the GFLOP of convolutions and products in each step, of which a train step has three times as many."""
    evaluation = 2 * clips[0] * count_macs(create_model(config), clips[1:]) / 1e9
    return {"train": 3 * evaluation, "eval": evaluation}
