"""The benchmarks run, at a reduced size, and what they compare is the same."""

import json
import pathlib
import runpy
import sys

import jax
import numpy as np
import pytest

from dnr_jax.config import load_config, to_json
from dnr_jax.models import create_model
from dnr_jax.models.complexity import abstract_variables, count_parameters
from dnr_jax.reproduce.accelerators import accelerators_section
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


def test_an_accelerator_is_measured_part_by_part(monkeypatch, tmp_path):
    shrink_resnet18(monkeypatch)
    path = tmp_path / "device.json"
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, "accelerator.py", "--smoke", "--minutes", "0", "--out", str(path))  # a row of each part
    assert end.value.code == 0
    results = json.loads(path.read_text())
    (correct,), (steps,) = (results[part] for part in ("correctness", "steps"))
    assert correct["passed"] and correct["error"] < 1e-5
    assert 0 < steps["dnr train"]["of peak"] and 0 < steps["DNR / BN"]["train"]
    assert "largest batch, remat=block" in results["skipped"]  # of which it is known how long compiling takes
    assert {row["norm"] for row in results["profile"]} == {"bn"}
    assert sum(row["share"] for row in results["profile"]) == pytest.approx(1, abs=0.1)
    assert all(row["calls"] >= 1 for row in results["profile"])
    assert "3x3 convolution, float32" in results["skipped"]
    section = accelerators_section([path])
    assert "| tsn_r18 | bfloat16 | 2 | DNR | train |" in section
    with pytest.raises(SystemExit):
        run(monkeypatch, "accelerator.py", "--smoke", "--minutes", "0", "--parts", "largest batch", "--out", str(path))
    (first,) = json.loads(path.read_text())["largest batch"]
    assert first["ran"] == first["tried up to"] == 8


def test_compiling_is_timed_by_phase(monkeypatch, tmp_path):
    run(monkeypatch, "compile_time.py", "--networks", "tiny", "--steps", "eval", "--json", str(tmp_path / "rows.json"))
    bn, dnr = json.loads((tmp_path / "rows.json").read_text())
    assert (bn["norm"], dnr["norm"]) == ("bn", "dnr") and bn["ratio"] == 1
    for row in (bn, dnr):
        assert row["total"] == pytest.approx(row["trace"] + row["lower"] + row["compile"])
        assert 0 < row["distinct"] < row["fusions"]
    assert dnr["ratio"] == pytest.approx(dnr["total"] / bn["total"])
    assert dnr["fusions"] > bn["fusions"]  # those of the relays


def test_a_run_of_steady_pace_takes_as_long_as_its_beginning_told(monkeypatch, tmp_path, capsys):
    """100 steps of a second, the first with 9 s of compiling; evaluations of 3 s after every 10."""
    config = load_config("demo")
    config.train.steps, config.train.eval_every, config.model.num_classes = 100, 10, 8
    (tmp_path / "config.json").write_text(to_json(config))
    rows, waited = [], 9
    for step in range(5, 105, 5):
        time = {"seconds": 5 + waited, "evaluation": waited if step > 5 else 0, "checkpoint": 0}
        rows.append({"kind": "train", "step": step, "epoch": step / 60, "time": time})
        waited = 0 if step % 10 else 3
        if waited:
            rows.append({"kind": "validation", "step": step, "videos": 120, "time": {"seconds": 3}})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(monkeypatch, "planned_time.py", str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.endswith("139 s told, 139 s taken; ratio 1.000") for line in lines)


