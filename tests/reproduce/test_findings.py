import re

import numpy as np
import pytest

from dnr_jax.config import ConfigError
from dnr_jax.reproduce import findings, report, verdicts
from dnr_jax.reproduce.experiments import runs_of
from dnr_jax.reproduce.statistics import Contrast, Estimate
from dnr_jax.reproduce.tables import DATA, TABLES, trend
from tests.paths import REPOSITORY
from tests.reproduce.finished import fine_tuned, result

DOCS = REPOSITORY / "docs"
TEXTS = sorted((DOCS / "results").glob("*.md.in"))


def runs(table: str, seeds: int, shares: dict[str, float]) -> list:
    """Results of 200 videos of the rows that have a share, which is that of the second seed; a point more each seed."""
    rng = np.random.default_rng(0)
    return [
        result(run, rng.permutation(200) < round(200 * share) + 2 * (run.seed % 100) - 2)
        for row in TABLES[table].all_rows()
        if (share := shares.get(row.name)) is not None
        for run in runs_of(TABLES[table], row, seeds)
    ]


ARMS = {"bn": 0.4, "bn_interlace": 0.8, "dnr_no_interlace": 0.5, "dnr": 0.6}


def test_the_pages_are_those_of_the_committed_lines(tmp_path):
    """``dnr reproduce --report`` makes them; no figure of a run in them is typed."""
    found, _ = report.committed(DOCS)
    docs = tmp_path / "docs"
    (docs / "results").mkdir(parents=True)
    for text in TEXTS:
        (docs / "results" / text.name).write_text(text.read_text())
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
    found = runs("arms", 5, ARMS)
    text = findings.fill("{{arms}}\n{{summary}}", found)
    assert "| BN with interlacing | 81.0 (79.0 to 83.0) | 5 |" in text
    assert re.search(
        r"- DNR beats BN with interlacing: -20\.0 points \(.*; 5 seeds\), \*contradicted: it was the other way", text
    )
    assert re.search(r"- DNR beats BN: \+20\.0 points \(.*; 5 seeds\), \*supported\*", text)


@pytest.mark.parametrize(
    ("dnr", "seeds", "said"),
    [
        (0.95, 5, "DNR beats the baseline"),
        (0.6, 5, "BN with interlacing is the better choice"),
        (0.8, 5, "show no difference"),
        (0.95, 4, "not seeds enough"),
    ],
)
def test_advice_follows_the_fair_baseline(dnr, seeds, said):
    found = runs("arms", seeds, ARMS | {"dnr": dnr})
    assert said in findings.fill("{{advice}}", found)


@pytest.mark.parametrize(
    ("dnr", "seeds", "said"),
    [
        (0.95, 5, "With each at the learning rate that was chosen for it, DNR was better."),
        (0.6, 5, "So it is with each at the learning rate that was chosen for it."),
        (0.8, 5, "(p 1.000), which does not say that they are equal."),
        (0.95, 4, "on data of your own."),
    ],
)
def test_advice_looks_at_tuned_learning_rates_too(dnr, seeds, said):
    tuned = {"dnr,rate=2": dnr, "bn_interlace,rate=0.5": 0.8, "bn_interlace,rate=2": 0.8}
    found = runs("arms", 5, ARMS) + runs("tuned", seeds, ARMS | tuned)
    assert findings.fill("{{advice}}", found).endswith(said)


def test_a_difference_that_is_not_significant_is_said_with_its_figures():
    """Between rates as tuned, where DNR is 2.5 points behind in the mean and seeds differ by as much."""
    table, rng = TABLES["tuned"], np.random.default_rng(0)
    right = {"dnr,rate=2": (150, 158, 162, 146, 159), "bn_interlace,rate=0.5": (160, 160, 160, 160, 160)}
    found = [
        result(run, rng.permutation(200) < right[row.name][run.seed])
        for row in table.rows
        if row.name in right
        for run in runs_of(table, row, 5)
    ]
    text = findings.fill("{{advice}}", found)
    assert "DNR is behind: the difference is -2.5 points (-6.7 to +1.7; 5 seeds). This is not significant" in text


