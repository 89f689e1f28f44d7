"""Two nested quadratics whose optimum is a matter of linear algebra, and what every method is held to on them.

lower(x, y) = y A y / 2 - y (B x + b)                  so that   y*(x) = (A + decay I)^-1 (B x + b)
upper(x, y) = |y - t|^2 / 2 + r |x - s|^2 / 2
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nascli.strategies.gradient.bilevel.problem import Loss, Method, Optimisers, Pace, Tensors, Told

X, Y = 5, 7
"""How many upper and lower variables there are; a sixth upper one is padding."""
BARE = Optimisers(momentum=0.0, weight_decay=0.0, clip=math.inf, alpha_decay=0.0)
"""Plain gradient descent: no momentum, no decay, no clipping."""
SEEDS = range(3)


def random_like(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flat(tensors: Tensors) -> Tensor:
    """One vector [numbers]; without the padding if it is the architecture weights."""
    return torch.cat([t.detach().flatten() for t in tensors])


def upper_vector(alpha: Tensors) -> Tensor:
    """The architecture weights [X] without their padding."""
    return torch.cat([alpha[0].flatten(), alpha[1][:2]])


class Quadratic:
    """The problem as methods see it; every minibatch shifts b by its own noise."""

    def __init__(self, seed: int = 0, *, noise: float = 0.0, limit: float | None = None) -> None:
        basis = torch.linalg.qr(random_like(10 * seed + 1, Y, Y))[0]
        self.a = basis @ torch.diag(torch.linspace(0.5, 2.0, Y, dtype=torch.float64)) @ basis.T
        self.b = torch.linalg.qr(random_like(10 * seed + 2, Y, X))[0]
        self.shift = random_like(10 * seed + 3, Y)
        self.target, self.centre = random_like(10 * seed + 4, Y), random_like(10 * seed + 5, X)
        self.r, self.noise, self.limit, self.seed = 0.5, noise, limit, seed
        self.drawn = 0
        start = random_like(10 * seed + 6, X)
        self.alpha = [
            start[:3].reshape(1, 3).clone().requires_grad_(),
            torch.cat([start[3:], start.new_zeros(1)]).requires_grad_(),
        ]
        w = random_like(10 * seed + 7, Y)
        self.weights = [w[:4].reshape(2, 2).clone().requires_grad_(), w[4:].clone().requires_grad_()]
        self.uppers: list[tuple[Tensors, Tensors]] = []
        self.lowers: list[tuple[Tensors, Tensors]] = []
        """What the losses were called with."""

    def lower(self) -> Loss:
        self.drawn += 1
        shift = self.shift + self.noise * random_like(1000 + self.drawn, Y)

        def loss(alpha: Tensors, weights: Tensors) -> Tensor:
            self.lowers.append((alpha, weights))
            x, y = upper_vector(alpha), torch.cat([w.flatten() for w in weights])
            return y @ self.a @ y / 2 - y @ (self.b @ x + shift)

        return loss

    def upper(self) -> Loss:
        self.drawn += 1
        target = self.target + self.noise * random_like(1000 + self.drawn, Y)

        def loss(alpha: Tensors, weights: Tensors) -> Tensor:
            self.uppers.append((alpha, weights))
            x, y = upper_vector(alpha), torch.cat([w.flatten() for w in weights])
            return (y - target).square().sum() / 2 + self.r * (x - self.centre).square().sum() / 2

        return loss

    def excess(self, alpha: Tensors) -> Tensor | None:
        return None if self.limit is None else upper_vector(alpha).square().sum() / self.limit - 1

    # -- what is true of it ---------------------------------------------------------------------------------------

    def x(self) -> Tensor:
        return upper_vector(self.alpha).detach()

    def y(self) -> Tensor:
        return flat(self.weights)

    def hessian(self, decay: float = 0.0) -> Tensor:
        return self.a + decay * torch.eye(Y, dtype=torch.float64)

    def best_y(self, x: Tensor, decay: float = 0.0) -> Tensor:
        return torch.linalg.solve(self.hessian(decay), self.b @ x + self.shift)

    def slope(self, x: Tensor, decay: float = 0.0) -> Tensor:
        """The exact derivatives of upper(x, y*(x)) by x."""
        response = torch.linalg.solve(self.hessian(decay), self.b)
        return self.r * (x - self.centre) + response.T @ (self.best_y(x, decay) - self.target)

    def optimum(self, decay: float = 0.0) -> Tensor:
        """The best x: the slope is affine, so one linear system is all."""
        origin = self.slope(torch.zeros(X, dtype=torch.float64), decay)
        columns = [self.slope(e, decay) - origin for e in torch.eye(X, dtype=torch.float64)]
        return torch.linalg.solve(torch.stack(columns, 1), -origin)

    def distance(self, x: Tensor) -> float:
        """How far the present x is from another, relative to that."""
        return float((self.x() - x).norm() / x.norm())


@dataclass(frozen=True)
class Bent:
    """Losses of two numbers that are not quadratic; lower = cos(x) exp(y) + y^4, upper = sin(x y)."""

    def lower(self, alpha: Tensors, weights: Tensors) -> Tensor:
        return (alpha[0].cos() * weights[0].exp() + weights[0] ** 4).sum()

    def upper(self, alpha: Tensors, weights: Tensors) -> Tensor:
        return (alpha[0] * weights[0]).sin().sum()


def run(
    method: Method, problem: Quadratic, steps: int, *, lr: float = 0.1, optimisers: Optimisers = BARE, warm: int = 0
) -> Iterator[Told]:
    """What each step came to; the first `warm` move the network's weights alone."""
    solver = method.solver(problem, optimisers)
    for step in range(steps):
        yield solver.step(Pace(lr=lr, spent=step / steps, searching=step >= warm))


