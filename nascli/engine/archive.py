"""The running front of a run: which trials nothing else beats, and the hypervolume they cover."""

from __future__ import annotations

from typing import Any

import numpy as np

from nascli.engine.front import hypervolume, reference_point
from nascli.engine.protocol import Trial

FIRST = 20
"""The reference point comes from so many first trials and then stays, so that hypervolumes of one run are comparable."""


class Front:
    """The non-dominated trials so far, in the order of their first objective; equal costs stand side by side."""

    def __init__(self) -> None:
        self._members: list[Trial] = []
        self._first: list[tuple[float, ...]] = []

    @property
    def members(self) -> list[Trial]:
        """The trials that no other dominates."""
        return sorted(self._members, key=lambda t: (t.costs, t.number))

    def add(self, trial: Trial) -> bool:
        """Whether the trial, which must have costs, joins the front; what it dominates leaves."""
        if len(self._first) < FIRST:
            self._first.append(trial.costs)
        if any(_dominates(m.costs, trial.costs) for m in self._members):
            return False
        self._members = [m for m in self._members if not _dominates(trial.costs, m.costs)] + [trial]
        return True

    def summary(self) -> dict[str, Any]:
        """The reference point (costs: the worst of the first trials plus a tenth of their range) and the hypervolume."""
        if not self._first:
            return {"reference": None, "hypervolume": 0.0}
        reference = reference_point(np.array(self._first))
        costs = np.array([m.costs for m in self._members])
        return {"reference": [float(r) for r in reference], "hypervolume": float(hypervolume(costs, reference))}


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))
