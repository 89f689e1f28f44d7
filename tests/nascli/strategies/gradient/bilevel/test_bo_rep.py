import math
from dataclasses import replace

import pytest
import torch

from nascli.strategies.gradient.bilevel.bo_rep import BoRep
from nascli.strategies.gradient.bilevel.problem import Optimisers, Pace
from tests import toy_bilevel as toy
from tests.toy_bilevel import BARE, SEEDS, Quadratic

PUBLISHED = BoRep(damping=0.0, radius=math.inf, refinement=0, system_rate=1.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_comes_to_the_optimum(seed: int) -> None:
    problem = Quadratic(seed)
    toy.finish(replace(PUBLISHED, alpha_step=0.02), problem, 400, lr=0.5)
    assert problem.distance(problem.optimum()) < 0.01


def test_comes_to_the_optimum_of_the_decayed_problem() -> None:
    """Weight decay is part of the lower loss, and that of the architecture weights part of the upper one."""
    problem = Quadratic()
    toy.finish(replace(PUBLISHED, alpha_step=0.02), problem, 400, lr=0.5, optimisers=replace(BARE, weight_decay=0.5))
    assert problem.distance(problem.optimum(0.5)) < 0.01 < problem.distance(problem.optimum())
    decayed = Quadratic()
    toy.finish(replace(PUBLISHED, alpha_step=0.02), decayed, 400, lr=0.5, optimisers=replace(BARE, alpha_decay=0.5))
    assert (decayed.slope(decayed.x()) + 0.5 * decayed.x()).norm() < 0.02


def test_every_step_has_the_length_of_the_schedule() -> None:
    problem = Quadratic(noise=0.3)
    solver = replace(PUBLISHED, alpha_step=0.01).solver(problem, Optimisers())
    for spent, share in ((0.0, 1.0), (1 / 3, 0.75), (0.5, 0.5), (0.999999, 0.0)):
        x = problem.x()
        solver.step(Pace(lr=0.1, spent=spent))
        assert (problem.x() - x).norm().item() == pytest.approx(0.01 * math.sqrt(6) * share, abs=1e-9)


def test_two_steps_by_hand() -> None:
    """Without rounds in between: z from 0 along d upper / dy, then along what is left of the system."""
    problem = Quadratic()
    method = replace(PUBLISHED, alpha_step=0.01, beta=0.8)
    solver = method.solver(problem, replace(BARE, clip=1e-12))
    x, y = problem.x(), problem.y()
    z = torch.zeros(toy.Y, dtype=torch.float64)
    m = torch.zeros(toy.X, dtype=torch.float64)
    for _ in range(2):
        z = z - 0.2 * (problem.a @ z - (y - problem.target))
        m = 0.8 * m + 0.2 * (problem.r * (x - problem.centre) + problem.b.T @ z)
        x = x - 0.01 * math.sqrt(6) * m / m.norm()
        solver.step(Pace(lr=0.2, spent=0.0))
        torch.testing.assert_close(problem.x(), x, rtol=1e-8, atol=1e-8)


def test_weights_are_trained_in_rounds() -> None:
    problem = Quadratic()
    solver = replace(PUBLISHED, interval=3, rounds=2).solver(problem, BARE)
    moved = []
    for _ in range(7):
        y, drawn = problem.y(), problem.drawn
        solver.step(Pace(lr=0.1, spent=0.0))
        moved.append((not torch.equal(problem.y(), y), problem.drawn - drawn))
    assert moved == [(True, 4), (False, 2), (False, 2)] * 2 + [(True, 4)]


def test_refinement_comes_first_and_a_warm_up_counts() -> None:
    told = list(toy.run(replace(PUBLISHED, refinement=3), Quadratic(), 6, warm=2))
    assert [t.upper is None for t in told] == [True, True, True, False, False, False]
    told = list(toy.run(replace(PUBLISHED, refinement=3), Quadratic(), 6, warm=5))
    assert [t.upper is None for t in told] == [True] * 5 + [False]


def test_z_stays_in_its_ball_where_the_loss_curves_downwards() -> None:
    problem = Quadratic()
    problem.a = -problem.a
    solver = replace(PUBLISHED, radius=2.0).solver(problem, replace(BARE, clip=1e-9))
    for _ in range(60):
        solver.step(Pace(lr=0.5, spent=0.0))
    norm = torch.cat([z.flatten() for z in solver.state()["z"]]).norm().item()
    assert norm == pytest.approx(2.0) and bool(problem.x().isfinite().all())


def test_damping_is_added_to_the_curvature() -> None:
    problem = Quadratic()
    solver = replace(PUBLISHED, damping=0.7, alpha_step=1e-12).solver(problem, BARE)
    for _ in range(150):
        solver.step(Pace(lr=0.3, spent=0.0))
    z = torch.cat([z.flatten() for z in solver.state()["z"]])
    torch.testing.assert_close(z, torch.linalg.solve(problem.hessian(0.7), problem.y() - problem.target))


def test_the_gradients_below_are_clipped() -> None:
    assert toy.first_move(BoRep(), 0.25) == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("refinement", [0, 4, 20])
def test_goes_on_from_its_state(refinement: int) -> None:
    assert toy.resumes(BoRep(refinement=refinement))


def test_padding_stays_zero() -> None:
    assert toy.leaves_padding(BoRep(refinement=2))


def test_the_architecture_rests_while_there_is_no_search() -> None:
    assert toy.rests(BoRep())


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": 0},
        {"rounds": 0},
        {"refinement": -1},
        {"alpha_step": 0.0},
        {"system_rate": 0.0},
        {"radius": 0.0},
        {"beta": 1.0},
        {"damping": -0.1},
    ],
)
def test_refuses_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(BoRep(), **wrong)
