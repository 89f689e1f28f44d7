import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from predictors import DeadNetworkError, ScoreError
from predictors.meco import Meco, least_eigenvalue
from predictors.probe import Probe
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, convolutional, dead, images, made, state


def test_two_channels_by_hand() -> None:
    """With correlation r the eigenvalues are 1 + r and 1 - r; here r is 1 / 2."""
    rows = torch.tensor([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]])
    assert least_eigenvalue(rows) == pytest.approx(1 / 2)
    assert least_eigenvalue(torch.stack([rows[0], -rows[0]])) == pytest.approx(0)


def test_a_constant_channel_counts_as_nothing() -> None:
    rows = torch.tensor([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0], [0.1, 0.1, 0.1]])
    assert least_eigenvalue(rows) == pytest.approx(0)
    assert least_eigenvalue(torch.full((1, 3), 0.1)) == 0
    assert least_eigenvalue(torch.tensor([1.0, 2.0])) == 0


def test_eigenvalues_are_those_of_the_correlations() -> None:
    rows = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))
    expected = np.linalg.eigvalsh(np.corrcoef(rows.flatten(1).double().numpy()))[0]
    assert least_eigenvalue(rows) == pytest.approx(expected)


class Nested(nn.Module):
    """A part in a part: what the inner one returns, the outer one hands on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.last = nn.Conv2d(4, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.inner(x)).mean((2, 3))
        return out


def test_the_sum_is_over_all_parts_of_one_image() -> None:
    probe = Probe(made(Nested), images(5), seed=4)
    net, maps = copy.deepcopy(probe.model).train(), []
    x = torch.randn(1, 3, 20, 20, generator=probe.generator("meco"))
    with torch.no_grad():
        for part in net.inner:  # type: ignore[union-attr]
            x = part(x)
            maps.append(x)
        maps += [x, net.last(x)]  # type: ignore[operator]
    expected = sum(np.linalg.eigvalsh(np.corrcoef(m[0].flatten(1).double().numpy()))[0] for m in maps)
    assert Meco(side=20)(probe) == pytest.approx(expected, rel=1e-6)


def test_the_side_is_the_datas_own_on_request() -> None:
    probe = Probe(made(Nested), images(5, size=20))
    assert Meco(side=0)(probe) == Meco(side=20)(probe) != Meco()(probe)


def test_dead_networks_are_called_dead() -> None:
    for kind in ("input", "output"):
        with pytest.raises(DeadNetworkError, match="nothing flows"):
            Meco(side=0)(Probe(dead(kind), images()))


def test_what_has_no_maps_is_refused() -> None:
    nodes = Batch((torch.randn(4, 5), torch.tensor([[0], [1]])), torch.zeros(4).long())
    with pytest.raises(ScoreError, match="nodes of a graph"):
        Meco()(Probe(made(Messages), nodes, examples="coupled"))
    flat = Batch((torch.randn(4, 5),), torch.zeros(4).long())
    with pytest.raises(ScoreError, match="feature maps"):
        Meco()(Probe(nn.Linear(5, 2), flat))
    with pytest.raises(ScoreError, match="1x3x2x2"):
        Meco(side=2)(Probe(made(convolutional), images()))
    with pytest.raises(ValueError, match="side=-1"):
        Meco(side=-1)


def test_tokens_take_the_place_of_channels() -> None:
    tokens = Batch((torch.arange(12).view(3, 4) % 11,), torch.zeros(3).long())
    assert Meco()(Probe(made(Sentences), tokens)) > 0


def test_the_network_and_the_generators_are_left_alone() -> None:
    model = made(Nested).eval()
    before, random = state(model), torch.get_rng_state()
    assert Meco(side=9)(Probe(model, images())) == Meco(side=9)(Probe(model, images()))
    assert state(model) == before and torch.equal(random, torch.get_rng_state())
