"""The networks of the golden files: for each case, the configuration that builds it and the names of its layers."""

import copy
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dnr_jax.config import DEPTHS, DataConfig, ExperimentConfig, ModelConfig, with_variant
from dnr_jax.convert import (
    AUTHORS,
    CADENE,
    MMACTION2,
    MMACTION2_TANET,
    MMACTION2_TORCHVISION,
    PYSLOWFAST,
    TDN,
    Naming,
    mmaction2_tsm,
)
from dnr_jax.dnr import DNRSpec
from dnr_jax.models import create_model
from dnr_jax.models.inception import InceptionBlock
from dnr_jax.models.zoo import ZOO
from tests import golden
from tests.dnr.test_golden import channels_first, clips, frames

Features = Mapping[str, Any]
"""Intermediates of a backbone."""


@dataclasses.dataclass(frozen=True)
class Network:
    """How one golden case is computed here.

    Attributes:
      config: builds the network; the number of classes is the case's.
      naming: of the state dict.
      clips: the golden input to ``[N, T, H, W, 3]``.
      unclips: the gradient of the input back to the golden layout.
      features: intermediates of the backbone to arrays in torch's layout, by the golden names.
      head: whether the case goes on to scores.
      pixels: has the mean and the deviation of the peer's pixels.
    """

    config: ModelConfig
    naming: Naming
    clips: Callable[[np.ndarray], jax.Array]
    unclips: Callable[[jax.Array], jax.Array]
    features: Callable[[Features], dict[str, jax.Array]]
    head: bool = True
    prefix: str = ""
    """What the peer's network puts before the names of the state dict."""
    pixels: DataConfig = dataclasses.field(default_factory=DataConfig)

    def model(self, num_classes: int | None) -> nn.Module:
        """Return the network in float64 and without dropout."""
        with jax.enable_x64(True):
            config = dataclasses.replace(self.config, num_classes=num_classes or 1, dropout=0.0, dtype="float64")
            model = create_model(config)
        return model if self.head else model.backbone.clone(parent=None)


def _config(name: str) -> ModelConfig | None:
    """A network of the zoo, or one that differs from it in depth; None where there is none of that name."""
    if name in ZOO:
        return ZOO[name].config
    depth = re.search(r"_r(\d+)", name)
    if not depth or int(depth[1]) not in DEPTHS:
        return None
    alike = [other for other in ZOO if re.sub(r"_r\d+", "_r", other) == re.sub(r"_r\d+", "_r", name)]
    return dataclasses.replace(ZOO[alike[0]].config, depth=int(depth[1])) if alike else None


def _baseline(name: str) -> ModelConfig:
    """The network with batch normalisation."""
    return with_variant(ExperimentConfig(model=copy.deepcopy(_config(name))), "bn").model


def _stages_2d(backbone: Features) -> dict[str, jax.Array]:
    stages = {f"layer{i}": frames(backbone[f"layer{i}"]["__call__"][0]) for i in range(1, 5)}
    return stages | {"stem": frames(backbone["stem"][0])}


def _network_2d(name: str, naming: Naming = MMACTION2) -> Network:
    config = _baseline(name)
    return Network(
        config,
        naming if config.cardinality == 1 else MMACTION2_TORCHVISION,
        lambda x: jnp.moveaxis(jnp.asarray(x, jnp.float64), 2, -1),
        lambda g: jnp.moveaxis(g, -1, 2),
        _stages_2d,
    )


def _dnr_features(backbone: Features) -> dict[str, jax.Array]:
    found = _stages_2d(backbone)
    for stage, block in ((1, 0), (4, 2)):
        norms = backbone[f"layer{stage}"][f"block{block}"]
        found[f"cl_{stage}_{block}"] = channels_first(norms["norm1"]["__call__"][0][1])
        found[f"ct_{stage}_{block}"] = frames(norms["norm2"]["__call__"][0][1])
    return found


def _dnr(depth: int, num_groups: int) -> Network:
    config = ModelConfig(depth=depth, interlace=False, norm=DNRSpec(num_groups=num_groups))
    return Network(config, AUTHORS, clips, frames, _dnr_features, head=False)


def _features_3d(backbone: Features) -> dict[str, jax.Array]:
    """The stem, the lateral connections and the stages, ``slow_layer1`` under the golden name ``slow1``."""
    stages = {name: value["__call__"] for name, value in backbone.items() if "layer" in name}
    sown = {name: value for name, value in backbone.items() if not isinstance(value, Mapping)}
    return {name.replace("_layer", ""): channels_first(value[0]) for name, value in (stages | sown).items()}


def _network_3d(name: str) -> Network:
    """A 3D network; the inputs of MMAction2's have an axis for the views behind the batch."""
    pyslowfast = "_fb_" in name

    def clips_of(x: np.ndarray) -> jax.Array:
        return jnp.moveaxis(jnp.asarray(x if pyslowfast else x[:, 0], jnp.float64), 1, -1)

    def unclips(gradient: jax.Array) -> jax.Array:
        restored = channels_first(gradient)
        return restored if pyslowfast else restored[:, None]

    return Network(_baseline(name), PYSLOWFAST if pyslowfast else MMACTION2, clips_of, unclips, _features_3d)


