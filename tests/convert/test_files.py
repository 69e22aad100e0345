"""Reading and writing files of weights. Tests that need torch skip without it: pip install 'dnr-jax[convert]'."""

import argparse
import bz2
import collections
import gzip
import io
import json
import lzma
import os
import pickle
import sys
import tarfile
import types
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from dnr_jax.config import ConfigError
from dnr_jax.convert import files
from dnr_jax.convert.files import read_weight_file, weights_of, write_weight_file

STATE = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn.running_var": np.array([1.5, 2.5], np.float64),
    "bn.num_batches_tracked": np.array(7),
}


def torch_or_skip():
    return pytest.importorskip("torch")


def tensors(state=STATE):
    torch = torch_or_skip()
    return collections.OrderedDict((key, torch.from_numpy(np.array(array))) for key, array in state.items())


def assert_same(state, expected=STATE):
    assert state.keys() == expected.keys()
    for key in expected:
        np.testing.assert_array_equal(state[key], expected[key], strict=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".pyth", ".pth.tar"])
def test_what_is_written_is_read(suffix, tmp_path):
    if suffix != ".safetensors":
        torch_or_skip()
    path = tmp_path / "new" / f"weights{suffix}"
    write_weight_file(path, STATE)
    assert_same(read_weight_file(path).state)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_views_are_written_in_their_own_order(tmp_path):
    write_weight_file(tmp_path / "a.safetensors", {"w": STATE["conv.weight"].T})
    assert_same(read_weight_file(tmp_path / "a.safetensors").state, {"w": STATE["conv.weight"].T})


def test_safetensors_keep_text_and_bfloat16(tmp_path):
    array = np.array([1.5, -3], ml_dtypes.bfloat16)
    write_weight_file(tmp_path / "a.safetensors", {"w": array}, {"naming": "own"})
    found = read_weight_file(tmp_path / "a.safetensors")
    assert found.metadata == {"naming": "own"}
    np.testing.assert_array_equal(found.state["w"], array, strict=True)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_torch_files_of_dtypes_that_numpy_lacks(dtype, tmp_path):
    torch = torch_or_skip()
    array = np.array([[1.5, -3], [0.25, 8]], dtype)
    write_weight_file(tmp_path / "a.pth", {"w": array})
    assert torch.load(tmp_path / "a.pth", weights_only=True)["w"].dtype == getattr(torch, array.dtype.name)
    np.testing.assert_array_equal(read_weight_file(tmp_path / "a.pth").state["w"], array.astype(np.float32))


def test_bfloat16_of_torch_becomes_float32(tmp_path):
    torch = torch_or_skip()
    torch.save({"w": torch.tensor([1.5, -3], dtype=torch.bfloat16)}, tmp_path / "a.pt")
    assert_same(read_weight_file(tmp_path / "a.pt").state, {"w": np.array([1.5, -3], np.float32)})


@pytest.mark.parametrize("legacy", [False, True])
def test_both_formats_of_torch_are_read(legacy, tmp_path):
    torch = torch_or_skip()
    torch.save(tensors(), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert_same(read_weight_file(tmp_path / "a.pth").state)


def test_parameters_are_tensors(tmp_path):
    torch = torch_or_skip()
    weight = torch.nn.Parameter(torch.ones(2, 3))
    torch.save({"w": weight}, tmp_path / "a.pth")
    assert_same(read_weight_file(tmp_path / "a.pth").state, {"w": np.ones((2, 3), np.float32)})


@pytest.mark.parametrize(
    ("wrapped", "entry", "ignored"),
    [
        (lambda t: t, "", ()),
        (lambda t: {"epoch": 3, "arch": "resnet", "state_dict": t, "best_prec1": 71.5}, "state_dict", 3),
        (
            lambda t: {"model_state": t, "cfg": "MODEL: {}", "optimizer_state": {"state": {0: {"m": t}}}},
            "model_state",
            2,
        ),
        (lambda t: {"meta": {"epoch": 1}, "state_dict_ema": t, "state_dict": t}, "state_dict", 2),
        (lambda t: {"unheard_of": t, "lr": 0.1}, "unheard_of", 1),
        (lambda t: {"runner": {"model": t}, "step": 5}, "runner.model", 1),
    ],
)
def test_wrappers_are_taken_off(wrapped, entry, ignored):
    found = weights_of(wrapped(STATE), "a.pth")
    assert_same(found.state)
    assert found.entry == entry
    assert len(found.ignored) == (ignored or 0)


def test_other_values_among_the_tensors_are_left_out():
    assert_same(weights_of(STATE | {"version": "1"}, "a.pth").state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "lr": 0.1}, "holds no mapping of names to tensors; it holds: epoch, lr"),
        ([1, 2], "holds no mapping of names to tensors; it holds: list"),
        ({"encoder": STATE, "decoder": STATE}, "several sets of named tensors: encoder, decoder"),
    ],
)
def test_files_without_one_state_dict_are_refused(content, message):
    with pytest.raises(ConfigError, match=message):
        weights_of(content, "a.pth")


