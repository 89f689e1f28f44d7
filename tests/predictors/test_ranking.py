from __future__ import annotations

import math

import numpy as np
import pytest

from predictors import ScoreError
from predictors.ranking import Statistic, bootstrap_interval, kendall_tau, spearman_rho


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
