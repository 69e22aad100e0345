"""What a plan tells of a run, against runs and against figures by hand."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from dnr_jax import cli, plan_command
from dnr_jax.config import ConfigError, ExperimentConfig, to_json
from dnr_jax.data.catalogue.sources import Folder
from dnr_jax.runs import devices
from dnr_jax.runs.devices import along_batch, make_mesh, replicated
from dnr_jax.training import plan, target_gpus
from dnr_jax.training.collectives import Collective, read_collectives
from dnr_jax.training.ema import EMA
from dnr_jax.training.plan import Disk, Length, Memory, Pace, Step, Time
from tests.training import tiny

HLO = """
HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %in.loop = (f32[8,4]{1,0}, bf16[2]{0}) all-reduce(%x, %y), replica_groups={{0,1},{2,3}}, to_apply=%add
}

%condition (p: (s32[], f32[8,4])) -> pred[] {
  ROOT %less = pred[] compare(%a, %b), direction=LT
}

ENTRY %main (p0: f32[4]) -> f32[16] {
  %loop = (s32[], f32[8,4]) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %single = f32[7]{0} all-reduce(%z), replica_groups=[4,1]<=[4], to_apply=%add
  %begun = (f32[4]{0}, f32[16]{0}) all-gather-start(%p0), replica_groups=[1,4]<=[4], dimensions={0}
  %done = f32[16]{0} all-gather-done(%begun)
  ROOT %parts = f32[5]{0} reduce-scatter(%w), replica_groups={}, dimensions={0}, to_apply=%add
}
"""


def test_collectives_are_read_with_their_loops_groups_and_bytes():
    found = read_collectives(HLO, 4)
    reduced = 3 * (8 * 4 * 4 + 2 * 2)
    assert found == [
        Collective("all-reduce", 2, 3, reduced),
        Collective("reduce-scatter", 4, 1, 4 * 5 * 4),
        Collective("all-gather", 4, 1, 16 * 4),
    ]
    assert [entry.sent for entry in found] == [reduced, 60, 48]  # 2 * 1/2, 3/4, 3/4


def test_the_collectives_of_a_program_are_those_that_it_needs():
    mesh = make_mesh(jax.devices()[:4])

    def sums(x: jax.Array) -> jax.Array:
        def add(total: jax.Array, _: None) -> tuple[jax.Array, None]:
            return total + jnp.sum(x * total[None], axis=0), None

        return jax.lax.scan(add, jnp.ones(6), length=3)[0]

    x = jax.ShapeDtypeStruct((8, 6), jnp.float32, sharding=along_batch(mesh))
    hlo = jax.jit(sums, out_shardings=replicated(mesh)).lower(x).compile().as_text()
    assert read_collectives(hlo, 4) == [Collective("all-reduce", 4, 3, 3 * 6 * 4)]


def step_of(batch: int, fixed: int = 1000, clip: int = 10) -> Step:
    memory = Memory(100, 20, 200, 0, batch, fixed - 320 + (clip - 1) * batch)
    return Step(batch, 25, memory, 4096, ())


def test_the_largest_batch_lies_on_the_line_through_two():
    assert plan.largest_batch(step_of(64), step_of(32), 2000, 8) == 96
    assert plan.largest_batch(step_of(64), step_of(32), 1079, 8) == 0
    config = tiny.tiny_config("", accumulate=2)
    assert plan.smallest_batch(config, 4) == 8
    config.model.norm.base.clips_per_statistics = 3
    assert plan.smallest_batch(config, 4) == 24


def test_a_remedy_is_what_fits_when_it_is_compiled():
    config, tried = tiny.tiny_config("", batch_size=64), []

    def compiled(other: ExperimentConfig, mesh) -> Step:
        tried.append((other.train.batch_size, other.train.accumulate, other.model.remat, other.model.dtype))
        assert devices.state_devices(mesh) == other.train.fsdp_devices
        saved = (other.model.remat == "block") + (other.train.fsdp_devices == 8)
        return step_of(other.train.batch_size // other.train.accumulate, fixed=1000 - 400 * saved)

    found = plan.remedies(config, jax.devices()[:8], 1250, 24, compiled)
    assert [(remedy.flags, remedy.memory) for remedy in found] == [
        ("--config.train.batch_size=24", 1240),
        ("--config.train.accumulate=4", 1160),
        ("--config.model.remat=block", 1240),
        ("--config.train.fsdp_devices=8", 1240),
    ]
    assert tried[3] == (64, 1, "none", "bfloat16")  # does not fit here
    (together,) = plan.remedies(config, jax.devices()[:8], 900, 0, compiled)
    assert together.flags == ("--config.model.remat=block --config.model.dtype=bfloat16 --config.train.fsdp_devices=8")


def test_the_length_of_a_run_has_its_evaluations():
    config = tiny.tiny_config("", steps=0, epochs=3, eval_every=0)
    assert plan.measure_length(config, 13, 7) == Length(13, 7, 3, 9, 3, 0)
    config.train.eval_every, config.evaluation.clips, config.evaluation.crops = 4, 10, 3
    assert plan.measure_length(config, 13, 7) == Length(13, 7, 3, 9, 3, 30)


def test_time_and_disk_follow_from_pace_and_length():
    config, length = tiny.tiny_config("", batch_size=4), Length(40, 20, 10, 100, 5, 0)
    assert plan.predict_time(config, length, Pace(1.2, 0.5, 7.0)) == Time(12.0, 127.0, 50.0)
    assert plan.predict_time(config, length, Pace(1.2)).run == pytest.approx(120 + 0.1 * 20 * 5)
    config.evaluation.crop_size = 2 * config.data.crop_size
    seen = plan.predict_time(config, dataclasses.replace(length, views=30), Pace(1.2))
    assert seen.evaluation == pytest.approx(0.1 * 20 * (5 + 30 * 4))
    config.model.num_classes = 3
    assert plan.predict_disk(config, step_of(4), length, 5) == Disk(4096, 3 * 4096, 55 * 1024 + 4 * 20 * 4, 5)


def test_the_bytes_of_videos_are_estimated_from_some(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "_SAMPLED", 2)
    for number, size in enumerate((10, 999, 30)):
        for split in ("train", "val"):
            file = tmp_path / split / "a" / f"{number}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x" * size)
    source = Folder(str(tmp_path)).load_split("train")
    assert plan.bytes_of(source) == 60
    for file in (tmp_path / "train" / "a").iterdir():
        file.unlink()
    assert plan.bytes_of(source) is None


def write_rows(folder: pathlib.Path, config: ExperimentConfig, seconds: tuple[float, ...]) -> pathlib.Path:
    folder.mkdir()
    (folder / "config.json").write_text(to_json(config))
    times = [{"seconds": value, "evaluation": 1.0, "checkpoint": 1.0} for value in seconds]
    rows = [{"kind": "train", "step": 10 * (i + 1), "time": time} for i, time in enumerate(times)]
    rows.append({"kind": "validation", "step": 10, "videos": 8, "time": {"seconds": 4.0}})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def test_the_pace_of_a_run_is_that_of_its_rows_but_the_first(tmp_path):
    config = tiny.tiny_config("")
    run = write_rows(tmp_path / "run", config, (32.0, 7.0, 9.0, 7.0))
    assert plan.pace_of(run, config) == Pace(0.5, 0.5, 25.0)
    config.model.num_classes, config.train.steps = 3, 999  # of no account
    assert plan.pace_of(run, config).step == 0.5
    config.train.batch_size = 8
    with pytest.raises(ConfigError, match="another pace: train.batch_size is 4 there, 8 here; --step-seconds says"):
        plan.pace_of(run, config)
    with pytest.raises(ConfigError, match="no two rows of training yet"):
        plan.pace_of(write_rows(tmp_path / "begun", config, (32.0,)), config)


@pytest.fixture
def compiled(monkeypatch):
    """Stands in for the compiler: a clip takes 1 GiB of a device, the state 2 GiB."""

    def compile_step(config: ExperimentConfig, mesh) -> Step:
        own = config.train.batch_size // mesh.size * 2**30 // (2 if config.model.remat == "block" else 1)
        told = (Collective("all-reduce", mesh.size, 3, 2**20),) if mesh.size > 1 else ()
        return Step(config.train.batch_size, 1234567, Memory(2**30, 0, 2**30, 0, 0, own), 2**31, told)

    remedies = plan.remedies
    monkeypatch.setattr(plan, "compile_step", compile_step)
    monkeypatch.setattr(plan, "remedies", lambda *arguments: remedies(*arguments, compile_step))


COMMAND = ("plan", "--config", "k400_tsn_dnr", "--devices", "8", "--videos", "1000,100")


def test_a_plan_is_printed_for_people(compiled, capsys):
    assert cli.main([*COMMAND, "--device-memory", "12G", "--step-seconds", "2"]) == 0
    shown = capsys.readouterr().out
    assert "network        TSN, 1,234,567 parameters, float32\n" in shown
    assert "devices        8, the state on each; 64 clips a step, 8 each\n" in shown
    assert "10 GiB of each device, which has 12 GiB: fits\n" in shown
    assert "the largest batch that fits is 80\n" in shown
    assert "estimated: XLA's program for CPU, without the memory that kernels take beside it\n" in shown
    assert "more than the 75% that JAX takes of a GPU" in shown
    assert "each device sends 1.75 MiB a step\n" in shown and "3 x all-reduce of 8 devices, 1 MiB" in shown
    assert "30 s an epoch;" in shown and "checkpoints 6 GiB (at most three of 2 GiB)" in shown


def test_a_plan_for_gpus_that_are_not_there_says_so(compiled, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(target_gpus, "target_gpus", lambda *words: asked.append(words) or jax.devices()[:8])
    assert cli.main([*COMMAND, "--gpu", "H100"]) == 0
    assert asked == [("h100", 8)]
    assert "that of XLA's program for H100, without the memory that kernels take beside it\n" in capsys.readouterr().out
    assert cli.main([*COMMAND, "--gpu", "t4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gpu"] == "t4"


def test_a_plan_for_gpus_needs_the_plugin_of_jax(monkeypatch, capsys):
    monkeypatch.setattr(target_gpus, "has_plugin", lambda: False)
    assert cli.main([*COMMAND, "--gpu", "a100"]) == 2
    advice = f"pip install --no-deps --target=cuda jax-cuda13-plugin=={jax.__version__} jax-cuda13-pjrt"
    assert advice in capsys.readouterr().err


def test_the_gpus_of_the_command_line_are_those_that_are_known():
    assert tuple(target_gpus.CHIPS) == plan_command.GPUS
    text = target_gpus.CHIPS["h200"].target_config()
    assert "major: 9 minor: 0" in text and 'device_description_str: "NVIDIA H200"' in text


def test_a_plan_tells_of_a_warm_up_that_does_not_end(compiled, capsys):
    words = [*COMMAND, "--config.train.steps", "20", "--json"]
    assert cli.main([*words, "--config.optimizer.warmup_steps", "19"]) == 0
    assert "WARNING" not in capsys.readouterr().err
    assert cli.main([*words, "--config.optimizer.warmup_steps", "20"]) == 0
    shown = capsys.readouterr()
    assert "WARNING: optimizer.warmup_steps: is 20, and the run has 20 steps" in shown.err and json.loads(shown.out)


def test_what_cannot_fit_is_refused_with_what_would(compiled, capsys):
    assert cli.main([*COMMAND, "--device-memory", "6.5G", "--json"]) == 2
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert not found["fits"] and found["largest_batch"] == 32 and found["step"]["memory"]["total"] == 10 * 2**30
    assert found["time"] is None and found["step"]["collectives"][0]["sent"] == 2**20 * 2 * 7 // 8
    assert [remedy["flags"] for remedy in found["remedies"]] == [
        "--config.train.batch_size=32",
        "--config.model.remat=block",
    ]
    assert "the step needs 10 GiB of each device, which has 6.5 GiB. What fits:\n  --config.train.batch" in shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device-memory", "much"), "'much' is no size such as 80G or 16384M"),
        (("--step-seconds", "0"), "'0' is no number of seconds above 0"),
        (("--videos", "many"), "'many' is not N or N,M"),
        (("--videos", "10"), "train.batch_size: is 64, more than the 10 of --videos"),
        (("--config.train.fsdp_devices=3",), "expected a divisor of the 8 devices: 1, 2, 4, 8"),
        (("--config.model.num_classes=0",), "set --config.model.num_classes"),
    ],
)
def test_what_a_person_has_to_correct_is_told_before_anything_is_compiled(words, message, capsys):
    try:
        status = cli.main([*COMMAND, *words])
    except SystemExit as error:
        status = error.code
    assert status == 2 and message in capsys.readouterr().err


def test_more_devices_than_a_program_began_with_cannot_be_simulated():
    assert plan.simulated_devices(3) == jax.devices()[:3]
    with pytest.raises(ConfigError, match="999 devices cannot be simulated, because JAX was used before with 8"):
        plan.simulated_devices(999)


def test_sizes_and_times_are_spoken():
    assert [plan_command._size(size) for size in (512, 2**20, 1000 * 2**20, 3 * 2**40)] == [
        "0.5 KiB",
        "1 MiB",
        "1000 MiB",
        "3 TiB",
    ]


@pytest.mark.slow
def test_the_largest_batch_fits_and_the_next_does_not():
    config, mesh = tiny.tiny_config("", batch_size=32), make_mesh(jax.devices()[:1])
    config.data.crop_size, config.model.num_classes = 112, 2

    def step_of(size: int) -> plan.Step:
        return plan.compile_step(plan.changed(config, train__batch_size=size), mesh)

    limit = step_of(28).memory.total
    largest = plan.largest_batch(step_of(16), step_of(8), limit, 4)
    assert step_of(largest).memory.total <= limit < step_of(largest + 4).memory.total
    assert step_of(largest).memory.temporaries > largest * 4 * 4 * 112 * 112 * 3  # the clips in float32 at least


@pytest.mark.slow
def test_a_sharded_step_is_planned_with_its_shards(monkeypatch, quick_compile):
    monkeypatch.setattr(devices, "SMALLEST_SHARDED", 2)
    config = tiny.tiny_config("", batch_size=8, accumulate=2, averaging=EMA(0.5))
    config.model.num_classes = 3
    copies, sharded = (plan.compile_step(config, make_mesh(jax.devices()[:4], parts)) for parts in (1, 2))
    assert copies.parameters == sharded.parameters and copies.checkpoint == sharded.checkpoint
    for part in ("parameters", "optimizer", "average"):
        assert getattr(sharded.memory, part) < 0.7 * getattr(copies.memory, part)
    assert copies.memory.batches == 4 * 2 * (4 * 16 * 16 * 3 + 8) == sharded.memory.batches
    assert {entry.kind for entry in copies.collectives} == {"all-reduce"}
    assert {"all-reduce", "all-gather"} <= {entry.kind for entry in sharded.collectives}
