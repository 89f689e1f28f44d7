"""How near each way to solve the two nested problems comes to the optimum, on quadratics whose optimum is known.

    lower(x, y) = y A y / 2 - y (B x + b),   upper(x, y) = |y - t|^2 / 2 + |x - s|^2 / 4

with 30 upper and 60 lower variables, curvatures from 0.5 to 2, and B's singular values 1. Every method has the same
learning rate and no momentum, decay or clipping below; what else was set is in METHODS.

    python benchmarks/bilevel_quadratic.py --steps 6000
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from nascli.strategies.gradient.bilevel.alternating import Alternating
from nascli.strategies.gradient.bilevel.bo_rep import BoRep
from nascli.strategies.gradient.bilevel.implicit import Implicit
from nascli.strategies.gradient.bilevel.lv_hba import LvHba
from nascli.strategies.gradient.bilevel.problem import Loss, Method, Optimisers, Pace, Tensors
from nascli.strategies.gradient.bilevel.unrolled import Unrolled

X, Y, R = 30, 60, 0.5
PLAIN = Optimisers(momentum=0.0, weight_decay=0.0, clip=math.inf, alpha_lr=0.02, alpha_decay=0.0)
EVEN = {"weights_rate": 1.0, "theta_rate": 1.25, "alpha_rate": 1.0}
EXACT = {"damping": 0.0, "radius": math.inf, "system_rate": 1.0, "alpha_step": 0.01}
METHODS: Mapping[str, Method] = {
    "alternating": Alternating(),
    "unrolled": Unrolled(),
    "implicit": Implicit(),
    "implicit, 16 terms": Implicit(terms=16),
    "lv-hba, power .3": LvHba(**EVEN),
    "lv-hba, power .49": LvHba(**EVEN, power=0.49),
    "bo-rep": BoRep(**EXACT),
    "bo-rep, damping .1": BoRep(**EXACT | {"damping": 0.1}),
}


class Quadratic:
    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        basis = torch.linalg.qr(normal(Y, Y))[0]
        self.a = basis @ torch.diag(torch.linspace(0.5, 2.0, Y, dtype=torch.float64)) @ basis.T
        self.b = torch.linalg.qr(normal(Y, X))[0]
        self.shift, self.target, self.centre = normal(Y), normal(Y), normal(X)
        self.alpha, self.weights = [normal(X).requires_grad_()], [normal(Y).requires_grad_()]

    def lower(self) -> Loss:
        return lambda x, y: y[0] @ self.a @ y[0] / 2 - y[0] @ (self.b @ x[0] + self.shift)

    def upper(self) -> Loss:
        return lambda x, y: (y[0] - self.target).square().sum() / 2 + R * (x[0] - self.centre).square().sum() / 2

    def excess(self, alpha: Tensors) -> None:
        return None

    def optimum(self) -> Tensor:
        """R (x - s) + J' (J x + A^-1 b - t) = 0 with J = A^-1 B."""
        response, rest = torch.linalg.solve(self.a, self.b), torch.linalg.solve(self.a, self.shift)
        system = R * torch.eye(X, dtype=torch.float64) + response.T @ response
        return torch.linalg.solve(system, R * self.centre + response.T @ (self.target - rest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    marks = [max(1, args.steps * share // 60) for share in (1, 3, 10, 30, 60)]
    print("relative distance to the optimum after so many steps; a step in ms of CPU; seconds of CPU to within 5 %\n")
    print(f"{'method':20s}" + "".join(f"{mark:>10d}" for mark in marks) + f"{'ms':>8s}{'s to 5 %':>10s}")
    for name, method in METHODS.items():
        problem = Quadratic(args.seed)
        best = problem.optimum()
        solver = method.solver(problem, PLAIN)
        reached, found, spent = math.nan, [], 0.0
        for step in range(args.steps):
            started = time.process_time()
            solver.step(Pace(lr=args.lr, spent=step / args.steps))
            spent += time.process_time() - started
            distance = ((problem.alpha[0].detach() - best).norm() / best.norm()).item()
            if math.isnan(reached) and distance < 0.05:
                reached = spent
            if step + 1 in marks:
                found.append(distance)
        row = "".join(f"{distance:10.4f}" for distance in found)
        print(f"{name:20s}{row}{1000 * spent / args.steps:8.2f}{reached:10.2f}", flush=True)


if __name__ == "__main__":
    main()
