import dataclasses
import re

import numpy as np
import pytest

from dnr_jax.config import ConfigError
from dnr_jax.reproduce import report
from dnr_jax.reproduce.experiments import runs_of
from dnr_jax.reproduce.statistics import Estimate
from dnr_jax.reproduce.tables import ARMS, TABLES
from tests.paths import REPOSITORY
from tests.reproduce.finished import result

DOCS = REPOSITORY / "docs"
SHARES = {"bn": 0.4, "bn_interlace": 0.7, "dnr_no_interlace": 0.55, "dnr": 0.8}


def arms(seeds: int, shares=SHARES) -> list:
    """Results of the four arms with accuracies near these shares, in lines of 200 videos."""
    rng = np.random.default_rng(0)
    return [
        result(run, rng.uniform(size=200) < shares[row.name])
        for row in TABLES["arms"].all_rows()
        for run in runs_of(TABLES["arms"], row, seeds)
    ]


def test_the_page_is_that_of_the_committed_lines():
    """``dnr reproduce --report`` makes it; nothing in it is typed."""
    found, sections = report.committed(DOCS)
    assert (DOCS / report.PAGE).read_text() == report.page(found, sections, report.PROJECT_HEAD)
    pictures = {file.name for file in (DOCS / report.IMAGES).glob("results_*")}
    named = re.findall(rf"\({report.IMAGES}/(results_\w+\.png)\)", (DOCS / report.PAGE).read_text())
    assert pictures == set(named)


def test_the_committed_lines_are_of_rows_that_there_are():
    found, _ = report.committed(DOCS)
    shown = sum(
        len(values)
        for table in TABLES.values()
        for block in report.blocks(table, found)
        for values in block.rows.values()
    )
    assert shown >= len(found)


def test_a_table_has_means_intervals_and_verdicts():
    text = report.page(arms(5))
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    accuracies = [100 * line.top1 for line in arms(5)[15:]]
    half = 2.776445 * np.std(accuracies, ddof=1) / np.sqrt(5)
    mean = np.mean(accuracies)
    assert lines["dnr"] == f"| dnr | {mean:.1f} ({mean - half:.1f} to {mean + half:.1f}) | 5 |"
    assert lines["DNR beats BN"].endswith("| supported |")
    assert "Holm's correction is for 3 contrasts." in text
    assert "20 runs, 0.2 hours" in text


def test_time_that_runs_had_together_counts_once():
    found = [dataclasses.replace(line, seconds=3600.0, together=5) for line in arms(5)]
    assert "20 runs, 4.0 hours" in report.page(found)


def test_what_goes_against_the_paper_is_said():
    shares = SHARES | {"dnr": 0.3}
    (block,) = report.blocks(TABLES["arms"], arms(5, shares))
    assert [verdict.verdict for verdict in block.verdicts] == ["contradicted", "contradicted", "supported"]


def test_fewer_seeds_bear_no_verdict_and_no_run_makes_no_table():
    (block,) = report.blocks(TABLES["arms"], arms(4))
    assert {verdict.verdict for verdict in block.verdicts} == {"open"}
    assert report.blocks(TABLES["arms"], []) == []
    assert "## The four arms" not in report.page([])


def test_seeds_that_chose_learning_rates_count_in_no_other_table():
    table = TABLES["rates"]
    found = [result(run, [1, 0]) for row in table.rows for run in runs_of(table, row, 3)]
    assert report.blocks(TABLES["arms"], found) == []
    (block,) = report.blocks(table, found)
    assert set(block.rows) == {row.name for row in table.rows}


def test_a_sweep_has_a_line_a_data_set_and_one_picture(tmp_path):
    table = TABLES["knobs"]
    found = [result(run, [1, 0, 0, run.seed % 2]) for run in runs_of(table, ARMS[0], 2)]
    text = report.page(found)
    assert "| data | bn | bn_interlace | dnr_no_interlace | dnr |" in text
    assert re.search(r"\| gap=3 \| 37\.5 \(-121\.3 to 196\.3\); 2 \|  \|  \|  \|", text)
    assert [file.name for file in report.write(tmp_path, found)] == [
        "results.md",
        "results_arms_generated.png",  # runs at the chosen value are those of the arms
        "results_knobs.png",
    ]


