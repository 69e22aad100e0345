import json

from dnr_jax.runs.folder import METRICS_FILE, read_metrics
from dnr_jax.training.hooks import Row
from dnr_jax.training.report import CURVE_FILE, Curve, Records, Validation, plot_curve

PNG = b"\x89PNG\r\n\x1a\n"


def started(workdir, step: int = 0, validation: str | None = None) -> Records:
    records = Records(workdir, step, validation)
    records.start(None)
    return records


def write(records: Records, kind: str, step: int, metrics: dict, times: dict | None = None) -> None:
    records.after_row(None, Row(kind, step, metrics, times or {}))


def write_some(records: Records) -> None:
    for step in (2, 4, 6):
        write(records, "train", step, {"loss": 1 / step, "accuracy": 0.5}, {"seconds": 0.1})
    write(records, "validation", 6, {"top1": 0.75}, {"seconds": 0.2})


def test_the_best_validation_is_the_later_of_equals_and_survives_a_restart(tmp_path):
    records = started(tmp_path)
    assert (records.best, records.last) == (None, None)
    for step, top1 in [(2, 0.25), (4, 0.75), (6, 0.75), (8, 0.5)]:
        write(records, "validation", step, {"top1": top1})
    assert (records.best, records.last) == (Validation(6, 0.75), Validation(8, 0.5))
    assert str(records.best) == "75.0% at step 6"
    records.close()
    resumed = started(tmp_path, step=4)
    assert resumed.best == resumed.last == Validation(4, 0.75)
    resumed.close()


def test_the_best_validation_is_of_the_videos_of_the_last_one(tmp_path):
    records = started(tmp_path)  # of an older version, which did not mark the rows
    write(records, "validation", 2, {"top1": 0.9})
    records.close()
    resumed = Records(tmp_path, 2, "new")
    resumed.restore({"validation": {"videos": 3, "fingerprint": "old"}})
    resumed.start(None)
    assert resumed.best == Validation(2, 0.9)
    for step, top1 in [(4, 0.5), (6, 0.25)]:
        write(resumed, "validation", step, {"top1": top1})
    assert (resumed.best, resumed.last) == (Validation(4, 0.5), Validation(6, 0.25))
    resumed.close()
    rows = read_metrics(tmp_path / METRICS_FILE)
    assert [row["fingerprint"] for row in rows] == ["old", "new", "new"]
    assert Records(tmp_path, 6, "old").best == Validation(4, 0.5)  # until they are evaluated again


def test_rows_are_written_as_they_come(tmp_path):
    records = started(tmp_path)
    write_some(records)
    lines = (tmp_path / METRICS_FILE).read_text().splitlines()  # before it is closed: a killed run loses none
    records.close()
    assert json.loads(lines[0]) == {"kind": "train", "step": 2, "loss": 0.5, "accuracy": 0.5, "time": {"seconds": 0.1}}
    assert [json.loads(line)["kind"] for line in lines] == ["train", "train", "train", "validation"]


def test_a_resumed_run_drops_the_rows_after_its_checkpoint(tmp_path):
    records = started(tmp_path)
    write_some(records)
    records.close()
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"kind": "train", "st')  # killed in the middle of a line
    resumed = started(tmp_path, step=4)
    write(resumed, "train", 6, {"loss": 9.0})
    resumed.close()
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path / METRICS_FILE)] == [
        (2, 0.5),
        (4, 0.25),
        (6, 9.0),
    ]


def test_the_curve_is_a_picture(tmp_path):
    records = started(tmp_path)
    curve = Curve(tmp_path, records)
    curve.after_evaluation(None, None)  # of nothing yet
    empty = (tmp_path / CURVE_FILE).read_bytes()
    write_some(records)
    curve.after_evaluation(None, None)
    records.close()
    drawn = (tmp_path / CURVE_FILE).read_bytes()
    assert drawn.startswith(PNG) and drawn != empty
    (tmp_path / CURVE_FILE).unlink()
    curve.end(None, None)
    assert (tmp_path / CURVE_FILE).read_bytes() == drawn
    plot_curve(read_metrics(tmp_path / METRICS_FILE), tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


def test_a_missing_file_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "none.jsonl") == []
