"""PyTorch state dicts in and out: names and layouts, without torch.

A state dict here is a mapping from torch's names to numpy arrays in torch's layouts. Each :class:`Naming` is a list of
rewriting rules from our module paths to another code base's, so that any part of a network (a cell, a norm, a stage,
a backbone, a recogniser) converts by the same rules, in both directions.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from dnr_jax.config import ConfigError

StateDict = dict[str, np.ndarray]
Variables = dict[str, Any]

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_CELL = (
    (r"\blayer_(\d+)/input", r"w_ih.\1"),
    (r"\blayer_(\d+)/hidden", r"w_hh.\1"),
    (r"/squeeze$", r".seq.0"),
    (r"/expand$", r".seq.2"),
    (r"\brelay1?\b", "lstm"),
)
_TORCHVISION_BLOCKS = (
    (r"\bblock(\d+)", r"\1"),
    (r"\bnorm(\d)", r"bn\1"),
    (r"\bshortcut_conv", "downsample.0"),
    (r"\bshortcut_norm", "downsample.1"),
)
_TAM = (
    ("global_dense1", "G.0"),
    ("global_norm", "G.1"),
    ("global_dense2", "G.3"),
    ("local_conv1", "L.0"),
    ("local_norm", "L.1"),
    ("local_conv2", "L.3"),
)


class ConversionError(ConfigError):
    """Weights cannot be read, or do not fit the network: says what, and what would be right."""


@dataclasses.dataclass(frozen=True)
class Naming:
    """How a code base names the modules of our networks.

    Attributes:
      rules: ``(pattern, replacement)`` pairs applied in turn to our module path (``layer1/block0/norm2``); what is left
        of the slashes becomes dots.
    """

    rules: tuple[tuple[str, str], ...]

    def key(self, path: str) -> str:
        """Return the state-dict key of the variable at ``path`` (``layer1/block0/norm2/scale``).

        Raises:
          ConversionError: for a variable that torch's layers do not have, such as a learned initial state of a relay.
        """
        module, _, leaf = path.rpartition("/")
        if leaf not in _LEAVES:
            raise ConversionError(f"{path} has no name in this code base")
        for pattern, replacement in self.rules:
            module = re.sub(pattern, replacement, module)
        return ".".join(filter(None, (module.replace("/", "."), _LEAVES[leaf])))

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Return an array of ours in the code base's layout: HWIO and IO kernels become OIHW and OI, vectors stay."""
        if array.ndim < 2:
            return array
        return array.transpose((*range(array.ndim - 1, array.ndim - 3, -1), *range(array.ndim - 2)))

    def decode(self, array: np.ndarray) -> np.ndarray:
        """Undo :meth:`encode`."""
        return array if array.ndim < 2 else array.transpose((*range(2, array.ndim), 1, 0))


@dataclasses.dataclass(frozen=True)
class OwnNaming(Naming):
    """Paths and layouts as they are here, so that every variable has a name."""

    rules: tuple[tuple[str, str], ...] = ()

    def key(self, path: str) -> str:
        """Return ``path``."""
        return path

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Return ``array``."""
        return array

    def decode(self, array: np.ndarray) -> np.ndarray:
        """Return ``array``."""
        return array


OWN = OwnNaming()
"""This project's own names."""

AUTHORS = Naming(
    rules=(
        *_CELL,
        (r"^head/fc", "cls_head.fc_cls"),
        (r"\bblock(\d+)", r"ModuleList.\1"),
        *_TORCHVISION_BLOCKS,
    )
)
"""The authors' released DNR code (``resnet_dnr.py``), alone or inside mmaction's ``TSN2D``."""

MMACTION2 = Naming(
    rules=(
        (r"^head/fc", "cls_head.fc_cls"),
        (r"^backbone/lateral0_(conv|norm)$", r"backbone.slow_path.conv1_lateral.\1"),
        (r"^backbone/lateral(\d)_(conv|norm)$", r"backbone.slow_path.layer\1_lateral.\2"),
        (r"\b(slow|fast)_(conv|norm|layer)", r"\1_path.\2"),
        (r"\bblock(\d+)", r"\1"),
        (r"\bshortcut_(conv|norm)", r"downsample.\1"),
        (r"\bconv(\d)\b", r"conv\1.conv"),
        (r"\bnorm(\d)", r"conv\1.bn"),
        (r"/spatial$", ".conv_s"),
        (r"/temporal$", ".conv_t"),
        (r"/norm$", ".bn_s"),
        (r"\b(downsample|conv1_lateral|layer\d_lateral)\.norm", r"\1.bn"),
        *((rf"\b{ours}$", theirs) for ours, theirs in _TAM),
    )
)
"""MMAction2's ``Recognizer2D`` with a ResNet, and its ``Recognizer3D`` with R(2+1)D or SlowFast."""


MMACTION2_TANET = Naming(
    (
        (r"\bblock(\d+)/temporal", r"\1/tam"),
        (r"\bblock(\d+)/", r"\1/block/"),
        *MMACTION2.rules,
    )
)
"""MMAction2's ``TANet``, whose residual blocks stand beside their temporal modules in a ``TABlock``."""
MMACTION2_TORCHVISION = Naming(((r"^head/fc", "cls_head.fc_cls"), *_TORCHVISION_BLOCKS))
"""MMAction2's ``Recognizer2D`` around torchvision's ResNet or ResNeXt."""


def mmaction2_tsm(depth: int) -> Naming:
    """Return the names of MMAction2's ``ResNetTSM``, which puts the convolutions whose input it shifts into a ``net``.

    These are the first convolutions of all blocks, and from ResNet-101 on of every second block.
    """
    shifted = r"\bblock(\d*[02468])/conv1$" if depth >= 101 else r"\bblock(\d+)/conv1$"
    return Naming(((shifted, r"block\1/conv1/net"), *MMACTION2.rules))


