"""The envelope of a few groups, worked by hand: its value, its conjugate, and the steps of both proximal operators."""

import math

import pytest
import torch

from nascli.compressors.envelope.functions import conjugate, selection, shrink, value

NORMS = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64)


def test_value() -> None:
    """K = 3. All together: 3 / 15.5 of 5 is less than 1, so u = n 3 / 15.5 and S = 15.5^2 / 3 / 2."""
    assert float(value(NORMS, 3)) == pytest.approx(15.5**2 / 6, rel=1e-15)
    # 9 in full (9 * 2 / 5 > 1), and 2 for the others: S = (81 + 5^2 / 2) / 2 with a budget of 3.
    norms = torch.tensor([9.0, 2.0, 2.0, 1.0])
    assert selection(norms, 3).tolist() == pytest.approx([1.0, 0.8, 0.8, 0.4], rel=1e-14)
    assert float(value(norms, 3)) == pytest.approx((81 + 25 / 2) / 2, rel=1e-14)


def test_conjugate() -> None:
    """Half of 25 + 16 + 9; with costs, 4's gain of 16 / 2 a unit is first, then 5's 25 / 5, of which 1 / 5 fits."""
    assert float(conjugate(NORMS, 3)) == 25.0
    costs = torch.tensor([5.0, 2.0, 3.0])
    assert float(conjugate(NORMS[:3], 3, costs=costs)) == pytest.approx((16 + 25 / 5) / 2, rel=1e-15)


def test_published_step() -> None:
    """t = 0.3, and u_j = clip(eta n_j - 0.3, 0, 1).

    With 5 in full and 4, 3, 2, 1 between: 1 + 10 eta - 1.2 = 3 at eta = 0.32, where 5 eta - 0.3 = 1.3, 4 eta - 0.3 =
    0.98, 1 eta - 0.3 = 0.02 and 0.5 eta - 0.3 < 0. The greatest is divided by 1.3; the others lose 0.3 / 0.32 = 0.9375.
    """
    shrunk = NORMS * shrink(NORMS, 3, 0.3)
    assert shrunk.tolist() == pytest.approx([5 / 1.3, 3.0625, 2.0625, 1.0625, 0.0625, 0.0], rel=1e-14)


def test_debiased_step() -> None:
    """u_j = clip((eta n_j - 0.3) / 0.7, 0, 1).

    5 and 4 in full, 3 and 2 between: 2 + (5 eta - 0.6) / 0.7 = 3 at eta = 0.26, where 4 eta > 1 and 1 eta < 0.3.
    u = 0.48 / 0.7 and 0.22 / 0.7, and what is left is n u / (u + 0.3 (1 - u)) = n (eta n - 0.3) / (0.7 eta n).
    """
    shrunk = NORMS * shrink(NORMS, 3, 0.3, operator="debiased")
    assert shrunk.tolist() == pytest.approx([5, 4, 0.48 / 0.7 / 0.26, 0.22 / 0.7 / 0.26, 0, 0], rel=1e-14)


def test_published_step_with_everything() -> None:
    """d = (1, 4), c = (1, 2), h = (2, 1), K = 2, t = 0.5: e = (1/4, 2), b = n sqrt(t d / c) = (4 sqrt(1/2), 3).

    The first in full: u_2 = (2 - 1) / 2. That is right as mu = 2.5 / 3, and mu b_1 = 2.357 > 1.25. So the factors are
    1 / 1.25 and 0.5 / 2.5.
    """
    factors = shrink(
        torch.tensor([4.0, 3.0]),
        2,
        0.5,
        weights=torch.tensor([1.0, 4.0]),
        costs=torch.tensor([1.0, 2.0]),
        metric=torch.tensor([2.0, 1.0]),
    )
    assert 2.5 / 3 * 4 * math.sqrt(0.5) > 1.25
    assert factors.tolist() == pytest.approx([0.8, 0.2], rel=1e-15)
