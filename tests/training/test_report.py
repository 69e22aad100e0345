import json

import jax

from dnr_jax.config import with_variant
from dnr_jax.runs.devices import make_mesh
from dnr_jax.training.report import (
    CURVE_FILE,
    METRICS_FILE,
    Recorder,
    Validation,
    describe,
    plot_curve,
    read_metrics,
)
from tests.training.tiny import tiny_config

PNG = b"\x89PNG\r\n\x1a\n"


def write_some(recorder: Recorder) -> None:
    for step in (2, 4, 6):
        recorder.write("train", step, {"loss": 1 / step, "accuracy": 0.5}, {"seconds": 0.1})
    recorder.write("validation", 6, {"top1": 0.75}, {"seconds": 0.2})


def test_a_run_tells_what_matters_of_itself():
    config = tiny_config("/videos")
    config.init_from = "/weights.pth"
    mesh = make_mesh(jax.devices()[:2])
    assert describe(config, (12, 7), ("dark", "grey", "light", "a", "b"), 1299, 6, mesh).splitlines() == [
        "data           Folder /videos: 12 training and 7 validation videos",
        "classes        5: dark, grey, light, a, ...",
        "clips          4 frames of 16 x 16 pixels, sampler Segments; 4 a step",
        "network        TSN, depth 18, norms DNR (cl, ct, static) on bn, interlaced; 1,299 parameters, float32",
        "devices        2 x cpu",
        "length         6 steps, 2.0 epochs",
        "weights        /weights.pth",
    ]
    with_variant(config, "bn")
    assert "depth 18, norms bn; " in describe(config, (12, 7), ("dark",), 1299, 6, mesh)


def test_the_best_validation_is_the_later_of_equals_and_survives_a_restart(tmp_path):
    recorder = Recorder(tmp_path)
    assert (recorder.best, recorder.last) == (None, None)
    for step, top1 in [(2, 0.25), (4, 0.75), (6, 0.75), (8, 0.5)]:
        recorder.write("validation", step, {"top1": top1}, {})
    assert (recorder.best, recorder.last) == (Validation(6, 0.75), Validation(8, 0.5))
    assert str(recorder.best) == "75.0% at step 6"
    recorder.close()
    resumed = Recorder(tmp_path, start_step=4)
    assert resumed.best == resumed.last == Validation(4, 0.75)
    resumed.close()


def test_rows_are_written_as_they_come(tmp_path):
    recorder = Recorder(tmp_path)
    write_some(recorder)
    lines = (tmp_path / METRICS_FILE).read_text().splitlines()  # before it is closed: a killed run loses none
    recorder.close()
    assert json.loads(lines[0]) == {"kind": "train", "step": 2, "loss": 0.5, "accuracy": 0.5, "time": {"seconds": 0.1}}
    assert [json.loads(line)["kind"] for line in lines] == ["train", "train", "train", "validation"]


def test_a_resumed_run_drops_the_rows_after_its_checkpoint(tmp_path):
    recorder = Recorder(tmp_path)
    write_some(recorder)
    recorder.close()
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"kind": "train", "st')  # killed in the middle of a line
    resumed = Recorder(tmp_path, start_step=4)
    resumed.write("train", 6, {"loss": 9.0}, {})
    resumed.close()
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path / METRICS_FILE)] == [
        (2, 0.5),
        (4, 0.25),
        (6, 9.0),
    ]


def test_scalars_go_to_tensorboard(tmp_path):
    recorder = Recorder(tmp_path)
    write_some(recorder)
    recorder.close()
    (events,) = tmp_path.glob("events.out.tfevents.*")  # in the folder itself: TensorBoard calls the run by its name
    content = events.read_bytes()
    assert all(tag in content for tag in (b"train/loss", b"train/accuracy", b"validation/top1"))


def test_the_curve_is_a_picture(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.plot()  # of nothing yet
    write_some(recorder)
    recorder.plot()
    recorder.close()
    assert (tmp_path / CURVE_FILE).read_bytes().startswith(PNG)
    plot_curve(read_metrics(tmp_path / METRICS_FILE), tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


def test_other_processes_write_nothing(tmp_path):
    recorder = Recorder(tmp_path, active=False)
    write_some(recorder)
    recorder.plot()
    recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "none.jsonl") == []