def test_a_zero_has_no_minus():
    assert report.interval(Estimate(-0.04, 1.0, 5), "+") == "+0.0 (-1.0 to +1.0)"
    assert report.interval(Estimate(-0.04, float("nan"), 1)) == "0.0"


def test_folds_are_joined():
    table = TABLES["ut"]
    found = [result(run, [1, 1, 1] if run.fold else [0]) for run in runs_of(table, table.all_rows()[0], 2)]
    (block,) = report.blocks(table, found)
    assert block.rows == {"bn": [90.0, 90.0]}
    assert "So far" not in report.page(found)
    assert "So far 1 of its 4 folds." in report.page([result(runs_of(table, table.all_rows()[0], 1)[0], [1])])


def test_pictures_and_page_are_written(tmp_path):
    files = report.write(tmp_path / "new", arms(2), ["## More\n"])
    assert [file.name for file in files] == ["results.md", "results_arms_generated.png"]
    assert files[0].read_text().endswith("## More\n")
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert f"({report.IMAGES}/{files[1].name})" in files[0].read_text()


def test_committed_lines_need_a_checkout(tmp_path):
    with pytest.raises(ConfigError, match="is given in a checkout"):
        report.committed(tmp_path)


def headings(text: str) -> list[str]:
    return [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]


def test_the_quick_form_has_a_table_and_no_verdicts(tmp_path):
    table = TABLES["1b"]
    found = [result(runs_of(table, row, 1, "quick")[0], [True, False]) for row in table.all_rows()]
    text = report.page(found)
    assert "Table 1b: relay distance, on easy data" in headings(text)
    assert "dnr reproduce --table 1b --quick" in text
    assert "| method=ct,relay_distance=8 | 50.0 | 1 | 75.28 |" in text
    assert "verdict |" not in text
    # Tables that say nothing new on these data are left out.
    assert not [heading for heading in headings(text) if "UT-Interaction" in heading or "gap" in heading]
    files = report.write(tmp_path, found)
    assert tmp_path / "images" / "results_1b_quick.png" in files
    for name in re.findall(r"\((images/[^)]+)\)", text):
        assert (tmp_path / name).is_file()


def test_runs_of_the_paper_s_scale_have_tables_with_verdicts(tmp_path):
    """Each data set of Table 4 is a block of its own, with the claim that is about it."""
    table = TABLES["4"]
    rng = np.random.default_rng(0)
    found = [
        result(run, rng.uniform(size=200) < (0.7 if row.name.endswith("+dnr") else 0.4))
        for row in table.rows
        for run in runs_of(table, row, 5, "paper")
    ]
    text = report.page(found)
    assert "Table 4: data sets, and fine-tuning, at the paper's scale" in headings(text)
    assert "dnr reproduce --table 4 --scale paper" in text and "of the mini scale" not in text
    blocks = report.blocks(table, found, "paper")
    assert [block.data for block in blocks] == ["Kinetics-400", "Something-Something V1", "Something-Something V2"]
    verdicts = [(verdict.claim.text, verdict.verdict) for block in blocks for verdict in block.verdicts]
    assert verdicts == [(f"DNR adds to {name}", "supported") for name in ("kinetics400", "sthv1", "sthv2")]
    assert "Holm's correction is for 3 contrasts." in text
    files = report.write(tmp_path, found)
    assert tmp_path / "images" / "results_4_Something_Something_V1.png" in files
    for name in re.findall(r"\((images/[^)]+)\)", text):
        assert (tmp_path / name).is_file()
    assert report.blocks(table, found) == []  # nothing of the mini scale


@pytest.mark.parametrize("scale", ["mini", "quick", "paper"])
def test_every_run_that_the_command_does_is_shown(scale):
    runs = {
        run.fingerprint: run
        for table in TABLES.values()
        for row in table.all_rows()
        if (row.config if scale == "paper" else not row.skipped)
        for run in runs_of(table, row, 1, scale)
    }
    for run in runs.values():
        found = [result(run, [True])]
        assert any(report.blocks(table, found, scale) for table in TABLES.values()), run
