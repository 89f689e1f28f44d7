from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from search_spaces.elastic import ElasticBatchNorm2d
from search_spaces.errors import SpaceError
from search_spaces.gated import KnownGates
from search_spaces.mixtures import Weight, total, weighed, weighted


def gates(*weights: float, grad: bool = False) -> dict[str, Tensor]:
    return {"a": torch.tensor(weights, dtype=torch.float32, requires_grad=grad)}


def test_weights_that_need_no_gradient_are_numbers_and_1_is_none() -> None:
    assert weighed(gates(0, 1, 0), "a") == [(1, None)]
    assert weighed(gates(0.25, 0, 0.5), "a") == [(0, 0.25), (2, 0.5)]
    assert weighed(gates(0.25, 0, 0.5), "a", 2.0) == [(0, 0.5), (2, None)]


def test_the_weight_of_a_single_option_counts() -> None:
    assert weighed(gates(0, 0.25), "a") == [(1, 0.25)]
    assert weighed(gates(0, 0.5), "a", 2.0) == [(1, None)]


def test_gradients_reach_gates_and_the_weights_of_their_edges() -> None:
    open_gates, edge = gates(0.25, 0, 0.5, grad=True), torch.tensor(3.0, requires_grad=True)
    (first, a), (second, b) = weighed(open_gates, "a", edge)
    assert (first, second) == (0, 2) and isinstance(a, Tensor) and isinstance(b, Tensor)
    assert (a.item(), b.item()) == (0.75, 1.5)
    (a + 10 * b).backward()
    assert open_gates["a"].grad is not None and open_gates["a"].grad.tolist() == [3, 0, 30]
    assert edge.grad is not None and edge.grad.item() == pytest.approx(0.25 + 5)
    (index, weight), *_ = weighed(gates(0, 1, grad=True), "a")
    assert index == 1 and isinstance(weight, Tensor), "a gate that learns is heard even where it is certain"


def test_known_gates_are_believed() -> None:
    found = weighed(KnownGates(gates(0.5, 0.5), {"a": (1,)}), "a")
    assert found == [(1, 0.5)]


def test_closed_gates_are_named() -> None:
    with pytest.raises(SpaceError, match="leave 'a' open"):
        weighed(gates(0, 0), "a")
    with pytest.raises(SpaceError, match="leave 'b' open"):
        weighed(gates(1), "b")


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_equal_shares_sum_to_exactly_1(count: int) -> None:
    shares = [weight for _, weight in weighed({"a": torch.full((count,), 1 / count)}, "a")]
    assert total(shares) is None


def test_totals() -> None:
    assert total([None]) is None and total([0.3]) == 0.3
    assert total([None, 0.5]) == 1.5 and total([0.25, 0.25]) == 0.5
    learnt = torch.tensor(0.5)
    assert total([learnt]) is learnt
    summed = total([learnt, 0.5, learnt])
    assert isinstance(summed, Tensor) and summed.item() == 1.5, "a sum that learns is never left out"


class Counting(nn.Module):
    """The square, and how often it was asked for."""

    asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        return x * x


@pytest.mark.parametrize("weight", [None, 0.5, torch.tensor(0.5)])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_a_normalisation_multiplies_as_well_as_anything(weight: Weight, training: bool, affine: bool) -> None:
    norm = ElasticBatchNorm2d(3, affine=affine)
    for value, tensor in enumerate((norm.weight, norm.bias, norm.running_mean, norm.running_var), 2):
        tensor.data = torch.arange(3.0) + value
    operation, x = nn.Sequential(Counting(), norm).train(training), torch.randn(4, 3, 5, 5)
    expected = operation(x) * (1 if weight is None else weight)
    torch.testing.assert_close(weighted(operation, x, weight), expected)
    assert operation[0].asked == 2


def test_other_operations_are_multiplied() -> None:
    x = torch.randn(2, 3)
    assert torch.equal(weighted(Counting(), x, 0.5), 0.5 * x * x)
    assert torch.equal(weighted(nn.Sequential(Counting()), x, 0.5), 0.5 * x * x)
    assert torch.equal(weighted(None, x, 0.5), 0.5 * x) and weighted(None, x, None) is x


def test_gradients_of_a_multiplying_normalisation() -> None:
    """Against finite differences: of the input and of the weight."""
    norm = ElasticBatchNorm2d(2, affine=False).double().train()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    operation = nn.Sequential(Counting(), norm)
    assert torch.autograd.gradcheck(lambda x, w: weighted(operation, x, w), (x, weight))
    assert torch.autograd.gradgradcheck(lambda x, w: weighted(operation, x, w), (x, weight))
