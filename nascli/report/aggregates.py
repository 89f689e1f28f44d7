"""Rankings made of several: "log_rank:jacov,params" adds the logarithms of the networks' ranks by jacov and by params.

Every network gets one: where a score is missing, that rank is the worst, shared by all who lack it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nascli.errors import SettingsError, did_you_mean
from nascli.report.board import Board, Score
from predictors.aggregate import Goal, log_rank, rank_sum, vote

WAYS: Mapping[str, Callable[[np.ndarray, Sequence[Goal]], np.ndarray]] = {
    "log_rank": log_rank,
    "rank_sum": rank_sum,
    "vote": vote,
}


def parts(text: str) -> tuple[str, list[str]]:
    """The way and the scores that "log_rank:jacov,params" names; raises SettingsError."""
    way, _, names = text.partition(":")
    if way not in WAYS:
        raise SettingsError(
            f"{text!r} is no aggregate; write WAY:SCORE,SCORE, as in log_rank:jacov,params.{did_you_mean(way, WAYS)}"
        )
    scores = [name.strip() for name in names.split(",") if name.strip()]
    if len(set(scores)) < 2:
        raise SettingsError(f"The aggregate {text!r} needs at least two different scores, as in {way}:jacov,params.")
    return way, scores


def is_aggregate(name: str) -> bool:
    """Whether a score's name is that of an aggregate; "package.module:Proxy" is none."""
    return ":" in name and name.partition(":")[0] in WAYS


def aggregate(text: str, board: Board) -> Score:
    """The score of every network of the board by an aggregate; raises SettingsError for scores that are not there."""
    way, names = parts(text)
    there = [s.name for s in board.scores]
    if unknown := [name for name in names if name not in there]:
        raise SettingsError(
            f"The aggregate {text!r} needs {unknown[0]!r}, which was not scored; give --proxy {unknown[0]}."
        )
    scores = [board.score(name) for name in names]
    values = WAYS[way](np.stack([s.values for s in scores], axis=1), [s.goal for s in scores])
    return Score(text, "max", values, ("",) * len(values))
