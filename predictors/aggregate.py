"""One ranking from several scores: their ranks are added, their logarithms are, or the scores vote on each pair.

Scores [networks, scores] in, one number a network out, larger being better. Missing scores (NaN) share the worst rank
of their column; equal scores share the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

from predictors import ScoreError

Goal = Literal["max", "min"]
"""Whether more or less of a score is better."""

_CHUNK_BYTES = 16 * 2**20
"""As much of the table of pairs is looked at at a time."""


def ranks(scores: np.ndarray, goals: Sequence[Goal]) -> np.ndarray:
    """The rank of each network in each column [networks, scores], 1 for the worst, m for the best of m.

    Raises ScoreError for arrays of another shape, or with goals for more or fewer columns.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not table.size or table.shape[1] != len(goals):
        raise ScoreError(f"{len(goals)} goals need scores [networks, {len(goals)}], but their shape is {table.shape}.")
    rising = table * np.array([1.0 if goal == "max" else -1.0 for goal in goals])
    # Minus infinity is what a missing score was often written as, so that they are one and the same.
    return np.asarray(stats.rankdata(np.where(np.isnan(rising), -np.inf, rising), axis=0))


def rank_sum(scores: np.ndarray, goals: Sequence[Goal]) -> np.ndarray:
    """The sum of the ranks [networks], as in TE-NAS (Chen et al. 2021, arXiv:2102.11535). Raises as `ranks` does."""
    found: np.ndarray = ranks(scores, goals).sum(1)
    return found


def log_rank(scores: np.ndarray, goals: Sequence[Goal]) -> np.ndarray:
    """The sum of log(rank / networks) [networks], as in AZ-NAS (Lee & Ham 2024, arXiv:2403.19232).

    One bad rank counts for more than one good one. It depends on all networks that are ranked together. Raises as
    `ranks` does.
    """
    found: np.ndarray = np.log(ranks(scores, goals) / len(scores)).sum(1)
    return found


def vote(scores: np.ndarray, goals: Sequence[Goal]) -> np.ndarray:
    """How many others each network beats by a majority of the scores [networks], a draw counting half.

    The majority is that of Abdelfattah et al. 2021 (arXiv:2101.08134), a column that does not tell two
    networks apart having no vote. It takes networks * networks comparisons of every column. Raises as `ranks` does.
    """
    table = ranks(scores, goals).astype(np.float32).T
    networks = table.shape[1]
    rows = max(1, _CHUNK_BYTES // networks)
    found = np.empty(networks)
    for start in range(0, networks, rows):
        balance = np.zeros((min(rows, networks - start), networks), dtype=np.int16)
        for column in table:
            mine = column[start : start + rows, None]
            balance += mine > column
            balance -= mine < column
        # A network draws with itself, which is no pair.
        found[start : start + rows] = (balance > 0).sum(1) + ((balance == 0).sum(1) - 1) / 2
    return found
