import csv
import dataclasses
import json
import math
import shutil

import pytest

from dnr_jax import cli
from dnr_jax.config import ConfigError, ExperimentConfig, load_config, to_json
from dnr_jax.evaluation import outputs
from dnr_jax.evaluation.intervals import estimate
from dnr_jax.report import compare
from dnr_jax.runs.folder import read_config
from tests.browser import browser, needs_chromium
from tests.report.made import write_rows, write_run


def config(seed: int, rate: float) -> ExperimentConfig:
    made = load_config("demo")
    made.train.seed, made.optimizer.learning_rate, made.train.steps = seed, rate, 40
    return made


@pytest.fixture
def runs(tmp_path):
    """Two seeds of one learning rate, two of another of which one has not ended, and what is no run."""
    for seed, top1 in ((1, 0.6), (0, 0.5)):
        write_run(tmp_path / "slow" / f"seed{seed}", config(seed, 0.01), top1)
    write_run(tmp_path / "fast0", config(0, 0.1), 0.9)
    write_run(tmp_path / "fast1", config(1, 0.1), 0.7, finished=False)
    (tmp_path / "videos").mkdir()
    return tmp_path


def found(folder) -> list[compare.RunGroup]:
    return compare.group_runs(compare.find_runs([folder])[0])


def test_runs_that_differ_in_their_seed_alone_are_a_group(runs):
    fast, slow = found(runs)
    assert (fast.name, slow.name) == ("learning_rate=0.1", "learning_rate=0.01")
    assert [run.config.train.seed for run in slow.runs] == [0, 1]
    assert slow.mean("top1") == estimate([0.5, 0.6])
    assert (fast.mean("top1").mean, len(fast.finished), len(fast.runs)) == (0.9, 1, 2)
    assert fast.settings == {"optimizer.learning_rate": 0.1}


def test_the_table_has_means_with_intervals(runs):
    header, fast, slow, _ = compare.text(found(runs)).splitlines()
    assert header.split("  ")[0] == "run"
    assert fast.split("  ")[0] == "learning_rate=0.1" and "1 of 2" in fast and "90.0%" in fast
    assert f"55.0 ± {100 * estimate([0.5, 0.6]).half:.1f}%" in slow
    assert "80.0 ± " in fast  # the best validation, of the run that has not ended too


def test_curves_are_means_over_the_seeds(runs):
    _, slow = found(runs)
    curve = slow.curve("validation", "top1")
    assert list(curve.x) == [10, 20, 30, 40] and curve.y[-1] == pytest.approx(0.55)
    assert curve.half[-1] == pytest.approx(estimate([0.5, 0.6]).half)
    alone = compare.RunGroup("one", {}, slow.runs[:1]).curve("validation", "top1")
    assert math.isnan(alone.half[0])


def test_what_is_no_run_is_left_out_and_told(runs, capsys):
    (runs / "broken").mkdir()
    (runs / "broken" / "config.json").write_text("{")
    folders = [str(runs / name) for name in ("slow", "videos", "broken", "fast0", "fast0")]
    assert cli.main(["compare", *folders]) == 0
    told = capsys.readouterr()
    assert told.out.count("1 of 1") == 1 and told.out.count("2 of 2") == 1
    assert "videos' holds no run" in told.err and "config.json' is damaged" in told.err
    with pytest.raises(ConfigError, match="nothing to compare: .*videos' holds no run"):
        compare.find_runs([runs / "videos"])


def test_a_copy_of_a_run_is_no_further_seed(runs):
    shutil.copytree(runs / "fast0", runs / "moved")
    shutil.copytree(runs / "slow" / "seed0", runs / "slow" / "again")
    row, *rest = (runs / "slow" / "again" / "metrics.jsonl").read_text().splitlines()
    later = json.loads(row)
    later["time"] = {"seconds": 12.5}  # the same seed, run a second time
    (runs / "slow" / "again" / "metrics.jsonl").write_text("\n".join([json.dumps(later), *rest]) + "\n")
    alike, left_out = compare.find_runs([runs])
    assert f"'{runs / 'moved'}' is a copy of '{runs / 'fast0'}'" in left_out
    assert {run.folder.name for run in alike} == {"seed0", "seed1", "again", "fast0", "fast1"}


def changed(folder, **numbers) -> None:
    """Write other numbers into a run's evaluation."""
    file = folder / outputs.REPORT_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | numbers))


def lengthened(folder, **train) -> None:
    """Write the configuration with which a run went on, which was interrupted then."""
    longer = read_config(folder)
    longer.train = dataclasses.replace(longer.train, **train)
    (folder / "config.json").write_text(to_json(longer))


def test_a_run_that_went_on_and_was_interrupted_has_not_ended(runs):
    lengthened(runs / "slow" / "seed0", steps=80)
    groups = {group.settings["train.steps"]: group for group in found(runs / "slow")}
    assert (len(groups[80].finished), groups[80].mean("top1"), groups[40].mean("top1").mean) == (0, None, 0.6)
    note = "its evaluation is of step 40; the run has taken 40 of 80"
    assert f"does not count: {runs / 'slow' / 'seed0'} ({note})" in compare.text(list(groups.values()))
    write_rows(runs / "slow" / "seed0", 0.5, steps=80)  # to the end, and the final evaluation cannot be written
    assert "taken 80 of 80" in compare.text(found(runs / "slow"))
    changed(runs / "slow" / "seed0", step=80)
    assert "does not count" not in compare.text(found(runs / "slow"))