def _tsm(name: str) -> Network:
    return _network_2d(name, mmaction2_tsm(_baseline(name).depth))


def _inception_features(backbone: Features) -> dict[str, jax.Array]:
    """The poolings of the stem, and the blocks ``3a`` to ``5b``."""
    found = {name: frames(backbone[name][0]) for name in ("pool1", "pool2")}
    for stage in (3, 4, 5):
        for block, captured in backbone[f"inception{stage}"].items():
            if block.startswith("block"):
                letter = "abcde"[int(block.removeprefix("block"))]
                found[f"{stage}{letter}"] = frames(captured["__call__"][0][1])
    return found


def _bninception(name: str) -> Network:
    return dataclasses.replace(_network_2d(name), naming=CADENE, features=_inception_features, prefix="base_model.")


def _tdn(name: str) -> Network:
    def features(backbone: Features) -> dict[str, jax.Array]:
        found = {f"layer{i}": frames(backbone[f"layer{i}"]["__call__"][0]) for i in range(1, 5)}
        module = backbone["layer2"]["block0"]["temporal"]
        return found | {
            "conv1_5": frames(backbone["difference_stem"][0]),
            "diff_layer1": frames(backbone["difference_layer1"]["__call__"][0]),
            "mse_2_0": frames(module["attention"]["__call__"][0]),
            "shift_2_0": frames(module["shift"]["__call__"][0]),
        }

    def clips_of(x: np.ndarray) -> jax.Array:
        n, channels, *image = x.shape
        return jnp.moveaxis(jnp.asarray(x, jnp.float64).reshape(n, channels // 3, 3, *image), 2, -1)

    def unclips(gradient: jax.Array) -> jax.Array:
        n, _, height, width, _ = gradient.shape
        return jnp.moveaxis(gradient, -1, 2).reshape(n, -1, height, width)

    return Network(_baseline(name), TDN, clips_of, unclips, features)


def _tanet(name: str) -> Network:
    # The reference's configuration of TANet rounds the mean of the blue channel.
    pixels = DataConfig(mean=(123.675, 116.28, 103.5))
    return dataclasses.replace(_network_2d(name, MMACTION2_TANET), pixels=pixels)


_FAMILIES = {
    "tsn": _network_2d,
    "bninception": _bninception,
    "tsm": _tsm,
    "tanet": _tanet,
    "tdn": _tdn,
    "r2plus1d": _network_3d,
    "slowfast": _network_3d,
}
NETWORKS: Mapping[str, Network] = {
    **{name: _FAMILIES[network.config.name](name) for name, network in ZOO.items()},
    **{f"tdn_r{depth}_{side}": _tdn(f"tdn_r{depth}") for depth in (50, 101) for side in (64, 112)},
    "dnr_r50_g2": _dnr(50, 2),
    "dnr_r50_g4": _dnr(50, 4),
}
"""By the name of the golden case."""


def network_of(case: str) -> Network | None:
    """Return the network of a golden case; None where the case is of no network.

    It is the one of whose name the case's name begins with the longest, at any depth: ``tsn_r50_112`` is ``tsn_r50`` on
    frames of another size, ``tsm_r152`` is the zoo's ``tsm_r50`` with another depth.
    """
    if authors := re.fullmatch(r"dnr_r(\d+)_g(\d+)", case):
        return _dnr(*map(int, authors.groups()))
    parts = case.split("_")
    for name in ("_".join(parts[:end]) for end in range(len(parts), 1, -1)):
        if name in NETWORKS:
            return NETWORKS[name]
        if config := _config(name):
            return _FAMILIES[config.name](name)
    return None


def stored(shared: pathlib.Path) -> list[str]:
    """Return the networks' cases whose values, gradients and statistics are there to compare with, the known first."""
    found = {path.stem for path in (shared / "golden" / "cases").glob("*.json")}
    return [
        *(case for case in NETWORKS if case in found),
        *(case for case in sorted(found - set(NETWORKS)) if network_of(case)),
    ]


def values(case: Any) -> dict[str, np.ndarray]:
    """Compute here, in float64, everything that a golden case holds; see :func:`golden.values_of_network`."""
    network = network_of(case.case)
    assert network is not None, f"no network is known for {case.case}"
    model = network.model(case.meta["num_classes"])
    x = network.clips(case.input())
    tapped = {*case.meta["features"], *case.meta["outputs"]}

    def captured(module: nn.Module, _: str) -> bool:
        name = module.name or ""
        return "layer" in name or name in ("norm1", "norm2", "attention", "shift") or isinstance(module, InceptionBlock)

    def apply(variables: Any, x: jax.Array, train: bool) -> Any:
        return model.apply(
            variables, x, train=train, mutable=["batch_stats", "intermediates"], capture_intermediates=captured
        )

    def outputs(scores: jax.Array, intermediates: Features) -> dict[str, jax.Array]:
        features = network.features(intermediates["backbone"] if network.head else intermediates)
        found = features | ({"logits": scores} if network.head else {})
        return {name: found[name] for name in tapped}

    template = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    return golden.values_of_network(
        case, apply, template, network.naming, x, outputs, network.unclips, prefix=network.prefix, pixels=network.pixels
    )
