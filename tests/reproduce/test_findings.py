import re

import numpy as np
import pytest

from dnr_jax.config import ConfigError
from dnr_jax.reproduce import findings, report, verdicts
from dnr_jax.reproduce.experiments import runs_of
from dnr_jax.reproduce.statistics import Contrast, Estimate
from dnr_jax.reproduce.tables import BEATS, DATA, TABLES
from tests.paths import REPOSITORY
from tests.reproduce.finished import SHARES, fine_tuned, result, runs

DOCS = REPOSITORY / "docs"
TEXTS = sorted((DOCS / "results").glob("*.md.in"))


def test_the_pages_are_those_of_the_committed_lines(tmp_path):
    """``dnr reproduce --report`` makes them; no figure of a run in them is typed."""
    found, _ = report.committed(DOCS)
    docs = tmp_path / "docs"
    (docs / "results").mkdir(parents=True)
    for kept in (*TEXTS, DOCS / "results" / report.EARLIER, *(DOCS / "results").glob("accelerator_*.json")):
        (docs / "results" / kept.name).write_text(kept.read_text())
    (tmp_path / "README.md").write_text((REPOSITORY / "README.md").read_text())
    written = findings.write(docs, found)
    pages = {path.relative_to(tmp_path).as_posix() for path in written}
    assert pages == {"README.md", "docs/claims.md", "docs/when_dnr_helps.md", "docs/images/when_dnr_helps.png"}
    for path in written:
        same = REPOSITORY / path.relative_to(tmp_path)
        assert same.is_file() if path.suffix == ".png" else path.read_text() == same.read_text()


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_figures_in_the_words_were_measured(text):
    """They are of benchmarks and of runs before the command, and stand in the sections of the results."""
    measured = " ".join(part.read_text() for part in (DOCS / "results").glob("*.part"))
    figures = set(re.findall(r"\d+\.\d+", text.read_text()))
    assert figures - set(re.findall(r"\d+\.\d+", measured)) <= {"0.25"}  # which tests of the cells' gain hold


def test_arms_have_their_accuracies_and_verdicts_in_words():
    found = runs("arms", 5, SHARES)
    text = findings.fill("{{arms}}\n{{summary}}", found)
    assert "| BN with interlacing | 81.0 (79.0 to 83.0) | 5 |" in text
    assert re.search(
        r"- DNR beats BN with interlacing: -20\.0 points \(.*; 5 seeds\), \*contradicted: it was the other way", text
    )
    assert re.search(r"- DNR beats BN: \+20\.0 points \(.*; 5 seeds\), \*supported\*", text)


def test_real_videos_have_the_four_arms_and_the_verdict_on_the_fair_claim():
    assert findings.fill("{{real}}", []) == findings.NOTHING
    found = runs("ut", 5, SHARES) + [
        one for one in runs("hockey", 2, SHARES) if one.declared["data"] == "hockey_fights:200"
    ]
    head, _, interactions, fights = findings.fill("{{real}}", found).splitlines()
    assert head.startswith("| | BN | BN with interlacing | DNR without interlacing | DNR | DNR - BN with")
    cells = interactions.strip("| ").split(" | ")
    assert cells[0] == "UT-Interaction" and cells[2].endswith("; 5")
    assert cells[5] == "-20.0 points (-20.0 to -20.0; 5 seeds)"
    assert cells[6] == "contradicted: it was the other way round"
    assert fights.startswith("| hockey fights, 200 training videos |") and fights.endswith("| open |")


def test_claims_stand_below_their_verdicts():
    found = runs("arms", 5, SHARES)
    assert "The four arms: DNR beats BN: +20.0" in findings.fill("{{supported}}", found)
    assert findings.fill("{{contradicted}}", found) == findings.NOTHING
    questions = findings.fill("{{questions}}", found)  # the paper has no baseline that is interlaced
    assert "**The four arms**\n\n- DNR beats BN with interlacing: -20.0 points (" in questions
    assert questions.count("**The four arms**") == 1 and "*contradicted: it" in questions
    assert "The four arms: DNR beats BN:" not in findings.fill("{{open}}", found)
    assert "The four arms: DNR beats BN: +20.0" in findings.fill("{{open}}", runs("arms", 2, SHARES))


def test_no_claim_may_be_open():
    assert findings.claims([], "open") == "None." and findings.claims([], "supported") == findings.NOTHING


