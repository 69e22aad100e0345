import csv
import math

import pytest

from dnr_jax import cli
from dnr_jax.config import ConfigError, ExperimentConfig, load_config
from dnr_jax.evaluation.intervals import estimate
from dnr_jax.report import compare
from tests.browser import browser, needs_chromium
from tests.report.made import write_run


def config(seed: int, rate: float) -> ExperimentConfig:
    made = load_config("demo")
    made.train.seed, made.optimizer.learning_rate = seed, rate
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
