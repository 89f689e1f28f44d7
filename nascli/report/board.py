"""Everything that a score run found, a row a network that was asked for; equivalent networks share their values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nascli.report.truth import Goal, Truth
from search_spaces import Architecture

if TYPE_CHECKING:
    from nascli.engine.protocol import Trial
    from nascli.engine.runs import Run
    from nascli.engine.task import Task
    from nascli.strategies.listed import Listed

COUNTS = ("params", "macs")
"""What every ranking is held against: large networks tend to be good ones."""

NODES = "nodes"
FITTED = "parzc"
"""The score of a fitted predictor."""

_DEAD = re.compile(r"^dead: |\bnothing flows\b")
"""How the reason reads that a network through which nothing flows has no score."""


@dataclass(frozen=True)
class Score:
    """One score of all networks."""

    name: str
    goal: Goal
    values: np.ndarray
    """[networks], NaN where there is none."""
    reasons: tuple[str, ...]
    """Why there is none, [networks]; "" where there is one."""

    @property
    def rising(self) -> np.ndarray:
        """The values turned so that more of them is better, [networks]."""
        return self.values if self.goal == "max" else -self.values

    def among(self, rows: np.ndarray) -> Score:
        """The same of some of the networks, bool [networks]."""
        reasons = tuple(reason for reason, chosen in zip(self.reasons, rows, strict=True) if chosen)
        return Score(self.name, self.goal, self.values[rows], reasons)

    @property
    def dead(self) -> int:
        """How many networks have none because nothing flows through them."""
        return sum(bool(_DEAD.search(reason)) for reason in self.reasons)

    @property
    def failures(self) -> dict[str, int]:
        """Why networks have none, the most frequent reason first."""
        return dict(Counter(reason for reason in self.reasons if reason).most_common())


@dataclass(frozen=True)
class Board:
    """The networks that were asked for and their scores."""

    asked: tuple[Architecture, ...]
    fields: tuple[str, ...]
    """The same networks as their own field writes them."""
    measured: tuple[Architecture, ...]
    """What was measured in their place: the architecture that stands for all that compute the same."""
    scores: tuple[Score, ...]
    deviations: dict[str, np.ndarray]
    """By score, the deviation over fresh initialisations where there were several, [networks]."""
    nodes: tuple[np.ndarray | None, ...]
    """Statistics of each layer [layers, statistics], where they were recorded, [networks]."""
    unread: tuple[str, ...]
    """Why there are no such statistics, [networks]; "" where there are."""
    truth: Truth | None = None

    @property
    def params(self) -> np.ndarray:
        """The networks' parameters, [networks]; NaN where they were not counted."""
        found = next((s.values for s in self.scores if s.name == "params"), None)
        return np.full(len(self.asked), np.nan) if found is None else found

    def score(self, name: str) -> Score:
        """The score of this name."""
        return next(s for s in self.scores if s.name == name)


def read(run: Run, task: Task, strategy: Listed) -> Board:
    """The board of a finished score run."""
    asked = strategy.asked(task)
    measured = [strategy.measured(arch, task) for arch in asked]
    trials = {trial.key: trial for trial in run.trials(task)}
    found = [trials.get(str(arch)) for arch in measured]
    objectives = {o.name: o.goal for o in (*task.objectives, *task.recorded)}
    names = [n for n in objectives if n not in (*COUNTS, NODES)] + [n for n in COUNTS if n in objectives]
    deviations = {n: _values(f"{n}_std", found) for n in names}
    return Board(
        tuple(asked),
        tuple(task.space.field(arch) for arch in asked),
        tuple(measured),
        # As an objective a count should be small; as a score, large.
        tuple(_score(n, "max" if n in COUNTS else objectives[n], found) for n in names),
        {n: values for n, values in deviations.items() if not np.isnan(values).all()},
        tuple(_nodes(trial) for trial in found),
        tuple(_reason(NODES, trial) for trial in found),
    )


def _score(name: str, goal: Goal, found: Sequence[Trial | None]) -> Score:
    return Score(name, goal, _values(name, found), tuple(_reason(name, trial) for trial in found))


def _values(name: str, found: Sequence[Trial | None]) -> np.ndarray:
    return np.array([np.nan if trial is None else trial.values.get(name, np.nan) for trial in found], dtype=np.float64)


def _reason(name: str, trial: Trial | None) -> str:
    if trial is None:
        return "not measured yet"
    return "" if name in trial.values else trial.missing.get(name, trial.error or "not measured")


def _nodes(trial: Trial | None) -> np.ndarray | None:
    """The recorded statistics, whatever more their name says."""
    return None if trial is None else next((v for n, v in trial.vectors.items() if n.startswith(NODES)), None)
