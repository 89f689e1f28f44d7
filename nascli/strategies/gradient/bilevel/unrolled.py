"""Second order: the network's weights answer to the architecture by one step of SGD, and that is differentiated.

With w' = w - lr (momentum + d lower / dw + decay w), the derivative of upper(alpha, w'(alpha)) is

    d upper / d alpha  -  lr * d2 lower / (d alpha dw) * v,   v = d upper / dw',

whose last product is a central difference of d lower / d alpha between w + e v and w - e v, with e = 0.01 / |v|
(equations 6 to 8 of Liu et al. 2019, DARTS, arXiv:1806.09055). As there, w' knows of no clipping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from nascli.strategies.gradient.bilevel.derivatives import detached, gradients, partial
from nascli.strategies.gradient.bilevel.descent import Above, Below
from nascli.strategies.gradient.bilevel.problem import Loss, Optimisers, Pace, Problem, Solver, Tensors, Told

REACH = 0.01
"""How far from w the two points of the difference lie, in the norm of all weights."""


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """Looks one training step ahead: five passes instead of two (DARTS, second order; arXiv:1806.09055)."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def solver(self, problem: Problem, optimisers: Optimisers) -> Solver:
        """See `Method.solver`."""
        return _Unrolling(problem, optimisers)


def hypergradient(
    lower: Loss,
    upper: Loss,
    alpha: Tensors,
    weights: Tensors,
    *,
    momentum: Tensors,
    lr: float,
    weight_decay: float,
) -> tuple[Tensor, list[Tensor]]:
    """The validation loss [] one step ahead and its derivatives by the architecture weights.

    `momentum` is what SGD adds to the gradient: its factor times its buffers.
    """
    ahead = gradients(lower(detached(alpha), weights), weights)
    with torch.no_grad():
        ahead = list(torch._foreach_add(ahead, list(momentum)))
        torch._foreach_add_(ahead, list(weights), alpha=weight_decay)
        torch._foreach_mul_(ahead, -lr)
        torch._foreach_add_(ahead, list(weights))
    value, direct, v = partial(upper, alpha, [w.requires_grad_() for w in ahead])
    del ahead
    # Where v is 0, so is the product; e is then merely finite.
    e = REACH / get_total_norm(v).clamp_min(1e-12)
    shift = torch._foreach_mul(v, e)
    above = gradients(lower(alpha, torch._foreach_add(detached(weights), shift)), alpha)
    below = gradients(lower(alpha, torch._foreach_sub(detached(weights), shift)), alpha)
    cross = torch._foreach_mul(torch._foreach_sub(above, below), lr / (2 * e))
    return value, list(torch._foreach_sub(direct, cross))


class _Unrolling:
    def __init__(self, problem: Problem, optimisers: Optimisers) -> None:
        self._problem, self._optimisers = problem, optimisers
        self._below, self._above = Below(problem.weights, optimisers), Above(problem.alpha, optimisers)

    def step(self, pace: Pace) -> Told:
        alpha, lower, upper = self._problem.alpha, self._problem.lower(), None
        if pace.searching:
            upper, found = hypergradient(
                lower,
                self._problem.upper(),
                alpha,
                self._below.weights,
                momentum=torch._foreach_mul(self._below.momentum(), self._optimisers.momentum),
                lr=pace.lr,
                weight_decay=self._optimisers.weight_decay,
            )
            self._above.move(found)
        return Told(lower=self._below.descend(lower, alpha, pace.lr), upper=upper)

    def state(self) -> Mapping[str, Any]:
        return {"below": self._below.state(), "above": self._above.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        self._below.load(state["below"])
        self._above.load(state["above"])
