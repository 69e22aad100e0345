"""What the relays of a network predict for given clips, by layer and frame group, as arrays and as a picture."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from dnr_jax.dnr import CrossLayerDNR, CrossTemporalDNR
from dnr_jax.models.blocks import place_of_blocks
from dnr_jax.runs.devices import brief_options

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class RelayTrace:
    """What one layer predicted for ``N`` clips.

    Attributes:
      scale: gamma ``[N, F, C]``, for ``F`` frame groups (or frames) of a cross-temporal layer; ``F = 1`` for a
        cross-layer one.
      shift: beta, likewise.
      gates: the cell's gates after their sigmoid or tanh, likewise; keyed by the cell's layer and the gate
        (``layer_0/forget``), with ``backward/`` before it for the backward cell of a bidirectional relay. Relays other
        than the LSTM have fewer or none.
      crosses: ``time`` or ``layers``: what the relay runs along.
    """

    scale: np.ndarray
    shift: np.ndarray
    gates: Mapping[str, np.ndarray]
    crosses: str


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A layer with a relay, as it was met in the network.

    Attributes:
      path: of the layer.
      crosses: as in :class:`RelayTrace`.
      cells: paths of its cells, by what is put before the names of their gates.
      turn: number among the layers that share its cell; None for a cell of its own.
    """

    path: Path
    crosses: str
    cells: Mapping[str, Path]
    turn: int | None


def inspect(model: nn.Module, variables: Mapping[str, Any], clips: jax.Array, **kwargs: Any) -> dict[str, RelayTrace]:
    """Run a network and return what each of its relays predicted.

    Args:
      model: called as ``model.apply(variables, clips, **kwargs)``. Any Linen module with DNR layers in it.
      variables: of the model.
      clips: ``[N, T, H, W, C]``, as the model takes them.
      **kwargs: of the call; ``train=False`` where none are given.

    Returns:
      A trace for each layer with a relay, by its path (``backbone/layer1/block0/norm2``), in the order of the network.
      With ``scan_blocks``, the gates of a cell that blocks share are known for the first block only. A layer that runs
      for each entry of an ``nn.scan`` or ``nn.vmap`` has a trace for each, ``path[0]``, ``path[1]``, ...; one that is
      called several times has one for each call, ``path(0)``, ``path(1)``, ..., and gates where its cell is its own.

    Raises:
      ValueError: for layers that cannot hand out what they predict, naming them.
    """
    return inspector(model, **kwargs)(variables, clips)


Inspect = Callable[[Mapping[str, Any], jax.Array], dict[str, RelayTrace]]


def inspector(model: nn.Module, **kwargs: Any) -> Inspect:
    """Return :func:`inspect` of one network, as a function of variables and clips that is compiled once."""
    kwargs = kwargs or {"train": False}
    layers: dict[Path, _Layer] = {}

    @functools.partial(jax.jit, compiler_options=brief_options(jax.default_backend()))
    def forward(variables: Mapping[str, Any], clips: jax.Array) -> Any:
        with nn.intercept_methods(functools.partial(_note_relays, layers)):
            _, updates = model.apply(variables, clips, mutable=["intermediates"], **kwargs)
        flat = traverse_util.flatten_dict(updates.get("intermediates", {}))
        return {path: leaf for path, leaf in flat.items() if path[-1] in ("scale", "shift", "gates")}

    def traces(variables: Mapping[str, Any], clips: jax.Array) -> dict[str, RelayTrace]:
        sown = jax.device_get(forward(variables, clips))
        if silent := ["/".join(path) for path in layers if (*path, "scale") not in sown]:
            raise ValueError(
                f"{', '.join(silent)}: the collection 'intermediates' is not mutable there, so that scale and shift "
                "are not known; expected 'intermediates' in variable_axes of the nn.scan, or another lifted "
                "transform, around it"
            )
        return {"/".join(path): trace for layer in layers.values() for path, trace in _traces(layer, layers, sown)}

    return traces


