"""Names and shapes of the peers' networks of other depths, lengths and variants than the golden ones.

The digests are of the state dicts of the peers' real modules, built for 11 classes: MMAction2 4d6c934 and PySlowFast at
``configs/Kinetics/SLOWFAST_*``, MCG-NJU's TDN a7c7e9b.
"""

import dataclasses
import hashlib
from collections.abc import Mapping

import jax
import numpy as np
import pytest

from dnr_jax.config import Network
from dnr_jax.convert import MCG_NJU, MMACTION2, MMACTION2_TANET, PYSLOWFAST, Naming, mmaction2_tsm, to_state_dict
from dnr_jax.models import TDN, TSM, TSN, R2Plus1D, SlowFast, TANet, create_model
from dnr_jax.models.complexity import abstract_variables

MM, FB = SlowFast.mmaction2, SlowFast.pyslowfast


@dataclasses.dataclass(frozen=True)
class Peer:
    """A peer's network.

    Attributes:
      config: builds the network here.
      naming: of the state dict.
      entries: of the state dict, without counters.
      digest: of its names and shapes.
      frames: of a clip.
    """

    config: Network
    naming: Naming
    entries: int
    digest: str
    frames: int = 8


def slowfast(depth: int, settings: SlowFast, entries: int, digest: str, frames: int = 32, **fields) -> Peer:
    naming = PYSLOWFAST if settings.lateral_norm else MMACTION2
    config = dataclasses.replace(settings, depth=depth, **fields)
    return Peer(config, naming, entries, digest, frames)


PEERS: Mapping[str, Peer] = {
    "tsn_r34": Peer(TSN(depth=34), MMACTION2, 182, "b0d3ff2ba5ce5909"),
    "tsn_r101": Peer(TSN(depth=101), MMACTION2, 522, "2fc74e38e0241559"),
    "tsn_r152": Peer(TSN(depth=152), MMACTION2, 777, "32186551acefb169"),
    "tsm_r101": Peer(TSM(depth=101), mmaction2_tsm(101), 522, "9a37ece1f02fa3cc"),
    "tsm_r152": Peer(TSM(depth=152), mmaction2_tsm(152), 777, "0c003460a07ab1a0"),
    "tanet_r50_16": Peer(TANet(depth=50), MMACTION2_TANET, 459, "c7cb5d51822cb249", 16),
    "tanet_r101": Peer(TANet(depth=101), MMACTION2_TANET, 918, "67aa55a40190c9e7"),
    "r2plus1d_r18": Peer(R2Plus1D(depth=18), MMACTION2, 202, "8ed96f6361c4ca22"),
    "r2plus1d_r50": Peer(R2Plus1D(depth=50), MMACTION2, 532, "613e05847246d412"),
    "slowfast_r18_4x16": slowfast(18, MM("4x16"), 211, "25aabdb4602d3297"),
    "slowfast_r50_4x16": slowfast(50, MM("4x16"), 536, "b28b240093b65acf"),
    "slowfast_r101_8x8": slowfast(101, MM("8x8"), 1046, "0886614fb0a02710"),
    "slowfast_r101_r50_4x16": slowfast(101, MM("4x16"), 791, "1fc6693d4efc4b7f", fast_depth=50),
    "slowfast_fb_r18_4x16": slowfast(18, FB("4x16"), 312, "8261f46337ad8206"),
    "slowfast_fb_r50_4x16": slowfast(50, FB("4x16"), 552, "abc3809676b26028"),
    "slowfast_fb_r50_8x8": slowfast(50, FB("8x8"), 552, "4c0e13aa24eff184"),
    "slowfast_fb_r101_8x8": slowfast(101, FB("8x8"), 1062, "50010447623e5883"),
    "slowfast_fb_r101_50_50": slowfast(101, FB("8x8"), 1062, "7e4fbc3c237df6fc", 64, temporal_blocks=(6, 6)),
    "tdn_r101": Peer(TDN(depth=101), MCG_NJU, 1353, "2b6d9b3285834bab", 40),
}


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    lines = "\n".join(f"{key} {shape}" for key, shape in sorted(shapes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS.keys())
def test_a_network_has_the_peers_names_and_shapes(peer):
    config = dataclasses.replace(peer.config, num_classes=11).arms()["bn"]
    template = abstract_variables(create_model(config), (peer.frames, 64, 64, 3))
    state = to_state_dict(jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), template), peer.naming)
    assert len(state) == peer.entries
    assert digest({key: array.shape for key, array in state.items()}) == peer.digest
