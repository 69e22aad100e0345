"""How other code bases name the modules of our networks, and the names that several networks share.

Each :class:`Naming` is a list of rewriting rules from our module paths to another code base's, so that any part of a
network (a cell, a norm, a stage, a backbone, a recogniser) converts by the same rules, in both directions. Names of one
network alone stand in its file.
"""

import dataclasses
import re

import numpy as np

from dnr_jax.config import ConfigError

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
CELL = (
    (r"\blayer_(\d+)/input", r"w_ih.\1"),
    (r"\blayer_(\d+)/hidden", r"w_hh.\1"),
    (r"/squeeze$", r".seq.0"),
    (r"/expand$", r".seq.2"),
    (r"\brelay1?\b", "lstm"),
)
"""Rules for the relays of the authors' code."""
TORCHVISION_BLOCKS = (
    (r"\bblock(\d+)", r"\1"),
    (r"\bnorm(\d)", r"bn\1"),
    (r"\bshortcut_conv", "downsample.0"),
    (r"\bshortcut_norm", "downsample.1"),
)
"""Rules for the blocks of torchvision's ResNet."""


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
    )
)
"""MMAction2's ``Recognizer2D`` with a ResNet, and its ``Recognizer3D`` with R(2+1)D or SlowFast."""

MMACTION2_TORCHVISION = Naming(((r"^head/fc", "cls_head.fc_cls"), *TORCHVISION_BLOCKS))
"""MMAction2's ``Recognizer2D`` around torchvision's ResNet or ResNeXt."""

TORCHVISION = Naming(
    rules=(
        (r"^backbone/", ""),
        (r"^slow_", ""),
        (r"^head/fc", "fc"),
        *TORCHVISION_BLOCKS,
    )
)
"""torchvision's ResNet and ResNeXt, and timm's, which have the same names. In SlowFast it is the slow pathway."""

AUTHORS = Naming(
    rules=(
        *CELL,
        (r"^head/fc", "cls_head.fc_cls"),
        (r"\bblock(\d+)", r"ModuleList.\1"),
        *TORCHVISION_BLOCKS,
    )
)
"""The authors' released DNR code (``resnet_dnr.py``), alone or inside mmaction's ``TSN2D``."""
