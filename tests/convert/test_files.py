"""Reading and writing files of weights. Tests that need torch skip without it: pip install 'dnr-jax[convert]'."""

import argparse
import collections
import io
import os
import pickle
import sys
import types
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
    (tmp_path / "a.pth").write_bytes(b"")
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


def test_names_that_say_nothing_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        read_weight_file(tmp_path / "none.pth")
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"ends in \.safetensors, \.pth"):
        read_weight_file(tmp_path / "a.npz")
    with pytest.raises(ConfigError, match="cannot write"):
        write_weight_file(tmp_path / "a.npz", STATE)


def test_what_others_write_as_safetensors_is_read(tmp_path):
    safetensors.numpy.save_file(STATE, tmp_path / "a.safetensors")
    found = read_weight_file(tmp_path / "a.safetensors")
    assert_same(found.state)
    assert not found.metadata
