"""Which architectures a search has proposed, and a fresh one whenever it needs one, until the space is used up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from numpy.random import Generator

from search_spaces import Architecture, ChoiceTable

TRIES = 100
"""Uniform draws before the members are counted through."""
STEPS = 20
"""Mutations in a row before the neighbourhood of an architecture counts as known."""
ENUMERABLE = 50_000
"""Spaces up to this size are finished in random order, larger ones in the order of their members."""


class Unseen:
    """A memory of proposals. Every draw ends, however few members are left."""

    def __init__(self, table: ChoiceTable, rng: Generator) -> None:
        self._table, self._rng = table, rng
        self._seen: set[str] = set()
        self._rest: Iterator[Architecture] | None = None
        self._returned: deque[Architecture] = deque()

    def take(self, arch: Architecture) -> bool:
        """Whether the architecture is new; from now on it is not."""
        if arch.text in self._seen:
            return False
        self._seen.add(arch.text)
        return True

    def is_new(self, arch: Architecture) -> bool:
        """Whether the architecture could still be taken."""
        return arch.text not in self._seen

    def give_back(self, archs: Iterable[Architecture]) -> None:
        """Make architectures that were taken new again: they were looked at but not proposed."""
        for arch in archs:
            self._seen.discard(arch.text)
            # The pass through the members may have gone by them already.
            self._returned.append(arch)

    def draw(self) -> Architecture | None:
        """A new architecture, taken, every choice uniform as long as luck lasts; None when all have been taken."""
        small = self._table.size <= ENUMERABLE
        if self._rest is None or not small:
            for _ in range(TRIES):
                arch = self._table.sample(self._rng)
                if self.take(arch):
                    return arch
        if self._rest is None:
            # One pass is enough for the whole search: what was taken when it went by stays taken.
            self._rest = self._shuffled() if small else self._table.members()
        found = next((arch for arch in self._rest if self.take(arch)), None)
        while found is None and self._returned:
            arch = self._returned.popleft()
            found = arch if self.take(arch) else None
        return found

    def near(self, arch: Architecture, *, rate: float = 0.0) -> Architecture | None:
        """A new architecture, taken, one mutation away or as few more as it takes; None if all of those are known.

        `rate` is the probability that a choice changes; 0: one choice on average.
        """
        for _ in range(STEPS):
            arch = self._table.mutate(arch, self._rng, rate or one_gene(self._table, arch))
            if self.take(arch):
                return arch
        return None

    def batch(self, count: int) -> list[Architecture]:
        """Up to `count` new architectures; fewer only when they were the last."""
        drawn = (self.draw() for _ in range(count))
        return [arch for arch in drawn if arch is not None]

    def _shuffled(self) -> Iterator[Architecture]:
        members = [arch for arch in self._table.members() if arch.text not in self._seen]
        return (members[i] for i in self._rng.permutation(len(members)))


def one_gene(table: ChoiceTable, arch: Architecture) -> float:
    """The mutation rate that changes one choice on average, of those that apply and have alternatives."""
    active = table.active(table.indices(arch))
    return 1 / max(1, sum(on and len(c.options) > 1 for on, c in zip(active, table.choices, strict=True)))