def finish(method: Method, problem: Quadratic, steps: int, *, lr: float = 0.1, optimisers: Optimisers = BARE) -> None:
    for _ in run(method, problem, steps, lr=lr, optimisers=optimisers):
        pass


# -- what every method is held to ----------------------------------------------------------------------------------


def resumes(method: Method, *, warm: int = 2) -> bool:
    """Whether 7 steps, a state through a file, and 6 more on copied variables are 13 steps, bit by bit."""
    optimisers = Optimisers()
    paces = [Pace(lr=0.05 / (1 + k), spent=k / 13, searching=k >= warm) for k in range(13)]
    whole, first, second = (Quadratic(noise=0.3) for _ in range(3))
    solver = method.solver(whole, optimisers)
    told = [solver.step(p) for p in paces]
    solver = method.solver(first, optimisers)
    for pace in paces[:7]:
        solver.step(pace)
    file = io.BytesIO()
    torch.save(solver.state(), file)
    file.seek(0)
    with torch.no_grad():
        for new, old in zip([*second.alpha, *second.weights], [*first.alpha, *first.weights], strict=True):
            new.copy_(old)
    second.drawn = first.drawn
    state = torch.load(file, map_location="cpu", weights_only=True)
    resumed = method.solver(second, optimisers)
    resumed.load(state)
    kept = io.BytesIO()
    torch.save(state, kept)
    again = [resumed.step(p) for p in paces[7:]]
    untouched = io.BytesIO()
    torch.save(state, untouched)
    same = torch.equal(whole.x(), second.x()) and torch.equal(whole.y(), second.y())
    numbers = [(t.lower.item(), t.upper and t.upper.item()) for t in told[7:]]
    return (
        same
        and numbers == [(t.lower.item(), t.upper and t.upper.item()) for t in again]
        and kept.getvalue() == untouched.getvalue()
    )


def leaves_padding(method: Method) -> bool:
    """Whether padding stays 0 while all else moves, stays finite and leaves no gradients behind."""
    problem = Quadratic(noise=0.3)
    before = [t.detach().clone() for t in (*problem.alpha, *problem.weights)]
    finish(method, problem, 40, optimisers=Optimisers())
    after = [*problem.alpha, *problem.weights]
    moved = [bool((a != b).any()) for a, b in zip(after, before, strict=True)]
    finite = all(bool(t.isfinite().all()) for t in after)
    return all(moved) and finite and problem.alpha[1][2].item() == 0 and all(t.grad is None for t in after)


def rests(method: Method) -> bool:
    """Whether the architecture weights rest while they are not searched for, and the others move."""
    problem = Quadratic(noise=0.3)
    x, y = problem.x(), problem.y()
    told = list(run(method, problem, 5, optimisers=Optimisers(), warm=5))
    unused = not problem.uppers and not any(a.requires_grad for alpha, _ in problem.lowers for a in alpha)
    return torch.equal(problem.x(), x) and not torch.equal(problem.y(), y) and unused and told[-1].upper is None


def first_move(method: Method, clip: float, *, searching: bool = False) -> float:
    """How far the first step, at a learning rate of 1, moves the network's weights."""
    problem = Quadratic()
    y = problem.y()
    method.solver(problem, replace(BARE, clip=clip)).step(Pace(lr=1.0, spent=0.0, searching=searching))
    return float((problem.y() - y).norm())
