import pytest
import torch

from nascli.strategies.gradient.bilevel.problem import Optimisers
from tests.toy_bilevel import SEEDS, Quadratic


def test_the_optimisers_are_those_of_the_paper() -> None:
    usual = Optimisers()
    assert (usual.momentum, usual.weight_decay, usual.clip) == (0.9, 3e-4, 5.0)
    assert (usual.alpha_lr, usual.alpha_decay, usual.alpha_betas) == (3e-4, 1e-3, (0.5, 0.999))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_the_tests_know_the_optimum(seed: int, decay: float) -> None:
    """The slope that the tests trust is the derivative of the upper loss at the best weights, and 0 at the optimum."""
    problem = Quadratic(seed)
    x = problem.x().requires_grad_()
    y = problem.best_y(x, decay)
    value = (y - problem.target).square().sum() / 2 + problem.r * (x - problem.centre).square().sum() / 2
    torch.testing.assert_close(torch.autograd.grad(value, x)[0], problem.slope(x.detach(), decay))
    assert problem.slope(problem.optimum(decay), decay).abs().max() < 1e-12


def test_the_optimum_is_not_where_the_first_order_ends() -> None:
    for seed in SEEDS:
        problem = Quadratic(seed)
        assert (problem.optimum() - problem.centre).norm() > 0.5 * problem.optimum().norm()
