"""How well each score ranks what was measured, how sure that is, and how much of it a count of parameters would do.

Correlations are Spearman's rho and Kendall's tau-b with bootstrap intervals. Networks without a score are counted, and
in a second pair of figures ranked last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from scipy import stats

from nascli.report.board import Board, Score
from nascli.report.truth import Truth
from predictors import ScoreError
from predictors.ranking import (
    Statistic,
    bootstrap_interval,
    kendall_tau,
    ndcg_at_k,
    partial_correlation,
    spearman_rho,
    top_k_regret,
)

LEVEL = 0.95
MANY = 3000
"""Above so many networks the intervals come from fewer resamples: their cost grows with the square, and they shrink."""
RESAMPLES, FEW_RESAMPLES = 1000, 200

LIKE_SIZE, NOTHING_LEFT = 0.95, 0.1
"""From so high a correlation with params, and below so low a partial one, a score says nearly nothing of its own."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Figures:
    """What is known of one score; None where it can't be said, as when all values are the same."""

    score: str
    goal: str
    networks: int
    """Those whose truth is known."""
    scored: int
    dead: int
    failed: int
    reasons: dict[str, int]
    distinct: int
    """Different values."""
    rho: float | None
    rho_interval: Interval | None
    tau: float | None
    tau_interval: Interval | None
    regret: float | None
    """The best truth of all less the best of the k best-scored, in the truth's unit."""
    ndcg: float | None
    """Of the k best-scored, each worth the share of networks that it beats."""
    size: float | None
    """Spearman's rho with params."""
    partial: float | None
    """Spearman's rho with the truth, what params explain of either taken off."""
    rho_unscored_last: float | None
    tau_unscored_last: float | None
    k: int = field(default=10)

    @property
    def warning(self) -> str:
        """A sentence if the score is nearly a count of parameters, else ""."""
        if self.size is None or self.partial is None or self.score == "params":
            return ""
        if abs(self.size) <= LIKE_SIZE or abs(self.partial) >= NOTHING_LEFT:
            return ""
        return (
            f"{self.score} ranks nearly as params do (rho {self.size:.3f}), and has little to say beyond them "
            f"(partial rho {self.partial:.3f})."
        )


def figures(board: Board, truth: Truth, rows: np.ndarray, *, k: int, rng: Callable[[], Generator]) -> list[Figures]:
    """The figures of every score of the board over the networks in `rows` (bool [networks]) whose truth is known.

    `rng` starts the same generator anew for each score, so that all see the same resamples.
    """
    known = rows & ~np.isnan(truth.values)
    rising = truth.values if truth.goal == "max" else -truth.values
    return [_figures(s, rising, board.params, known, k=k, rng=rng) for s in board.scores]


def _figures(
    score: Score, truth: np.ndarray, size: np.ndarray, known: np.ndarray, *, k: int, rng: Callable[[], Generator]
) -> Figures:
    there = score.among(known)
    rising, all_truth = there.rising, truth[known]
    scored = ~np.isnan(rising)
    x, y, params = rising[scored], all_truth[scored], size[known][scored]
    rho, tau = _said(spearman_rho, x, y), _said(kendall_tau, x, y)
    last = _ranked(np.where(scored, rising, -np.inf))
    return Figures(
        score=score.name,
        goal=score.goal,
        networks=len(rising),
        scored=len(x),
        dead=there.dead,
        failed=len(rising) - len(x) - there.dead,
        reasons=there.failures,
        distinct=len(np.unique(x)),
        rho=rho,
        rho_interval=_interval(spearman_rho, x, y, rng()),
        tau=tau,
        tau_interval=_interval(kendall_tau, x, y, rng()),
        regret=_regret(x, y, all_truth, k),
        ndcg=_said(lambda a, b: ndcg_at_k(a, _ranked(b) - 1, min(k, len(b))), x, y),
        size=_said(spearman_rho, x, params),
        partial=_said(lambda a, b: partial_correlation(a, b, params), x, y),
        rho_unscored_last=_said(spearman_rho, last, all_truth),
        tau_unscored_last=_said(kendall_tau, last, all_truth),
        k=k,
    )


def _regret(scores: np.ndarray, truth: np.ndarray, all_truth: np.ndarray, k: int) -> float | None:
    """Against the best of all networks, also of those without a score."""
    within = _said(lambda a, b: top_k_regret(a, b, min(k, len(b))), scores, truth)
    return None if within is None else float(all_truth.max() - truth.max() + within)


def between(board: Board, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Spearman's rho between the scores, each pair over the networks that have both."""
    table: dict[str, dict[str, float | None]] = {}
    for a in names:
        x = board.score(a).rising
        for b in names:
            y = board.score(b).rising
            both = ~np.isnan(x) & ~np.isnan(y)
            table.setdefault(a, {})[b] = _said(spearman_rho, x[both], y[both])
    return table


def _ranked(values: np.ndarray) -> np.ndarray:
    """Ranks [networks]: minus infinity is as good a value as any, but makes no difference to one."""
    ranks: np.ndarray = stats.rankdata(values)
    return ranks


def _said(statistic: Callable[[np.ndarray, np.ndarray], float], a: np.ndarray, b: np.ndarray) -> float | None:
    """The statistic, or None where the lists have none."""
    try:
        found = statistic(a, b)
    except ScoreError:
        return None
    return float(found) if np.isfinite(found) else None


def _interval(statistic: Statistic, a: np.ndarray, b: np.ndarray, rng: Generator) -> Interval | None:
    resamples = RESAMPLES if len(a) <= MANY else FEW_RESAMPLES
    try:
        return bootstrap_interval(statistic, a, b, rng=rng, level=LEVEL, resamples=resamples)
    except ScoreError:
        return None
