"""What a zero-cost proxy does for a search: of many networks it picks the few that are worth measuring.

Warm-up and the best neighbour: Abdelfattah et al. 2021, "Zero-cost proxies for lightweight NAS", arXiv:2101.08134. The
best of some mutants: Zhang & Jia 2022, arXiv:2110.08616. All of these are `yield from`-ed by strategies.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from nascli.engine.network import Network
from nascli.engine.protocol import Step, Trial
from nascli.strategies.unseen import Unseen
from search_spaces import Architecture, ChoiceTable
from search_spaces.neighbours import neighbours

T = TypeVar("T")
Asking = Generator[Step, Sequence[Trial], T]
"""A part of a conversation that asks the engine for scores on its way to a result."""


def scores(archs: Sequence[Architecture], proxy: str) -> Asking[list[float]]:
    """What the proxy says of each, [architectures], less is better; infinite where scoring failed."""
    if not archs:
        return []
    trials = yield Step([Network(arch) for arch in archs], proxy=proxy)
    return [trial.costs[0] if trial.costs else math.inf for trial in trials]


def ranked(archs: Sequence[Architecture], proxy: str) -> Asking[list[Architecture]]:
    """The architectures from best to worst by the proxy, failures last; equals stay in their order."""
    costs = yield from scores(archs, proxy)
    return [archs[i] for i in sorted(range(len(archs)), key=costs.__getitem__)]


def best_of_each(archs: Sequence[Architecture], size: int, proxy: str) -> Asking[list[Architecture]]:
    """The best of each `size` in a row by the proxy, the first among equals; groups of one are not scored."""
    if size == 1:
        return list(archs)
    costs = yield from scores(archs, proxy)
    groups = (range(start, min(start + size, len(archs))) for start in range(0, len(archs), size))
    return [archs[min(group, key=costs.__getitem__)] for group in groups]


def best(archs: Sequence[Architecture], proxy: str) -> Asking[Architecture]:
    """The best by the proxy, the first among equals; one alone is not scored."""
    return (yield from best_of_each(archs, len(archs), proxy))[0]


def beginning(unseen: Unseen, count: int, *, proxy: str, warm_up: int) -> Asking[list[Architecture]]:
    """New architectures, taken, to begin with: the best-scored of `warm_up` random ones, then random ones."""
    order = yield from ranked(unseen.batch(warm_up), proxy)
    unseen.give_back(order[count:])
    return order[:count] + unseen.batch(count - len(order))


@dataclass(frozen=True)
class Moves:
    """How one parent comes to a child: a new neighbour, chosen by chance or by a proxy."""

    table: ChoiceTable
    unseen: Unseen
    rng: np.random.Generator
    proxy: str = ""
    """Empty: by chance."""
    candidates: int = 0
    """How many of the neighbours are scored, drawn by chance; 0: all of them."""
    greedy: float = 1.0
    """Probability of the best-scored neighbour; else a random one."""

    def child(self, parent: Architecture) -> Asking[Architecture | None]:
        """A new architecture, taken, one edit from the parent, or further if all of those are known.

        None when the space is used up.
        """
        new = (arch for arch in neighbours(self.table, parent, rng=self.rng) if self.unseen.is_new(arch))
        greedy = self.proxy and self.rng.random() < self.greedy
        # They come in random order: the first are a sample, and chance decides between equal scores.
        near = list(islice(new, (self.candidates or None) if greedy else 1))
        if not near:
            return self.unseen.near(parent) or self.unseen.draw()
        chosen = yield from best(near, self.proxy)
        self.unseen.take(chosen)
        return chosen


def check(*, proxy: str, warm_up: int = 0, candidates: int = 0, greedy: float = 1.0) -> None:
    """Refuse settings that make no sense, alone or together; raises ValueError."""
    if warm_up < 0:
        raise ValueError(f"warm_up must not be negative, but got {warm_up!r}")
    if candidates < 0:
        raise ValueError(f"candidates must not be negative, but got {candidates!r}")
    if not 0 <= greedy <= 1:
        raise ValueError(f"greedy is a probability from 0 to 1, but got {greedy!r}")
    if warm_up and not proxy:
        raise ValueError(f"warm_up={warm_up!r} needs something to score by; give a proxy, for example 'gradsign'")
    if proxy and candidates == 1 and not warm_up:
        raise ValueError(f"proxy={proxy!r} has nothing to choose from: there is one candidate only, and no warm_up")
