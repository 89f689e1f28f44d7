from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nascli.strategies.gradient.bilevel.lv_hba import Coupling, LvHba
from nascli.strategies.gradient.bilevel.problem import Loss, Optimisers, Pace, Tensors
from tests import toy_bilevel as toy
from tests.toy_bilevel import BARE, SEEDS, Quadratic

EVEN = LvHba(weights_rate=1.0, theta_rate=1.25, alpha_rate=1.0, power=0.49, first=3.0)
"""Steps of about the same size on all three, as the quadratic wants them."""


def penalised(problem: Quadratic, c: float, gamma: float, decay: float = 0.0) -> Tensor:
    """The x that minimises upper / c + lower - v over x and y, with v's inner minimum solved exactly."""
    a = problem.hessian(decay)
    eye = torch.eye(toy.Y, dtype=torch.float64)

    def lower(x: Tensor, y: Tensor) -> Tensor:
        return y @ a @ y / 2 - y @ (problem.b @ x + problem.shift)

    def value(both: Tensor) -> Tensor:
        x, y = both.split([toy.X, toy.Y])
        theta = torch.linalg.solve(a + eye / gamma, problem.b @ x + problem.shift + y / gamma)
        envelope = lower(x, theta) + (theta - y).square().sum() / (2 * gamma)
        upper = (y - problem.target).square().sum() / 2 + problem.r * (x - problem.centre).square().sum() / 2
        return upper / c + lower(x, y) - envelope

    origin = torch.zeros(toy.X + toy.Y, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(value, origin)
    assert torch.linalg.eigvalsh(hessian).min() > 0
    return torch.linalg.solve(hessian, -torch.autograd.functional.jacobian(value, origin))[: toy.X]


@pytest.mark.parametrize("seed", SEEDS)
def test_comes_to_the_optimum_as_the_penalty_grows(seed: int) -> None:
    problem = Quadratic(seed)
    toy.finish(EVEN, problem, 600, lr=0.5)
    assert problem.distance(problem.optimum()) < 0.02


@pytest.mark.parametrize(("gamma", "decay"), [(10.0, 0.0), (2.0, 0.3)])
def test_a_constant_penalty_ends_where_the_penalised_problem_does(gamma: float, decay: float) -> None:
    problem = Quadratic()
    method = replace(EVEN, power=0.0, gamma=gamma)
    toy.finish(method, problem, 500, lr=0.5, optimisers=replace(BARE, weight_decay=decay))
    assert problem.distance(penalised(problem, 3.0, gamma, decay)) < 1e-4
    assert problem.distance(problem.optimum(decay)) > 0.02


def test_a_first_step_by_hand() -> None:
    """theta starts at y, so its pull is nothing at first and alpha follows the upper loss alone."""
    problem = Quadratic()
    x, y = problem.x(), problem.y()
    method = LvHba(weights_rate=2.0, theta_rate=3.0, alpha_rate=4.0, gamma=5.0, first=8.0)
    solver = method.solver(problem, Optimisers(momentum=0.9, weight_decay=0.1, clip=1e9, alpha_decay=0.2))
    solver.step(Pace(lr=0.01, spent=0.0))
    slope = problem.a @ y - problem.b @ x - problem.shift
    theta = y - 0.03 * (slope + 0.1 * y)
    saved = torch.cat([w.flatten() for w in solver.state()["theta"]])
    torch.testing.assert_close(saved, theta)
    down = slope + 0.1 * y - (y - theta) / 5 + (y - problem.target) / 8
    torch.testing.assert_close(problem.y(), y - 0.02 * down)
    torch.testing.assert_close(problem.x(), x - 0.04 * (problem.r * (x - problem.centre) + 0.2 * x) / 8)


def test_three_passes_with_both_gradients() -> None:
    problem = Quadratic()
    toy.finish(EVEN, problem, 4)
    assert (len(problem.lowers), len(problem.uppers), problem.drawn) == (8, 4, 8)


def test_a_limit_on_the_architecture_is_kept() -> None:
    """|x|^2 may be at most a quarter of the optimum's: the end is on the limit, and best there (Lagrange)."""
    problem = Quadratic()
    problem.limit = float(problem.optimum().square().sum() / 4)
    over = []
    for _ in toy.run(EVEN, problem, 400, lr=0.3):
        excess = problem.excess(problem.alpha)
        assert excess is not None
        over.append(excess.item())
    assert max(over[5:]) < 1e-3 and abs(over[-1]) < 1e-6
    slope, outward = problem.slope(problem.x()), problem.x()
    assert torch.cosine_similarity(slope, -outward, dim=0) > 0.995


def test_a_limit_that_is_far_away_changes_nothing() -> None:
    free, limited = Quadratic(), Quadratic(limit=1e6)
    for problem in (free, limited):
        toy.finish(EVEN, problem, 20)
    assert torch.equal(free.x(), limited.x())


def test_a_limit_that_hardly_depends_on_the_architecture_moves_it_little() -> None:
    problem = Quadratic()
    problem.excess = lambda alpha: 1 + 1e-9 * alpha[0].sum()  # type: ignore[method-assign, assignment]
    x = problem.x()
    LvHba(projections=1).solver(problem, BARE).step(Pace(lr=1e-9, spent=0.0))
    assert (problem.x() - x).norm().item() == pytest.approx(1.0)


class Coupled:
    """The toy of the paper: lower = |y1|^2 / 2 - x y1 + sum y2 subject to sum x + sum y1 + sum y2 = 0, upper =
    |x - y2|^2 / 2 + |y1 - 1|^2 / 2, whose best is x = -0.3, y1 = 0.7, y2 = -0.4 throughout."""

    def __init__(self) -> None:
        self.alpha = [torch.full((2,), 10.0, dtype=torch.float64, requires_grad=True)]
        self.weights = [torch.full((2,), 10.0, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        self.project(self.alpha, self.weights)

    def lower(self) -> Loss:
        return lambda x, y: y[0].square().sum() / 2 - x[0] @ y[0] + y[1].sum()

    def upper(self) -> Loss:
        return lambda x, y: (x[0] - y[1]).square().sum() / 2 + (y[0] - 1).square().sum() / 2

    def excess(self, alpha: Tensors) -> None:
        return None

    @staticmethod
    def total(alpha: Tensors, weights: Tensors) -> Tensor:
        return sum((t.sum() for t in (*alpha, *weights)), torch.zeros(1, dtype=torch.float64))

    @classmethod
    def project(cls, alpha: Tensors, weights: Tensors) -> None:
        with torch.no_grad():
            over = cls.total(alpha, weights) / 6
            for tensor in (*alpha, *weights):
                tensor -= over


def test_the_published_example_with_a_constraint_below() -> None:
    problem = Coupled()
    coupling = Coupling(excess=Coupled.total, project=Coupled.project, proximal_rate=2.5, lowest=-1000.0)
    method = LvHba(weights_rate=1.0, theta_rate=1.25, alpha_rate=1.0, first=3.0)
    solver = method.solver(problem, BARE, coupling)
    for _ in range(1000):
        solver.step(Pace(lr=0.03, spent=0.0))
    found = [t.detach().mean().item() for t in (*problem.alpha, *problem.weights)]
    assert found == pytest.approx([-0.3, 0.7, -0.4], rel=0.03)
    # Stationarity in y2: 1 + multiplier = 0.
    assert solver.state()["multipliers"][0].item() == pytest.approx(-1, abs=0.01)


def test_two_steps_of_the_multipliers_by_hand() -> None:
    """g = 1 throughout: up by theta's rate 0.2, held back by half of how far it is from z, which follows at 0.3."""
    coupling = Coupling(
        excess=lambda x, y: 1 + 0 * y[0].sum().reshape(1), project=lambda x, y: None, proximal_rate=3.0, highest=0.36
    )
    solver = LvHba(weights_rate=1.0, theta_rate=2.0, gamma=2.0).solver(Quadratic(), BARE, coupling)
    found = []
    for _ in range(3):
        solver.step(Pace(lr=0.1, spent=0.0))
        found += [m.item() for m in solver.state()["multipliers"]]
    second = 0.2 + 0.2 * (1 - (0.2 - 0.03) / 2)
    assert second > 0.36
    assert found[:4] == pytest.approx([0.2, 0.03, 0.36, 0.03 + 0.3 * (0.36 - 0.03) / 2])
    loose = LvHba(weights_rate=1.0, theta_rate=2.0, gamma=2.0).solver(Quadratic(), BARE, replace(coupling, highest=9.0))
    for _ in range(2):
        loose.step(Pace(lr=0.1, spent=0.0))
    assert loose.state()["multipliers"][0].item() == pytest.approx(second)


@pytest.mark.parametrize("searching", [False, True])
def test_the_gradients_below_are_clipped(searching: bool) -> None:
    assert toy.first_move(LvHba(), 0.25, searching=searching) == pytest.approx(10 * 0.25, rel=1e-5)


def test_the_copy_starts_anew_after_a_rest() -> None:
    problem = Quadratic()
    solver = EVEN.solver(problem, BARE)
    solver.step(Pace(lr=0.1, spent=0.0))
    assert solver.state()["theta"] is not None
    solver.step(Pace(lr=0.1, spent=0.0, searching=False))
    assert solver.state()["theta"] is None


@pytest.mark.parametrize("warm", [0, 3, 9])
def test_goes_on_from_its_state(warm: int) -> None:
    assert toy.resumes(LvHba(weights_rate=1.0, theta_rate=2.0, alpha_rate=0.5), warm=warm)


def test_goes_on_from_its_state_with_multipliers() -> None:
    coupling = Coupling(excess=Coupled.total, project=Coupled.project, lowest=-1000.0)
    whole, parted = Coupled(), Coupled()
    solver = EVEN.solver(whole, BARE, coupling)
    for _ in range(9):
        solver.step(Pace(lr=0.01, spent=0.0))
    first = EVEN.solver(parted, BARE, coupling)
    for _ in range(5):
        first.step(Pace(lr=0.01, spent=0.0))
    second = EVEN.solver(parted, BARE, coupling)
    second.load(first.state())
    for _ in range(4):
        second.step(Pace(lr=0.01, spent=0.0))
    assert torch.equal(whole.alpha[0], parted.alpha[0]) and torch.equal(whole.weights[1], parted.weights[1])


def test_padding_stays_zero() -> None:
    assert toy.leaves_padding(LvHba(weights_rate=1.0, theta_rate=2.0, alpha_rate=0.5))


def test_the_architecture_rests_while_there_is_no_search() -> None:
    assert toy.rests(LvHba())


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights_rate": 0.0},
        {"theta_rate": 1.0},
        {"alpha_rate": 0.0},
        {"gamma": 0.0},
        {"first": 0.0},
        {"power": 0.5},
        {"projections": 0},
    ],
)
def test_refuses_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LvHba(**wrong)
