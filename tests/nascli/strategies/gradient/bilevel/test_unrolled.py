from dataclasses import replace

import pytest
import torch

from nascli.strategies.gradient.bilevel.problem import Pace
from nascli.strategies.gradient.bilevel.unrolled import Unrolled, hypergradient
from tests import toy_bilevel as toy
from tests.toy_bilevel import BARE, SEEDS, Bent, Quadratic, upper_vector


def unrolled_by_autograd(problem: Quadratic, momentum: torch.Tensor, lr: float, decay: float) -> torch.Tensor:
    """d upper(x, w'(x)) / dx, with the whole step in the graph."""
    x, y = problem.x().requires_grad_(), problem.y()
    ahead = y - lr * (momentum + problem.a @ y - problem.b @ x - problem.shift + decay * y)
    value = (ahead - problem.target).square().sum() / 2 + problem.r * (x - problem.centre).square().sum() / 2
    return torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_is_the_derivative_of_one_step_of_sgd(seed: int) -> None:
    problem = Quadratic(seed)
    momentum = toy.random_like(7, toy.Y)
    _, found = hypergradient(
        problem.lower(),
        problem.upper(),
        problem.alpha,
        problem.weights,
        momentum=[momentum[:4].reshape(2, 2), momentum[4:]],
        lr=0.3,
        weight_decay=0.1,
    )
    expected = unrolled_by_autograd(problem, momentum, 0.3, 0.1)
    torch.testing.assert_close(upper_vector(found), expected, rtol=1e-9, atol=1e-9)
    direct = problem.r * (problem.x() - problem.centre)
    assert (expected - direct).norm() > 0.1 * direct.norm()


def test_differences_are_close_where_the_losses_bend() -> None:
    x, y = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (0.4, 0.7))
    lower, upper = Bent().lower, Bent().upper
    slope = torch.autograd.grad(lower([x], [y]), y, create_graph=True)[0]
    expected = torch.autograd.grad(upper([x], [y - 0.2 * slope]), x)[0]
    value, found = hypergradient(lower, upper, [x], [y], momentum=[torch.zeros_like(y)], lr=0.2, weight_decay=0.0)
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=0)
    assert value.item() == pytest.approx(upper([x], [y - 0.2 * slope]).item())
    assert torch.equal(y.detach(), torch.tensor([0.7], dtype=torch.float64)) and y.grad is None and x.grad is None


def test_an_upper_loss_without_weights_has_its_direct_derivative_alone() -> None:
    x, y = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (0.4, 0.7))
    _, found = hypergradient(
        Bent().lower, lambda a, w: a[0].square().sum(), [x], [y], momentum=[y.detach()], lr=0.2, weight_decay=0.1
    )
    assert found[0].tolist() == pytest.approx([0.8])


def test_a_step_looks_ahead_with_momentum_and_decay() -> None:
    """In the second step Adam, without a memory of squares, still moves along the sign of the exact derivative."""
    problem = Quadratic()
    optimisers = replace(BARE, momentum=0.9, weight_decay=0.1, alpha_lr=0.01, alpha_betas=(0.0, 0.0))
    solver = Unrolled().solver(problem, optimisers)
    y = problem.y()
    solver.step(Pace(lr=0.3, spent=0.0))
    buffer = (y - problem.y()) / 0.3
    expected = unrolled_by_autograd(problem, 0.9 * buffer, 0.3, 0.1)
    x = problem.x()
    solver.step(Pace(lr=0.3, spent=0.0))
    torch.testing.assert_close(problem.x(), x - 0.01 * expected.sign(), rtol=0, atol=1e-7)


def test_ends_between_the_first_order_and_the_optimum() -> None:
    """At rest, r (x - s) + lr B' (y - t) = 0 with y = y*(x): the Neumann series cut after its first term."""
    problem = Quadratic()
    toy.finish(Unrolled(), problem, 300, lr=0.5, optimisers=replace(BARE, alpha_lr=0.05))
    x = problem.x()
    residual = problem.r * (x - problem.centre) + 0.5 * problem.b.T @ (problem.best_y(x) - problem.target)
    assert residual.abs().max() < 1e-3
    assert problem.distance(problem.optimum()) < 0.3
    start = Quadratic()
    assert (start.centre - start.optimum()).norm() / start.optimum().norm() > 0.8


def test_five_passes_and_gradients_where_they_are_needed() -> None:
    problem = Quadratic()
    toy.finish(Unrolled(), problem, 1)
    assert (len(problem.uppers), len(problem.lowers), problem.drawn) == (1, 4, 2)
    needs = [(a[0].requires_grad, w[0].requires_grad) for a, w in problem.lowers]
    assert needs == [(False, True), (True, False), (True, False), (False, True)]


def test_the_gradients_below_are_clipped() -> None:
    assert toy.first_move(Unrolled(), 0.25) == pytest.approx(0.25, rel=1e-5)


def test_goes_on_from_its_state() -> None:
    assert toy.resumes(Unrolled())


def test_padding_stays_zero() -> None:
    assert toy.leaves_padding(Unrolled())


def test_the_architecture_rests_while_there_is_no_search() -> None:
    assert toy.rests(Unrolled())