def lines(verdict: str, found: list) -> list[str]:
    """The claims below a verdict."""
    return findings.fill(f"{{{{{verdict}}}}}", found).splitlines()


def test_a_contrast_that_several_tables_have_stands_once_with_all_of_them():
    (line,) = lines("supported", runs("arms", 5, SHARES))
    assert line.startswith("- The four arms: DNR beats BN: +20.0 points (")
    assert "*But* DNR is interlaced and BN is not, as in the paper; with neither interlaced +10.0 points (" in line
    assert "; with both -20.0 points (" in line
    assert line.endswith(
        ". The same runs: Table 2: DNR adds to resnet50; Table 4: DNR adds in first training (Kinetics-400 in the "
        "paper); Table 6: DNR adds to tsn."
    )


def test_a_verdict_names_its_data_where_they_are_not_the_main_ones():
    found = fine_tuned()
    (line,) = lines("supported", found)
    assert line.startswith("- Table 4, on Weizmann actions in opposite order: DNR adds in fine-tuning (Something-Somet")
    far = findings.fill("{{questions}}", runs("far", 5, SHARES))
    assert "longer training, on generated videos, gap 6**\n\n- DNR beats BN: +20.0 points" in far


def test_claims_that_nobody_has_run_are_open():
    open_ = lines("open", runs("arms", 5, SHARES))
    assert "- Table 6: DNR adds to tdn: not run yet" in open_
    assert "- The four arms on UT-Interaction: DNR beats BN: not run yet" in open_
    assert (
        "- Table 4, on UT-Interaction: DNR adds in fine-tuning (Something-Something V2 in the paper): not run yet"
        in open_
    )
    papers = [(table, claim) for table in TABLES.values() for claim in table.claims if not claim.own]
    assert {table.key for table, _ in papers} & {"1a-far", "1b-far", "1d-far", "far", "why", "knobs", "tuned"} == set()
    said = "\n".join(
        sum((lines(verdict, []) for verdict in ("supported", "contradicted", "not seen here", "open")), [])
    )
    assert all(claim.text in said for _, claim in papers)


def test_what_has_to_be_known_with_a_verdict_stands_beside_it():
    shares = SHARES | {"method=cl+ct": 0.6, "method=ct,location=2": 0.45}
    (line,) = [line for line in lines("supported", runs("1a", 5, shares)) if "both beat CT alone" in line]
    assert ". *But* both are interlaced, CT alone is not; with nothing interlaced +5.0 points (" in line


def test_a_trend_over_a_knob_is_a_claim_of_all_values():
    table, rng = TABLES["knobs"], np.random.default_rng(0)
    margins = {"generated:contrast=1": 0, "generated:contrast=3": 10, "generated:contrast=6": 30}
    found = [
        result(run, rng.permutation(200) < 100 + (margins[run.data] + 2 * run.seed if row.name == "dnr" else 0))
        for row in table.all_rows()
        if row.name in ("dnr", "bn_interlace")
        for run in runs_of(table, row, 5)
        if run.data in margins
    ]
    (verdict,) = [verdict for verdict in verdicts.verdicts(table, found) if verdict.found]
    assert verdict.claim.text.endswith("grows with contrast")
    assert verdict.found.over_seeds.mean == pytest.approx(7.5)  # 15 points over two steps
    assert "grows with contrast: +7.5 points from one value to the next (" in findings.fill("{{questions}}", found)
    assert "contrast" not in findings.fill("{{supported}}", found)  # the paper says nothing about it
    assert "grows with contrast (points from one value to the next) | +7.5" in report.page(found)


def test_margins_stand_beside_the_knobs():
    table, shares = TABLES["knobs"], SHARES | {"dnr,gain=4": 0.9}
    found = [
        result(run, np.arange(100) < round(100 * shares[row.name]))
        for row in table.all_rows()
        for run in runs_of(table, row, 2)
        if run.data == "generated:gap=6"
    ]
    (line,) = findings.fill("{{knobs}}", found).splitlines()[2:]
    assert line.startswith("| gap=6 | 80.0 (80.0 to 80.0); 2 | -20.0 points (") and "| +10.0 points (" in line
    assert findings.fill("{{knobs}}", []) == findings.NOTHING


