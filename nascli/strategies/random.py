"""Random search: fresh architectures until there are none left. The yardstick for everything cleverer.

Li & Talwalkar 2019, "Random search and reproducibility for neural architecture search", arXiv:1902.07638. With a proxy:
warm-up (Abdelfattah et al. 2021, arXiv:2101.08134) and G-RS (Zhang & Jia 2022, arXiv:2110.08616). The latter's variant
of BOHB is G-RS inside Hyperband, as its model's proposals are thrown away, and is not built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nascli.engine.network import Network
from nascli.engine.protocol import Search, Step
from nascli.engine.task import Task
from nascli.strategies.assisted import Asking, best_of_each, check, ranked
from nascli.strategies.unseen import Unseen
from search_spaces import Architecture


@dataclass(frozen=True)
class Random:
    """Architectures with every choice drawn uniformly, each at most once (Li & Talwalkar 2019, arXiv:1902.07638)."""

    batch: int = 20
    """Architectures a step."""
    proxy: str = ""
    """What scores candidates: a proxy, or anything cheap that can be an objective. Empty: nothing does."""
    candidates: int = 10
    """Architectures that the proxy scores for each one measured."""
    warm_up: int = 0
    """Architectures that the proxy scores at the start; they are measured first, the best before the others."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, but got {self.batch!r}")
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, but got {self.candidates!r}")
        check(proxy=self.proxy, warm_up=self.warm_up, candidates=self.candidates)

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """Batches of new architectures until the space is used up."""
        unseen = Unseen(task.space.table, task.rng("random"))
        warm = yield from ranked(unseen.batch(self.warm_up), self.proxy)
        for start in range(0, len(warm), self.batch):
            yield Step([Network(arch) for arch in warm[start : start + self.batch]])
        while archs := (yield from self._chosen(unseen)):
            yield Step([Network(arch) for arch in archs])

    def _chosen(self, unseen: Unseen) -> Asking[list[Architecture]]:
        """A batch of new architectures, taken; with a proxy each is the best of so many."""
        if not self.proxy:
            return unseen.batch(self.batch)
        drawn = unseen.batch(self.batch * self.candidates)
        chosen = yield from best_of_each(drawn, self.candidates, self.proxy)
        kept = set(chosen)
        unseen.give_back(arch for arch in drawn if arch not in kept)
        return chosen
