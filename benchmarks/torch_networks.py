"""TSN with a ResNet in plain PyTorch, with batch normalisation or with DNR: what the benchmarks here compare with.

DNR is computed as the authors' released code does it: frame groups one after the other, each standardised by
``torch.nn.BatchNorm2d``, scaled and shifted by what the cell predicts, and joined again. Modules have the names of that
code, so that weights of ours load (``dnr_jax.convert.AUTHORS``).
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dnr_jax.models import TSN
from dnr_jax.models.resnet import architecture_of

State = tuple[torch.Tensor, torch.Tensor]
LAYOUTS = ("contiguous", "channels_last", "compiled")
"""How PyTorch keeps features; ``compiled`` is ``torch.compile`` of ``channels_last``."""


class Expansion(nn.Module):
    """Contraction, ReLU, expansion to four gates."""

    def __init__(self, features: int, reduction: int = 4):
        """Make the two layers for ``features`` channels."""
        super().__init__()
        hidden = max(features // reduction, 1)
        self.seq = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 4 * features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, C]`` to ``[N, 4 * C]``."""
        return self.seq(x)


class Cell(nn.Module):
    """LSTM whose matrices are bottlenecks, and whose output gate acts on the sigmoid of the memory."""

    def __init__(self, features: int):
        """Make a cell for ``features`` channels."""
        super().__init__()
        self.w_ih, self.w_hh = nn.ModuleList([Expansion(features)]), nn.ModuleList([Expansion(features)])

    def forward(self, x: torch.Tensor, state: State | None) -> State:
        """Advance ``(h, c)``, each ``[N, C]``, by one step; None is the state before the first."""
        h, c = state or (torch.zeros_like(x), torch.zeros_like(x))
        i, f, g, o = (self.w_ih[0](x) + self.w_hh[0](h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.sigmoid(c), c


def scaled(x: torch.Tensor, state: State) -> torch.Tensor:
    """Scale and shift ``[N, L, C, H, W]`` by a cell's ``(h, c)``."""
    scale, shift = (vector[:, None, :, None, None] for vector in state)
    return x * scale + shift


class CrossTemporal(nn.BatchNorm2d):
    """Cross-temporal DNR: a cell of its own, which runs along groups of frames."""

    def __init__(self, features: int, frames: int, distance: int):
        """Make the norm for clips of ``frames``, in groups of ``distance``."""
        super().__init__(features, affine=False)
        self.frames, self.distance = frames, distance
        self.lstm = Cell(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``[N * T, C, H, W]``."""
        groups, state = [], None
        for group in x.unflatten(0, (-1, self.frames)).split(self.distance, dim=1):
            state = self.lstm(group.mean(dim=(1, 3, 4)), state)
            groups.append(scaled(super().forward(group.flatten(0, 1)).unflatten(0, group.shape[:2]), state))
        return torch.cat(groups, dim=1).flatten(0, 1)


class CrossLayer(nn.BatchNorm2d):
    """Cross-layer DNR: one group, and the cell of the stage."""

    def __init__(self, features: int, frames: int):
        """Make the norm for clips of ``frames``."""
        super().__init__(features, affine=False)
        self.frames = frames

    def relayed(self, x: torch.Tensor, cell: Cell, state: State | None) -> tuple[torch.Tensor, State]:
        """Normalise ``[N * T, C, H, W]``; returns the cell's new state too."""
        state = cell(x.unflatten(0, (-1, self.frames)).mean(dim=(1, 3, 4)), state)
        return scaled(self(x).unflatten(0, (-1, self.frames)), state).flatten(0, 1), state


def convolution(channels: int, features: int, size: int, strides: int = 1) -> nn.Conv2d:
    """Return a convolution without bias, padded by half of its size."""
    return nn.Conv2d(channels, features, size, strides, size // 2, bias=False)


class Block(nn.Module):
    """Residual block: basic or bottleneck."""

    def __init__(self, channels: int, features: int, strides: int, bottleneck: bool, dnr: bool, frames: int):
        """Make a block from ``channels`` to ``features``, or four times as many in a bottleneck."""
        super().__init__()
        sizes = [(features, 1, 1), (features, 3, strides), (4 * features, 1, 1)] if bottleneck else []
        sizes = sizes or [(features, 3, strides), (features, 3, 1)]
        width, self.count = channels, len(sizes)
        for i, (out, size, step) in enumerate(sizes, 1):
            norm: nn.Module = nn.BatchNorm2d(out)
            if dnr and i < 3:
                norm = CrossLayer(out, frames) if i == 1 else CrossTemporal(out, frames, 4)
            self.add_module(f"conv{i}", convolution(width, out, size, step))
            self.add_module(f"bn{i}", norm)
            width = out
        self.downsample = None
        if strides > 1 or channels != width:
            self.downsample = nn.Sequential(convolution(channels, width, 1, strides), nn.BatchNorm2d(width))
        self.width = width

    def forward(self, x: torch.Tensor, cell: Cell | None, state: State | None) -> tuple[torch.Tensor, State | None]:
        """Apply the block to ``[N * T, C, H, W]``."""
        y = x
        for i in range(1, self.count + 1):
            y, norm = getattr(self, f"conv{i}")(y), getattr(self, f"bn{i}")
            if isinstance(norm, CrossLayer):
                y, state = norm.relayed(y, cell, state)
            else:
                y = norm(y)
            y = functional.relu(y) if i < self.count else y
        return functional.relu(y + (x if self.downsample is None else self.downsample(x))), state


class Stage(nn.Module):
    """Blocks of one width, and the cell that they share."""

    def __init__(self, blocks: list[Block], features: int, dnr: bool):
        """Hold the blocks."""
        super().__init__()
        self.ModuleList = nn.ModuleList(blocks)
        self.lstm = Cell(features) if dnr else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the blocks in order."""
        state = None
        for block in self.ModuleList:
            x, state = block(x, self.lstm, state)
        return x


class Backbone(nn.Module):
    """ResNet without its classifier."""

    def __init__(self, config: TSN, frames: int):
        """Make the ResNet of a configuration."""
        super().__init__()
        dnr, width = config.norm.norm1 != "static", config.width
        architecture = architecture_of(config.depth)
        bottleneck = config.depth >= 50
        self.small = config.stem == "small"
        self.conv1 = convolution(3, width, 3) if self.small else convolution(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for i, count in enumerate(architecture.stages):
            features, blocks = width * 2**i, []
            for j in range(count):
                strides = 2 if i and not j else 1
                blocks.append(Block(channels, features, strides, bottleneck, dnr, frames))
                channels = blocks[-1].width
            self.add_module(f"layer{i + 1}", Stage(blocks, features, dnr))
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Extract features of ``[N * T, 3, H, W]``."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = x if self.small else functional.max_pool2d(x, 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class Recognizer(nn.Module):
    """TSN: a ResNet on each frame, whose features are averaged over the clip."""

    def __init__(self, config: TSN, frames: int):
        """Make the network of a configuration, for clips of ``frames``."""
        super().__init__()
        self.frames, self.dropout = frames, nn.Dropout(config.dropout)
        self.backbone = Backbone(config, frames)
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(self.backbone.channels, config.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N * T, 3, H, W]`` to scores ``[N, K]``."""
        features = self.backbone(x).mean(dim=(2, 3)).unflatten(0, (-1, self.frames)).mean(dim=1)
        return self.cls_head.fc_cls(self.dropout(features))


class TorchSteps:
    """A network's train step (forward, backward, SGD with momentum) and evaluation step, as calls without arguments.

    Attributes:
      network: the module; in evaluation mode.
    """

    def __init__(self, config: TSN, video: np.ndarray, layout: str, dtype: str, device: str = "cpu"):
        """Make the network and place the clips.

        Args:
          config: of the network.
          video: ``[N, T, H, W, 3]``.
          layout: one of :data:`LAYOUTS`.
          dtype: ``float32``, or ``bfloat16``, which is PyTorch's autocast.
          device: where.
        """
        torch.manual_seed(0)
        memory = torch.contiguous_format if layout == "contiguous" else torch.channels_last
        frames = torch.from_numpy(np.array(video, np.float32)).flatten(0, 1).permute(0, 3, 1, 2)
        self._device, self._dtype = device, dtype
        self._frames = frames.contiguous(memory_format=memory).to(device)
        self._labels = torch.zeros(len(video), dtype=torch.long, device=device)
        self.network = Recognizer(config, video.shape[1]).to(device, memory_format=memory)
        self._call: Callable[..., torch.Tensor] = torch.compile(self.network) if layout == "compiled" else self.network
        self._optimizer = torch.optim.SGD(self.network.parameters(), 0.01, momentum=0.9)

    def start_train(self) -> torch.Tensor:
        """Start a train step; returns the loss before it, for which nothing waits yet."""
        self.network.train()
        self._optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = functional.cross_entropy(self._call(self._frames).float(), self._labels)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def train(self) -> float:
        """Take a train step; returns the loss before it."""
        return self.start_train().item()

    def start_evaluate(self) -> torch.Tensor:
        """Start an evaluation step; returns the scores ``[N, K]``, for which nothing waits yet."""
        self.network.eval()
        with torch.inference_mode(), self._autocast():
            return self._call(self._frames).float()

    def evaluate(self) -> np.ndarray:
        """Return the scores ``[N, K]``."""
        return self.start_evaluate().cpu().numpy()

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take weights under the names of the authors' code."""
        wanted = self.network.state_dict()
        counters = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
        self.network.load_state_dict(counters | {name: torch.tensor(value) for name, value in state.items()})

    @contextlib.contextmanager
    def _autocast(self) -> Iterator[Any]:
        with torch.autocast(self._device.split(":")[0], torch.bfloat16, enabled=self._dtype == "bfloat16"):
            yield