def test_reasons_are_in_the_order_of_what_they_change():
    shares = SHARES | {"dnr,decay=0": 0.6, "dnr,gain=4": 0.7, "dnr_no_interlace,gain=4": 0.45}
    *listed, empty, meant = findings.fill("{{reasons}}", runs("why", 5, shares)).splitlines()
    assert [re.search(r"`(.*)`: (.*?) points .*, \*(.*?)[:*]", line).groups() for line in listed] == [
        ("dnr,gain=4", "+10.0", "supported"),
        ("dnr,decay=0", "+0.0", "not seen here"),
        ("dnr_no_interlace,gain=4", "-5.0", "not seen here"),
    ]
    assert (
        empty == "" and meant == "In names: `decay`: factor of the weight decay; `gain`: factor of the predicted scale."
    )


def test_learning_rates_are_a_table_of_both_arms():
    text = findings.fill("{{rates}}", runs("rates", 3, {"dnr,rate=2": 0.6, "bn_interlace,rate=0.5": 0.7}))
    assert re.search(r"\| BN with interlacing \| \d+\.\d \(.*\) \|  \|  \|", text)
    assert re.search(r"\| DNR \|  \|  \| \d+\.\d \(.*\) \|", text)


def test_the_rate_that_the_rule_chooses_is_said():
    """Where it is better by more than the interval of the paired difference."""
    shares = {"dnr,rate=1": 0.6, "dnr,rate=2": 0.7, "bn_interlace,rate=1": 0.7, "bn_interlace,rate=2": 0.7}
    text = findings.fill("{{rates}}", runs("rates", 3, shares))
    assert "DNR is better at 2 x, the edge of what was tried, by more than seeds may differ: +10.0 points" in text
    assert "For BN with interlacing no rate is better than 1 x" in text
    one_seed = findings.fill("{{rates}}", runs("rates", 1, shares))
    assert "For DNR no rate is better" in one_seed


def test_a_sentence_that_is_not_said_leaves_no_space():
    assert findings.fill("One. {{far}} {{relay}}\nTwo. {{far}} Three.", []) == "One.\nTwo. Three."
    assert findings.fill("- {{far}} {{relay}}\n- One.\n- {{far}}\n", []) == "- One.\n"


def test_the_same_runs_with_another_verdict_are_named(monkeypatch):
    """As where a p-value is small enough for the correction of one table, and not for that of another."""
    estimate = Estimate(5.0, 4.0, 5)
    judged = {"arms": (BEATS[0], "supported"), "2": (TABLES["2"].claims[1], "not seen here")}

    def verdicts_of(table, found):
        if table.key not in judged:
            return []
        claim, verdict = judged[table.key]
        return [verdicts.Verdict(DATA, claim, Contrast(estimate, estimate, 0.01), 0.04, verdict, 1)]

    monkeypatch.setattr(findings, "verdicts", verdicts_of)
    alike = "The same runs, corrected for another number of contrasts, are"
    assert lines("supported", [])[0].endswith(f"{alike} *not seen here*: Table 2: DNR adds to resnet50.")
    assert lines("not seen here", [])[0].endswith(f"{alike} *supported*: The four arms: DNR beats BN.")


def test_what_dnr_costs_is_said_of_every_machine():
    text = findings.fill("{{accelerators}}", [], machines=sorted((DOCS / "results").glob("accelerator_*.json")))
    first, *others = text.splitlines()
    assert first == (
        "- NVIDIA H200, tsn_r50 in bfloat16, XLA's defaults, 5 steps are started before one is waited for: a train "
        "step takes 1.06 times as long, an evaluation step 1.10 times, compiling the train step 1.22 times."
    )
    assert any("XLA's options `--xla_gpu_enable_triton_gemm=false`, each step is waited for" in line for line in others)
    assert findings.fill("{{accelerators}}", []) == findings.NOTHING


def test_cases_that_were_not_run_have_no_table():
    assert findings.fill("{{cases}}{{cases alone}}", []) == 2 * findings.NOTHING
    assert findings.fill("{{cases}}", runs("arms", 5, SHARES)).count("\n") == 2


def test_tables_without_a_run_are_named():
    text = findings.fill("{{not run}}", runs("arms", 1, SHARES))
    assert "- Table 1b: relay distance" in text and "- Longer training" in text and "The four arms\n" not in text


def test_what_cannot_be_filled_is_refused():
    with pytest.raises(ConfigError, match=r"\{\{arm\}\}: there is no such field; fields: steps, arms"):
        findings.fill("{{arm}}", [])
    with pytest.raises(ConfigError, match=r"README.md has no place for the results"):
        findings.between("# Title\n", "figures")
