"""Trials as finite numbers: optimisers take neither NaN nor infinity, but must tell a failure from a bad network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nascli.engine.objectives import Objective
from nascli.engine.protocol import Trial
from nascli.errors import SettingsError

FAILED = 1e9
"""The violation of a network that could not be measured: worse than any limit can be broken."""
WORST_LIMIT = 1e6
"""Violations of limits are cut here, to stay below FAILED."""


class Answers:
    """Turns trials into costs and violations; remembers the scale and the worst of each objective."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        """Raises SettingsError if there is nothing to optimise."""
        if not objectives:
            raise SettingsError("A search needs at least one objective; name one, for example accuracy.")
        self._objectives = tuple(objectives)
        self._worst = np.full(len(objectives), np.nan)
        self._offset: np.ndarray | None = None
        self._scale = np.ones(len(objectives))

    def costs(self, trials: Sequence[Trial]) -> np.ndarray:
        """Costs [trials, objectives], finite, all minimised, in units of the first answer's ranges.

        The units never change: NSGA-III compares across generations, and treats differences below 0.001 as none.
        What was not measured (after a broken limit or a failure) counts as the worst seen so far.
        """
        known = np.array([self._known(t) for t in trials], dtype=float).reshape(len(trials), len(self._objectives))
        self._worst = np.fmax(self._worst, np.fmax.reduce(known, axis=0, initial=np.nan))
        filled = np.where(np.isnan(known), np.nan_to_num(self._worst), known)
        if self._offset is None and any(t.costs for t in trials):
            complete = filled[[bool(t.costs) for t in trials]]
            self._offset, spread = complete.min(axis=0), np.ptp(complete, axis=0)
            size = np.where(self._offset == 0, 1.0, np.abs(self._offset))
            self._scale = np.where(spread > 0, spread, size)
        scaled: np.ndarray = filled if self._offset is None else (filled - self._offset) / self._scale
        return scaled

    def violations(self, trials: Sequence[Trial]) -> np.ndarray:
        """How far each trial is from being acceptable [trials]: 0 if it has costs, FAILED if measuring failed."""
        return np.array([self._violation(t) for t in trials], dtype=float)

    def _known(self, trial: Trial) -> list[float]:
        """The costs [objectives]; NaN for what was not measured."""
        if trial.costs:
            return list(trial.costs)
        values = [trial.values.get(o.name, math.nan) for o in self._objectives]
        return [o.cost(v) if math.isfinite(v) else math.nan for o, v in zip(self._objectives, values, strict=True)]

    def _violation(self, trial: Trial) -> float:
        if trial.costs:
            return 0.0
        if not math.isfinite(trial.violation) or trial.violation <= 0:
            return FAILED
        return min(trial.violation, WORST_LIMIT)