def test_fused_operations_that_differ_in_names_alone_are_one(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    fusions = runpy.run_path(str(BENCHMARKS / "compile_time.py"))["fusions"]
    body = "%f{0} (p: f32[2]) -> f32[2] {{\n  %p.{0} = f32[2] parameter(0)\n"
    body += "  ROOT %a = f32[2] {1}(%p.{0}), metadata={{x}}\n}}\n"
    called = "  %v{0} = f32[2] fusion(%x), kind=kLoop, calls=%f{0}\n"
    text = body.format(1, "sine") + body.format(2, "sine") + body.format(3, "cosine")
    text += "ENTRY %main (x: f32[2]) -> f32[2] {\n" + "".join(called.format(i) for i in (1, 2, 3)) + "}\n"
    assert fusions(text) == {"fusions": 3, "distinct": 2}


def test_what_relays_learn_is_looked_at_before_amid_and_after_training(monkeypatch, capsys):
    run(monkeypatch, "relay_learning.py", "--rows", "bn_interlace", "dnr", "--seeds", "1", "--steps", "4")
    gradients, scales, top1 = capsys.readouterr().out.split("Relative gradient")[1].split("\n\n|")[1:]
    convolutions = [f"| bn_interlace | {step} | convolutions |" for step in (0, 2, 4)]
    cells = [
        f"| dnr | {step} | {kind} |" for step in (0, 2, 4) for kind in ("cell of CL", "cells of CT", "convolutions")
    ]
    assert [line.rpartition(" | ")[0].rsplit(" | ", 3)[0] + " |" for line in gradients.splitlines()[2:-2]] == [
        *convolutions,
        *cells,
    ]
    first = next(line for line in scales.splitlines() if line.startswith("| dnr | 0 |")).split("|")[4:8]
    assert all(0.2 < float(cell.split(";")[0]) < 0.3 for cell in first)  # a product of two sigmoids of small numbers
    assert [line.split(" | ")[0] for line in top1.splitlines()[2:]] == ["| bn_interlace", "| dnr"]


def test_relative_gradients_and_spreads_are_of_kinds_and_stages(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = runpy.run_path(str(BENCHMARKS / "relay_learning.py"))
    params = {
        "backbone": {
            "conv1": {"kernel": np.full(3, 9.0)},  # of no stage
            "layer1": {
                "relay1": {"kernel": np.array([3.0, 4.0])},
                "block0": {"conv1": {"kernel": np.array([6.0])}, "norm2": {"relay": {"bias": np.array([2.0])}}},
                "block1": {"conv2": {"kernel": np.array([8.0])}},
            },
        }
    }
    gradient = jax.tree.map(lambda leaf: leaf / 10, params)
    gradient["backbone"]["layer1"]["relay1"]["kernel"] = np.array([0.0, 1.0])
    assert module["relative"](gradient, params) == {
        ("cell of CL", "1"): pytest.approx(0.2),
        ("convolutions", "1"): pytest.approx(0.1),
        ("cells of CT", "1"): pytest.approx(0.1),
    }
    scale = np.array([[[0.2, 1.0]], [[0.6, 1.0]]])  # two clips, a group, two channels
    scales = {"backbone/layer2/block0/norm1": scale, "backbone/layer2/block1/norm1": np.ones((2, 1, 2))}
    assert module["scales_of"](scales) == {("cell of CL", "2"): pytest.approx((0.85, 0.125))}


def test_every_variant_whose_cost_is_measured_can_be_built(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    variants = runpy.run_path(str(BENCHMARKS / "norm_overhead.py"))["VARIANTS"]
    parameters = {
        name: count_parameters(abstract_variables(create_model(config), (8, 32, 32, 3)))
        for name, config in variants.items()
    }
    assert parameters["interlace bn"] == parameters["bn"] < parameters["cl"] < parameters["dnr"]


def test_what_interlacing_costs_is_measured_in_turn(monkeypatch, tmp_path):
    shrink_resnet18(monkeypatch)
    size = ["--depth", "18", "--size", "16", "--frames", "4", "--batch", "1", "--rounds", "1"]
    run(monkeypatch, "norm_overhead.py", "--variants", "bn", "interlace bn", *size, "--json", str(tmp_path / "rows"))
    base, interlaced = json.loads((tmp_path / "rows").read_text())
    assert base["train ratio"] > 0 and interlaced["eval ratio"] > 0
    assert interlaced["parameters"] == base["parameters"]
