"""First order: the network's weights are taken for the best ones already, so that a step is one gradient of each kind.

The first-order approximation of Liu et al. 2019 (DARTS, arXiv:1806.09055). It ends where the validation loss is flat in
the architecture weights with the network's weights held fixed, which is the bilevel optimum only if these do not answer
to the architecture, or if their answer leaves the validation loss as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from nascli.strategies.gradient.bilevel.derivatives import detached, gradients
from nascli.strategies.gradient.bilevel.descent import Above, Below
from nascli.strategies.gradient.bilevel.problem import Optimisers, Pace, Problem, Solver, Told


@dataclass(frozen=True, kw_only=True)
class Alternating:
    """A step on the validation loss, then one on the training loss (DARTS, first order; arXiv:1806.09055)."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def solver(self, problem: Problem, optimisers: Optimisers) -> Solver:
        """See `Method.solver`."""
        return _Alternation(problem, optimisers)


class _Alternation:
    def __init__(self, problem: Problem, optimisers: Optimisers) -> None:
        self._problem = problem
        self._below, self._above = Below(problem.weights, optimisers), Above(problem.alpha, optimisers)

    def step(self, pace: Pace) -> Told:
        alpha, upper = self._problem.alpha, None
        if pace.searching:
            # With constant weights, nothing that comes before the first mixture is kept for the backward pass.
            value = self._problem.upper()(alpha, detached(self._problem.weights))
            self._above.move(gradients(value, alpha))
            upper = value.detach()
        return Told(lower=self._below.descend(self._problem.lower(), alpha, pace.lr), upper=upper)

    def state(self) -> Mapping[str, Any]:
        return {"below": self._below.state(), "above": self._above.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        self._below.load(state["below"])
        self._above.load(state["above"])
