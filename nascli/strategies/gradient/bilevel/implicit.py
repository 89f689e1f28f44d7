"""The network's weights are trained for a few steps and then taken to be optimal, so that the implicit function theorem
tells how they answer to the architecture (iDARTS, Zhang et al. 2021, arXiv:2106.10784).

With H = d2 lower / dw2, the derivative of upper(alpha, w*(alpha)) is

    d upper / d alpha  -  d2 lower / (d alpha dw) * H^-1 * d upper / dw,

and H^-1 is replaced by the first terms of its Neumann series, lr * sum of (I - lr H)^k for k = 0, ..., K, which
converges if lr times the largest curvature is less than 2. The authors' code has the same scale: it adds v, v1 and v2,
each the last one after a step of gradient descent, and multiplies by the learning rate. They take a finite difference
for the product with the mixed derivative; here it is exact, as the graph for the products with H is there already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from nascli.strategies.gradient.bilevel.derivatives import Curvature, partial
from nascli.strategies.gradient.bilevel.descent import Above, Below
from nascli.strategies.gradient.bilevel.problem import Loss, Optimisers, Pace, Problem, Solver, Tensors, Told


@dataclass(frozen=True, kw_only=True)
class Implicit:
    """A few training steps, then the implicit gradient by a short Neumann series (iDARTS; arXiv:2106.10784)."""

    inner: int = 4
    """Training steps, on a minibatch each, between two steps of the architecture weights."""
    terms: int = 2
    """Terms of the series beyond the first; each takes one product with the Hessian."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.inner < 1 or self.terms < 0:
            raise ValueError(f"inner={self.inner!r} must be at least 1 and terms={self.terms!r} at least 0")

    def solver(self, problem: Problem, optimisers: Optimisers) -> Solver:
        """See `Method.solver`."""
        return _Implication(self, problem, optimisers)


def hypergradient(
    lower: Loss, upper: Loss, alpha: Tensors, weights: Tensors, *, lr: float, weight_decay: float, terms: int
) -> tuple[Tensor, list[Tensor]]:
    """The validation loss [] and its derivatives by the architecture weights, as if the network's weights were optimal.

    What they are optimal for includes the decay, weight_decay / 2 |w|^2.
    """
    value, direct, v = partial(upper, alpha, weights)
    curvature = Curvature(lower, alpha, weights)
    total = [t.clone() for t in v]
    for _ in range(terms):
        product = curvature.along(v)
        v = list(torch._foreach_mul(v, 1 - lr * weight_decay))
        torch._foreach_sub_(v, product, alpha=lr)
        torch._foreach_add_(total, v)
    return value, list(torch._foreach_sub(direct, curvature.across(total), alpha=lr))


class _Implication:
    def __init__(self, settings: Implicit, problem: Problem, optimisers: Optimisers) -> None:
        self._settings, self._problem, self._decay = settings, problem, optimisers.weight_decay
        self._below, self._above = Below(problem.weights, optimisers), Above(problem.alpha, optimisers)

    def step(self, pace: Pace) -> Told:
        problem, weights, upper = self._problem, self._below.weights, None
        for _ in range(self._settings.inner):
            lower = problem.lower()
            told = self._below.descend(lower, problem.alpha, pace.lr)
        if pace.searching:
            upper, found = hypergradient(
                lower,
                problem.upper(),
                problem.alpha,
                weights,
                lr=pace.lr,
                weight_decay=self._decay,
                terms=self._settings.terms,
            )
            self._above.move(found)
        return Told(lower=told, upper=upper)

    def state(self) -> Mapping[str, Any]:
        return {"below": self._below.state(), "above": self._above.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        self._below.load(state["below"])
        self._above.load(state["above"])