class Attack:
    """What a hostile pickle does: calls a function while it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def hostile_pickle(victim) -> bytes:
    return pickle.dumps({"state_dict": Attack(victim)}, protocol=2)


def hostile_zip(victim) -> bytes:
    """The same in the form that torch.save gives to a file."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("archive/data.pkl", hostile_pickle(victim))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return written.getvalue()


@pytest.mark.parametrize("hostile", [hostile_pickle, hostile_zip])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pyth", ".pth.tar", ".bin", ".safetensors"])
def test_a_file_that_would_run_code_is_refused(hostile, suffix, tmp_path):
    """With torch its unpickler refuses; without it nothing is unpickled."""
    victim, path = tmp_path / "was_here", tmp_path / f"a{suffix}"
    path.write_bytes(hostile(victim))
    with pytest.raises(ConfigError):
        read_weight_file(path)
    assert not victim.exists()
    pickle.loads(hostile_pickle(victim))  # what the file would have done
    assert victim.is_dir()


def test_the_refusal_names_what_is_refused(tmp_path):
    torch_or_skip()
    (tmp_path / "a.pth").write_bytes(hostile_zip(tmp_path / "victim"))
    with pytest.raises(ConfigError, match=r"holds Python objects \(posix.mkdir\).*model.state_dict\(\)"):
        read_weight_file(tmp_path / "a.pth")


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch = torch_or_skip()
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"Python objects \(torch.nn.modules.linear.Linear\)"):
        read_weight_file(tmp_path / "a.pth")


def test_records_of_training_programs_are_not_made(tmp_path, monkeypatch):
    """MMEngine's checkpoints hold curves and numpy scalars beside the weights."""
    torch = torch_or_skip()
    made = []

    class HistoryBuffer:
        def __init__(self):
            self.history = np.arange(3.0)
            self.methods = collections.OrderedDict(mean=HistoryBuffer.mean)

        def mean(self):
            return self.history.mean()

        def __setstate__(self, state):
            made.append(state)

    module = types.ModuleType("mmengine.logging.history_buffer")
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    HistoryBuffer.mean.__module__, HistoryBuffer.mean.__qualname__ = module.__name__, "HistoryBuffer.mean"
    module.HistoryBuffer = HistoryBuffer
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    hub = {"scalars": {"loss": HistoryBuffer()}, "best": np.float64(0.7), "args": argparse.Namespace(lr=0.1)}
    torch.save({"state_dict": tensors(), "message_hub": hub}, tmp_path / "a.pth")
    found = read_weight_file(tmp_path / "a.pth")
    assert_same(found.state)
    assert found.ignored == ("message_hub",)
    assert not made


def test_without_torch_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2))
    for action in (lambda: read_weight_file(tmp_path / "a.pth"), lambda: files.check_target(tmp_path / "b.pt")):
        with pytest.raises(ConfigError, match=r"pip install 'dnr-jax\[convert\]'"):
            action()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_damaged_file_is_refused(name, tmp_path):
    if name.endswith("pth"):
        torch_or_skip()
    write_weight_file(tmp_path / name, STATE)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"'.*a\.\w+'"):
        read_weight_file(tmp_path / name)


