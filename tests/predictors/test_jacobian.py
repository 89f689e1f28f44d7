import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from predictors import DeadNetworkError, ScoreError
from predictors.jacobian import EpeNas, Jacov, correlations
from predictors.probe import Probe
from predictors.protocol import Proxy
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, convolutional, dead, images, made, state

K = 1e-5


def gates(*examples: tuple[float, ...], targets: tuple[int, ...], outputs: int = 1) -> Probe:
    """Two units, one that reads (1, -1, 0, 0) and one (0, 0, 1, -1): an example's gradients are those of open units."""
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.ReLU(), nn.Linear(2, outputs, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]))  # type: ignore[operator]
        model[2].weight.fill_(1.0)  # type: ignore[operator]
    return Probe(model, Batch((torch.tensor(examples),), torch.tensor(targets)))


FIRST, SECOND, BOTH, NONE = (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 1.0, 0.0), (0.0, 1.0, 0.0, 1.0)


def test_uncorrelated_gradients_by_hand() -> None:
    """Through different units the correlation is 0, and both eigenvalues are 1."""
    found = Jacov()(gates(FIRST, SECOND, targets=(0, 0)))
    assert found == pytest.approx(-2 * (math.log(1 + K) + 1 / (1 + K)))


def test_equal_gradients_by_hand() -> None:
    """Through the same unit the correlation is 1, and the eigenvalues are 2 and 0."""
    found = Jacov()(gates(FIRST, FIRST, targets=(0, 0)))
    assert found == pytest.approx(-(math.log(2 + K) + 1 / (2 + K) + math.log(K) + 1 / K), rel=1e-9)


def test_half_correlated_gradients_by_hand() -> None:
    """(1, -1, 0, 0) and (1, -1, 1, -1) have correlation 2 / sqrt(2 * 4)."""
    c = 1 / math.sqrt(2)
    expected = -sum(math.log(v + K) + 1 / (v + K) for v in (1 - c, 1 + c))
    assert Jacov()(gates(FIRST, BOTH, targets=(0, 0))) == pytest.approx(expected)


def jacobian(model: nn.Module, batch: Batch) -> np.ndarray:
    x = batch.inputs[0].clone().requires_grad_()
    copy.deepcopy(model).train()(x).sum().backward()
    return x.grad.flatten(1).double().numpy()  # type: ignore[union-attr]


def test_the_spectrum_is_that_of_the_correlations() -> None:
    model, batch = made(convolutional), images(7)
    v = np.linalg.eigvalsh(np.corrcoef(jacobian(model, batch)))
    expected = -float(np.sum(np.log(v + K) + 1 / (v + K)))
    assert Jacov()(Probe(model, batch)) == pytest.approx(expected, rel=1e-5)


def test_examples_of_a_class_by_hand() -> None:
    """Class 0 holds two examples with correlation 0, class 1 two with correlation 1, class 2 one alone."""
    probe = gates(FIRST, FIRST, SECOND, FIRST, BOTH, targets=(0, 1, 0, 1, 2), outputs=3)
    zero = 2 * math.log(1 + K) + 2 * math.log(K)
    assert EpeNas()(probe) == pytest.approx(abs(zero) + 4 * math.log(1 + K) + math.log(1 + K))


def test_many_classes_are_compared_by_hand() -> None:
    """The mean entry sums of classes 0 and 1, twice their difference by two classes; class 2, alone, is left out."""
    probe = gates(FIRST, FIRST, SECOND, FIRST, BOTH, targets=(0, 1, 0, 1, 2), outputs=101)
    zero = (2 * math.log(1 + K) + 2 * math.log(K)) / 2
    one = 4 * math.log(1 + K) / 2
    assert EpeNas()(probe) == pytest.approx(2 * abs(zero - one) / 2)


@pytest.mark.parametrize("outputs", [4, 120])
def test_classes_one_by_one(outputs: int) -> None:
    model = made(lambda: nn.Sequential(convolutional(), nn.Linear(4, outputs)))
    batch = images(16, classes=4)
    rows, scores = jacobian(model, batch), {}
    for c in set(batch.targets.tolist()):
        member = np.atleast_2d(np.corrcoef(rows[batch.targets.numpy() == c]))
        scores[c] = np.log(np.abs(member) + K).sum() / (len(member) if outputs > 100 else 1)
    if outputs <= 100:
        expected = sum(abs(s) for s in scores.values())
    else:
        expected = sum(abs(a - b) for a in scores.values() for b in scores.values()) / len(scores)
    assert EpeNas()(Probe(model, batch)) == pytest.approx(expected, rel=1e-4)


def test_classes_of_masked_nodes_are_not_looked_at() -> None:
    rng = torch.Generator().manual_seed(0)
    edges = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    nodes, mask = torch.randn(6, 5, generator=rng), torch.tensor([True, True, True, True, False, False])
    scores = [
        EpeNas()(Probe(made(Messages), Batch((nodes, edges), torch.tensor(targets), mask), examples="coupled"))
        for targets in ([0, 1, 0, 1, 2, 2], [0, 1, 0, 1, 0, 1])
    ]
    assert scores[0] == scores[1] > 0


@pytest.mark.parametrize("proxy", [Jacov(), EpeNas()])
def test_dead_networks_are_called_dead(proxy: Proxy) -> None:
    for kind in ("input", "output"):
        with pytest.raises(DeadNetworkError, match="nothing flows"):
            proxy(Probe(dead(kind), images()))
    with pytest.raises(DeadNetworkError, match="for it"):
        proxy(gates(FIRST, SECOND, NONE, targets=(0, 0, 0), outputs=2))


def test_numbers_alike_up_to_rounding_are_alike() -> None:
    rows = torch.full((2, 50), 0.1)
    rows[0, ::2] *= 1 + 1e-7
    rows[1, 0] = 3.0
    with pytest.raises(DeadNetworkError):
        correlations(rows)
    rows[0, 0] = 0.2
    assert np.allclose(correlations(rows).numpy(), np.corrcoef(rows.double().numpy()), atol=1e-12)


def test_gradients_that_have_no_correlations_are_refused() -> None:
    with pytest.raises(ScoreError, match="two examples"):
        correlations(torch.ones(1, 5))
    with pytest.raises(ScoreError, match="not finite"):
        correlations(torch.tensor([[1.0, math.inf], [0.0, 1.0]]))


def test_classes_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ScoreError, match="share a class"):
        EpeNas()(gates(FIRST, SECOND, targets=(0, 1), outputs=2))
    with pytest.raises(ScoreError, match="share a class"):
        EpeNas()(gates(FIRST, SECOND, BOTH, targets=(0, 0, 1), outputs=101))

    class Each(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.layer(x))

    pairs = Batch((torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0)),), torch.zeros(4, 5).long())
    with pytest.raises(ScoreError, match="One class an example"):
        EpeNas()(Probe(made(Each), pairs))


@pytest.mark.parametrize("proxy", [Jacov(), EpeNas()])
def test_words_have_no_gradients(proxy: Proxy) -> None:
    with pytest.raises(ScoreError, match="whole numbers"):
        proxy(Probe(made(Sentences), Batch((torch.ones(4, 6).long(),), torch.zeros(4).long())))


@pytest.mark.parametrize("proxy", [Jacov(), EpeNas()])
def test_the_network_and_the_generators_are_left_alone(proxy: Proxy) -> None:
    model = made(convolutional).eval()
    before, random = state(model), torch.get_rng_state()
    assert proxy(Probe(model, images())) == proxy(Probe(model, images()))
    assert state(model) == before and torch.equal(random, torch.get_rng_state())
