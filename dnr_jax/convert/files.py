"""Files of weights: PyTorch checkpoints and safetensors, read without running anything that is in them, and written.

PyTorch checkpoints are pickles, which are programs. They are read by ``torch.load(weights_only=True)``, whose unpickler
builds tensors and plain containers and refuses everything else. safetensors files hold arrays alone.
"""

import contextlib
import dataclasses
import os
import pathlib
import pickle
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from dnr_jax.convert.state_dict import StateDict
from dnr_jax.models.naming import ConversionError

TORCH_SUFFIXES = (".pth", ".pt", ".pyth", ".pth.tar", ".ckpt", ".bin")
SAFETENSORS_SUFFIX = ".safetensors"
_ENDINGS = ", ".join((SAFETENSORS_SUFFIX, *TORCH_SUFFIXES))
STATE_ENTRIES = ("state_dict", "model_state", "model_state_dict", "model", "module", "net", "params", "state_dict_ema")
"""Entries under which training programs keep the weights, the one to take first where there are several."""


@dataclasses.dataclass(frozen=True, eq=False)
class WeightFile:
    """What a file of weights holds.

    Attributes:
      state: arrays under the names and in the layouts of the program that wrote the file.
      entry: the file's entry that they were found in, ``state_dict`` say; empty where the file holds nothing else.
      ignored: the file's other entries, such as ``optimizer``.
      metadata: text beside the arrays of a safetensors file.
    """

    state: StateDict
    entry: str = ""
    ignored: tuple[str, ...] = ()
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_weight_file(path: str | os.PathLike[str]) -> WeightFile:
    """Read a PyTorch checkpoint (``.pth``, ``.pt``, ``.pyth``, ...) or a ``.safetensors`` file.

    In a checkpoint the weights are the entry that holds named tensors; optimiser state and other records are ignored.

    Args:
      path: the file.

    Raises:
      ConversionError: where there is no such file, where torch is needed and not installed, where the file holds Python
        objects beside tensors and plain containers, or no weights.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ConversionError(f"there is no file '{path}'")
    if path.suffix == SAFETENSORS_SUFFIX:
        return _read_safetensors(path)
    if path.name.endswith(TORCH_SUFFIXES):
        return weights_of(_read_torch(path), str(path))
    raise ConversionError(f"'{path}' is no file of weights by its name; expected one that ends in {_ENDINGS}")


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise ConversionError where :func:`write_weight_file` could not write a file of this name."""
    path = pathlib.Path(path)
    if path.name.endswith(TORCH_SUFFIXES):
        _torch(path)
    elif path.suffix != SAFETENSORS_SUFFIX:
        raise ConversionError(f"cannot write '{path}': the name of a file of weights ends in {_ENDINGS}")


def _read_safetensors(path: pathlib.Path) -> WeightFile:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return WeightFile({key: file.get_tensor(key) for key in file.keys()}, metadata=file.metadata() or {})
    except safetensors.SafetensorError as error:
        raise ConversionError(f"'{path}' is no safetensors file: {error}") from error


class Record:
    """Stands in for an object of a training program, which is not made: takes any arguments and any state."""

    def __init__(self, *args: object) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""


RECORDS = (
    # The curves that MMEngine keeps in a checkpoint, with what it takes to pickle them.
    "mmengine.logging.history_buffer.HistoryBuffer",
    "builtins.getattr",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"numpy.{name}" for name in ("ndarray", "dtype")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")),
    "_codecs.encode",
    "argparse.Namespace",
)
"""What well-known training programs write beside the weights; read as :class:`Record` and dropped."""


def _torch(path: pathlib.Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ConversionError(
            f"'{path}' is a PyTorch file, which needs torch: pip install 'dnr-jax[convert]'"
        ) from error
    return torch


def _read_torch(path: pathlib.Path) -> Any:
    """Return what a PyTorch file holds: tensors in plain containers."""
    torch = _torch(path)
    try:
        with torch.serialization.safe_globals([(type(name, (Record,), {}), name) for name in RECORDS]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        what = f"Python objects ({found[1]})" if found else "something other than tensors in plain containers"
        raise ConversionError(
            f"'{path}' holds {what}. Making them could run code, so the file was not read. Where you trust its "
            "source, save the tensors alone in the program that wrote it: torch.save(model.state_dict(), path)"
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise ConversionError(f"'{path}' is no PyTorch file, or is damaged: {error}") from error


def weights_of(content: Any, name: str) -> WeightFile:
    """Find the state dict in what a PyTorch file holds.

    Args:
      content: tensors in containers.
      name: of the file, for messages.

    Raises:
      ConversionError: where no entry, or no one entry, holds named tensors.
    """
    found = dict(_state_dicts(content))
    if not found:
        held = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise ConversionError(f"'{name}' holds no mapping of names to tensors; it holds: {held or 'nothing'}")
    known = [entry for known in STATE_ENTRIES for entry in found if entry.rpartition(".")[2] == known]
    if "" in found:
        entry = ""
    elif known:
        entry = known[0]
    elif len(found) == 1:
        (entry,) = found
    else:
        raise ConversionError(
            f"'{name}' holds several sets of named tensors: {', '.join(found)}; save one of them alone"
        )
    others = content if entry else ()
    state = {key: _array(value) for key, value in found[entry].items() if _is_tensor(value)}
    return WeightFile(state, entry, tuple(str(key) for key in others if str(key) != entry.partition(".")[0]))


def _state_dicts(content: Any, prefix: str = "", depth: int = 3) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the mappings whose keys are text and in which tensors are the rule, by the path that leads to them."""
    if not isinstance(content, Mapping) or not content or not depth or not all(isinstance(k, str) for k in content):
        return
    if 2 * sum(map(_is_tensor, content.values())) > len(content):
        yield prefix, content
        return
    for key, value in content.items():
        yield from _state_dicts(value, f"{prefix}.{key}" if prefix else key, depth - 1)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") or isinstance(value, np.ndarray)


def _array(tensor: Any) -> np.ndarray:
    if isinstance(tensor, np.ndarray):
        return tensor
    tensor = tensor.detach()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def write_weight_file(
    path: str | os.PathLike[str], state: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays as a safetensors file or, by the ending of its name, as a PyTorch checkpoint.

    The file appears under its name when it is complete.

    Args:
      path: the file; missing folders are made.
      state: the arrays.
      metadata: text beside the arrays of a safetensors file.

    Raises:
      ConversionError: for another ending, or where torch is needed and not installed.
    """
    check_target(path)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {key: np.array(array, order="C") for key, array in state.items()}
    partial = path.with_name(f".{path.name}.partial")
    with contextlib.ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        if path.suffix == SAFETENSORS_SUFFIX:
            safetensors.numpy.save_file(arrays, partial, dict(metadata or {}))
        else:
            torch = _torch(path)
            torch.save({key: torch.from_numpy(array) for key, array in arrays.items()}, partial)
        partial.replace(path)
