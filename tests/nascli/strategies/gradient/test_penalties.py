from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Dirichlet, kl_divergence

from nascli.strategies.gradient.penalties import anchor, beta_decay
from nascli.strategies.gradient.rows import Rows
from tests.toy_cells import Uneven

VALID = Rows.of(Uneven()).valid


def test_beta_decay_by_hand() -> None:
    logits = torch.tensor([[1.0, 0, 0], [0.0, 0.0, 0], [math.log(2), math.log(3), math.log(5)]], requires_grad=True)
    found = beta_decay(logits, VALID)
    assert found.item() == pytest.approx((1 + math.log(2) + math.log(10)) / 3)
    # Its gradient is the softmax over the number of rows: it pushes down what is large.
    (slope,) = torch.autograd.grad(found, logits)
    expected = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]) / 3
    torch.testing.assert_close(slope, expected)


def test_anchor_is_the_divergence_from_the_uniform_distribution() -> None:
    logits = torch.tensor([[-1.0, 0, 0], [0.7, -2.0, 0], [3.0, -0.5, 1.5]], requires_grad=True)
    beta = torch.nn.functional.elu(logits.detach()) + 1
    pairs = [(beta[i, : int(VALID[i].sum())]) for i in range(3)]
    expected = [kl_divergence(Dirichlet(b), Dirichlet(torch.ones_like(b))).item() if len(b) > 1 else 0 for b in pairs]
    found = anchor(logits, VALID)
    assert found.item() == pytest.approx(sum(expected), rel=1e-5)
    (slope,) = torch.autograd.grad(found, logits)
    assert slope.isfinite().all() and (slope[~VALID] == 0).all()


def test_anchor_is_nothing_at_zero_and_least_there() -> None:
    logits = torch.zeros(3, 3, requires_grad=True)
    found = anchor(logits, VALID)
    (slope,) = torch.autograd.grad(found, logits)
    assert found.item() == pytest.approx(0, abs=1e-6) and slope.abs().max() < 1e-6
    assert anchor(torch.randn(3, 3), VALID) > 0
