import dataclasses
import re

import numpy as np
import pytest

from dnr_jax.config import ConfigError
from dnr_jax.reproduce import report, results, verdicts, wording
from dnr_jax.reproduce.again import again_section
from dnr_jax.reproduce.experiments import runs_of
from dnr_jax.reproduce.statistics import Estimate, estimate
from dnr_jax.reproduce.tables import ARMS, TABLES
from tests.paths import REPOSITORY
from tests.reproduce.finished import fine_tuned, result

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
        for block in verdicts.blocks(table, found)
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
    (block,) = verdicts.blocks(TABLES["arms"], arms(5, shares))
    assert [verdict.verdict for verdict in block.verdicts] == ["contradicted", "contradicted", "supported"]


def test_fewer_seeds_bear_no_verdict_and_no_run_makes_no_table():
    (block,) = verdicts.blocks(TABLES["arms"], arms(4))
    assert {verdict.verdict for verdict in block.verdicts} == {"open"}
    assert verdicts.blocks(TABLES["arms"], []) == []
    assert "## The four arms" not in report.page([])


def test_seeds_that_chose_learning_rates_count_in_no_other_table():
    table = TABLES["rates"]
    found = [result(run, [1, 0]) for row in table.rows for run in runs_of(table, row, 3)]
    assert verdicts.blocks(TABLES["arms"], found) == []
    (block,) = verdicts.blocks(table, found)
    assert set(block.rows) == {row.name for row in table.rows}


def test_a_sweep_has_a_line_a_data_set_and_one_picture(tmp_path):
    table = TABLES["knobs"]
    found = [result(run, [1, 0, 0, run.seed % 2]) for run in runs_of(table, ARMS[0], 2)]
    text = report.page(found)
    assert "| data | bn | bn_interlace | dnr_no_interlace | dnr |" in text
    assert re.search(r"\| gap=3 \| 37\.5 \(0\.0 to 100\.0\); 2 \|  \|  \|  \|", text)
    assert text.count("| as chosen: gap=0, contrast=3, ") == 1 and "| contrast=3 |" not in text
    assert [file.name for file in report.write(tmp_path, found)] == [
        "results.md",
        "results_arms_generated.png",  # runs at the chosen value are those of the arms
        "results_knobs.png",
    ]


def test_a_zero_has_no_minus():
    assert wording.interval(Estimate(-0.04, 1.0, 5), "+") == "+0.0 (-1.0 to +1.0)"
    assert wording.interval(Estimate(-0.04, float("nan"), 1)) == "0.0"


def test_folds_are_joined():
    table = TABLES["ut"]
    found = [result(run, [1, 1, 1] if run.fold else [0]) for run in runs_of(table, table.all_rows()[0], 2)]
    (block,) = verdicts.blocks(table, found)
    assert block.rows == {"bn": [90.0, 90.0]}
    assert "of 4)" not in report.page(found)
    assert "| bn (fold 0 of 4) | 100.0 | 1 |" in report.page([result(runs_of(table, table.all_rows()[0], 1)[0], [1])])


def folds(table, shares: dict[str, tuple[float, int]], seeds: int = 5) -> list:
    """Results of rows that have a share of 40 videos right, in so many folds."""
    rng = np.random.default_rng(0)
    return [
        result(run, rng.permutation(40) < round(40 * shares[row.name][0]) + run.seed % 3)
        for row in table.all_rows()
        if row.name in shares
        for run in runs_of(table, row, seeds)
        if run.fold < shares[row.name][1]
    ]


def test_a_claim_whose_rows_have_other_folds_is_open_and_says_so():
    found = folds(TABLES["ut"], {"dnr": (0.9, 4), "bn": (0.3, 1), "bn_interlace": (0.3, 4)})
    (block,) = verdicts.blocks(TABLES["ut"], found)
    bn, interlaced, without = block.verdicts
    assert (bn.verdict, interlaced.verdict, without.verdict) == ("open", "supported", "open")
    assert bn.found.over_videos.count == 40 and bn.adjusted < 0.05  # it would be supported, of one fold
    assert "| open (folds: dnr 0, 1, 2, 3; bn 0; of 4) |" in report.page(found)
    assert interlaced.folds == "" and interlaced.found.folds == (0, 1, 2, 3)


def test_an_accuracy_is_of_the_seeds_that_have_all_folds_of_its_row():
    found = folds(TABLES["ut"], {"bn": (0.5, 4)}, seeds=3)
    (block,) = verdicts.blocks(TABLES["ut"], [line for line in found if line.seed == 1 or not line.declared["fold"]])
    assert len(block.rows["bn"]) == 1
    assert verdicts.accuracies({(0, 0): np.array([True]), (1, 1): np.array([True])}) == []


def test_the_page_and_the_correction_count_the_same_contrasts():
    """Those about data without a run are corrected for too."""
    table, found = TABLES["4"], fine_tuned()
    (block,) = verdicts.blocks(table, found)
    (verdict,) = block.verdicts
    assert verdict.adjusted == pytest.approx(min(1.0, verdict.corrected * verdict.found.p)) and verdict.corrected == 4
    assert "Holm's correction is for 4 contrasts, of which 3 are about data without a run." in report.page(found)
    bidirectional = TABLES["bidirectional"]
    one = [result(runs_of(bidirectional, bidirectional.rows[0], 1)[0], [1])]
    assert "Holm's correction is for 1 contrast.\n" in report.page(one)