_PYSLOWFAST_PATHWAYS = (("slow", "pathway0"), ("fast", "pathway1"))
PYSLOWFAST = Naming(
    rules=(
        (r"^head/fc", "head.projection"),
        (r"^backbone/", ""),
        *((rf"^lateral{i}_", f"s{i + 1}_fuse.") for i in range(4)),
        (r"_fuse\.conv", "_fuse.conv_f2s"),
        (r"_fuse\.norm", "_fuse.bn"),
        *((rf"^{ours}_conv1", f"s1.{theirs}_stem.conv") for ours, theirs in _PYSLOWFAST_PATHWAYS),
        *((rf"^{ours}_norm1", f"s1.{theirs}_stem.bn") for ours, theirs in _PYSLOWFAST_PATHWAYS),
        *(
            (rf"^{ours}_layer{i}/block", f"s{i + 1}.{theirs}_res")
            for ours, theirs in _PYSLOWFAST_PATHWAYS
            for i in range(1, 5)
        ),
        (r"/shortcut_conv$", ".branch1"),
        (r"/shortcut_norm", ".branch1_bn"),
        *((rf"/conv{i}$", f".branch2.{letter}") for i, letter in enumerate("abc", 1)),
        *((rf"/norm{i}\b", f".branch2.{letter}_bn") for i, letter in enumerate("abc", 1)),
    )
)
"""PySlowFast's ``SlowFast`` (``s1`` to ``s5``)."""

TORCHVISION = Naming(
    rules=(
        (r"^backbone/", ""),
        (r"^slow_", ""),
        (r"^head/fc", "fc"),
        *_TORCHVISION_BLOCKS,
    )
)
"""torchvision's ResNet and ResNeXt, and timm's, which have the same names. In SlowFast it is the slow pathway."""

TDN = Naming(
    rules=(
        (r"^head/fc", "new_fc"),
        (r"^backbone/difference_conv", "backbone/conv1_5.0"),
        (r"^backbone/difference_norm", "backbone/conv1_5.1"),
        (r"^backbone/layer(\d)", r"backbone/layer\1_bak"),
        (r"\bdifference_layer1", "resnext_layer1"),
        (r"^backbone/", "base_model."),
        (r"\bblock(\d+)", r"\1"),
        (r"\btemporal/attention/", "mse."),
        (r"\btemporal/shift", "shift.conv"),
        (r"\bcoarse_conv", "conv3_smallscale2"),
        (r"\bcoarse_norm", "bn3_smallscale2"),
        (r"\bfine_conv", "conv3_smallscale4"),
        (r"\bfine_norm", "bn3_smallscale4"),
        (r"\bnorm(\d)", r"bn\1"),
        (r"\bshortcut_conv", "downsample.0"),
        (r"\bshortcut_norm", "downsample.1"),
    )
)
"""MCG-NJU's ``TSN`` around its ``TDN_Net``."""

_CADENE_CONVOLUTIONS = {
    "backbone/conv1": "conv1_7x7_s2",
    "backbone/conv2": "conv2_3x3_reduce",
    "backbone/conv3": "conv2_3x3",
    "branch_1x1/conv1": "1x1",
    "branch_3x3/conv1": "3x3_reduce",
    "branch_3x3/conv2": "3x3",
    "branch_double_3x3/conv1": "double_3x3_reduce",
    "branch_double_3x3/conv2": "double_3x3_1",
    "branch_double_3x3/conv3": "double_3x3_2",
    "branch_pool/conv1": "pool_proj",
}
CADENE = Naming(
    rules=(
        (r"^head/fc", "last_linear"),
        *((rf"\b{ours}\b", theirs) for ours, theirs in _CADENE_CONVOLUTIONS.items()),
        *((rf"\b{ours.replace('conv', 'norm')}\b", f"{theirs}_bn") for ours, theirs in _CADENE_CONVOLUTIONS.items()),
        (r"^backbone/", ""),
        *((rf"^inception(\d)/block{i}/", rf"inception_\1{letter}_") for i, letter in enumerate("abcde")),
    )
)
"""Cadene's port of the Caffe network BNInception (``pretrainedmodels``), whose names are the Caffe layers'."""


NAMINGS: Mapping[str, Naming] = {
    "own": OWN,
    "torchvision": TORCHVISION,
    "mmaction2": MMACTION2,
    "mmaction2_torchvision": MMACTION2_TORCHVISION,
    "mmaction2_tanet": MMACTION2_TANET,
    "mmaction2_tsm": mmaction2_tsm(50),
    "mmaction2_tsm_r101": mmaction2_tsm(101),
    "pyslowfast": PYSLOWFAST,
    "tdn": TDN,
    "cadene": CADENE,
    "authors": AUTHORS,
}
"""The code bases whose weights are recognised, by the names that a person gives to them."""


def flat(variables: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Key every leaf by its collection and its path."""
    return {
        (collection, path): leaf
        for collection, tree in variables.items()
        for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()
    }


def to_state_dict(variables: Mapping[str, Any], naming: Naming) -> StateDict:
    """Export ``params`` and ``batch_stats`` under another code base's names and in torch's layouts.

    Args:
      variables: collections of a network here, or of any part of it; gradients and other trees of the same structure
        convert as well.
      naming: the code base.

    Returns:
      One array for each variable. torch's ``num_batches_tracked`` counters are left out.

    Raises:
      ConversionError: for a variable that the code base has no name for.
    """
    state = {}
    for (_, path), leaf in flat(variables).items():
        state[naming.key(path)] = naming.encode(np.asarray(leaf))
    return state
