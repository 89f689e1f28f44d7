"""The conversation between a method and the engine. READ THIS FIRST.

A method is a coroutine. It yields steps ("measure these networks; here is what I have learnt") and receives, for
each step, the trials of its candidates in their order. It never measures, writes or prints: the engine does.

    search = strategy.search(task)
    step = next(search)                       # Step(candidates=[...])
    step = search.send(trials)                # one trial a candidate; then the next step, and so on

A trial that failed or broke a limit comes back like any other, without costs. A strategy ends by returning, or is
closed by the engine at any yield when the budget is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from nascli.engine.network import Network
    from nascli.engine.task import Task


@dataclass(frozen=True)
class Trial:
    """What became of one network."""

    number: int
    key: str
    network: Network
    values: Mapping[str, float]
    """Everything measured, in natural units, by objective name; also what came with it ("latency_ms_iqr")."""
    costs: tuple[float, ...] = ()
    """The objectives in their order, all to be minimised; () if a measurement failed or a limit was broken."""
    error: str = ""
    """Empty, or why there are no costs, in one sentence."""
    violation: float = 0.0
    """How far beyond the broken limit, relative to it; 0 if none was broken, infinite if measuring failed."""
    seconds: float = 0.0
    missing: Mapping[str, str] = field(default_factory=dict)
    """What could not be scored, and why, in one sentence each."""
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)
    """What was found layer by layer, by name, [layers, statistics]."""


@dataclass(frozen=True)
class Step:
    """What a method says at one yield."""

    candidates: Sequence[Network] = ()
    """Please measure these."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What there is to tell: loss, epoch, temperature. `progress` in [0, 1] moves the bar of a training method."""
    state: Callable[[], Mapping[str, Any]] | None = None
    """How to continue from here (tensors, numbers, strings, lists, dicts); called only when the engine saves."""
    proxy: str = ""
    """Not empty: please only score the candidates by this proxy. A reply then has one cost, to be minimised whatever
    the proxy's goal. Scores are remembered apart: they are no evaluations, and no members of the front.
    """


Search = Generator[Step, Sequence[Trial], None]


class Strategy(Protocol):
    """A frozen dataclass of settings. It must not print, log progress, write files or touch global random state."""

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """The conversation, from the start or from a state that one of its steps gave.

        A method that gives no state is replayed: asked again from the start, with the same seed, and answered from
        the journal. All its randomness must come from `task.rng(stream)`.
        """
        ...


Evaluate = Callable[["Sequence[Network]", "Task"], Iterator[Trial]]
"""An executor: measures networks and yields their trials in the same order (numbers are set by the loop)."""


class AskTell:
    """A strategy in one's own hands, for notebooks: `ask()` for networks, `tell(trials)` what became of them."""

    def __init__(self, strategy: Strategy, task: Task) -> None:
        self._search = strategy.search(task)
        self._step: Step | None = next(self._search, None)

    def ask(self) -> Sequence[Network]:
        """The networks to measure now; empty when the strategy has ended or only has something to tell."""
        return () if self._step is None else self._step.candidates

    def tell(self, trials: Sequence[Trial]) -> None:
        """Answer the last `ask`, one trial a network."""
        try:
            self._step = self._search.send(trials)
        except StopIteration:
            self._step = None

    @property
    def done(self) -> bool:
        """Whether the strategy has ended."""
        return self._step is None
