"""Files of weights: PyTorch checkpoints and safetensors, read without running anything that is in them, and written.

PyTorch checkpoints are pickles, which are programs. They are read by ``torch.load(weights_only=True)``, whose unpickler
builds tensors and plain containers and refuses everything else. safetensors files hold arrays alone. Which of them a
file is, its bytes say and not its name.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from dnr_jax.convert.filekinds import INDEX, SAFETENSORS, kind_of
from dnr_jax.convert.state_dict import StateDict
from dnr_jax.models.naming import ConversionError

TORCH_SUFFIXES = (".pth", ".pt", ".pyth", ".pth.tar", ".ckpt", ".bin")
SAFETENSORS_SUFFIX = ".safetensors"
_ENDINGS = ", ".join((SAFETENSORS_SUFFIX, *TORCH_SUFFIXES))
STATE_ENTRIES = (
    "state_dict",
    "model_state",
    "model_state_dict",
    "model",
    "module",
    "net",
    "params",
    "state_dict_ema",
    "ema_state_dict",
    "model_ema",
    "ema",
)
"""Entries under which training programs keep the weights, the one to take first where there are several."""
_MOST_UNPACKED = 20
"""How many times the size of an archive its contents may have; weights that somebody compressed have two."""
_FLOAT8 = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}
FOLDER_FILES = (
    "weights.safetensors",
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
"""Files of weights in the folders that ``dnr export`` and Hugging Face's programs write, the one to take first."""


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
    """Read a PyTorch checkpoint, a safetensors file, or the JSON index of a file of weights in several shards.

    In a checkpoint the weights are the entry that holds named tensors; optimiser state and other records are ignored.
    Quantised and sparse tensors become the numbers that they stand for; bfloat16 and 8-bit floats of PyTorch float32.

    Args:
      path: the file. What it is, its bytes say, whatever its name is.

    Raises:
      ConversionError: where there is no such file, where it is something else, saying what, where torch is needed and
        not installed, where the file holds Python objects beside tensors and plain containers, or no weights.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return read_weight_file(file_in(path))
    if not path.is_file():
        raise ConversionError(f"there is no file '{path}'")
    try:
        kind = kind_of(path)
    except ValueError as error:
        raise ConversionError(f"'{path}' {error}") from error
    except OSError as error:
        raise ConversionError(f"'{path}' cannot be read: {error.strerror}") from error
    if kind == INDEX:
        return _read_shards(path)
    return _read_safetensors(path) if kind == SAFETENSORS else weights_of(_read_torch(path), str(path))


def file_in(folder: pathlib.Path) -> pathlib.Path:
    """Return the file of weights in a folder of ``dnr export`` or of Hugging Face's programs.

    Raises:
      ConversionError: where there is none, or several of other names.
    """
    for name in FOLDER_FILES:
        if (folder / name).is_file():
            return folder / name
    if (folder / "saved_model.pb").is_file() or list(folder.glob("*.ckpt.index")):
        raise ConversionError(f"'{folder}' holds a model of TensorFlow, whose files are not read")
    found = sorted(path for path in folder.iterdir() if path.name.endswith((SAFETENSORS_SUFFIX, *TORCH_SUFFIXES)))
    if len(found) != 1:
        held = ", ".join(path.name for path in found)
        raise ConversionError(
            f"'{folder}' is a folder with several files of weights; name one of them: {held}"
            if found
            else f"'{folder}' is a folder without a file of weights ({_ENDINGS}), and no run"
        )
    return found[0]


def _read_shards(path: pathlib.Path) -> WeightFile:
    shards = json.loads(path.read_text())["weight_map"]
    names = sorted(set(map(str, shards.values())))
    if outside := [name for name in names if pathlib.PurePath(name).name != name]:
        raise ConversionError(f"'{path}' names shards outside its folder: {', '.join(outside)}")
    if absent := [name for name in names if not (path.parent / name).is_file()]:
        raise ConversionError(
            f"'{path}' is the index of {len(names)} files of weights, of which {len(absent)} are not beside it: "
            f"{', '.join(absent[:5])}"
        )
    state: StateDict = {}
    for name in names:
        held = read_weight_file(path.parent / name).state
        # Of an array that several files hold, the one that the index says counts.
        state |= {key: array for key, array in held.items() if shards.get(key, name) == name}
    if missing := [key for key in shards if key not in state]:
        raise ConversionError(f"'{path}' lists arrays that its files do not hold: {', '.join(missing[:5])}")
    return WeightFile(state)


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
            kinds = {key: file.get_slice(key).get_dtype() for key in file.keys()}
            unread = {key for key, kind in kinds.items() if kind in _FLOAT8}
            state = {key: file.get_tensor(key) for key in kinds if key not in unread}
            metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ConversionError(f"'{path}' is no safetensors file, or is cut off: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ConversionError(
            f"'{path}' holds numbers of kinds that NumPy lacks: {', '.join(sorted(set(kinds.values())))}"
        ) from error
    if unread:
        for key, tensor in safetensors.deserialize(path.read_bytes()):
            if key in unread:
                state[key] = np.frombuffer(tensor["data"], _FLOAT8[tensor["dtype"]]).reshape(tensor["shape"])
    return WeightFile({key: state[key] for key in kinds}, metadata=metadata)


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


def _check_unpacked(path: pathlib.Path) -> None:
    """Raise ConversionError where a small archive would fill the memory; PyTorch itself writes without compression."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:  # PyTorch's older files are none; of damaged ones PyTorch says what is wrong
        return
    size = path.stat().st_size
    if unpacked > _MOST_UNPACKED * size:
        raise ConversionError(
            f"'{path}' is an archive of {size / 1e6:.3g} MB that unpacks to {unpacked / 1e6:.3g} MB, which no file of "
            "weights does"
        )


