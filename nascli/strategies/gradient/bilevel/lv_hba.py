"""LV-HBA: the training problem becomes a penalty, how far the training loss lies above its Moreau envelope.

    v(alpha, y) = min over theta of  lower(alpha, theta) + |theta - y|^2 / (2 gamma)
    min over alpha, y of  upper(alpha, y) / c_k + lower(alpha, y) - v(alpha, y),     c_k growing like k^power

The penalty is 0 just where y is optimal, and its gradient takes no second derivatives: v's is that of lower(alpha,
theta) at the best theta, a second copy of the weights that makes one step for every step of the first (Yao, Yu, Zeng &
Zhang 2024, ICLR). In flat directions of the loss, y moves away from theta, so theta has to be the quicker one.

One pass at theta gives both theta's step and theta's part of alpha's gradient, which the authors take after the step:
three passes instead of four, and the same where all comes to rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from nascli.strategies.gradient.bilevel.derivatives import detached, gradients, partial
from nascli.strategies.gradient.bilevel.descent import Below
from nascli.strategies.gradient.bilevel.problem import Loss, Optimisers, Pace, Problem, Solver, Tensors, Told

LONGEST = 1.0
"""How far a projection moves the architecture weights at most, in the norm of all: where a limit hardly depends on
them, its linearisation means nothing far away."""


@dataclass(frozen=True, kw_only=True)
class LvHba:
    """Gradient descent on a penalised problem, with a second copy of the weights (Yao et al. 2024, ICLR)."""

    weights_rate: float = 10.0
    """The step on the weights, relative to the learning rate: 10 is what a momentum of 0.9 amounts to. There is none
    here, as it lets the copy lag behind until all diverges."""
    theta_rate: float = 20.0
    """The step on the second copy, relative to the learning rate; published ratios to the weights' are 1.25 and 5."""
    alpha_rate: float = 20.0
    """The step on the architecture weights, relative to the learning rate; plain gradient descent, no Adam."""
    gamma: float = 10.0
    """How loosely the copy is bound to the weights."""
    first: float = 1.0
    """c_0: the weight of the penalty, relative to the validation loss, in the first step."""
    power: float = 0.3
    """How the penalty's weight grows with the steps, from 0 to less than 1/2."""
    projections: int = 3
    """Linearised projections onto the resource limit after each step, if there is a limit."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in ("weights_rate", "theta_rate", "alpha_rate", "gamma", "first"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{name}={value!r} must be more than 0")
        if self.theta_rate < self.weights_rate:
            raise ValueError(f"theta_rate={self.theta_rate!r} must be at least weights_rate={self.weights_rate!r}")
        if not 0 <= self.power < 0.5:
            raise ValueError(f"power={self.power!r} must be at least 0 and less than 0.5")
        if self.projections < 1:
            raise ValueError(f"projections={self.projections!r} must be at least 1")

    def solver(self, problem: Problem, optimisers: Optimisers, coupling: Coupling | None = None) -> Solver:
        """See `Method.solver`; a constraint of the training problem may be added."""
        return _Penalised(self, problem, optimisers, coupling)


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """A constraint of the training problem that ties both kinds of weights, and how its multipliers move."""

    excess: Callable[[Tensors, Tensors], Tensor]
    """(architecture weights, network weights) -> g [constraints], to be at most 0."""
    project: Callable[[Tensors, Tensors], None]
    """Moves both kinds of weights, in place, to the nearest point with g <= 0."""
    proximal_rate: float = 1.0
    """The step on what the multipliers are bound to, relative to the learning rate."""
    lowest: float = 0.0
    """Of the multipliers; -highest makes the constraint g = 0."""
    highest: float = 1000.0


class _Penalised:
    def __init__(self, settings: LvHba, problem: Problem, optimisers: Optimisers, coupling: Coupling | None) -> None:
        self._settings, self._problem, self._coupling = settings, problem, coupling
        self._optimisers = replace(optimisers, momentum=0.0)
        self._below = Below(problem.weights, self._optimisers)
        self._theta: Below | None = None
        self._steps = 0
        self._multipliers: list[Tensor] = []
        """Those of the constraint, and what they are bound to; [constraints] each."""
        if coupling is not None:
            g = coupling.excess(problem.alpha, problem.weights).detach()
            self._multipliers = [torch.zeros_like(g), torch.zeros_like(g)]

    def step(self, pace: Pace) -> Told:
        problem, settings = self._problem, self._settings
        lower = problem.lower()
        if not pace.searching:
            # The next search starts from a copy of these weights, not from one that was left behind.
            self._theta = None
            told = self._below.descend(lower, problem.alpha, settings.weights_rate * pace.lr)
            return Told(lower=told, upper=None)
        theta = self._theta = self._theta or self._copied()
        growth = settings.first * (self._steps + 1) ** settings.power
        self._steps += 1
        through = self._follow(lower, theta, pace.lr)
        trained, alpha_lower, descent = partial(lower, problem.alpha, problem.weights)
        validated, alpha_upper, validation = partial(problem.upper(), problem.alpha, problem.weights)
        with torch.no_grad():
            pull = torch._foreach_sub(theta.weights, self._below.weights)
            descent = list(torch._foreach_add(descent, pull, alpha=1 / settings.gamma))
            torch._foreach_add_(descent, validation, alpha=1 / growth)
            self._below.move(descent, settings.weights_rate * pace.lr)
            alpha = list(problem.alpha)
            decayed = torch._foreach_add(alpha_upper, alpha, alpha=self._optimisers.alpha_decay)
            direction = torch._foreach_sub(torch._foreach_add(alpha_lower, decayed, alpha=1 / growth), through)
            torch._foreach_sub_(alpha, direction, alpha=settings.alpha_rate * pace.lr)
            self._bind(pace.lr)
        self._within()
        return Told(lower=trained, upper=validated)

    def _copied(self) -> Below:
        """The second copy of the weights, with an optimiser of its own."""
        return Below([w.detach().clone().requires_grad_() for w in self._problem.weights], self._optimisers)

    def _follow(self, lower: Loss, theta: Below, lr: float) -> list[Tensor]:
        """The derivatives of v by the architecture weights; theta makes a step towards its minimum, g's multipliers
        one towards their maximum."""
        rate = self._settings.theta_rate * lr
        value, alpha = lower(self._problem.alpha, theta.weights), list(self._problem.alpha)
        if self._coupling is not None:
            multiplier, bound = self._multipliers
            g = self._coupling.excess(alpha, theta.weights)
            value = value + (multiplier * g).sum()
            ascent = g.detach() - (multiplier - bound) / self._settings.gamma
            self._multipliers[0] = (multiplier + rate * ascent).clamp(self._coupling.lowest, self._coupling.highest)
        found = gradients(value, [*alpha, *theta.weights])
        with torch.no_grad():
            away = torch._foreach_sub(theta.weights, self._below.weights)
            theta.move(torch._foreach_add(found[len(alpha) :], away, alpha=1 / self._settings.gamma), rate)
        return found[: len(alpha)]

    def _bind(self, lr: float) -> None:
        """Back onto the constraint g <= 0, and a step of what its multipliers are bound to."""
        if self._coupling is None:
            return
        self._coupling.project(self._problem.alpha, self._problem.weights)
        multiplier, bound = self._multipliers
        moved = bound + self._coupling.proximal_rate * lr * (multiplier - bound) / self._settings.gamma
        self._multipliers[1] = moved.clamp(self._coupling.lowest, self._coupling.highest)

    def _within(self) -> None:
        """Newton's steps of the architecture weights to the limit; how many does not depend on the excess, which would
        have to be read from the device."""
        alpha = list(self._problem.alpha)
        for _ in range(self._settings.projections):
            excess = self._problem.excess(alpha)
            if excess is None:
                return
            slope = gradients(excess, alpha)
            size = get_total_norm(slope).clamp_min(1e-12)
            length = (excess.detach().clamp_min(0.0) / size).clamp_max(LONGEST)
            with torch.no_grad():
                torch._foreach_sub_(alpha, torch._foreach_mul(slope, length / size))

    def state(self) -> Mapping[str, Any]:
        # Optimisers without momentum remember nothing.
        theta = None if self._theta is None else detached(self._theta.weights)
        return {"theta": theta, "steps": self._steps, "multipliers": self._multipliers}

    def load(self, state: Mapping[str, Any]) -> None:
        self._theta, self._steps = None, int(state["steps"])
        if (saved := state["theta"]) is not None:
            self._theta = self._copied()
            with torch.no_grad():
                for weight, value in zip(self._theta.weights, saved, strict=True):
                    weight.copy_(value)
        pairs = zip(self._multipliers, state["multipliers"], strict=True)
        self._multipliers = [value.to(kept, copy=True) for kept, value in pairs]
