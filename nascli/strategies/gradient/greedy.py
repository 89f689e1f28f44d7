"""Deciding while the search goes on, the surest edge first: SGAS (Li et al. 2020, arXiv:1912.00195)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.magnitude import certainty, distributions
from nascli.strategies.gradient.rows import Rows
from nascli.strategies.gradient.schedule import Stage

HISTORY = 4
"""Epochs whose distributions the second criterion compares with."""


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """SGAS' schedule: 10 epochs, then 5 before each further decision and after the last; 50 in all for DARTS' cells."""

    first: float = 10.0
    """Epochs before the first decision."""
    every: float = 5.0
    """Epochs before each further one, and after the last."""
    criterion: Literal[1, 2] = 1
    """1: importance times certainty; 2: times stability over the last epochs too."""
    more: int = 8
    """Examples by which a minibatch grows with each decision, as there is less to compute."""

    def __post_init__(self) -> None:
        if self.first < 0 or self.every < 0 or self.more < 0:
            raise ValueError(f"first={self.first}, every={self.every} and more={self.more} must not be negative")

    def stages(self, rows: Rows) -> list[Stage]:
        """Stages that each end with a decision, and one at the end."""
        count = decisions(rows)
        lengths = [self.first, *[self.every] * count]
        starts = [sum(lengths[:i]) for i in range(count + 1)]
        parts = list(zip(starts, lengths, strict=True))
        return [
            *(Stage(epochs, first, sum(lengths), decides=True) for first, epochs in parts[:-1]),
            Stage(self.every, parts[-1][0], sum(lengths), searched=True),
        ]

    def surest(self, loop: Loop, names: list[str]) -> str:
        """The open row to decide next, the first among equals."""
        # The last of what is remembered is the present.
        past = loop.notes.get("distributions", [])[:-1] if self.criterion == 2 else []
        scores = certainty(loop.mixture, names, history=past)
        return names[max(range(len(names)), key=scores.__getitem__)]

    def remember(self, loop: Loop) -> None:
        """Keep what the second criterion compares with, after an epoch."""
        if self.criterion == 2:
            past = loop.notes.get("distributions", [])
            loop.notes["distributions"] = [*past, distributions(loop.mixture)][-HISTORY - 1 :]


def decisions(rows: Rows) -> int:
    """How many edges the busiest lane decides: those that its nodes keep, or all where they keep all."""
    found = []
    for lane in rows.lanes:
        chosen = {node: options for node, options in rows.topology.items() if options[0] & set(lane)}
        optional = set().union(*(rows.edges(node) for node in chosen))
        kept = sum(len(options[0]) for options in chosen.values())
        found.append(kept + sum(1 for n in lane if n not in optional))
    return max(found)
