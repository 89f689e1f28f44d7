from dataclasses import replace

import pytest
import torch

from nascli.strategies.gradient.bilevel.alternating import Alternating
from nascli.strategies.gradient.bilevel.problem import Pace
from tests import toy_bilevel as toy
from tests.toy_bilevel import BARE, SEEDS, Quadratic


@pytest.mark.parametrize("seed", SEEDS)
def test_ends_where_the_upper_loss_is_flat_at_fixed_weights(seed: int) -> None:
    """The first-order fixed point: x = s, which minimises |x - s|^2, and y best for that x; not the optimum."""
    problem = Quadratic(seed)
    toy.finish(Alternating(), problem, 300, lr=0.5, optimisers=replace(BARE, alpha_lr=0.05))
    assert problem.distance(problem.centre) < 1e-6
    torch.testing.assert_close(problem.y(), problem.best_y(problem.centre), rtol=1e-6, atol=1e-6)
    assert problem.distance(problem.optimum()) > 0.5


def test_weight_decay_is_part_of_the_lower_problem() -> None:
    problem = Quadratic()
    toy.finish(Alternating(), problem, 300, lr=0.5, optimisers=replace(BARE, alpha_lr=0.05, weight_decay=0.2))
    torch.testing.assert_close(problem.y(), problem.best_y(problem.centre, 0.2), rtol=1e-6, atol=1e-6)


def test_one_step_by_hand() -> None:
    """Adam's first step is the sign of x - s; the gradient step below is taken at the new x."""
    problem = Quadratic()
    x, y = problem.x(), problem.y()
    told = Alternating().solver(problem, replace(BARE, alpha_lr=0.01)).step(Pace(lr=0.1, spent=0.0))
    torch.testing.assert_close(problem.x(), x - 0.01 * (x - problem.centre).sign(), rtol=0, atol=1e-8)
    expected = y - 0.1 * (problem.a @ y - problem.b @ problem.x() - problem.shift)
    torch.testing.assert_close(problem.y(), expected)
    value = (y - problem.target).square().sum() / 2 + problem.r * (x - problem.centre).square().sum() / 2
    assert told.upper is not None
    assert told.upper.item() == pytest.approx(value.item()) and not told.lower.requires_grad


def test_no_gradient_is_taken_that_is_not_needed() -> None:
    problem = Quadratic()
    toy.finish(Alternating(), problem, 3)
    assert len(problem.uppers) == len(problem.lowers) == 3
    assert all(a.requires_grad for alpha, _ in problem.uppers for a in alpha)
    assert not any(w.requires_grad for _, weights in problem.uppers for w in weights)
    assert not any(a.requires_grad for alpha, _ in problem.lowers for a in alpha)


def test_goes_on_when_the_upper_loss_no_longer_depends_on_the_architecture() -> None:
    problem = Quadratic()
    upper = problem.upper
    problem.upper = lambda: lambda alpha, weights: upper()([a.detach() for a in alpha], weights)  # type: ignore
    x = problem.x()
    toy.finish(Alternating(), problem, 2)
    assert torch.equal(problem.x(), x)


def test_the_gradients_below_are_clipped() -> None:
    assert toy.first_move(Alternating(), 0.25) == pytest.approx(0.25, rel=1e-5)
    assert toy.first_move(Alternating(), 1e6) > 1


def test_goes_on_from_its_state() -> None:
    assert toy.resumes(Alternating())


def test_padding_stays_zero() -> None:
    assert toy.leaves_padding(Alternating())


def test_the_architecture_rests_while_there_is_no_search() -> None:
    assert toy.rests(Alternating())
