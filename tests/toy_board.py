"""A board of scores as a finished run would leave it: numbers for networks of the toy space, and what they reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nascli.report.board import Board, Goal, Score
from nascli.report.truth import Truth
from search_spaces import Architecture
from tests.toys import TABLE

NAN = math.nan
DEAD = "No gradient reaches any weight: nothing flows through the network."


def archs(count: int) -> list[Architecture]:
    """Different networks of the toy space."""
    members = TABLE.members()
    return [next(members) for _ in range(count)]


def score(name: str, values: Sequence[float], *, goal: Goal = "max", reason: str = DEAD) -> Score:
    """A score whose missing values have the same reason."""
    found = np.array(values, dtype=np.float64)
    return Score(name, goal, found, tuple(reason if math.isnan(v) else "" for v in found))


def board(scores: Mapping[str, Sequence[float]], truth: Truth | None = None) -> Board:
    """A board with these scores, one a network."""
    asked = archs(len(next(iter(scores.values()))))
    made = tuple(score(name, values) for name, values in scores.items())
    nothing, unasked = (None,) * len(asked), ("not measured",) * len(asked)
    return Board(tuple(asked), tuple(map(str, asked)), tuple(asked), made, {}, nothing, unasked, truth)


def reached(values: Sequence[float], *, goal: Goal = "max", column: str = "accuracy", unit: str = "%") -> Truth:
    """What the networks reached."""
    return Truth("table.csv", column, goal, unit, np.array(values, dtype=np.float64))
