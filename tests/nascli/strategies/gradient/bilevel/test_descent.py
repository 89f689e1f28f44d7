import math
from dataclasses import replace

import pytest
import torch

from nascli.strategies.gradient.bilevel.descent import Above, Below
from nascli.strategies.gradient.bilevel.problem import Optimisers
from tests.toy_bilevel import BARE


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_two_steps_of_sgd_by_hand() -> None:
    w = leaf(1.0, -2.0)
    below = Below([w], replace(BARE, momentum=0.5, weight_decay=0.1))
    below.move([torch.tensor([1.0, 0.0], dtype=torch.float64)], 0.1)
    # gradient + decay w = (1.1, -0.2)
    assert w.tolist() == pytest.approx([1 - 0.11, -2 + 0.02])
    below.move([torch.tensor([0.0, 1.0], dtype=torch.float64)], 0.2)
    # buffer = 0.5 (1.1, -0.2) + (0.089, 1 - 0.198)
    assert below.momentum()[0].tolist() == pytest.approx([0.639, 0.702])
    assert w.tolist() == pytest.approx([0.89 - 0.2 * 0.639, -1.98 - 0.2 * 0.702])


def test_the_norm_of_all_gradients_together_is_clipped() -> None:
    a, b = leaf(0.0), leaf(0.0)
    Below([a, b], replace(BARE, clip=1.0)).move([torch.full((1,), g, dtype=torch.float64) for g in (3.0, 4.0)], 1.0)
    assert [a.item(), b.item()] == pytest.approx([-0.6, -0.8], rel=1e-5)
    Below([a, b], replace(BARE, clip=math.inf)).move([torch.full((1,), 3.0, dtype=torch.float64)] * 2, 1.0)
    assert [a.item(), b.item()] == pytest.approx([-3.6, -3.8], rel=1e-5)


def test_weights_that_a_loss_does_not_use_stay_where_they_are() -> None:
    used, unused = leaf(2.0), leaf(3.0)
    below = Below([used, unused], Optimisers())
    told = below.descend(lambda alpha, w: w[0].square().sum(), [], 0.1)
    assert told.item() == 4.0 and not told.requires_grad
    assert unused.item() == 3.0 and used.item() < 2.0
    assert used.grad is None and [b.item() for b in below.momentum()] == pytest.approx([4 + 2 * 3e-4, 0.0])


def test_descent_takes_the_architecture_as_constant() -> None:
    alpha, w = leaf(5.0), leaf(2.0)
    Below([w], BARE).descend(lambda a, w: (a[0] * w[0]).sum(), [alpha], 0.1)
    assert w.item() == pytest.approx(1.5) and alpha.grad is None


def test_descent_down_a_loss_whose_gradients_share_memory() -> None:
    a, b = leaf(1.0, 1.0), leaf(1.0, 1.0)
    Below([a, b], replace(BARE, clip=1.0)).descend(lambda _, w: (w[0] + w[1]).sum(), [], 1.0)
    # The gradient (1, 1, 1, 1) has norm 2.
    assert [*a.tolist(), *b.tolist()] == pytest.approx([0.5] * 4, rel=1e-5)


def test_the_first_step_of_adam_is_as_long_as_its_rate() -> None:
    alpha = leaf(1.0, -1.0, 0.0)
    above = Above([alpha], replace(BARE, alpha_lr=0.01))
    above.move([torch.tensor([5.0, -1e-3, 0.0], dtype=torch.float64)])
    assert alpha.tolist() == pytest.approx([0.99, -0.99, 0.0], abs=1e-6)
    assert alpha[2].item() == 0 and alpha.grad is None


def test_the_second_step_of_adam_by_hand() -> None:
    alpha = leaf(0.0)
    above = Above([alpha], replace(BARE, alpha_lr=0.1, alpha_betas=(0.5, 0.9)))
    for gradient in (1.0, 2.0):
        above.move([torch.tensor([gradient], dtype=torch.float64)])
    # mean (0.25 + 1) / 0.75, square (0.09 + 0.4) / 0.19
    assert alpha.item() == pytest.approx(-0.1 - 0.1 * (1.25 / 0.75) / math.sqrt(0.49 / 0.19), rel=1e-6)


def test_decay_moves_what_has_no_gradient() -> None:
    alpha = leaf(1.0, 0.0)
    Above([alpha], Optimisers(alpha_decay=0.1)).move([torch.zeros(2, dtype=torch.float64)])
    assert alpha[0].item() < 1 and alpha[1].item() == 0


def test_a_state_is_copied_when_it_is_loaded() -> None:
    first, second = Below([leaf(1.0)], Optimisers()), Below([leaf(1.0)], Optimisers())
    first.descend(lambda _, w: w[0].square().sum(), [], 0.1)
    second.load(first.state())
    second.descend(lambda _, w: w[0].square().sum(), [], 0.1)
    assert first.momentum()[0].item() == pytest.approx(2 + 3e-4) != second.momentum()[0].item()
