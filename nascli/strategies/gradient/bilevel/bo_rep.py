"""BO-REP: the linear system of the implicit gradient is solved a step at a time, while all else moves on.

Bilevel optimisation without a bound on the upper loss's smoothness (Hao, Gong & Liu 2024, ICLR): the architecture
weights follow a momentum of fixed length, the network's weights are trained only now and then, after a refinement at
the start, and z, which stands for H^-1 * d upper / dw, makes one step of gradient descent on its own quadratic,

    z <- z - rate * (H z - d upper / dw),
    d alpha = d upper / d alpha - d2 lower / (d alpha dw) * z,

with H = d2 lower / dw2. The theory wants H positive definite. A network's is not: z then grows without end along the
directions that curve downwards, unless they are lifted (`damping`) and z is kept in a ball (`radius`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from nascli.strategies.gradient.bilevel.derivatives import Curvature, detached, partial
from nascli.strategies.gradient.bilevel.descent import Below
from nascli.strategies.gradient.bilevel.problem import Optimisers, Pace, Problem, Solver, Told


@dataclass(frozen=True, kw_only=True)
class BoRep:
    """Normalised momentum, periodic training steps and a running linear system (Hao et al. 2024, ICLR)."""

    interval: int = 2
    """Steps of the architecture weights from one round of training steps to the next."""
    rounds: int = 3
    """Training steps, on a minibatch each, in such a round."""
    refinement: int = 20
    """Steps of the network's weights alone at the start, those of a warm-up included."""
    alpha_step: float = 3e-3
    """How far an architecture weight moves in a step, root mean square, at first; along a cosine to 0 in the end."""
    beta: float = 0.9
    """The share of the past in the momentum of the architecture weights."""
    system_rate: float = 0.4
    """The step on z, relative to the learning rate: with 0.4, z is stable wherever SGD with a momentum of 0.9 is."""
    damping: float = 0.1
    """Added to the curvature in the linear system, beside the weight decay; 0 is as published."""
    radius: float = 100.0
    """The norm that z is kept within; inf is as published."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.interval < 1 or self.rounds < 1 or self.refinement < 0:
            raise ValueError(
                f"interval={self.interval!r} and rounds={self.rounds!r} must be at least 1, "
                f"refinement={self.refinement!r} at least 0"
            )
        for name in ("alpha_step", "system_rate", "radius"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{name}={value!r} must be more than 0")
        if not 0 <= self.beta < 1 or self.damping < 0:
            raise ValueError(f"beta={self.beta!r} must be in [0, 1) and damping={self.damping!r} not negative")

    def solver(self, problem: Problem, optimisers: Optimisers) -> Solver:
        """See `Method.solver`."""
        return _Running(self, problem, optimisers)


class _Running:
    def __init__(self, settings: BoRep, problem: Problem, optimisers: Optimisers) -> None:
        self._settings, self._problem = settings, problem
        self._alpha_decay = optimisers.alpha_decay
        self._lift = optimisers.weight_decay + settings.damping
        self._below = Below(problem.weights, optimisers)
        self._z = [torch.zeros_like(w, requires_grad=False) for w in problem.weights]
        self._momentum = [torch.zeros_like(a, requires_grad=False) for a in problem.alpha]
        self._alone = self._steps = 0

    def step(self, pace: Pace) -> Told:
        settings, problem = self._settings, self._problem
        if not pace.searching or self._alone < settings.refinement:
            self._alone += 1
            return Told(lower=self._below.descend(problem.lower(), problem.alpha, pace.lr), upper=None)
        if self._steps % settings.interval == 0:
            for _ in range(settings.rounds):
                self._below.descend(problem.lower(), problem.alpha, pace.lr)
        self._steps += 1
        upper, direct, v = partial(problem.upper(), problem.alpha, problem.weights)
        curvature = Curvature(problem.lower(), problem.alpha, problem.weights)
        self._solve(curvature, v, settings.system_rate * pace.lr)
        direct = list(torch._foreach_add(direct, detached(problem.alpha), alpha=self._alpha_decay))
        self._move(list(torch._foreach_sub(direct, curvature.across(self._z))), pace.spent)
        return Told(lower=curvature.value, upper=upper)

    def _solve(self, curvature: Curvature, v: list[Tensor], rate: float) -> None:
        """One step of gradient descent on z (H + lift) z / 2 - v z."""
        product = curvature.along(self._z)
        torch._foreach_mul_(self._z, 1 - rate * self._lift)
        torch._foreach_sub_(self._z, product, alpha=rate)
        torch._foreach_add_(self._z, v, alpha=rate)
        if self._settings.radius < math.inf:
            torch._foreach_mul_(self._z, (self._settings.radius / get_total_norm(self._z)).clamp_max(1.0))

    @torch.no_grad()
    def _move(self, direction: list[Tensor], spent: float) -> None:
        """A step of the architecture weights, whose length is the schedule's whatever the gradient's."""
        torch._foreach_lerp_(self._momentum, direction, 1 - self._settings.beta)
        count = sum(a.numel() for a in self._problem.alpha)
        length = self._settings.alpha_step * math.sqrt(count) * 0.5 * (1 + math.cos(math.pi * spent))
        scale = length / (get_total_norm(self._momentum) + 1e-10)
        torch._foreach_sub_(list(self._problem.alpha), torch._foreach_mul(self._momentum, scale))

    def state(self) -> Mapping[str, Any]:
        numbers = {"alone": self._alone, "steps": self._steps}
        return {"below": self._below.state(), "z": self._z, "momentum": self._momentum, **numbers}

    def load(self, state: Mapping[str, Any]) -> None:
        self._below.load(state["below"])
        for kept, saved in ((self._z, state["z"]), (self._momentum, state["momentum"])):
            for tensor, value in zip(kept, saved, strict=True):
                tensor.copy_(value)
        self._alone, self._steps = int(state["alone"]), int(state["steps"])
