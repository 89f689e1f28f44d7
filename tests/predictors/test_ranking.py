from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import stats

from predictors import ScoreError
from predictors.ranking import (
    Statistic,
    bootstrap_interval,
    kendall_tau,
    ndcg_at_k,
    partial_correlation,
    spearman_rho,
    top_k_regret,
    within_groups,
)


def test_kendall_by_hand() -> None:
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx((5 - 1) / 6)
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_ties_are_corrected_for() -> None:
    # pairs: 2 concordant, 0 discordant, 1 tied in a: tau-b = 2 / sqrt((3 - 1) * 3)
    assert kendall_tau([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / math.sqrt(6))


def test_spearman_by_hand() -> None:
    assert spearman_rho([10, 20, 30, 40], [1, 2, 4, 3]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert spearman_rho([1, 2, 3], [1, 8, 27]) == pytest.approx(1)


@pytest.mark.parametrize("statistic", [kendall_tau, spearman_rho])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1, 2], [1, 2, 3], "equal length"),
        ([[1, 2]], [[1, 2]], "equal length"),
        ([1], [1], "at least 2"),
        ([1, math.nan, 3], [1, 2, 3], "1 of 3 numbers in the first list are NaN"),
        ([1, 2, 3], [5, 5, 5], "second list are 5, so they rank nothing"),
    ],
)
def test_lists_without_a_ranking_are_refused(
    statistic: Statistic, a: list[float], b: list[float], message: str
) -> None:
    with pytest.raises(ScoreError, match=message):
        statistic(a, b)


def test_the_interval_holds_the_statistic_and_narrows_with_more_pairs() -> None:
    def interval(pairs: int) -> tuple[float, float, float]:
        rng = np.random.default_rng(0)
        a = rng.normal(size=pairs)
        b = a + rng.normal(size=pairs)
        low, high = bootstrap_interval(spearman_rho, a, b, rng=rng, resamples=200)
        return low, spearman_rho(a, b), high

    few, many = interval(20), interval(200)
    assert few[0] < few[1] < few[2]
    assert many[2] - many[0] < 0.6 * (few[2] - few[0])


def test_the_interval_depends_on_nothing_but_the_generator() -> None:
    def once() -> tuple[float, float]:
        rng = np.random.default_rng(3)
        return bootstrap_interval(kendall_tau, [1, 2, 3, 4, 5], [2, 1, 3, 5, 4], rng=rng, resamples=50)

    assert once() == once()


def test_an_impossible_interval_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ScoreError, match="level must lie"):
        bootstrap_interval(kendall_tau, [1, 2], [1, 2], rng=rng, level=95)


@pytest.mark.parametrize("statistic", [kendall_tau, spearman_rho])
def test_an_interval_of_known_statistics_is_that_of_any_other(statistic: Statistic) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=30).round(1)
    b = (a + rng.normal(size=30)).round(1)
    at_once = bootstrap_interval(statistic, a, b, rng=np.random.default_rng(1), resamples=100)
    one_by_one = bootstrap_interval(lambda x, y: statistic(x, y), a, b, rng=np.random.default_rng(1), resamples=100)
    assert at_once == pytest.approx(one_by_one)


def test_intervals_of_a_thousand_pairs_take_no_time() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=1000)
    b = a + rng.normal(size=1000)
    for statistic in (kendall_tau, spearman_rho):
        start = time.process_time()
        low, high = bootstrap_interval(statistic, a, b, rng=rng)
        assert low < statistic(a, b) < high and time.process_time() - start < 3


def test_regret_by_hand() -> None:
    scores, truth = [5, 9, 7, 1], [70, 60, 80, 90]
    assert [top_k_regret(scores, truth, k) for k in (1, 2, 3, 4)] == [30, 10, 10, 0]
    assert top_k_regret([1, 1, 2], [3, 9, 3], 2) == 6  # the first of equals


def test_ndcg_by_hand() -> None:
    """Gains 3, 1, 2 in the order of the scores, discounts 1, 1 / log2(3), 1 / 2."""
    scores, truth, second = [3, 2, 1], [3, 1, 2], 1 / math.log2(3)
    assert ndcg_at_k(scores, truth, 3) == pytest.approx((3 + second + 2 / 2) / (3 + 2 * second + 1 / 2))
    assert ndcg_at_k(scores, truth, 2) == pytest.approx((3 + second) / (3 + 2 * second))
    assert ndcg_at_k(scores, truth, 1) == 1
    # The first two share two places: each gains (3 + 1) / 2.
    assert ndcg_at_k([2, 2, 1], truth, 2) == pytest.approx(2 * (1 + second) / (3 + 2 * second))


@pytest.mark.parametrize("k", [1, 7, 50])
def test_ndcg_is_that_of_scikit_learn(k: int) -> None:
    from sklearn.metrics import ndcg_score

    rng = np.random.default_rng(0)
    scores, truth = rng.integers(12, size=50), rng.random(50)
    assert ndcg_at_k(scores, truth, k) == pytest.approx(ndcg_score([truth], [scores], k=k))


@pytest.mark.parametrize("k", [0, 4])
def test_a_k_beyond_the_items_is_refused(k: int) -> None:
    for measure in (top_k_regret, ndcg_at_k):
        with pytest.raises(ScoreError, match=f"k={k} must lie between 1 and the 3"):
            measure([1, 2, 3], [1, 2, 3], k)
    with pytest.raises(ScoreError, match="not be negative, but the least is -1"):
        ndcg_at_k([1, 2, 3], [-1, 2, 3], 1)


def test_what_a_third_list_explains_is_taken_off() -> None:
    """Both are the third plus something of their own: correlated with each other, and not without it."""
    rng = np.random.default_rng(0)
    given, own, other = rng.normal(size=(3, 2000))
    a, b = given + own, given + other
    assert spearman_rho(a, b) > 0.4
    assert abs(partial_correlation(a, b, given)) < 0.05
    assert partial_correlation(a, a + 0.1 * other, given) > 0.9


def test_the_partial_correlation_is_that_of_residuals() -> None:
    rng = np.random.default_rng(0)
    a, b, given = rng.integers(9, size=(3, 40)).astype(float)
    x, y, z = (stats.rankdata(v) for v in (a, b, given))
    left = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (x, y)]
    assert partial_correlation(a, b, given) == pytest.approx(np.corrcoef(*left)[0, 1])


def test_a_list_explained_fully_is_refused() -> None:
    with pytest.raises(ScoreError, match="nothing is left"):
        partial_correlation([1, 2, 3, 4], [2, 1, 4, 3], [10, 20, 30, 40])


def test_groups_by_hand() -> None:
    """Three items with rho -1/2, two with rho 1, and two groups that rank nothing."""
    a = [1, 2, 3, 1, 2, 5, 5, 7]
    b = [3, 1, 2, 1, 2, 1, 2, 3]
    found = within_groups(a, b, [0, 0, 0, 1, 1, 2, 2, 3])
    assert found.rho == pytest.approx((3 * -0.5 + 2 * 1) / 5)
    assert found.groups == 2 and found.items == 5


def test_groups_that_rank_nothing_are_refused() -> None:
    with pytest.raises(ScoreError, match="None of 3 groups"):
        within_groups([1, 2, 3], [1, 2, 3], [1, 2, 3])
    with pytest.raises(ScoreError, match="shape"):
        within_groups([1, 2, 3], [1, 2, 3], [1, 2])