def test_an_evaluation_of_which_no_video_could_be_decoded_does_not_count(runs):
    changed(runs / "slow" / "seed0", videos=0, top1=0.0)
    (slow,) = found(runs / "slow")
    assert (len(slow.finished), slow.mean("top1").mean) == (1, 0.6)
    note = "none of the videos of its evaluation could be decoded"
    assert f"does not count: {runs / 'slow' / 'seed0'} ({note})" in compare.text([slow])
    rows = [{"kind": "validation", "step": step, "top1": 0.0, "videos": 0} for step in (20, 40)]
    assert math.isnan(dataclasses.replace(slow.runs[0], rows=rows).best)


def test_the_best_validation_is_of_the_videos_of_the_last_one(runs):
    rows = [
        {"kind": "validation", "step": n, "top1": t, "fingerprint": f} for n, t, f in ((1, 0.9, "a"), (2, 0.5, "b"))
    ]
    (runs / "fast1" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = compare.find_runs([runs / "fast1"])[0]
    assert run.best == 0.5


def test_an_evaluation_of_other_videos_does_not_count_beside_those_of_the_same_data(runs):
    def mark(name: str, videos: str) -> None:
        file = runs / name / "evaluation.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": videos}))

    for name, videos in (("slow/seed0", "old"), ("slow/seed1", "new"), ("fast0", "old")):
        mark(name, videos)
    _, slow = found(runs)
    assert [run.config.train.seed for run in slow.finished] == [0]
    assert f"{runs / 'slow' / 'seed1'} (its evaluation is of other videos than that of " in compare.text([slow])
    for name in ("slow/seed0", "fast0"):
        mark(name, "new")
    assert len(found(runs)[1].finished) == 2


def test_the_length_of_a_run_follows_from_its_epochs(runs):
    folder = runs / "fast0"
    rows = [{"kind": "train", "step": step, "epoch": step / 20, "loss": 1.0, "accuracy": 0.5} for step in (20, 33, 50)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changed(folder, step=50)
    for epochs, ended in ((2.5, True), (2.6, False)):
        lengthened(folder, steps=0, epochs=epochs)
        (group,) = found(folder)
        assert bool(group.finished) is ended


def test_evaluations_of_another_checkpoint_or_other_views_do_not_count_beside_others(runs):
    changed(runs / "slow" / "seed0", step=30, checkpoint="best", views="1x1 of 32")
    changed(runs / "fast0", views="10x3 of 32")
    (slow, fast), text = found(runs), compare.text(found(runs))
    assert slow.mean("top1") == estimate([0.6]) and not fast.finished
    assert (
        f"does not count: {runs / 'slow' / 'seed0'} (its evaluation is of the best checkpoint, views 1x1 of 32)" in text
    )
    assert f"does not count: {runs / 'fast0'} (its evaluation is of the latest checkpoint, views 10x3 of 32)" in text


def test_the_others_are_the_more(runs):
    changed(runs / "slow" / "seed0", views="10x3 of 32")
    changed(runs / "slow" / "seed1", views="10x3 of 32")
    assert [len(group.finished) for group in found(runs)] == [2, 0]
    assert f"does not count: {runs / 'fast0'} (its evaluation is of the latest checkpoint, views 1x1 of 32)" in (
        compare.text(found(runs))
    )


def test_the_same_views_of_other_sizes_are_alike(runs):
    larger = config(0, 0.01)
    larger.data.crop_size = 64
    write_run(runs / "larger", larger, 0.8)
    for name, size in (("larger", 64), ("slow/seed0", 32), ("slow/seed1", 32), ("fast0", 32)):
        changed(runs / name, views=f"10x3 of {size}")
    assert [len(group.finished) for group in found(runs)] == [1, 1, 2]


def test_evaluations_that_are_alike_count_whatever_they_are_of(runs):
    for run in ("slow/seed0", "slow/seed1", "fast0"):
        changed(runs / run, step=30, checkpoint="best", views="10x3 of 32")
    assert [len(group.finished) for group in found(runs)] == [1, 2]


def test_views_that_a_configuration_has_itself_count_beside_those_of_others(runs):
    more = config(0, 0.01)
    more.evaluation.clips = 10
    write_run(runs / "more", more, 0.8)
    changed(runs / "more", views="10x1 of 32")
    assert [len(group.finished) for group in found(runs)] == [1, 1, 2]
    changed(runs / "more", views="1x1 of 32")
    assert [len(group.finished) for group in found(runs)] == [1, 1, 2]


def test_groups_that_differ_in_much_are_named_by_folders(tmp_path):
    write_run(tmp_path / "one", load_config("demo"))
    write_run(tmp_path / "two", load_config("k400_tsn_dnr"))
    assert {group.name for group in found(tmp_path)} == {"one", "two"}


def test_the_csv_has_a_line_a_run(runs, capsys):
    assert cli.main(["compare", str(runs), "--csv", str(runs / "all.csv"), "--html", str(runs / "all.html")]) == 0
    with (runs / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["group"], row["seed"], row["finished"], row["top1"]) for row in rows] == [
        ("learning_rate=0.1", "0", "True", "0.9"),
        ("learning_rate=0.1", "1", "False", ""),
        ("learning_rate=0.01", "0", "True", "0.5"),
        ("learning_rate=0.01", "1", "True", "0.6"),
    ]
    assert rows[0]["optimizer.learning_rate"] == "0.1" and rows[1]["best_validation"] == "0.7"
    text = (runs / "all.html").read_text()
    assert "4 runs in 2 groups" in text and text.count("<svg") == 4 and "http" not in text.replace("http-equiv", "")


@needs_chromium
@pytest.mark.slow
def test_a_browser_shows_the_comparison_without_complaint(runs, tmp_path):
    compare.write_html(found(runs), tmp_path / "all.html")
    with browser(tmp_path / "profile") as tab:
        tab.open((tmp_path / "all.html").as_uri())
        assert tab.evaluate("document.querySelectorAll('svg.chart').length") == 2
        assert tab.problems == []
