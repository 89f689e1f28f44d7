"""How well one list of numbers ranks what another one measured, and how sure that is.

Ties are common (few distinct parameter counts, rounded accuracies), so Kendall's tau is tau-b, which accounts for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator
from scipy import stats

from predictors import ScoreError

Numbers = Sequence[float] | np.ndarray
Statistic = Callable[[Numbers, Numbers], float]


def kendall_tau(a: Numbers, b: Numbers) -> float:
    """Kendall's tau-b of two lists [items], in [-1, 1]; concordant pairs less discordant ones, corrected for ties.

    Raises ScoreError for lists of different length, fewer than two items, NaN, or all values equal.
    """
    return float(stats.kendalltau(*_checked(a, b)).statistic)


def spearman_rho(a: Numbers, b: Numbers) -> float:
    """Spearman's rho of two lists [items], in [-1, 1]: the correlation of the ranks, ties sharing theirs.

    Raises ScoreError as `kendall_tau` does.
    """
    return float(stats.spearmanr(*_checked(a, b)).statistic)


def bootstrap_interval(
    statistic: Statistic,
    a: Numbers,
    b: Numbers,
    *,
    rng: Generator,
    level: float = 0.95,
    resamples: int = 1000,
) -> tuple[float, float]:
    """The interval that holds the statistic of resampled pairs with this probability (percentile bootstrap).

    Resamples of a single value have no ranking and are left out. Raises ScoreError as `kendall_tau` does.
    """
    x, y = _checked(a, b)
    if not 0 < level < 1 or resamples < 1:
        raise ScoreError(f"level must lie between 0 and 1 and resamples above 0, but got {level:g} and {resamples}.")
    picks = rng.integers(len(x), size=(resamples, len(x)))
    found = [statistic(x[p], y[p]) for p in picks if np.ptp(x[p]) > 0 and np.ptp(y[p]) > 0]
    if not found:
        raise ScoreError(f"None of {resamples} resamples of {len(x)} pairs has two different values; give more pairs.")
    low, high = np.percentile(found, (50 * (1 - level), 50 * (1 + level)))
    return float(low), float(high)


def _checked(a: Numbers, b: Numbers) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ScoreError(
            f"Only two lists of equal length can be compared, but their shapes are {x.shape} and {y.shape}."
        )
    if len(x) < 2:
        raise ScoreError(f"A ranking needs at least 2 items, but there are {len(x)}.")
    for name, values in (("first", x), ("second", y)):
        if np.isnan(values).any():
            raise ScoreError(
                f"{int(np.isnan(values).sum())} of {len(x)} numbers in the {name} list are NaN; leave them out."
            )
        if (values == values[0]).all():
            raise ScoreError(f"All {len(x)} numbers in the {name} list are {values[0]:g}, so they rank nothing.")
    return x, y
