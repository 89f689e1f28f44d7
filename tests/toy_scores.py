"""Strategies that ask for scores, in a conversation whose other side knows of measurements only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nascli.engine.network import Network
from nascli.engine.protocol import Search, Strategy, Trial
from nascli.engine.task import Task
from search_spaces import Architecture
from tests.toy_search import INFINITE, costs

Score = Callable[[Architecture], float | None]
"""A cost, or None where scoring fails."""


def error(arch: Architecture) -> float:
    """The first cost itself: a proxy that is never wrong."""
    return costs(arch, 1)[0]


def unscored(arch: Architecture) -> None:
    """Scoring always fails."""
    return None


@dataclass(frozen=True)
class Assisted:
    """A strategy whose questions for scores are answered on the spot; its other steps pass through."""

    strategy: Strategy
    score: Score = error
    asked: list[list[str]] = field(default_factory=list, compare=False)
    """The architectures of each question, in order."""
    proxies: list[str] = field(default_factory=list, compare=False)

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        search = self.strategy.search(task, state)
        step = next(search, None)
        while step is not None:
            if step.proxy:
                self.asked.append([n.key for n in step.candidates])
                self.proxies.append(step.proxy)
                reply: Sequence[Trial] = [self._scored(n) for n in step.candidates]
            else:
                reply = yield step
            try:
                step = search.send(reply)
            except StopIteration:
                step = None

    def _scored(self, network: Network) -> Trial:
        cost = self.score(network.arch)
        if cost is None:
            return Trial(-1, network.key, network, {}, error="no score", violation=INFINITE)
        return Trial(-1, network.key, network, {"toy": cost}, costs=(cost,))
