"""How children come about: tournament, uniform crossover and random reset on the choices themselves, never seen before.

Real-coded operators rounded to integers hardly ever move a choice with two or three options, so there are none here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from nascli.strategies.unseen import Unseen
from search_spaces import Architecture, ChoiceTable

if TYPE_CHECKING:
    from pymoo.core.population import Population


class Breeding:
    """Takes the place of pymoo's mating; individuals are the positions of the options, [choices].

    Without a memory of what was proposed, children are what crossing gives: somebody else changes them.
    """

    def __init__(self, table: ChoiceTable, unseen: Unseen | None, *, crossover: float, mutation: float) -> None:
        self._table, self._unseen = table, unseen
        self._crossover, self._mutation = crossover, mutation

    def do(
        self, problem: object, pop: Population, n_offsprings: int, *, random_state: Generator, **context: object
    ) -> Population:
        """Children, new with a memory; fewer than asked for only when the space is used up."""
        from pymoo.core.population import Population

        members = [self._table.from_indices(x) for x in pop.get("X")]
        standing = _standing(pop)
        children = []
        for _ in range(n_offsprings):
            child = self.child(*_parents(members, standing, random_state), random_state)
            if child is None and self._unseen is not None:
                child = self._unseen.draw()
            if child is None:
                break
            children.append(self._table.indices(child))
        return Population.new("X", np.array(children)) if children else Population()

    def child(self, a: Architecture, b: Architecture, rng: Generator) -> Architecture | None:
        """A child of two parents; with a memory new and taken, or None if everything around it is known."""
        child = self._table.crossover(a, b, rng) if rng.random() < self._crossover else a
        return child if self._unseen is None else self._unseen.near(child, rate=self._mutation)


def _standing(pop: Population) -> list[tuple[float, float, float]]:
    """What a tournament compares, less is better: violation, rank of the front, crowding [individuals].

    This is Deb's crowded comparison; algorithms that keep no crowding leave it to chance.
    """

    def number(individual: Any, name: str, otherwise: float) -> float:
        value = individual.get(name)
        return otherwise if value is None else float(value)

    return [(float(i.CV[0]), number(i, "rank", 0), -number(i, "crowding", 0)) for i in pop]


def _parents(
    members: list[Architecture], standing: list[tuple[float, float, float]], rng: Generator
) -> tuple[Architecture, Architecture]:
    """The winners of two binary tournaments; four different contestants where there are as many."""
    drawn = rng.choice(len(members), size=4, replace=len(members) < 4)
    first, second = (min(drawn[i : i + 2], key=lambda at: standing[at]) for i in (0, 2))
    return members[first], members[second]
