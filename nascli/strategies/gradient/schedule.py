"""When a relaxed search trains and when it decides: stages of epochs, each of which may end with a decision."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """Some epochs of training with one schedule of the learning rate."""

    epochs: float
    first: float = 0.0
    """Epochs of the search before this stage."""
    total: float | None = None
    """Epochs that the search's schedules span; None: its schedules have come to their end."""
    decides: bool = False
    """Whether one choice of each lane is settled when the stage is over."""
    searched: bool = False
    """Whether this is the end of the search proper, whose supernet is kept."""

    def spent(self, done: float) -> float:
        """The share of the search's schedules used up after `done` epochs of this stage, in [0, 1]."""
        return 1.0 if self.total is None else min(1.0, (self.first + done) / self.total)


def cosine(spent: float, *, highest: float, lowest: float) -> float:
    """The learning rate at this share of the schedule: from the highest to the lowest along half a cosine."""
    return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * spent))
