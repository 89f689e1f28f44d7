"""Rank correlations of many resamples at once: a resample is a list of how often it holds each pair.

Ranks follow from running totals of those counts, and concordant pairs from a quadratic form in them, so that nothing
is sorted anew.
"""

from __future__ import annotations

import numpy as np

_CHUNK_BYTES = 8 * 2**20
"""As much of a table is made at a time."""


def counts(picks: np.ndarray, items: int) -> np.ndarray:
    """How often each resample [resamples, picks] holds each item, [resamples, items]."""
    resamples = len(picks)
    flat = (picks + np.arange(resamples)[:, None] * items).ravel()
    return np.bincount(flat, minlength=resamples * items).reshape(resamples, items).astype(np.float64)


def spearman(a: np.ndarray, b: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Spearman's rho of each resample [resamples] of the pairs (a, b) [items]; NaN where one has a single value.

    `held` [resamples, items] says how often each pair is in it.
    """
    rows = max(1, _CHUNK_BYTES // (8 * len(a)))
    return np.concatenate([_spearman(a, b, held[i : i + rows]) for i in range(0, len(held), rows)])


def _spearman(a: np.ndarray, b: np.ndarray, held: np.ndarray) -> np.ndarray:
    x, y = _centred_ranks(a, held), _centred_ranks(b, held)
    square, across, other = (np.einsum("ri,ri,ri->r", held, u, v) for u, v in ((x, x), (x, y), (y, y)))
    with np.errstate(invalid="ignore"):
        found: np.ndarray = across / np.sqrt(square * other)
    return found


def kendall(a: np.ndarray, b: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each resample, as `spearman`."""
    pairs = held.sum(1) ** 2
    with np.errstate(invalid="ignore"):
        found: np.ndarray = _concordance(a, b, held) / np.sqrt((pairs - _tied(a, held)) * (pairs - _tied(b, held)))
    return found


def _centred_ranks(values: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Each item's mean rank in each resample less the mean of them all, [resamples, items]."""
    group, totals = _groups(values, held)
    before = np.cumsum(totals, axis=1) - totals
    # A group of k after c others has the ranks c + 1 to c + k; all of them have the mean (n + 1) / 2.
    return np.asarray((before + (totals - held.sum(1, keepdims=True)) / 2)[:, group])


def _tied(values: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Ordered pairs with equal values, those of an item with itself among them, [resamples]."""
    return np.asarray((_groups(values, held)[1] ** 2).sum(1))


def _groups(values: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each item's value among the different ones in ascending order, and their counts [.., values]."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    return group, np.add.reduceat(held[:, order], starts, axis=1)


def _concordance(a: np.ndarray, b: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Ordered pairs that agree less those that disagree, [resamples]."""
    # The products are whole numbers below the number of items, which single precision holds exactly.
    found, singly = np.zeros(len(held)), held.astype(np.float32)
    rows = max(1, _CHUNK_BYTES // (4 * len(a)))
    for start in range(0, len(a), rows):
        part = slice(start, start + rows)
        signs = _signs(a[part], a) * _signs(b[part], b)
        found += ((singly @ signs.T) * singly[:, part]).sum(1, dtype=np.float64)
    return found


def _signs(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """1, 0 or -1 for each pair [rows, columns]."""
    return np.subtract(rows[:, None] > columns, rows[:, None] < columns, dtype=np.float32)
