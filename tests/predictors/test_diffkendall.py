from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from predictors.diffkendall import (
    LOSSES,
    differences,
    joint_kendall,
    loss_by_name,
    pairwise_logistic,
    preference,
    product_kendall,
    sign_kendall,
    squared_error,
)

SCORES = torch.tensor([0.0, 1.0, 3.0])
LABELS = torch.tensor([0.0, 2.0, 1.0])
"""Pairs: scores' differences 1, 3, 2; labels' differences 2, 1, -1."""


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_differences_are_those_of_all_unordered_pairs() -> None:
    assert differences(SCORES).tolist() == [1, 3, 2]


def test_parzc_sums_ordered_pairs_over_unordered_ones() -> None:
    # the published formula, its four sigmoids written out over ordered pairs
    a, total = 0.5, 0.0
    x, y = SCORES.tolist(), LABELS.tolist()
    for i in range(3):
        for j in range(3):
            if i != j:
                dx, dy = a * (x[i] - x[j]), a * (y[i] - y[j])
                total += (sigmoid(dx) - sigmoid(-dx)) * (sigmoid(dy) - sigmoid(-dy))
    assert float(product_kendall(SCORES, LABELS)) == pytest.approx(-total / 3)
    # two networks, differences 2 and 2: each tanh(.5) = .46212, squared, twice
    assert float(product_kendall(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 2.0]))) == pytest.approx(
        -2 * 0.21355, abs=1e-4
    )


def test_the_original_has_one_sigmoid_of_the_product() -> None:
    by_hand = sum(2 * sigmoid(d) - 1 for d in (1 * 2, 3 * 1, 2 * -1)) / 3
    assert float(joint_kendall(SCORES, LABELS)) == pytest.approx(-by_hand)


def test_sign_kendall_by_hand() -> None:
    deviation = math.sqrt(((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 3)
    by_hand = (math.tanh(1 / deviation) + math.tanh(3 / deviation) - math.tanh(2 / deviation)) / 3
    assert float(sign_kendall(SCORES, LABELS)) == pytest.approx(-by_hand, abs=1e-6)


def test_sign_kendall_does_not_care_how_large_scores_or_labels_are() -> None:
    # 40 times the scores and a monotone change of the labels: the same ranking of both
    assert float(sign_kendall(40 * SCORES, LABELS**3)) == pytest.approx(float(sign_kendall(SCORES, LABELS)), abs=1e-6)
    assert float(product_kendall(40 * SCORES, LABELS)) != pytest.approx(float(product_kendall(SCORES, LABELS)), abs=0.1)


def test_smooth_kendall_becomes_kendall() -> None:
    # 2 concordant pairs and 1 discordant one
    assert float(sign_kendall(SCORES, LABELS, alpha=1e3)) == pytest.approx(-1 / 3)
    assert float(joint_kendall(SCORES, LABELS, beta=1e3)) == pytest.approx(-1 / 3)
    assert float(product_kendall(SCORES, LABELS, alpha=1e3)) == pytest.approx(-2 / 3)


def test_pairwise_logistic_by_hand_without_ties() -> None:
    by_hand = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-3)) + math.log(1 + math.exp(2))) / 3
    assert float(pairwise_logistic(SCORES, LABELS)) == pytest.approx(by_hand)
    tied = torch.tensor([0.0, 2.0, 0.0])  # leaves the first pair and the last
    assert float(pairwise_logistic(SCORES, tied)) == pytest.approx(
        (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2
    )
    assert float(pairwise_logistic(SCORES, torch.ones(3))) == 0


def test_preference_by_hand_and_least_where_scores_differ_as_labels_do() -> None:
    wanted, said = sigmoid(2 * 2.0), sigmoid(2 * 1.0)
    two = -wanted * math.log(said) - (1 - wanted) * math.log(1 - said)
    assert float(preference(SCORES[:2], LABELS[:2])) == pytest.approx(two)
    scores = LABELS.clone().requires_grad_()
    preference(scores, LABELS).backward()
    assert scores.grad is not None
    assert torch.allclose(scores.grad, torch.zeros(3), atol=1e-7)


def test_squared_error_by_hand() -> None:
    assert float(squared_error(SCORES, LABELS)) == pytest.approx((0 + 1 + 4) / 3)


@pytest.mark.parametrize("name", LOSSES)
def test_going_down_any_loss_ends_in_the_labels_order(name: str) -> None:
    labels = torch.tensor([0.3, -1.2, 0.9, -0.1, 1.6])
    scores = torch.tensor([0.5, 0.4, 0.1, -0.2, 0.0], requires_grad=True)
    optimiser = torch.optim.Adam([scores], lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        LOSSES[name](scores, labels).backward()
        optimiser.step()
    assert scores.argsort().tolist() == labels.argsort().tolist()


def test_sums_of_losses_and_unknown_names() -> None:
    both: Tensor = loss_by_name("mse+parzc")(SCORES, LABELS)
    assert float(both) == pytest.approx(float(squared_error(SCORES, LABELS) + product_kendall(SCORES, LABELS)))
    with pytest.raises(ValueError, match="'rmse' is not known; the losses are mse, parzc"):
        loss_by_name("mse+rmse")
