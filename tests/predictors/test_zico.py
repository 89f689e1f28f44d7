import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from predictors import DeadNetworkError, ScoreError
from predictors.probe import Probe
from predictors.zico import Zico
from search_spaces.space import Batch
from tests.predictors.probes import convolutional, dead, images, made, state


def test_one_layer_by_hand() -> None:
    """Logits are equal for (1, 2) and (3, 2), so their gradients are -1/2 and 1/2 times the input.

    Those of the first input are 1/2 and 3/2: mean 1, deviation 1/2. Those of the second are the same and left out.
    """
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
        model.bias.copy_(torch.tensor([0.0, 2.0]))
    first, second = (Batch((torch.tensor([x]),), torch.tensor([0])) for x in ([1.0, 2.0], [3.0, 2.0]))
    assert Zico()(Probe(model, first, second=second)) == pytest.approx(math.log(2 + 2))


class Idle(nn.Module):
    """A network with a layer that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.idle, self.body = nn.Linear(3, 3), convolutional()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        return out


def test_layers_and_weights_one_by_one() -> None:
    model, batches = made(Idle), [images(), images(seed=1)]
    found: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        net = copy.deepcopy(model).train()
        F.cross_entropy(net(*batch.inputs), batch.targets).backward()
        for name, part in net.named_modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                gradient = part.weight.grad
                found.setdefault(name, []).append(
                    np.zeros(part.weight.numel()) if gradient is None else gradient.double().flatten().numpy()
                )
    expected = 0.0
    for pair in map(np.array, found.values()):
        deviation, mean = pair.std(axis=0), np.abs(pair).mean(axis=0)
        moves = deviation > 0
        if moves.any():
            expected += math.log((mean[moves] / deviation[moves]).sum())
    assert len(found) == 7
    assert Zico()(Probe(model, batches[0], second=batches[1])) == pytest.approx(expected, rel=1e-4)


def test_batches_that_do_not_differ_are_refused() -> None:
    with pytest.raises(ScoreError, match="two different batches"):
        Zico()(Probe(made(convolutional), images(), second=images()))
    with pytest.raises(ScoreError, match="second batch"):
        Zico()(Probe(made(convolutional), images()))


def test_a_dead_network_is_called_dead() -> None:
    with pytest.raises(DeadNetworkError, match="nothing flows"):
        Zico()(Probe(dead("output"), images(), second=images(seed=1)))


def test_the_network_and_the_generators_are_left_alone() -> None:
    model = made(convolutional).eval()
    before, random = state(model), torch.get_rng_state()
    scores = {Zico()(Probe(model, images(), second=images(seed=1))) for _ in range(2)}
    assert len(scores) == 1
    assert state(model) == before and torch.equal(random, torch.get_rng_state())