def _read_torch(path: pathlib.Path) -> Any:
    """Return what a PyTorch file holds: tensors in plain containers."""
    torch = _torch(path)
    _check_unpacked(path)
    try:
        with torch.serialization.safe_globals([(type(name, (Record,), {}), name) for name in RECORDS]):
            # Opened here, as torch takes a name for a kind; its warnings are about kinds of storage that it deprecates.
            with warnings.catch_warnings(), path.open("rb") as file:
                warnings.simplefilter("ignore")
                return torch.load(file, map_location="cpu", weights_only=True)
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
    state = {key: _array(value, f"'{name}': {key}") for key, value in found[entry].items() if _is_tensor(value)}
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


def _array(tensor: Any, name: str) -> np.ndarray:
    if isinstance(tensor, np.ndarray):
        return tensor
    try:
        tensor = tensor.detach()
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        tensor = tensor.to_dense() if str(tensor.layout) != "torch.strided" else tensor
        kind = str(tensor.dtype).removeprefix("torch.")
        return (tensor.float() if kind == "bfloat16" or kind.startswith("float8") else tensor).resolve_conj().numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ConversionError(f"{name}: a tensor of {tensor.dtype} that cannot be read as numbers: {error}") from error


def _tensor(torch: Any, array: np.ndarray) -> Any:
    """Return an array as a tensor, by way of its bits where its dtype is one that NumPy itself lacks."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # torch takes no other order of bytes
    if array.dtype.isbuiltin != 2:
        return torch.from_numpy(array)
    bits = torch.from_numpy(array.view(f"uint{8 * array.itemsize}"))
    return bits.view(getattr(torch, array.dtype.name))


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
    arrays = {key: np.array(array, order="C") for key, array in state.items()}
    with complete_file(path) as partial:
        if pathlib.Path(path).suffix == SAFETENSORS_SUFFIX:
            safetensors.numpy.save_file(arrays, partial, dict(metadata or {}))
        else:
            torch = _torch(partial)
            torch.save({key: _tensor(torch, array) for key, array in arrays.items()}, partial)


@contextlib.contextmanager
def complete_file(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Give a file to write that takes its name when it is complete, and is gone where writing it fails.

    Args:
      path: the name that the file gets; missing folders are made. A file of that name is replaced. The file has the
        mode of other new files, whatever its writer gives it (safetensors: readable by its owner alone).
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