def test_real_videos_have_the_four_arms_and_the_verdict_on_the_fair_claim():
    assert findings.fill("{{real}}", []) == findings.NOTHING
    found = runs("ut", 5, ARMS) + [
        one for one in runs("hockey", 2, ARMS) if one.declared["data"] == "hockey_fights:200"
    ]
    head, _, interactions, fights = findings.fill("{{real}}", found).splitlines()
    assert head.startswith("| | BN | BN with interlacing | DNR without interlacing | DNR | DNR - BN with")
    cells = interactions.strip("| ").split(" | ")
    assert cells[0] == "UT-Interaction" and cells[2].endswith("; 5")
    assert cells[5] == "-20.0 points (-20.0 to -20.0; 5 seeds)"
    assert cells[6] == "contradicted: it was the other way round"
    assert fights.startswith("| hockey fights, 200 training videos |") and fights.endswith("| open |")


def test_there_is_advice_before_any_run():
    assert "not seeds enough" in findings.fill("{{advice}}", [])
    assert findings.fill("{{supported}}{{reasons}}{{rates}}", []) == 3 * findings.NOTHING


def test_claims_stand_below_their_verdicts():
    found = runs("arms", 5, ARMS)
    assert "The four arms: DNR beats BN: +20.0" in findings.fill("{{supported}}", found)
    assert findings.fill("{{contradicted}}", found) == findings.NOTHING
    questions = findings.fill("{{questions}}", found)  # the paper has no baseline that is interlaced
    assert "**The four arms**\n\n- DNR beats BN with interlacing: -20.0 points (" in questions
    assert questions.count("**The four arms**") == 1 and "*contradicted: it" in questions
    assert "The four arms: DNR beats BN:" not in findings.fill("{{open}}", found)
    assert "The four arms: DNR beats BN: +20.0" in findings.fill("{{open}}", runs("arms", 2, ARMS))


def lines(verdict: str, found: list) -> list[str]:
    """The claims below a verdict."""
    return findings.fill(f"{{{{{verdict}}}}}", found).splitlines()


def test_a_contrast_that_several_tables_have_stands_once_with_all_of_them():
    (line,) = lines("supported", runs("arms", 5, ARMS))
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
    far = findings.fill("{{questions}}", runs("far", 5, ARMS))
    assert "longer training, on generated videos, gap 6**\n\n- DNR beats BN: +20.0 points" in far


def test_claims_that_nobody_has_run_are_open():
    open_ = lines("open", runs("arms", 5, ARMS))
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
    shares = ARMS | {"method=cl+ct": 0.6, "method=ct,location=2": 0.45}
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
    assert "grows with contrast: +7.5 points" in findings.fill("{{questions}}", found)
    assert "contrast" not in findings.fill("{{supported}}", found)  # the paper says nothing about it
    assert "grows with contrast | +7.5" in report.page(found)


@pytest.mark.parametrize(
    ("dnr", "seeds", "said"),
    [
        (0.9, 3, "DNR catches up with longer training: the margin changes by +"),
        (0.4, 3, "Longer training is no help to DNR: the margin changes by -"),
        (0.9, 1, "; one seed is a hint and no proof."),
        (0.65, 3, "+0.0 points (+0.0 to +0.0; 3 seeds), an interval that has 0 in it."),
    ],
)
def test_what_longer_training_changes_is_said_as_far_as_it_is_known(dnr, seeds, said):
    shares = ARMS | {"dnr,steps=4": dnr, "bn_interlace,steps=4": 0.85}
    text = findings.fill("{{lengths}}", runs("schedule", seeds, shares))
    assert said in text and "| | 1 x | 2 x | 4 x |" in text
    assert re.search(r"\| BN with interlacing \| [78].*; \d \|  \| 8.*; \d \|", text)
    assert "In 4 times the steps: DNR" in findings.fill("{{longest}}", runs("schedule", seeds, shares))
    assert findings.fill("{{longest}}", runs("schedule", 3, ARMS)) == ""
    assert "not finished yet" in findings.fill("{{lengths}}", runs("schedule", 3, ARMS))


