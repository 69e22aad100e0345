"""Sentences on finished runs are true of any figures; none is said without its runs."""

import re

import numpy as np
import pytest

from dnr_jax.reproduce import cases, sentences
from dnr_jax.reproduce.experiments import runs_of
from dnr_jax.reproduce.tables import TABLES
from tests.reproduce.finished import SHARES, result, runs

LATER = {"dnr,steps=4": 0.9, "bn_interlace,steps=4": 0.85}


@pytest.mark.parametrize(
    "sentence",
    [
        sentences.far,
        sentences.gaps,
        sentences.interlacing,
        sentences.knobs_range,
        sentences.longest,
        sentences.relay,
        sentences.start,
        sentences.temporal,
        sentences.tuned,
    ],
)
def test_nothing_is_said_without_runs(sentence):
    assert sentence([]) == ""


def test_cases_are_counted_by_verdict_with_those_that_are_clear():
    found = runs("arms", 5, SHARES) + runs("ut", 5, SHARES | {"dnr": 0.9}) + runs("far", 2, SHARES)
    found += [one for one in runs("hockey", 5, SHARES | {"dnr": 0.8}) if one.declared["data"] == "hockey_fights:200"]
    text = sentences.tally(found, cases.INTERLACED, "the baseline")
    assert text.startswith(
        "Of 4 comparisons with the baseline, DNR was significantly better in 1 (+10.0 points (+10.0 to +10.0; 5 seeds) "
        "on *UT-Interaction*), significantly worse in 1 (-20.0 points (-20.0 to -20.0; 5 seeds) on *generated, order "
    )
    assert text.endswith("), not significantly different in 1 and run with too few seeds in 1.")
    one = sentences.tally(runs("arms", 2, SHARES), cases.INTERLACED, "it")
    assert one.startswith(
        "Of 1 comparison with it, DNR was significantly better in 0, significantly worse in 0 and run"
    )
    assert sentences.tally([], cases.INTERLACED, "it") == ""


@pytest.mark.parametrize(
    ("dnr", "seeds", "said"),
    [
        (
            0.95,
            5,
            "Where data and training are like *generated, order in adjacent frames*, try DNR, with the baseline bes",
        ),
        (0.6, 5, "So begin with batch normalisation and interlacing"),
        (0.8, 5, "So begin with batch normalisation and interlacing"),
        (0.95, 4, "There are not seeds enough for advice; begin with batch normalisation and interlacing"),
    ],
)
def test_advice_follows_the_verdicts_against_the_fair_baseline(dnr, seeds, said):
    text = sentences.advice(runs("arms", seeds, SHARES | {"dnr": dnr}))
    assert text.startswith(said) and text.endswith("take DNR only where it beats that on data of your own.")


def test_there_is_advice_before_any_run():
    assert "not seeds enough" in sentences.advice([])


def test_what_interlacing_alone_changes_is_said_of_data_with_all_folds():
    arms = runs("arms", 5, SHARES)
    ut = runs("ut", 5, {"bn": 0.3, "bn_interlace": 0.35})
    text = sentences.interlacing(arms + ut)
    assert text.startswith("Interlacing alone changes BN by +40.0 points (")
    assert " on generated videos and +5.0 points (" in text and text.endswith(" on UT-Interaction.")
    some = [one for one in ut if one.declared["fold"] == 0]
    assert sentences.interlacing(arms + some).endswith(" on generated videos.")
    assert sentences.interlacing(runs("arms", 5, {"bn": 0.4})) == ""


def test_a_start_near_1_is_compared_with_both_over_the_seeds_of_all():
    found = runs("why", 5, SHARES) + runs("why", 3, {"dnr,gain=4": 0.75})
    text = sentences.start(found)
    assert (
        "DNR has 75.0 (72.5 to 77.5): against DNR as published +15.0 points (+15.0 to +15.0; 3 seeds), *open*; " in text
    )
    assert text.endswith("against BN with interlacing -5.0 points (-5.0 to -5.0; 3 seeds), *open*.")
    assert sentences.start(runs("why", 3, SHARES)) == ""


