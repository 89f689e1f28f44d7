"""REINFORCE: draw networks from a distribution, and raise the probability of those that beat the running average.

Williams 1992, "Simple statistical gradient-following algorithms"; for architecture search Zoph & Le 2017,
arXiv:1611.01578. With a proxy it is G-REINFORCE of Zhang & Jia 2022, arXiv:2110.08616, with the credit where it is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from nascli.engine.network import Network
from nascli.engine.protocol import Search, Step, Trial
from nascli.engine.task import Task
from nascli.strategies.assisted import Asking, Moves, best, check
from nascli.strategies.policy import Adam, Policy
from nascli.strategies.single import only
from nascli.strategies.unseen import Unseen
from search_spaces import Architecture

TRIES = 40
"""Draws from the distribution for one proposal; if all are known, a neighbour of the last takes their place."""


@dataclass(frozen=True)
class Reinforce:
    """A policy gradient over the table's choices for one objective (Williams 1992; for NAS Zoph & Le 2017).

    The policy is one softmax a choice. Optimiser, rate and average are those of the baseline in NAS-Bench-201's own
    code (Dong & Yang 2020, arXiv:2001.00326). A network that is drawn again is passed over.
    """

    lr: float = 0.01
    """Adam's learning rate."""
    momentum: float = 0.9
    """Of the moving average that rewards are held against."""
    proxy: str = ""
    """What scores candidates: a proxy, or anything cheap that can be an objective. Empty: nothing does."""
    candidates: int = 10
    """Networks that the proxy scores for each one measured."""
    candidates_from: Literal["policy", "mutants"] = "policy"
    """policy: candidates are drawn, and the one measured takes the credit. mutants, as published: one network is drawn,
    candidates are one edit away from it, and it takes the credit for what was measured in its place."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr must be more than 0, but got {self.lr!r}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be from 0 to below 1, but got {self.momentum!r}")
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, but got {self.candidates!r}")
        check(proxy=self.proxy, candidates=self.candidates)

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """One network a step until the space is used up.

        Raises SettingsError if there are several objectives without limits.
        """
        learner = _Learner(self, task)
        while (proposal := (yield from learner.propose())) is not None:
            credited, arch = proposal
            (trial,) = yield Step([Network(arch)])
            learner.learn(credited, trial)


Proposal = tuple[Architecture, Architecture]
"""The architecture that takes the credit, and the one to measure."""


class _Learner:
    """The policy, what it has proposed, and the average that rewards are held against."""

    def __init__(self, settings: Reinforce, task: Task) -> None:
        self._settings, table = settings, task.space.table
        self._answers = only(task, "reinforce")
        self._rng, self._unseen = task.rng("reinforce"), Unseen(table, task.rng("reinforce.unseen"))
        self._moves = Moves(table, self._unseen, self._rng, settings.proxy, settings.candidates)
        self._policy = Policy(table)
        self._adam = Adam(len(self._policy.logits), settings.lr)
        self._average, self._worst = Average(settings.momentum), 0.0

    def propose(self) -> Asking[Proposal | None]:
        """Something new, taken; None when the space is used up."""
        proxy, draws = self._settings.proxy, self._policy.draws(self._rng)
        if proxy and self._settings.candidates_from == "mutants":
            drawn = next(draws)
            mutant = yield from self._moves.child(drawn)
            return None if mutant is None else (drawn, mutant)
        wanted = self._settings.candidates if proxy else 1
        new = {}
        for arch in islice(draws, TRIES):
            if self._unseen.is_new(arch):
                new[arch.text] = arch
            if len(new) == wanted:
                break
        if not new:
            near = self._unseen.near(arch) or self._unseen.draw()
            return None if near is None else (near, near)
        chosen = yield from best(list(new.values()), proxy)
        self._unseen.take(chosen)
        return chosen, chosen

    def learn(self, credited: Architecture, trial: Trial) -> None:
        """One step up the gradient of (reward - average) log p(credited); the average takes the reward in first.

        A network that failed or broke a limit is rewarded like the worst so far.
        """
        reward = -float(self._answers.costs([trial])[0, 0]) if trial.costs else self._worst
        self._worst = min(reward, self._worst)
        advantage = reward - self._average.add(reward)
        self._policy.logits += self._adam.step(advantage * self._policy.gradient(credited))


class Average:
    """An exponential moving average that does not lean towards zero at the start."""

    def __init__(self, momentum: float) -> None:
        self._momentum, self._sum, self._weight = momentum, 0.0, 0.0

    def add(self, value: float) -> float:
        """The average, this value among the rest."""
        self._sum = self._momentum * self._sum + (1 - self._momentum) * value
        self._weight = self._momentum * self._weight + 1 - self._momentum
        return self._sum / self._weight