def test_a_start_near_1_is_compared_with_both():
    text = findings.fill("{{start}}", runs("why", 3, ARMS | {"dnr,gain=4": 0.75}))
    assert re.search(
        r"DNR has 75\.0 \(.*\): against DNR as published \+15\.0 .*, against BN with inter.* -5\.0 points", text
    )
    assert findings.fill("{{start}}", runs("why", 3, ARMS)) == ""


def test_where_order_is_told_far_apart_the_arms_are_compared_and_advice_follows():
    shares = ARMS | {"bn_interlace": 0.5, "dnr": 0.7, "dnr,steps=4": 0.8, "bn_interlace,steps=4": 0.6}
    found = runs("far", 5, shares)
    text = findings.fill("{{far}}", found)
    assert text.startswith("With 6 frames between the two poses that tell the order DNR has 71.0 (")
    assert "a difference of +20.0 points" in text and "; in 4 times the steps DNR has 81.0 (" in text
    assert findings.fill("{{far}}", []) == ""
    assert "worth its cost" in findings.fill("{{advice}}", found)
    assert "worth its cost" not in findings.fill("{{advice}}", runs("far", 3, shares))
    assert "made no case for DNR" in findings.fill("{{advice}}", runs("far", 5, shares | {"dnr": 0.3}))


@pytest.mark.parametrize(
    ("far", "grows", "said"),
    [
        ("not seen here", "supported", "in training of this length such data are where it may pay"),
        ("not seen here", "not seen here", "show no difference that would bear a choice either"),
        ("supported", "supported", "worth its cost"),
        ("open", "supported", "on data of your own."),
    ],
)
def test_a_margin_that_grows_with_the_gap_is_a_reason_to_try(far, grows, said):
    estimate = Estimate(1.0, 1.0, 5)
    found = Contrast(estimate, estimate, 0.01)
    judgements = [
        findings.Judgement(TABLES[table], verdicts.Verdict(DATA, claim, found, 0.5, verdict, 1))
        for table, claim, verdict in [
            ("arms", findings.FAIR, "contradicted"),
            ("far", findings.FAIR, far),
            ("knobs", trend("gap"), grows),
        ]
    ]
    assert findings.advice(judgements).endswith((said, f"{said}.", f"there it is {said}."))


def test_the_seed_that_prompted_a_table_is_left_out_beside_it():
    found = runs("far", 4, ARMS | {"dnr,steps=4": 0.8, "bn_interlace,steps=4": 0.6})
    shifted = [line for line in found if not (line.seed == 0 and line.declared["setting"] == {})]
    first = runs_of(TABLES["far"], TABLES["far"].all_rows()[3], 1)[0]
    text = findings.fill("{{far}}", [*shifted, result(first, np.arange(200) < 200)])
    assert "Seed 0, which prompted these runs, is counted; without it the difference is -20.0 points (" in text
    assert "; 3 seeds)." in text
    assert "Seed 0" not in findings.fill("{{far}}", [line for line in found if line.seed])


def test_gaps_are_compared_on_the_seeds_that_have_all():
    table, shares = TABLES["knobs"], {0: {"dnr": 60, "bn_interlace": 80}, 3: {"dnr": 70, "bn_interlace": 50}}
    shares[6] = {"dnr": 75, "bn_interlace": 45}
    found = [
        result(run, np.arange(100) < shares[gap][row.name])
        for gap in shares
        for row in table.all_rows()
        if row.name in shares[gap]
        for run in runs_of(table, row, 2)
        if run.data == f"generated:gap={gap}"
    ]
    one = [line for line in found if line.seed == 0 or line.declared["knobs"]["gap"] != 3]
    text = findings.fill("{{gaps}}", one)
    assert (
        "gaps of 0, 3 and 6 frames, of seed 0, DNR - BN with interlacing is -20.0 points (1 seed), +20.0 points" in text
    )
    assert "and BN with interlacing has 80.0, 50.0 and 45.0" in text
    assert "of seeds 0 and 1, " in findings.fill("{{gaps}}", found)
    assert findings.fill("{{gaps}}", runs("arms", 2, ARMS)) == ""