def test_twice_the_rate_is_compared_with_both():
    found = runs("tuned", 3, SHARES | {"dnr,rate=2": 0.7, "bn_interlace,rate=0.5": 0.75})
    text = sentences.tuned(found)
    assert re.search(r"DNR has 70\.0 \(.*\): against DNR at .* \+10\.0 points .* interlacing -10\.0 points", text)
    assert text.endswith("and where that has half the rate, -5.0 points (-5.0 to -5.0; 3 seeds), *open*.")
    assert sentences.tuned(runs("tuned", 3, SHARES)) == ""


@pytest.mark.parametrize(
    ("dnr", "seeds", "change", "verdict"),
    [(0.9, 5, "+25.0", "supported"), (0.4, 5, "-25.0", "contradicted"), (0.65, 5, "+0.0", "not seen here")],
)
def test_longer_training_is_said_with_the_verdict_on_the_trend(dnr, seeds, change, verdict):
    found = runs("schedule", seeds, SHARES | LATER | {"dnr,steps=4": dnr})
    text = sentences.longest(found)
    assert text.startswith(f"In 4 times the steps DNR has {100 * dnr + 1:.1f} (")
    assert f"The margin changes by {change} points ({change} to {change}; {seeds} seeds)" in text
    assert text.endswith(f"; that it grows with the steps is *{verdict}*.")
    assert sentences.longest(runs("schedule", 3, SHARES)) == ""


def test_means_and_their_difference_are_of_the_same_seeds():
    found = runs("schedule", 5, {"dnr,steps=4": 0.8}) + runs("schedule", 2, {"bn_interlace,steps=4": 0.85})
    assert sentences.longest(found) == (
        "In 4 times the steps DNR has 79.5 (73.1 to 85.9) and BN with interlacing 84.5 (78.1 to 90.9), a difference of "
        "-5.0 points (-5.0 to -5.0; 2 seeds)."
    )


def test_order_that_is_told_far_apart_is_said_seed_by_seed():
    shares = SHARES | {"bn_interlace": 0.5, "dnr": 0.7} | LATER
    found = runs("far", 5, shares)
    text = sentences.far(found)
    assert text.startswith("With 6 frames between the two poses that tell the order DNR has 71.0 (")
    assert (
        "+20.0 points (+20.0 to +20.0; 5 seeds), *supported*; seed by seed DNR 69.0, 70.0, 71.0, 72.0 and 73.0" in text
    )
    assert "BN with interlacing 49.0, 50.0, 51.0, 52.0 and 53.0. In 4 times the steps DNR has 91.0 (" in text
    assert "a difference of +5.0 points (+5.0 to +5.0; 5 seeds), *supported*." in text
    short = sentences.far(runs("far", 5, {"bn_interlace": 0.5, "dnr": 0.5}))
    assert "*not seen here*; seed by seed" in short and "In 4 times" not in short


def test_the_seed_that_prompted_a_table_is_left_out_beside_it():
    found = runs("far", 4, SHARES | LATER)
    shifted = [line for line in found if not (line.seed == 0 and line.declared["setting"] == {})]
    first = runs_of(TABLES["far"], TABLES["far"].all_rows()[3], 1)[0]
    text = sentences.far([*shifted, result(first, np.arange(200) < 200)])
    assert "Seed 0, which prompted these runs, is counted; without it the difference is -20.0 points (" in text
    assert "; 3 seeds)." in text
    assert "Seed 0" not in sentences.far([line for line in found if line.seed])


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
    text = sentences.gaps(one)
    assert (
        "gaps of 0, 3 and 6 frames, of seed 0, DNR - BN with interlacing is -20.0 points (1 seed), +20.0 points" in text
    )
    assert "and BN with interlacing has 80.0, 50.0 and 45.0" in text
    assert "of seeds 0 and 1, " in sentences.gaps(found)
    assert sentences.gaps(runs("arms", 2, SHARES)) == ""


