import dataclasses

import matplotlib.image
import numpy as np
import pytest

from dnr_jax.reproduce import cases
from dnr_jax.reproduce.experiments import runs_of
from dnr_jax.reproduce.tables import TABLES
from dnr_jax.reproduce.verdicts import verdicts
from tests.reproduce.finished import result

ALL = (*cases.INTERLACED, *cases.ALONE)


def runs(case: cases.Case, seeds: dict[str, int]) -> list:
    """Results of a case, seeds by row: of 100 videos DNR has 70 right and a seed's number more, the other row 50."""
    table = TABLES[case.table]
    return [
        result(run, np.arange(100) < (70 + run.seed if row.name == case.row else 50))
        for row in table.all_rows()
        for run in runs_of(table, row, seeds.get(row.name, 0))
        if run.data == case.place
    ]


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.table}-{case.row}-{case.place}")
def test_each_case_is_a_claim_with_the_table_s_verdict(case):
    found = runs(case, {case.row: 5, case.against: 5})
    (one,) = cases.compare([case], found)
    folds = {result.declared["fold"] for result in found}
    assert one.dnr.mean == pytest.approx(72) and one.baseline.mean == pytest.approx(50)
    assert one.found.over_seeds.mean == pytest.approx(22) and len(one.found.folds) == len(folds)
    assert one.verdict in verdicts(TABLES[case.table], found) and one.verdict.verdict == "supported"


def test_no_two_cases_have_a_name():
    for group in (cases.INTERLACED, cases.ALONE):
        assert len({case.name for case in group}) == len(group)


def test_accuracies_are_of_the_seeds_that_have_both_rows():
    case = cases.INTERLACED[0]
    (one,) = cases.compare([case], runs(case, {case.row: 5, case.against: 2}))
    assert one.dnr.mean == pytest.approx(70.5) and one.dnr.count == one.found.over_seeds.count == 2
    assert one.verdict.verdict == "open"
    assert cases.compare([case], runs(case, {case.row: 5})) == []


def test_a_case_without_a_claim_is_refused():
    wrong = dataclasses.replace(cases.INTERLACED[0], against="dnr_no_interlace")
    with pytest.raises(LookupError, match="table arms has no claim about dnr and dnr_no_interlace on generated"):
        cases.compare([wrong], [])


def test_the_table_has_a_line_a_case():
    near, *_ = cases.INTERLACED
    real = next(case for case in cases.INTERLACED if case.table == "ut")
    found = runs(near, {near.row: 5, near.against: 5})
    found += [one for one in runs(real, {real.row: 1, real.against: 1}) if one.declared["fold"] == 0]
    head, _, first, second = cases.table(cases.compare([near, real], found), "BN", "DNR").splitlines()
    assert head == "| data | training | BN | DNR | difference | seeds | verdict |"
    assert first == (
        "| generated, order in adjacent frames | as published | 50.0 | 72.0 | +22.0 (+20.0 to +24.0) | 5 | supported |"
    )
    assert second.startswith("| UT-Interaction | as published | 50.0 | 70.0 | +20.0 | 1 | open (folds: ")


def columns(file, colour: tuple[int, int, int]) -> np.ndarray:
    """Where along a picture a colour is."""
    pixels = np.round(255 * matplotlib.image.imread(file)[..., :3])
    return np.nonzero(np.all(pixels == colour, axis=-1))[1]


def test_the_picture_shows_verdicts_by_colour(tmp_path):
    """Green and to the right where DNR is better, red and to the left where it is worse; groups may be empty."""
    near, tuned, *_ = cases.INTERLACED
    green, red = (0x2A, 0x7F, 0x3F), (0xB0, 0x30, 0x30)
    middles = []
    for case, drawn, absent in (near, green, red), (dataclasses.replace(near, row="bn_interlace"), red, green):
        found = runs(case, {"dnr": 5, "bn_interlace": 5}) + runs(tuned, {tuned.row: 1, tuned.against: 1})
        file = tmp_path / "images" / "cases.png"
        cases.draw([("both", cases.compare([near, tuned], found)), ("none", [])], file)
        assert np.ptp(columns(file, drawn)) > 20 and not columns(file, absent).size
        middles.append(columns(file, drawn).mean())
    assert middles[0] > middles[1]
