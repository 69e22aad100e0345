"""The benchmarks run, at a reduced size, and what they compare is the same."""

import json
import pathlib
import runpy
import sys

import pytest

from tests.training.tiny import shrink_resnet18

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.slow


def run(monkeypatch, name: str, *arguments: str) -> None:
    """Run a benchmark as a command does."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(BENCHMARKS / name), run_name="__main__")


def test_pytorch_computes_the_same_network(monkeypatch, tmp_path):
    pytest.importorskip("torch", reason="the benchmark compares with PyTorch")
    shrink_resnet18(monkeypatch)
    size = ["--networks", "tiny", "--norms", "dnr", "--dtypes", "float32", "--rounds", "1"]
    run(monkeypatch, "versus_torch.py", *size, "--json", str(tmp_path / "rows.json"))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["step"] for row in rows] == ["train", "eval"]
    for row in rows:
        assert float(row["difference"]) < 1e-4
        assert row["contiguous / ours"] > 0 and row["channels_last / ours"] > 0
