"""The running front of a run: which trials nothing else beats, and the hypervolume they cover."""

from __future__ import annotations

from typing import Any

import numpy as np

from nascli.engine.front import hypervolume, reference_point
from nascli.engine.protocol import Trial

FIRST = 20
"""The reference point comes from so many first trials and then stays: hypervolumes of one run are comparable."""


class Front:
    """The non-dominated trials so far, in the order of their first objective; equal costs stand side by side."""

    def __init__(self) -> None:
        self._members: list[Trial] = []
        # The members' costs once more, [members, objectives]: thousands of trials are held against hundreds of members.
        self._costs = np.empty((0, 0))
        self._first: list[tuple[float, ...]] = []

    def __len__(self) -> int:
        return len(self._members)

    @property
    def members(self) -> list[Trial]:
        """The trials that no other dominates."""
        return sorted(self._members, key=lambda t: (t.costs, t.number))

    def add(self, trial: Trial) -> list[Trial] | None:
        """The members that leave because the trial, which must have costs, joins; None if a member dominates it."""
        costs = np.array([trial.costs])
        if not self._first:
            self._costs = costs[:0]
        if len(self._first) < FIRST:
            self._first.append(trial.costs)
        if _dominates(self._costs, costs).any():
            return None
        beaten = _dominates(costs, self._costs)
        gone = [self._members[i] for i in np.flatnonzero(beaten)]
        if gone:
            self._members = [self._members[i] for i in np.flatnonzero(~beaten)]
        self._members.append(trial)
        self._costs = np.concatenate((self._costs[~beaten], costs))
        return gone

    def summary(self) -> dict[str, Any]:
        """The reference point (costs: worst of the first trials plus a tenth of their range) and the hypervolume."""
        if not self._first:
            return {"reference": None, "hypervolume": 0.0}
        reference = reference_point(np.array(self._first))
        return {"reference": [float(r) for r in reference], "hypervolume": hypervolume(self._costs, reference)}


def _dominates(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether a row of one [points, objectives] is nowhere worse and somewhere better than the other's only row."""
    found: np.ndarray = np.logical_and((a <= b).all(axis=1), (a < b).any(axis=1))
    return found
