import math

import numpy as np
import pytest
from scipy import stats

from predictors import resampling
from predictors.resampling import counts, kendall, spearman


def test_counts_by_hand() -> None:
    assert counts(np.array([[0, 0, 2], [1, 2, 1]]), 4).tolist() == [[2, 0, 1, 0], [0, 2, 1, 0]]


@pytest.mark.parametrize("chunk", [1, 2000, 2**23])
@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_both_are_those_of_scipy(decimals: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_CHUNK_BYTES", chunk)
    rng = np.random.default_rng(0)
    a = rng.normal(size=60).round(decimals)
    b = (a + rng.normal(size=60)).round(decimals)
    picks = rng.integers(60, size=(25, 60))
    held = counts(picks, 60)
    assert spearman(a, b, held) == pytest.approx([stats.spearmanr(a[p], b[p]).statistic for p in picks])
    assert kendall(a, b, held) == pytest.approx([stats.kendalltau(a[p], b[p]).statistic for p in picks])


def test_a_single_value_has_no_ranking() -> None:
    a, b = np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])
    held = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    for statistic in (spearman, kendall):
        first, second = statistic(a, b, held)
        assert math.isnan(first) and 0 < second < 1
