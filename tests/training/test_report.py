import json

from dnr_jax.training.report import CURVE_FILE, METRICS_FILE, Recorder, plot_curve, read_metrics

PNG = b"\x89PNG\r\n\x1a\n"


def write_some(recorder: Recorder) -> None:
    for step in (2, 4, 6):
        recorder.write("train", step, {"loss": 1 / step, "accuracy": 0.5}, {"seconds": 0.1})
    recorder.write("validation", 6, {"top1": 0.75}, {"seconds": 0.2})


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
    (events,) = (tmp_path / "tensorboard").iterdir()
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
