"""Regularised evolution: a queue of networks in which age kills, whatever the merit, and winners of tournaments breed.

Real et al. 2019, "Regularized evolution for image classifier architecture search", arXiv:1802.01548, algorithm 1. With
a proxy it is G-REA of Zhang & Jia 2022, arXiv:2110.08616: of ten mutants of the winner the best-scored is measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from nascli.engine.network import Network
from nascli.engine.protocol import Search, Step
from nascli.engine.task import Task
from nascli.strategies.assisted import Moves, beginning, check
from nascli.strategies.single import Standing, only, standing
from nascli.strategies.unseen import Unseen
from search_spaces import Architecture

Member = tuple[Standing, Architecture]


@dataclass(frozen=True)
class Regularised:
    """Aging evolution for one objective, never the same network twice (Real et al. 2019, arXiv:1802.01548).

    Population and tournament are those of the baseline in NAS-Bench-201's own code. Zero-cost warm-up and moves as
    published: population=64, tournament=10, warm_up=3000, candidates=0, greedy=0.75 (Abdelfattah et al. 2021,
    arXiv:2101.08134).
    """

    population: int = 10
    """Networks alive; a child takes the place of the oldest."""
    tournament: int = 3
    """Contestants for parenthood, drawn with replacement."""
    proxy: str = ""
    """What scores candidates: a proxy, or anything cheap that can be an objective. Empty: nothing does."""
    candidates: int = 10
    """Mutants that the proxy scores for each one measured; 0: all that are one edit away."""
    greedy: float = 1.0
    """Probability of the best-scored mutant; else a random one."""
    warm_up: int = 0
    """Random networks that the proxy scores at the start; the best are the first population."""

    def __post_init__(self) -> None:
        for name in ("population", "tournament"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, but got {value!r}")
        check(proxy=self.proxy, warm_up=self.warm_up, candidates=self.candidates, greedy=self.greedy)

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """The first population, then one child a step until the space is used up.

        Raises SettingsError if there are several objectives without limits.
        """
        answers, table = only(task, "regularised"), task.space.table
        rng, unseen = task.rng("regularised"), Unseen(table, task.rng("regularised.unseen"))
        moves = Moves(table, unseen, rng, self.proxy, self.candidates, self.greedy)
        archs = yield from beginning(unseen, self.population, proxy=self.proxy, warm_up=self.warm_up)
        alive: deque[Member] = deque(maxlen=self.population)
        while archs:
            trials = yield Step([Network(arch) for arch in archs])
            alive.extend((standing(answers, trial), arch) for trial, arch in zip(trials, archs, strict=True))
            child = yield from moves.child(self._parent(alive, rng))
            archs = [] if child is None else [child]

    def _parent(self, alive: Sequence[Member], rng: Generator) -> Architecture:
        """The winner of a tournament, the first drawn among equals."""
        drawn = [alive[int(i)] for i in rng.integers(len(alive), size=self.tournament)]
        _, winner = min(drawn, key=lambda member: member[0])
        return winner