def test_names_that_say_nothing_are_not_written(tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        read_weight_file(tmp_path / "none.pth")
    with pytest.raises(ConfigError, match="cannot write"):
        write_weight_file(tmp_path / "a.npz", STATE)


def test_what_others_write_as_safetensors_is_read(tmp_path):
    safetensors.numpy.save_file(STATE, tmp_path / "a.safetensors")
    found = read_weight_file(tmp_path / "a.safetensors")
    assert_same(found.state)
    assert not found.metadata


def zipped(**files: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return written.getvalue()


def tarred() -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return written.getvalue()


def numpy_file(save) -> bytes:
    written = io.BytesIO()
    save(written)
    return written.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 102530333\n" % (b"4d" * 32)
DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
WEIGHTS = safetensors.numpy.save(STATE)
STRANGERS = {
    "empty": (b"", "is empty"),
    "zeros": (bytes(5000), "begins with nothing but zeros"),
    "pointer": (POINTER, "is a Git LFS pointer: .* the file of 102,530,333 bytes. Get it with: git lfs pull"),
    "page": (b"<!DOCTYPE html><html><title>Sign in</title>", r'is a web page and no file of weights \("Sign in"\)'),
    "page of old": (b"\n <HTML><body>404</body></HTML>", "is a web page"),
    "denied": (DENIED, r'is a server\'s answer in XML and no file of weights \("AccessDenied"\)'),
    "json": (b'{"error": "not found"}', r'is JSON and no file of weights \("{"error": "not found"}"\)'),
    "broken json": (b"{", "is JSON and no file of weights"),
    "text": (b"Not Found\n", r'is a text file and no file of weights \("Not Found"\)'),
    "text pickle": (pickle.dumps({"a": 1}, protocol=0), "is a Python pickle and none of PyTorch's files"),
    "global": (b"cposix\nsystem\n(S'true'\ntR.", "is a Python pickle and none of PyTorch's files"),
    "script": (
        zipped(a__code__x_dot_py=b"", a__constants_dot_pkl=b"", a__data_dot_pkl=b""),
        "is a TorchScript archive",
    ),
    "npz": (numpy_file(lambda file: np.savez(file, **STATE)), r"is an archive of NumPy arrays \(.npz\)"),
    "npy": (numpy_file(lambda file: np.save(file, np.ones(3))), "is a single NumPy array"),
    "keras": (zipped(config_dot_json=b"{}", model_dot_weights_dot_h5=b""), "is a Keras model"),
    "zip": (zipped(readme=b"", weights_dot_pth=b""), "is a ZIP archive of readme, weights.pth; unpack it"),
    "cut zip": (zipped(a__data_dot_pkl=bytes(99))[:80], "is cut off: it begins as PyTorch's files do"),
    "cut safetensors": (WEIGHTS[:40], "is a safetensors file that is cut off"),
    "cut arrays": (WEIGHTS[:-8], "is no safetensors file, or is cut off"),
    "gzip": (gzip.compress(WEIGHTS), r"is compressed \(gzip\); unpack it"),
    "bzip2": (bz2.compress(WEIGHTS), r"is compressed \(bzip2\)"),
    "xz": (lzma.compress(WEIGHTS), r"is compressed \(xz\)"),
    "tar": (tarred(), "is a tar archive; unpack it"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file, as Keras writes"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0", "is an ONNX program"),
    "saved model": (b"\x08\x01\x12\xff\x04\x0a", "is a TensorFlow graph"),
    "checkpoint index": (
        b"\x00\x00\x00\x80\xff" + bytes(50) + bytes.fromhex("57fb808b247547db"),
        "TensorFlow checkpoint",
    ),
    "lite": (b"\x1c\x00\x00\x00TFL3" + bytes(9), "is a TensorFlow Lite program"),
    "gguf": (b"GGUF\x03\x00\x00\x00" + bytes(9), "is a GGUF file"),
    "video": (b"\x00\x00\x00\x20ftypisom", "is a video"),
    "picture": (b"\xff\xd8\xff\xe0" + bytes(9), "is a picture"),
    "noise": (b"\x01\x02\xfe\xff" + bytes(range(60)), "is no file of weights: it begins with the bytes 01 02 fe ff"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", STRANGERS)
def test_what_is_no_file_of_weights_is_named(kind, suffix, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # it takes no torch to tell
    content, message = STRANGERS[kind]
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^'.*a{suffix}' {message}|^'.*a{suffix}' is the index of a {message}"):
        read_weight_file(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("name", ["a.pth", "a.bin", "a", "a.h5"])
def test_the_bytes_say_what_a_file_is(name, tmp_path):
    (tmp_path / name).write_bytes(WEIGHTS)
    assert_same(read_weight_file(tmp_path / name).state)


def test_a_torch_file_of_another_name(tmp_path):
    torch_or_skip().save(tensors(), tmp_path / "a.safetensors")
    assert_same(read_weight_file(tmp_path / "a.safetensors").state)


def sharded(folder, **weight_map: str):
    keys = iter(STATE)
    for name in ("1.safetensors", "2.safetensors"):
        write_weight_file(folder / name, {key: STATE[key] for key in (next(keys),)})
    index = folder / "model.safetensors.index.json"
    shards = {"conv.weight": "1.safetensors", "bn.running_var": "2.safetensors"} | weight_map
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shards}))
    return index


def test_shards_are_read_by_their_index_and_by_their_folder(tmp_path):
    index, expected = sharded(tmp_path), {key: STATE[key] for key in ("conv.weight", "bn.running_var")}
    assert_same(read_weight_file(index).state, expected)
    assert_same(read_weight_file(tmp_path).state, expected)


def test_of_an_array_in_several_shards_the_one_that_the_index_names_counts(tmp_path):
    """As where a shard of an earlier, longer or shorter split is still in the folder."""
    index = sharded(tmp_path)
    other = {"bn.running_var": STATE["bn.running_var"], "conv.weight": np.zeros_like(STATE["conv.weight"])}
    write_weight_file(tmp_path / "2.safetensors", other)
    assert_same(read_weight_file(index).state, {key: STATE[key] for key in ("conv.weight", "bn.running_var")})


def test_arrays_in_the_other_order_of_bytes_are_written_for_torch(tmp_path):
    torch_or_skip()
    write_weight_file(tmp_path / "a.pth", {"conv.weight": STATE["conv.weight"].astype(">f4")})
    assert_same(read_weight_file(tmp_path / "a.pth").state, {"conv.weight": STATE["conv.weight"]})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"fc": "3.safetensors"}, "is the index of 3 files of weights, of which 1 are not beside it: 3.safetensors"),
        ({"fc": "2.safetensors"}, "lists arrays that its files do not hold: fc"),
        ({"fc": "../3.safetensors"}, "names shards outside its folder: ../3.safetensors"),
    ],
)
def test_shards_that_do_not_fit_their_index(entry, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        read_weight_file(sharded(tmp_path, **entry))


def test_folders(tmp_path):
    with pytest.raises(ConfigError, match="is a folder without a file of weights"):
        read_weight_file(tmp_path)
    write_weight_file(tmp_path / "a.safetensors", STATE)
    assert_same(read_weight_file(tmp_path).state)
    write_weight_file(tmp_path / "b.safetensors", STATE)
    with pytest.raises(ConfigError, match=r"several files of weights; name one of them: a.safetensors, b.safetensors"):
        read_weight_file(tmp_path)
    write_weight_file(tmp_path / "model.safetensors", {"w": STATE["conv.weight"]})
    assert_same(read_weight_file(tmp_path).state, {"w": STATE["conv.weight"]})


def test_a_folder_of_tensorflow(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ConfigError, match="holds a model of TensorFlow, whose files are not read"):
        read_weight_file(tmp_path)


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_floats_of_8_bits_are_read(dtype, tmp_path):
    state = {"w": np.array([[1.5, -3], [0, 2]], dtype), "b": np.ones(2, np.float32)}
    write_weight_file(tmp_path / "a.safetensors", state)
    assert_same(read_weight_file(tmp_path / "a.safetensors").state, state)


def test_tensors_of_other_kinds_become_numbers(tmp_path):
    torch = torch_or_skip()
    weight = torch.tensor([[1.5, -3.0], [0.0, 2.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what files of it still hold
        quantised = torch.quantize_per_tensor(weight, 0.5, 0, torch.qint8)
    state = {
        "quantised": quantised,
        "sparse": weight.to_sparse(),
        "float8": weight.to(torch.float8_e4m3fn),
        "view": weight.T,
        "tied": weight,
    }
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    found = read_weight_file(tmp_path / "a.pth").state
    assert_same(found, {key: weight.numpy().T if key == "view" else weight.numpy() for key in state})


def test_a_tensor_without_numbers_is_named(tmp_path):
    torch = torch_or_skip()
    torch.save({"w": torch.ones(2, device="meta")}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"'.*a.pth': w: a tensor of torch.float32 that cannot be read as numbers"):
        read_weight_file(tmp_path / "a.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_have_the_mode_of_other_new_files(suffix, tmp_path):
    if suffix == ".pth":
        torch_or_skip()
    usual = tmp_path / "usual"
    usual.touch()
    write_weight_file(tmp_path / f"a{suffix}", STATE)
    assert (tmp_path / f"a{suffix}").stat().st_mode == usual.stat().st_mode


def test_a_file_that_cannot_be_completed_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"), files.complete_file(path) as partial:
        partial.write_bytes(b"ne")
        raise OSError("disk full")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_others_made(shared, tmp_path):
    torch_or_skip()
    failing = shared / "failing"
    for name, message in {
        "git_lfs_pointer.pth": "is a Git LFS pointer",
        "html_page.pth": "is a web page",
        "torchscript.pt": "is a TorchScript archive",
    }.items():
        with pytest.raises(ConfigError, match=message):
            read_weight_file(failing / name)
    assert read_weight_file(failing / "fp8.safetensors").state["conv1.weight"].dtype == ml_dtypes.float8_e4m3fn
    assert read_weight_file(failing / "quantized.pth").state["conv1.weight"].dtype == np.float32


def test_a_small_archive_that_would_fill_the_memory_is_refused(tmp_path):
    torch_or_skip()
    write_weight_file(tmp_path / "a.pth", {"w": np.zeros(2**20, np.float32)})
    with zipfile.ZipFile(tmp_path / "a.pth") as stored:
        with zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in stored.namelist():
                packed.writestr(name, stored.read(name))
    with pytest.raises(files.ConversionError, match="b.pth' is an archive of .* MB that unpacks to 4.*MB"):
        read_weight_file(tmp_path / "b.pth")
