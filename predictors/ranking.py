"""How well one list of numbers ranks what another one measured, and how sure that is.

Ties are common (few distinct parameter counts, rounded accuracies), so Kendall's tau is tau-b, which accounts for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy import stats

from predictors import ScoreError, resampling

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


class Grouped(NamedTuple):
    """A correlation within groups, and how many groups and items it rests on."""

    rho: float
    groups: int
    items: int


def partial_correlation(a: Numbers, b: Numbers, given: Numbers) -> float:
    """Spearman's rho of two lists [items] with what a third one explains of either taken off, in [-1, 1].

    That is the correlation of what is left of their ranks after a straight line in the third's (Kendall 1942). Raises
    ScoreError as `kendall_tau` does, and if the third list explains one of the others fully.
    """
    ab, ag, bg = spearman_rho(a, b), spearman_rho(a, given), spearman_rho(b, given)
    left = (1 - ag**2) * (1 - bg**2)
    if left < 1e-12:
        raise ScoreError("The third list ranks one of the others exactly, so that nothing is left to correlate.")
    return float(np.clip((ab - ag * bg) / np.sqrt(left), -1, 1))


def within_groups(a: Numbers, b: Numbers, groups: Numbers) -> Grouped:
    """Mean of Spearman's rho within groups of items with equal third values, each counting as much as it has items.

    Groups in which one of the lists has a single value rank nothing and are left out. Raises ScoreError as
    `kendall_tau` does, or if no group is left.
    """
    x, y = _checked(a, b)
    keys = np.asarray(groups)
    if keys.shape != x.shape:
        raise ScoreError(f"There are groups of shape {keys.shape} for {len(x)} items; each item needs one.")
    chosen = [keys == key for key in np.unique(keys)]
    used = [c for c in chosen if np.ptp(x[c]) > 0 and np.ptp(y[c]) > 0]
    if not used:
        raise ScoreError(f"None of {len(chosen)} groups has two items that differ in both lists.")
    sizes = [int(c.sum()) for c in used]
    return Grouped(float(np.average([spearman_rho(x[c], y[c]) for c in used], weights=sizes)), len(used), sum(sizes))


def top_k_regret(scores: Numbers, truth: Numbers, k: int) -> float:
    """How far the best of the `k` items with the highest scores lies below the best of all, in the truth's unit.

    Of items with the same score, those count that come first. Raises ScoreError as `kendall_tau` does, or for a `k`
    that is not between 1 and the number of items.
    """
    x, y = _checked(scores, truth)
    best = np.argsort(-x, kind="stable")[: _checked_k(k, len(x))]
    return float(y.max() - y[best].max())


def ndcg_at_k(scores: Numbers, truth: Numbers, k: int) -> float:
    """Discounted cumulative gain of the `k` best-scored items, of the greatest possible one, in [0, 1].

    The gain of an item is its truth, which must not be negative; the discount of the i-th is log2(i + 1); items with
    the same score share their places (Jarvelin & Kekalainen 2002, doi:10.1145/582415.582418). Raises ScoreError as
    `top_k_regret` does.
    """
    x, y = _checked(scores, truth)
    if y.min() < 0:
        raise ScoreError(f"The gain must not be negative, but the least is {y.min():g}; subtract it, for example.")
    discount = np.where(np.arange(len(x)) < _checked_k(k, len(x)), 1 / np.log2(np.arange(len(x)) + 2), 0.0)
    _, place, held = np.unique(-x, return_inverse=True, return_counts=True)
    gain = np.bincount(place, y) / held
    ideal = np.sort(y)[::-1] @ discount
    return float(gain @ np.bincount(np.repeat(np.arange(len(held)), held), discount) / ideal)


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
    if statistic in _AT_ONCE:
        found = _AT_ONCE[statistic](x, y, resampling.counts(picks, len(x)))
        found = found[~np.isnan(found)]
    else:
        found = np.array([statistic(x[p], y[p]) for p in picks if np.ptp(x[p]) > 0 and np.ptp(y[p]) > 0])
    if not found.size:
        raise ScoreError(f"None of {resamples} resamples of {len(x)} pairs has two different values; give more pairs.")
    low, high = np.percentile(found, (50 * (1 - level), 50 * (1 + level)))
    return float(low), float(high)


_AT_ONCE: dict[Statistic, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    kendall_tau: resampling.kendall,
    spearman_rho: resampling.spearman,
}
"""Statistics of all resamples in one go."""


def _checked_k(k: int, items: int) -> int:
    if not 1 <= k <= items:
        raise ScoreError(f"k={k!r} must lie between 1 and the {items} items.")
    return k


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
