from dataclasses import replace

import pytest
import torch

from nascli.strategies.gradient.bilevel.implicit import Implicit, hypergradient
from tests import toy_bilevel as toy
from tests.toy_bilevel import BARE, SEEDS, Bent, Quadratic, upper_vector


def series(problem: Quadratic, terms: int, lr: float, decay: float) -> torch.Tensor:
    """The implicit gradient at the present point with the truncated series written out as matrices, [X]."""
    eye = torch.eye(toy.Y, dtype=torch.float64)
    step = eye - lr * problem.hessian(decay)
    inverse = lr * sum(torch.linalg.matrix_power(step, k) for k in range(terms + 1))
    return problem.r * (problem.x() - problem.centre) + problem.b.T @ inverse @ (problem.y() - problem.target)


def found(problem: Quadratic, terms: int, lr: float, decay: float) -> torch.Tensor:
    _, gradient = hypergradient(
        problem.lower(), problem.upper(), problem.alpha, problem.weights, lr=lr, weight_decay=decay, terms=terms
    )
    return upper_vector(gradient)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("terms", [0, 1, 2, 7])
def test_is_the_truncated_neumann_series(seed: int, terms: int) -> None:
    problem = Quadratic(seed)
    torch.testing.assert_close(found(problem, terms, 0.3, 0.1), series(problem, terms, 0.3, 0.1))


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_tends_to_the_exact_derivative_with_more_terms(decay: float) -> None:
    problem = Quadratic()
    best = problem.best_y(problem.x(), decay)
    with torch.no_grad():
        problem.weights[0].copy_(best[:4].reshape(2, 2))
        problem.weights[1].copy_(best[4:])
    exact = problem.slope(problem.x(), decay)
    errors = [float((found(problem, k, 0.5, decay) - exact).norm() / exact.norm()) for k in (0, 2, 8, 32, 128)]
    # The slowest factor is 1 - 0.5 * 0.5 (curvatures are from 0.5 to 2).
    assert errors == sorted(errors, reverse=True) and errors[0] > 0.1 and errors[-1] < 1e-12


def test_second_derivatives_are_exact_where_the_losses_bend() -> None:
    """x = 0.4, y = 0.7: lower = cos(x) exp(y) + y^4, upper = sin(x y)."""
    x, y = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (0.4, 0.7))
    value, gradient = hypergradient(Bent().lower, Bent().upper, [x], [y], lr=0.1, weight_decay=0.0, terms=1)
    point = (x * y).detach()
    v, direct = x.detach() * point.cos(), y.detach() * point.cos()
    curvature = x.detach().cos() * y.detach().exp() + 12 * y.detach() ** 2
    mixed = -x.detach().sin() * y.detach().exp()
    torch.testing.assert_close(gradient[0], direct - mixed * 0.1 * (v + (1 - 0.1 * curvature) * v))
    assert value.item() == pytest.approx(point.sin().item())
    assert x.grad is None and y.grad is None


def test_gradients_that_share_memory_are_not_changed_in_place() -> None:
    x = torch.ones(1, dtype=torch.float64, requires_grad=True)
    a, b = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def lower(alpha: toy.Tensors, w: toy.Tensors) -> torch.Tensor:
        return ((w[0].square() + w[1].square()) / 2 - alpha[0] * (w[0] + w[1])).sum()

    _, gradient = hypergradient(lower, lambda _, w: (w[0] + w[1]).sum(), [x], [a, b], lr=0.5, weight_decay=0.0, terms=1)
    # v is 1 for each of four weights, lr (1 + 1/2) = 3/4, and the mixed derivative is -1.
    assert gradient[0].item() == pytest.approx(4 * 0.75)


@pytest.mark.parametrize("seed", SEEDS)
def test_comes_to_the_optimum_with_many_terms(seed: int) -> None:
    problem = Quadratic(seed)
    toy.finish(Implicit(inner=2, terms=16), problem, 250, lr=0.6, optimisers=replace(BARE, alpha_lr=0.1))
    assert problem.distance(problem.optimum()) < 0.01


def test_two_terms_end_where_the_truncated_series_is_zero() -> None:
    problem = Quadratic()
    toy.finish(Implicit(), problem, 300, lr=0.5, optimisers=replace(BARE, alpha_lr=0.05))
    assert series(problem, 2, 0.5, 0.0).abs().max() < 1e-3
    assert 0.01 < problem.distance(problem.optimum()) < 0.2


def test_as_many_minibatches_as_inner_steps() -> None:
    problem = Quadratic()
    toy.finish(Implicit(inner=4), problem, 3)
    assert problem.drawn == 3 * (4 + 1) and len(problem.lowers) == 3 * (4 + 1) and len(problem.uppers) == 3
    needs = [(a[0].requires_grad, w[0].requires_grad) for a, w in problem.lowers[:5]]
    assert needs == [(False, True)] * 4 + [(True, True)]


def test_the_gradients_below_are_clipped() -> None:
    assert toy.first_move(Implicit(inner=1), 0.25) == pytest.approx(0.25, rel=1e-5)


def test_goes_on_from_its_state() -> None:
    assert toy.resumes(Implicit())


def test_padding_stays_zero() -> None:
    assert toy.leaves_padding(Implicit())


def test_the_architecture_rests_while_there_is_no_search() -> None:
    assert toy.rests(Implicit())


@pytest.mark.parametrize("wrong", [{"inner": 0}, {"terms": -1}])
def test_refuses_what_makes_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Implicit(**wrong)
