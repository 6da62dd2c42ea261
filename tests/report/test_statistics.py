import numpy as np
import pytest
from scipy import stats

from tser_lightning.report.statistics import compare, summarise


def test_hand_worked_numbers() -> None:
    summary = summarise([95.0, 96.0, 97.0])
    assert (summary.n, summary.mean, summary.std) == (3, 96.0, 1.0)
    # t(0.975, 2) = 4.30265; 4.30265 / sqrt(3) = 2.48414
    assert summary.interval == pytest.approx((93.51586, 98.48414), abs=1e-5)


def test_one_seed_has_no_interval_and_says_why() -> None:
    summary = summarise([95.0])
    assert (summary.std, summary.interval) == (None, None)
    assert "one seed" in summary.reason


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_intervals_cover_what_they_claim(seeds: int) -> None:
    draws = np.random.default_rng(seeds).normal(78.3, 0.08, (2000, seeds))
    covered = 0
    for values in draws.tolist():
        low, high = summarise(values).interval or (0.0, 0.0)
        covered += low <= 78.3 <= high
    assert 0.93 <= covered / 2000 <= 0.97


def test_a_p_value_below_5_percent_comes_in_5_percent_of_equal_pairs() -> None:
    draws = np.random.default_rng(0).normal(0, 1, (2000, 2, 5))
    found = [compare(dict(enumerate(a)), dict(enumerate(b))).p for a, b in draws.tolist()]
    assert 0.03 <= np.mean([p is not None and p < 0.05 for p in found]) <= 0.07


def test_the_test_is_scipys_over_the_common_seeds() -> None:
    ours = {1: 96.1, 2: 95.9, 3: 96.6, 9: 10.0}
    base = {1: 95.0, 2: 95.5, 3: 95.2, 8: 99.0}
    comparison = compare(ours, base)
    expected = stats.ttest_rel([96.1, 95.9, 96.6], [95.0, 95.5, 95.2])
    assert comparison.n == 3
    assert comparison.difference == pytest.approx(2.9 / 3)
    assert comparison.p == pytest.approx(float(expected.pvalue))


def test_no_test_where_there_can_be_none() -> None:
    assert compare({1: 1.0}, {2: 1.0}).reason == "no seed in common with the baseline"
    assert compare({1: 1.0, 2: 2.0}, {2: 1.5}).reason == "one seed in common with the baseline"
    same = compare({1: 1.1, 2: 2.1, 3: 3.1}, {1: 1.0, 2: 2.0, 3: 3.0})
    assert same.p is None
    assert same.difference == pytest.approx(0.1)
    assert "same for every seed" in same.reason


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_have_no_difference_and_no_p(bad: float) -> None:
    found = compare({1: 95.0, 2: bad}, {1: 94.0, 2: 95.0})
    assert (found.n, found.difference, found.p, found.reason) == (2, None, None, "not all values are finite")