def test_what_a_row_trains_on_here_is_said_where_its_name_is_that_of_the_papers_data():
    table = TABLES["4"]
    found = [result(run, [1, 0]) for row in table.rows for run in runs_of(table, row, 1)]
    text = report.page(found)
    assert "| first training | 50.0 | 1 | 68.17 (Kinetics-400) |" in text
    assert (
        "| fine-tuned on Weizmann actions in opposite order, DNR | 50.0 | 1 | 45.58 ? (Something-Something V1) |"
        in text
    )
    assert "**Weizmann actions in opposite order**." in text and "of three people" in text
    assert "| sthv" not in text and "| kinetics400" not in text
    shared = TABLES["3"]
    text = report.page([result(run, [1, 0]) for row in shared.rows[:3] for run in runs_of(shared, row, 1)])
    assert "| base=bn, method=baseline, 4 clips share statistics | 50.0 | 1 | 67.59 |" in text


def test_an_illegible_figure_looks_other_than_one_that_the_paper_does_not_have():
    table = TABLES["1d"]
    text = report.page([result(run, [1, 0]) for row in table.all_rows() for run in runs_of(table, row, 1)])
    for row, paper in [
        ("method=cl,relay=fc", "72.28 ?"),
        ("method=ct,relay=fc", "72.78 ?"),
        ("method=dnr,relay=fc", "74.50 ?"),
        ("method=ct,relay=se", "illegible"),
        ("bn_interlace", "none"),
    ]:
        assert f"| {row} | 50.0 | 1 | {paper} |" in text


def test_what_else_differs_stands_with_the_verdict_with_figures_of_the_runs():
    """DNR is interlaced in Table 1a and CT alone is not; what is left with nothing interlaced is computed."""
    table = TABLES["1a"]
    shares = SHARES | {"method=ct,location=2": 0.6, "method=cl+ct": 0.8}
    found = [
        result(run, np.arange(200) < round(200 * shares[row.name]))
        for row in table.all_rows()
        if row.name in shares
        for run in runs_of(table, row, 5)
    ]
    (line,) = [line for line in report.page(found).splitlines() if line.startswith("- both beat CT alone: ")]
    assert "both are interlaced, CT alone is not; with nothing interlaced -5.0 points (-5.0 to -5.0; 5 seeds)." in line
    assert "order told far apart" not in line  # nothing of Table 1a-far was run


def test_factors_are_explained_where_they_stand():
    table = TABLES["schedule"]
    found = [result(run, [1, 0]) for row in table.all_rows() for run in runs_of(table, row, 1)]
    assert "In names: `steps`: factor of the number of steps; `gain`: factor of the predicted scale." in report.page(
        found
    )
    assert report.meanings(["method=ct,relay=fc"]) == ""


def test_versions_are_counted_apart_from_commits():
    """Lines from many commits would each be a version of their own."""
    found = [
        dataclasses.replace(line, versions=line.versions | ({"commit": f"{line.seed}"} if line.seed else {}))
        for line in arms(3)
    ]
    text = report.page(found)
    assert "Versions: dnr_jax 1, jax 2. Commits of this package: not noted (4 runs); 1 (4 runs); 2 (4 runs)." in text


def test_runs_that_were_done_again_stand_beside_what_they_were(tmp_path):
    found = arms(2)
    row = found[0].fingerprint
    earlier = [
        dataclasses.replace(line, correct="0" * 20 + line.correct[20:]) for line in found if line.fingerprint == row
    ]
    earlier = [dataclasses.replace(line, top1=line.correct.count("1") / 200) for line in earlier]
    folder = tmp_path / "results"
    for name, lines in (("mini.jsonl", found), (report.EARLIER, earlier)):
        for line in lines:
            results.append(folder / name, line)
    read, (section,) = report.committed(tmp_path)
    assert read == found
    assert "2 runs were done again, at commit one that is not known." in section
    changes = [found[seed].top1 - earlier[seed].top1 for seed in range(2)]
    for seed, change in enumerate(changes):
        assert (
            f"| bn | {seed} | {100 * earlier[seed].top1:.1f} | {100 * found[seed].top1:.1f} "
            f"| {round(200 * change)} of 200 |" in section
        )
        assert change > 0
    assert f"The mean absolute difference is {50 * sum(changes):.1f} points." in section
    means = [wording.interval(estimate([100 * line.top1 for line in lines])) for lines in (earlier, found[:2])]
    assert f"| bn | 2 | {means[0]} | {means[1]} |" in section
    assert section in report.page(read, [section])
    assert again_section(found, []) == ""


def test_one_run_alone_is_not_drawn(tmp_path):
    (first, *_) = arms(1)
    assert [file.name for file in report.write(tmp_path, [first])] == ["results.md"]
    assert "![" not in report.page([first])


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
    blocks = verdicts.blocks(table, found, "paper")
    assert [block.data for block in blocks] == ["Kinetics-400", "Something-Something V1", "Something-Something V2"]
    judged = [verdict for block in blocks for verdict in block.verdicts]
    assert [verdict.verdict for verdict in judged] == 3 * ["supported"]
    assert [re.search(r"\((.*) in the", verdict.claim.text)[1] for verdict in judged] == [
        block.data for block in blocks
    ]
    assert "| sthv1+dnr |" in text and "Weizmann" not in text
    assert "Holm's correction is for 3 contrasts." in text
    files = report.write(tmp_path, found)
    assert tmp_path / "images" / "results_4_Something_Something_V1.png" in files
    for name in re.findall(r"\((images/[^)]+)\)", text):
        assert (tmp_path / name).is_file()
    assert verdicts.blocks(table, found) == []  # nothing of the mini scale


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
        assert any(verdicts.blocks(table, found, scale) for table in TABLES.values()), run
