import json

from dnr_jax.reproduce import report
from dnr_jax.reproduce.accelerators import accelerators_section


def measured(seconds: float) -> dict:
    return {
        "seconds": seconds,
        "clips a second": 32 / seconds,
        "of peak": 0.4,
        "trace + compile (s)": 20.0,
        "memory (GiB)": 11.5,
    }


def results() -> dict:
    """What the benchmark writes, with one row of each kind and one that failed."""
    pair = {
        f"{norm} {step}": measured(0.1 if norm == "bn" else 0.11)
        for norm in ("bn", "dnr")
        for step in ("train", "eval")
    }
    beside = {"clips a second": 300.0, "PyTorch / ours": 1.07}
    torch_key = {"network": "tsn_r50", "norm": "dnr", "dtype": "bfloat16", "batch": 32, "layout": "compiled"}
    return {
        "machine": {
            "device": "A device",
            "platform": "gpu",
            "devices": 1,
            "versions": {"jax": "1.2"},
            "XLA_FLAGS": "--xla_some=1",
            "compiler options": {"xla_other": "2"},
        },
        "steps in flight": 5,
        "correctness": [
            {"what": "max pooling", "dtype": "float32", "error": 2e-7, "passed": True},
            {"what": "3x3 convolution", "dtype": "bfloat16", "error": 0.3, "passed": False},
        ],
        "peaks": {"bfloat16": 6.5e14},
        "steps": [
            {"network": "tsn_r50", "dtype": "bfloat16", "batch": 32, **pair, "DNR / BN": {"train": 1.1, "eval": 1.0}},
            {"network": "tsn_r50", "dtype": "float32", "batch": 64, "failed": "out of memory"},
            {"network": "tsn_r18", "dtype": "float32", "batch": 32, **pair, "DNR / BN": {"train": 1.1, "eval": 1.0}}
            | {"bn eval": measured(0.01)},
        ],
        "torch": [torch_key | {"train": beside, "eval": beside}],
        "largest batch": [
            torch_key | {"remat": "block", "MiB a clip": 500.0, "predicted": 140, "ran": 136, "tried up to": 1024}
        ],
        "profile": [
            {"norm": "dnr", "operation": "convolution", "calls": 3, "seconds": 0.05, "share": 0.5},
            {"norm": "dnr", "operation": 100 * "k", "calls": 1, "seconds": 0.01, "share": 0.1},
        ],
        "skipped": ["slowfast_r50, float32, batch 64"],
    }


def test_a_section_has_a_table_of_each_part(tmp_path):
    (tmp_path / "device.json").write_text(json.dumps(results()))
    section = accelerators_section([tmp_path / "device.json"])
    for line in (
        "### A device\n\n1 x gpu, jax 1.2. XLA's options: `--xla_some=1`, `xla_other=2`.",
        "2e-07 in float32; 3e-01 in bfloat16",
        "Too far: 3x3 convolution in bfloat16.",
        "in TFLOP/s: 650 in bfloat16",
        "| tsn_r50 | bfloat16 | 32 | BN | train | 320 | 40% |  | 11.5 | 20 |",
        "| tsn_r50 | bfloat16 | 32 | DNR | train | 291 | 40% | 1.100 | 11.5 | 20 |",
        "| tsn_r18 | float32 | 32 | BN | eval | 3200 | 40% |  | 11.5 | 20 |",
        "| tsn_r50 | bfloat16 | 32 | DNR | compiled | 1.07 | 1.07 |",
        "| tsn_r50 | dnr | bfloat16 | block | 136 | 500 |",
        "in turn; 5 steps are started before one is waited for.",
        "Where the time of a DNR train step goes: 100 ms in all operations.",
        "| `convolution` | 3 | 50.0% |",
        f"| `{60 * 'k'}...` | 1 | 10.0% |",
        "Failed: tsn_r50, float32, 64 (out of memory).",
        "Not measured, because the time was up: slowfast_r50, float32, batch 64.",
    ):
        assert line in section, line


def test_steps_of_files_that_do_not_say_otherwise_were_waited_for_one_by_one(tmp_path):
    older = results()
    del older["steps in flight"], older["machine"]["XLA_FLAGS"], older["machine"]["compiler options"]
    (tmp_path / "device.json").write_text(json.dumps(older))
    section = accelerators_section([tmp_path / "device.json"])
    assert "each step is waited for" in section and "XLA's options: its defaults." in section


def test_what_was_not_measured_is_left_out(tmp_path):
    kept = {key: value for key, value in results().items() if key in ("machine", "correctness")}
    (tmp_path / "device.json").write_text(json.dumps(kept))
    section = accelerators_section([tmp_path / "device.json"])
    assert "| " not in section and "PyTorch" not in section
    assert "Without any figure: steps, torch, profile, largest batch." in section
    assert accelerators_section([]) == ""


def test_committed_files_become_a_section_of_the_page(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "1_costs.md.part").write_text("## Costs\n")
    assert report.committed(tmp_path) == ([], ["## Costs\n"])
    (folder / "accelerator_a_device.json").write_text(json.dumps(results()))
    _, sections = report.committed(tmp_path)
    assert sections == ["## Costs\n", accelerators_section([folder / "accelerator_a_device.json"])]
    assert "### A device" in report.page([], sections)