def test_other_settings_of_the_knobs_are_summed_up_without_the_gaps():
    rights = {"generated:contrast=1": 50, "generated:cast=0": 70, "generated:gap=6": 90}
    table = TABLES["knobs"]
    found = [
        result(run, np.arange(100) < (rights[run.data] if row.name == "dnr" else 60))
        for row in table.all_rows()
        if row.name in ("dnr", "bn_interlace")
        for run in runs_of(table, row, 1)
        if run.data in rights
    ]
    text = sentences.knobs_range(found + runs("arms", 1, SHARES))
    assert text.startswith("At 2 other settings of contrast, colour cast,")
    assert text.endswith("the mean difference is below 0 in 1, from -10.0 to +10.0 points.")


@pytest.mark.parametrize(("without", "worth"), [(0.5, "+30.0"), (0.9, "-10.0")])
def test_what_the_relay_is_worth_is_said_with_its_verdict(without, worth):
    shares = {"method=dnr,relay=lstm": 0.8, "method=dnr,relay=none": without, "method=dnr,relay=se": 0.85}
    text = sentences.relay(runs("1d-far", 5, shares))
    said = "contradicted" if worth.startswith("-") else "supported"
    assert f"DNR has 81.0 (79.0 to 83.0) with its relay and {100 * without + 1:.1f} (" in text
    assert (
        f"without: {worth} points ({worth} to {worth}; 5 seeds), *{said}*. The LSTM among the cells: against SE" in text
    )
    assert text.endswith("against SE -5.0 points (-5.0 to -5.0; 5 seeds), *contradicted*.")
    alone = sentences.relay(runs("1d-far", 1, {row: share for row, share in shares.items() if "se" not in row}))
    assert alone.endswith(f"without: {worth} points (1 seed), *open*.")


def test_networks_with_a_sense_of_time_are_said_one_by_one():
    found = runs("6", 5, {"tsm": 0.8, "tsm+dnr": 0.6}) + runs("5", 5, {"slowfast": 0.5, "slowfast+dnr": 0.8})
    text = sentences.temporal(found)
    assert text.startswith("In networks with temporal modules of their own, DNR changes top-1 by -20.0 points (")
    assert "*contradicted* (TSM). In 3D networks, DNR changes top-1 by +30.0 points (" in text
    assert text.endswith("*supported* (SlowFast).")
    later = sentences.temporal(found + runs("5-long", 5, {"slowfast,steps=4": 0.9, "slowfast+dnr,steps=4": 0.9}))
    assert "(SlowFast); in 4 times the steps, by +0.0 points (" in later


def test_claims_of_the_paper_are_counted():
    text = sentences.claims_tally(runs("arms", 5, SHARES))
    count = sum(not claim.own for table in TABLES.values() for claim in table.claims)
    assert text.startswith(f"Of {int(text.split()[1])} contrasts in the paper's claims, 4 supported and ")
    assert int(text.split()[1]) >= count  # claims of tables with several data sets count on each


def test_what_an_earlier_set_of_the_runs_said_stands_beside_the_present_one():
    now, earlier = runs("arms", 5, SHARES), runs("arms", 5, SHARES | {"dnr": 0.5, "bn": 0.5})
    text = sentences.again(now, earlier)
    assert text.startswith("20 runs of the four arms were done a second time, with a later version of the code")
    assert (
        "the mean absolute change of a run was 5.0 points. DNR beats BN: +0.0 points (+0.0 to +0.0; 5 seeds), " in text
    )
    assert (
        "*not seen here* before, +20.0 points (+20.0 to +20.0; 5 seeds), *supported* now; DNR beats BN with inter"
        in text
    )
    assert sentences.again(now, []) == ""
