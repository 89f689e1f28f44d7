import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from predictors.eval_pass import EvalPass
from predictors.responses import Element, Responses
from tests.predictors.probes import Shared, convolutional, images, made
from tests.predictors.test_eval_pass import trained
from tests.predictors.test_ntk import Normed


def elements(net: nn.Module, rng: np.random.Generator, each: int = 4) -> list[Element]:
    """A few numbers of every parameter."""
    return [
        Element(p, tuple(int(rng.integers(side)) for side in p.shape)) for p in net.parameters() for _ in range(each)
    ]


class Sequences(nn.Module):
    """Convolutions in one dimension, strided, with a circle's padding."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 4, 3, stride=2, padding=2, padding_mode="circular"), nn.Conv1d(4, 4, 2, groups=2)
        self.last = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(torch.tanh(self.b(torch.tanh(self.a(x.flatten(2))))).mean(2))
        return out


@pytest.mark.parametrize("make", [convolutional, Normed, Shared, Sequences])
def test_derivatives_are_those_of_autograd(make: Callable[[], nn.Module]) -> None:
    net, batch = trained(make), images(4)
    found = EvalPass(copy.deepcopy(net), batch.inputs)
    chosen = elements(found.net, np.random.default_rng(0))
    responses = Responses(found, chosen)
    plain = copy.deepcopy(net).eval()
    named = {id(p): q for p, q in zip(found.net.parameters(), plain.parameters(), strict=True)}
    for seed in range(2):
        cotangent = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))
        found.backward(cotangent, responses.visit)
        expected = []
        for row in (plain(*batch.inputs) * cotangent).sum(1):
            plain.zero_grad()
            row.backward(retain_graph=True)
            expected.append([named[id(e.parameter)].grad[e.index].item() for e in chosen])  # type: ignore[index]
        torch.testing.assert_close(responses.take(), torch.tensor(expected).double(), rtol=1e-3, atol=1e-5)
    assert not responses.take().any()


def test_a_number_on_no_use_has_no_derivative() -> None:
    found = EvalPass(made(convolutional), images(3).inputs)
    responses = Responses(found, [Element(nn.Parameter(torch.ones(2)), (0,))])
    found.backward(torch.ones(3, 4), responses.visit)
    assert not responses.take().any()
