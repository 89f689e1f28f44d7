from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nascli.strategies.gradient import relaxation
from nascli.strategies.gradient.rows import Rows
from tests.toy_cells import Uneven

VALID = Rows.of(Uneven()).valid
DRAWS = 20_000


def logits(*, grad: bool = True) -> Tensor:
    found = torch.randn(VALID.shape, generator=torch.Generator().manual_seed(1)) * VALID
    return found.requires_grad_(grad)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def drawn(name: str, of: Tensor) -> Tensor:
    return {
        "softmax": lambda: relaxation.softmax(of, VALID),
        "gumbel": lambda: relaxation.gumbel(of, VALID, temperature=0.7),
        "dirichlet": lambda: relaxation.dirichlet(of, VALID),
        "expected": lambda: relaxation.expected(of, VALID),
        "perturbed": lambda: relaxation.perturbed(relaxation.softmax(of, VALID), VALID, radius=0.3),
    }[name]()


@pytest.mark.parametrize("name", ["softmax", "gumbel", "dirichlet", "expected", "perturbed"])
def test_rows_sum_to_one_and_padding_is_nothing(name: str) -> None:
    of = logits()
    for _ in range(20):
        weights = drawn(name, of)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3))
        assert (weights >= 0).all() and (weights[~VALID] == 0).all()
    if name == "perturbed":
        assert not weights.requires_grad
        return
    (slope,) = torch.autograd.grad((weights * torch.arange(9.0).view(3, 3)).sum(), of)
    assert slope.isfinite().all() and (slope[~VALID] == 0).all() and slope[2].any()


def test_softmax_by_hand() -> None:
    found = relaxation.softmax(torch.tensor([[0.0, math.log(3.0), 9.0]]), torch.tensor([[True, True, False]]))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, 0.0]]))


def test_gumbel_draws_exactly_one_option_with_the_softmaxs_odds() -> None:
    many = logits(grad=False)[2].expand(DRAWS, 3)
    valid = VALID[2].expand(DRAWS, 3)
    for temperature in (10.0, 0.1):
        found = relaxation.gumbel(many.clone().requires_grad_(), valid, temperature=temperature)
        assert ((found == 0) | (found == 1)).all() and (found.sum(-1) == 1).all()
        # Three standard deviations of a share of DRAWS draws are at most 0.011.
        torch.testing.assert_close(found.mean(0), many[0].softmax(-1), atol=0.011, rtol=0)


def test_gumbels_gradient_is_that_of_the_drawn_options_tempered_softmax() -> None:
    of, temperature = logits(), 2.5
    state = torch.get_rng_state()
    weights = relaxation.gumbel(of, VALID, temperature=temperature)
    scale = torch.tensor([[2.0], [3.0], [5.0]])
    (found,) = torch.autograd.grad((weights * scale).sum(), of)
    torch.set_rng_state(state)
    uniform = torch.rand_like(of)
    for row in range(3):
        # By hand: d soft_d / d logit_j = soft_d (1[d = j] - soft_j) / temperature, with the same noise.
        count = int(VALID[row].sum())
        noisy = of.detach()[row, :count].log_softmax(-1) - (-uniform[row, :count].log()).log()
        soft = (noisy / temperature).softmax(-1)
        d = int(noisy.argmax())
        assert weights[row, d] == 1
        expected = scale[row] * soft[d] * (torch.eye(count)[d] - soft) / temperature
        torch.testing.assert_close(found[row, :count], expected)


def test_dirichlets_mean_is_the_expected_weights() -> None:
    of = logits(grad=False)
    mean = torch.stack([relaxation.dirichlet(of, VALID) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, relaxation.expected(of, VALID), atol=0.02, rtol=0)


def test_concentration_is_one_at_zero_and_never_nothing() -> None:
    found = relaxation.concentration(torch.tensor([0.0, 2.0, -1.0, -50.0]))
    torch.testing.assert_close(found, torch.tensor([1.0, 3.0, math.exp(-1), 1e-3]))


@pytest.mark.parametrize("level", [-40.0, 0.0, 40.0])
def test_dirichlets_gradient_is_finite_far_out(level: float) -> None:
    of = torch.full(VALID.shape, level).requires_grad_()
    for _ in range(50):
        (slope,) = torch.autograd.grad((relaxation.dirichlet(of, VALID)[:, 0]).sum(), of)
        assert slope.isfinite().all()


def test_dirichlet_knows_options_that_left_the_middle_of_a_row() -> None:
    valid = torch.tensor([[True, False, True]])
    found = relaxation.dirichlet(torch.tensor([[0.0, 0.0, 5.0]]), valid)
    assert found[0, 1] == 0 and found[0, 0] > 0 and found[0, 2] > 0
    assert found.sum().item() == pytest.approx(1)


def test_perturbed_stays_within_the_radius_before_it_is_scaled() -> None:
    weights = torch.tensor([[0.5, 0.3, 0.2, 0.0]])
    valid = torch.tensor([[True, True, True, False]])
    radius, low, high = 0.1, torch.full((4,), 9.0), torch.zeros(4)
    for _ in range(2000):
        found = relaxation.perturbed(weights, valid, radius=radius)[0]
        assert found.sum().item() == pytest.approx(1)
        # At least 0.7 and at most 1.3 before scaling; so each is within these bounds after it.
        assert (found[:3] <= (weights[0, :3] + radius) / 0.7 + 1e-6).all()
        assert (found[:3] >= (weights[0, :3] - radius) / 1.3 - 1e-6).all()
        low, high = torch.minimum(low, found), torch.maximum(high, found)
    assert (high[:3] - low[:3] > 0.1).all() and high[3] == 0


def test_perturbed_is_as_drawn_where_the_noise_leaves_the_sum_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.tensor([[0.05, -0.05], [0.3, -0.3], [-0.9, -0.9]])
    monkeypatch.setattr(Tensor, "uniform_", lambda self, low, high: self.copy_(noise))
    weights = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    found = relaxation.perturbed(weights, torch.ones(3, 2, dtype=torch.bool), radius=0.9)
    # Second row: 1.2 is cut to 1, -0.2 to 0. Third: nothing is left, so the largest option is alone.
    torch.testing.assert_close(found, torch.tensor([[0.55, 0.45], [1.0, 0.0], [0.0, 1.0]]))


def test_entropy_is_one_if_even_and_zero_if_decided() -> None:
    even = VALID / VALID.sum(-1, keepdim=True)
    torch.testing.assert_close(relaxation.entropy(even, VALID), torch.tensor([0.0, 1.0, 1.0]))
    assert relaxation.entropy(torch.eye(3)[[0, 1, 2]], VALID).abs().max() < 1e-6
    half = relaxation.entropy(torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[True, True, True]]))
    assert half.item() == pytest.approx(math.log(2) / math.log(3))
