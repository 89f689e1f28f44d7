"""Random search: fresh architectures until there are none left. The yardstick for everything cleverer.

Li & Talwalkar 2019, "Random search and reproducibility for neural architecture search", arXiv:1902.07638.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nascli.engine.network import Network
from nascli.engine.protocol import Search, Step
from nascli.engine.task import Task
from nascli.strategies.unseen import Unseen


@dataclass(frozen=True)
class Random:
    """Architectures with every choice drawn uniformly, each at most once (Li & Talwalkar 2019, arXiv:1902.07638)."""

    batch: int = 20
    """Architectures a step."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, but got {self.batch!r}")

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """Batches of new architectures until the space is used up."""
        unseen = Unseen(task.space.table, task.rng("random"))
        while archs := unseen.batch(self.batch):
            yield Step([Network(arch) for arch in archs])