def test_margins_stand_beside_the_knobs():
    table, shares = TABLES["knobs"], ARMS | {"dnr,gain=4": 0.9}
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
    shares = ARMS | {"dnr,decay=0": 0.6, "dnr,gain=4": 0.7, "dnr_no_interlace,gain=4": 0.45}
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


def test_twice_the_rate_is_compared_with_both():
    shares = ARMS | {"dnr,rate=2": 0.7, "bn_interlace,rate=0.5": 0.75}
    text = findings.fill("{{tuned}}", runs("tuned", 3, shares))
    assert re.search(r"DNR has 70\.0 \(.*\): against DNR at .* \+10\.0 points .* interlacing -10\.0 points", text)
    assert "as the same rule chooses, -5.0 points" in text
    assert findings.fill("{{tuned}}", runs("tuned", 3, ARMS)) == ""


def test_a_sentence_that_is_not_said_leaves_no_space():
    assert findings.fill("One. {{far}} {{relay}}\nTwo. {{far}} Three.", []) == "One.\nTwo. Three."


def test_what_the_relay_is_worth_is_said():
    shares = {"method=dnr,relay=lstm": 0.8, "method=dnr,relay=none": 0.5, "bn_interlace": 0.55}
    text = findings.fill("{{relay}}", runs("1d-far", 3, shares))
    assert "relays nothing, has 50.0 (" in text and "interlacing is -5.0 points" in text
    apart = "Where what tells the order lies 6 frames apart, "
    assert "the relay adds +30.0 points" in text and text.startswith(f"{apart}it is the relay that helps")
    other = findings.fill("{{relay}}", runs("1d-far", 3, shares | {"method=dnr,relay=none": 0.9}))
    assert other.startswith(f"{apart}the relay adds -10.0 points")
    assert findings.fill("{{relay}}", []) == ""


def test_what_interlacing_alone_changes_is_said_of_all_data():
    found = runs("arms", 5, ARMS) + runs("ut", 5, {"bn": 0.3, "bn_interlace": 0.35})
    text = findings.fill("{{interlacing}}", found)
    assert text.startswith("Interlacing alone, which is next to free, changes BN by +40.0 points (")
    assert " on generated videos and +5.0 points (" in text and text.endswith(" on UT-Interaction.")
    assert findings.fill("{{interlacing}}", runs("arms", 5, {"bn": 0.4})) == ""


def test_relays_alone_are_summed_up_by_verdict():
    found = runs("arms", 5, ARMS) + runs("ut", 5, ARMS | {"dnr_no_interlace": 0.3})
    found += runs("far", 5, ARMS | {"dnr_no_interlace": 0.4}) + runs("hockey", 2, ARMS)
    text = findings.fill("{{alone}}", found)
    assert text.startswith("With neither interlaced, that DNR beats BN is, of 6 cases, supported: +10.0 points (")
    assert "on *generated, order in adjacent frames*; contradicted: -10.0 points (" in text
    assert text.endswith("on *UT-Interaction*; not seen here in 1; open in 3.")
    assert findings.fill("{{alone}}", []) == ""


def test_cases_that_were_not_run_have_no_table():
    assert findings.fill("{{cases}}{{cases alone}}", []) == 2 * findings.NOTHING
    assert findings.fill("{{cases}}", runs("arms", 5, ARMS)).count("\n") == 2


def test_tables_without_a_run_are_named():
    text = findings.fill("{{not run}}", runs("arms", 1, ARMS))
    assert "- Table 1b: relay distance" in text and "- Longer training" in text and "The four arms\n" not in text


def test_what_cannot_be_filled_is_refused():
    with pytest.raises(ConfigError, match=r"\{\{arm\}\}: there is no such field; fields: steps, arms"):
        findings.fill("{{arm}}", [])
    with pytest.raises(ConfigError, match=r"README.md has no place for the results"):
        findings.between("# Title\n", "figures")
