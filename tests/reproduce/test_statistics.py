import math

import numpy as np
import pytest
from scipy import stats

from dnr_jax.reproduce import statistics


def test_an_estimate_is_the_mean_with_the_t_interval_of_the_tables():
    found = statistics.estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3 and found.count == 5
    assert found.half == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)  # 97.5% of t with 4 degrees of freedom
    assert (found.low, found.high) == (found.mean - found.half, found.mean + found.half)


def test_one_value_has_no_interval_and_none_no_mean():
    assert math.isnan(statistics.estimate([7.0]).half)
    with pytest.raises(ValueError, match="no values"):
        statistics.estimate([])


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [statistics.estimate(rng.normal(3, 2, 5)) for _ in range(2000)]
    assert 0.94 < np.mean([estimate.low < 3 < estimate.high for estimate in found]) < 0.96


def test_p_values_are_those_of_scipys_test():
    for values in ([1.0, 2.0, 4.0], [-0.5, 0.1, 0.2, -0.3]):
        assert statistics.p_value(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


@pytest.mark.parametrize("values, p", [([], 1), ([5.0], 1), ([0.0, 0.0], 1), ([2.0, 2.0, 2.0], 0)])
def test_p_values_at_the_edges(values, p):
    assert statistics.p_value(values) == p


def test_holm_multiplies_the_smallest_by_the_number_and_never_falls():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def outcome(*rows: str, fold: int = 0) -> dict:
    return {(seed, fold): np.array(list(row)) == "1" for seed, row in enumerate(rows)}


def test_a_contrast_is_paired_by_seed_and_by_video():
    found = statistics.contrast({"a": outcome("1111", "1110"), "b": outcome("1000", "1100")}, {"a": 1, "b": -1})
    assert (found.over_seeds.mean, found.over_seeds.count) == (50, 2)
    assert found.over_seeds.half == pytest.approx(statistics.estimate([75, 25]).half)
    assert found.over_videos.half == pytest.approx(statistics.estimate([0, 50, 100, 50]).half)
    assert found.p == max(statistics.p_value([75, 25]), statistics.p_value([0, 50, 100, 50]))


def test_a_contrast_counts_the_seeds_that_all_rows_have_with_all_folds():
    a = outcome("11", "11", "11") | outcome("1111", "1111", "1111", fold=1)
    b = outcome("00", "00") | outcome("0000", fold=1)
    found = statistics.contrast({"a": a, "b": b}, {"a": 1, "b": -1})
    assert (found.over_seeds.count, found.over_videos.count) == (1, 6)
    assert found.folds == (0, 1)
    assert statistics.contrast({"a": a, "b": {}}, {"a": 1, "b": -1}) is None


def test_fewer_folds_than_there_are_bear_no_verdict():
    found = contrast(3, 5)
    assert statistics.verdict(found, 0.01, folds=1) == "supported"
    assert statistics.verdict(found, 0.01, folds=4) == "open"


def contrast(mean: float, count: int) -> statistics.Contrast:
    value = statistics.Estimate(mean, 1.0, count)
    return statistics.Contrast(value, value, 0.0)


@pytest.mark.parametrize(
    "found, adjusted, verdict",
    [
        (contrast(3, 5), 0.049, "supported"),
        (contrast(-3, 5), 0.049, "contradicted"),
        (contrast(3, 5), 0.05, "not seen here"),
        (contrast(30, 4), 0.0001, "open"),
        (None, 1.0, "open"),
    ],
)
def test_the_verdict_follows_the_written_rule(found, adjusted, verdict):
    assert statistics.verdict(found, adjusted) == verdict