def _note_relays(layers: dict[Path, _Layer], call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Note the layers with relays as the network calls them; an interceptor of Flax."""
    layer, path = context.module, context.module.path
    if context.method_name == "__call__" and path not in layers:
        if isinstance(layer, CrossTemporalDNR):
            cells = {"": (*path, "relay")}
            if layer.direction == "bidirectional":
                cells["backward/"] = (*path, "relay_backward")
            layers[path] = _Layer(path, "time", cells, None)
        elif isinstance(layer, CrossLayerDNR):
            shared = layer.cell is not None
            cell = getattr(layer.cell, "path", ()) if shared else (*path, "relay")
            turn = len(_sharing(cell, layers)) if shared else None
            layers[path] = _Layer(path, "layers", {"": cell}, turn)
    return call(*args, **kwargs)


def _sharing(cell: Path, layers: Mapping[Path, _Layer]) -> list[_Layer]:
    """Return the layers that have a cell."""
    return [layer for layer in layers.values() if cell in layer.cells.values()]


def _traces(
    layer: _Layer, layers: Mapping[Path, _Layer], sown: Mapping[Path, Any]
) -> Iterator[tuple[Path, RelayTrace]]:
    """Yield the traces of a layer by their paths: one for each call and, under a scan, for each block."""
    scales, shifts = sown[*layer.path, "scale"], sown[*layer.path, "shift"]
    for call, (scale, shift) in enumerate(zip(scales, shifts, strict=True)):
        gates = _gates(layer, call, layers, sown)
        gates = {name: gate.reshape(scale.shape) for name, gate in gates.items()}
        path = layer.path if len(scales) == 1 else (*layer.path[:-1], f"{layer.path[-1]}({call})")
        for entry in np.ndindex(scale.shape[:-3]):
            of_entry = {name: gate[entry] for name, gate in gates.items()}
            yield _path_of_entry(path, entry), RelayTrace(scale[entry], shift[entry], of_entry, layer.crosses)


def _gates(layer: _Layer, call: int, layers: Mapping[Path, _Layer], sown: Mapping[Path, Any]) -> dict[str, np.ndarray]:
    """Return the gates at a call of a layer, or none where calls of a shared cell cannot be told apart."""
    gates: dict[str, np.ndarray] = {}
    for prefix, cell in layer.cells.items():
        for path, calls in sown.items():
            known = path[:-2] == cell and path[-1] == "gates"
            if known and (layer.turn is None or len(calls) == len(_sharing(cell, layers))):
                found = calls[call if layer.turn is None else layer.turn]
                gates |= {f"{prefix}{path[-2]}/{name}": gate for name, gate in found.items()}
    return gates


def _path_of_entry(path: Path, entry: tuple[int, ...]) -> Path:
    """Return the path of a layer in one of the blocks of a scan, or at one entry of other lifted axes."""
    at = place_of_blocks(path)
    if at is not None and len(entry) == 1:
        return *path[:at], f"block{entry[0] + 1}", *path[at + 2 :]
    return (*path[:-1], f"{path[-1]}[{','.join(map(str, entry))}]") if entry else path


def plot_relays(traces: Mapping[str, RelayTrace], path: str | os.PathLike[str] | IO[bytes]) -> None:
    """Draw scales, shifts and gates over time and depth, averaged over clips and channels.

    The upper row is what the relays across time predict, a line a layer and a column a frame group; the lower row what
    those across layers do, a line a stage and a column a block.

    Args:
      traces: of :func:`inspect`.
      path: of the picture; its suffix says the format. Or a file that is open for writing, for a PNG.

    Raises:
      ValueError: where there is no trace.
    """
    if not traces:
        raise ValueError("there is nothing to draw: the network has no relay")
    import matplotlib
    from matplotlib.figure import Figure

    rows = [rows for crosses in ("time", "layers") if (rows := _table(traces, crosses))]
    quantities = sorted({name for table in rows for line in table.values() for name in line}, key=_order)
    height = sum(0.25 * len(table) + 1.2 for table in rows)
    figure = Figure(figsize=(2.6 * len(quantities) + 2.0, height), layout="constrained")
    grid = figure.subplots(len(rows), len(quantities), squeeze=False, height_ratios=[len(table) + 2 for table in rows])
    for axes_of_row, table in zip(grid, rows, strict=True):
        for axes, quantity in zip(axes_of_row, quantities, strict=True):
            image = _padded([line.get(quantity, np.zeros(0)) for line in table.values()])
            drawn = axes.imshow(image, aspect="auto", interpolation="nearest", cmap=matplotlib.colormaps["viridis"])
            axes.set_title(quantity, fontsize=9)
            axes.set_xticks(range(image.shape[1]))
            axes.set_yticks(range(len(table)), list(table) if axes is axes_of_row[0] else [], fontsize=7)
            figure.colorbar(drawn, ax=axes)
        crosses_time = any(name in traces for name in table)
        axes_of_row[0].set_xlabel("frame group" if crosses_time else "block")
    figure.savefig(path, dpi=150)


def _table(traces: Mapping[str, RelayTrace], crosses: str) -> dict[str, dict[str, np.ndarray]]:
    """Return, for each line of the picture, the means ``[columns]`` of each quantity."""
    lines: dict[str, dict[str, np.ndarray]] = {}
    for name, trace in traces.items():
        if trace.crosses != crosses:
            continue
        # A line is a layer whose columns are frame groups, or a stage whose columns are blocks.
        line = name if crosses == "time" else re.sub(r"block\d+/|\[[\d,]+\]$", "", name)
        quantities = {"scale": trace.scale, "shift": trace.shift, **trace.gates}
        for quantity, values in quantities.items():
            before = lines.setdefault(line, {}).get(quantity, np.zeros(0))
            lines[line][quantity] = np.append(before, values.mean(axis=(0, 2)))
    return lines


def _order(quantity: str) -> tuple[bool, bool, str]:
    return quantity not in ("scale", "shift"), "backward" in quantity, quantity


def _padded(lines: list[np.ndarray]) -> np.ndarray:
    """Stack lines of different lengths; what is missing is NaN, which a picture leaves blank."""
    image = np.full((len(lines), max(1, *map(len, lines))), np.nan)
    for row, line in zip(image, lines, strict=True):
        row[: len(line)] = line
    return image
