import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from predictors import DeadNetworkError, ScoreError, activation
from predictors.activation import LinearRegions, Nwot, Swap
from predictors.gaussian import normal_weights
from predictors.probe import Probe
from predictors.protocol import Proxy
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Shared, convolutional, dead, images, made, state


def units(*examples: tuple[float, ...]) -> Probe:
    """Rectified inputs, so that an example's code is which of its numbers are positive."""
    model = nn.Sequential(nn.ReLU(), nn.Linear(len(examples[0]), 1))
    return Probe(model, Batch((torch.tensor(examples).float(),), torch.zeros(len(examples)).long()))


def test_codes_by_hand() -> None:
    """Codes 10, 01, 11 agree on 2 of 2 with themselves, on 0 and 1 and 1 with each other: the determinant is 4."""
    assert Nwot()(units((1, -1), (-1, 1), (1, 1))) == pytest.approx(math.log(4))


def test_zero_is_off() -> None:
    assert Nwot()(units((1, 0), (0, 1), (1, 1))) == pytest.approx(math.log(4))


def test_regions_by_hand() -> None:
    assert LinearRegions()(units((1, -1), (2, -3), (-1, 1), (1, 1), (2, 2), (3, 3))) == pytest.approx(3)


def test_patterns_by_hand() -> None:
    """The units respond to three examples with 100, 011, 100 and 111: three different ones."""
    probe = units((1, -1, 2, 3), (-1, 1, -2, 3), (-1, 1, -2, 3))
    assert Swap(repeats=1)(probe) == Swap(repeats=5)(probe) == 3
    # Five parameters are 0.005 thousand.
    assert Swap(repeats=1, mu=1.005, sigma=2.0)(probe) == pytest.approx(3 * math.exp(-1 / 2))


def responses(model: nn.Module, inputs: Tensor) -> np.ndarray:
    """Whether each unit in front of a rectifier is positive, [examples, units], gathered on the way in."""
    found, net = [], copy.deepcopy(model).train()
    for part in net.modules():
        if isinstance(part, nn.ReLU | nn.ReLU6):
            part.inplace = False
            part.register_forward_pre_hook(lambda _, x: found.append((x[0] > 0).flatten(1).numpy()))
    with torch.no_grad():
        net(inputs)
    return np.concatenate(found, 1)


def test_the_kernel_is_the_published_one() -> None:
    model, batch = made(convolutional), images(8)
    x = responses(model, *batch.inputs).astype(float)
    expected = np.linalg.slogdet(x @ x.T + (1 - x) @ (1 - x.T))[1]
    assert Nwot()(Probe(model, batch)) == pytest.approx(expected, rel=1e-9)
    assert LinearRegions()(Probe(model, batch)) == len(np.unique(x, axis=0))


@pytest.mark.parametrize("table", [20, 4])
def test_patterns_are_the_different_columns(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "_TABLE", table)
    model, batch = made(convolutional), images(12)
    probe = Probe(model, batch, seed=5)
    net, generator, counts = copy.deepcopy(model), probe.generator("swap"), []
    for _ in range(3):
        normal_weights(net, generator=generator)
        counts.append(len(np.unique(responses(net, batch.inputs[0][:10]), axis=1).T))
    assert Swap(examples=10, repeats=3)(probe) == pytest.approx(np.mean(counts))
    assert len(set(counts)) > 1 and max(counts) < 2**10


def test_more_examples_than_a_table_holds() -> None:
    batch = images(30)
    probe = Probe(made(convolutional), batch, seed=5)
    net = copy.deepcopy(probe.model)
    normal_weights(net, generator=probe.generator("swap"))
    expected = len(np.unique(responses(net, *batch.inputs), axis=1).T)
    assert Swap(examples=40, repeats=1)(probe) == expected


def test_equal_examples_are_refused() -> None:
    with pytest.raises(ScoreError, match="Two examples") as caught:
        Nwot()(units((1, -1), (2, -3), (-1, 1)))
    assert not isinstance(caught.value, DeadNetworkError)


@pytest.mark.parametrize("proxy", [Nwot(), LinearRegions(), Swap(repeats=2)])
def test_dead_networks_are_called_dead(proxy: Proxy) -> None:
    with pytest.raises(DeadNetworkError, match="nothing flows"):
        proxy(units((1, -1), (2, -3), (5, -1)))
    with pytest.raises(DeadNetworkError, match="nothing flows"):
        proxy(Probe(dead("input"), images()))


@pytest.mark.parametrize("proxy", [Nwot(), Swap()])
def test_functions_are_not_seen(proxy: Proxy) -> None:
    with pytest.raises(ScoreError, match="no rectifier that is a module"):
        proxy(Probe(made(Shared), images()))


class Changed(nn.Module):
    """What the rectifier returns is changed in place before it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.last = nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(x)
        x += 1
        out: Tensor = self.last(x)
        return out


def test_what_was_changed_in_place_is_refused() -> None:
    batch = Batch((torch.randn(5, 4, generator=torch.Generator().manual_seed(0)),), torch.zeros(5).long())
    with pytest.raises(ScoreError, match="'act' returns is changed in place"):
        Nwot()(Probe(Changed(), batch))
    assert Swap(repeats=1)(Probe(Changed(), batch)) > 1  # which reads it at once


def test_examples_must_come_first() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.last = nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.act(x.T).T)
            return out

    batch = Batch((torch.randn(5, 4, generator=torch.Generator().manual_seed(0)),), torch.zeros(5).long())
    for proxy in (Nwot(), Swap(repeats=1)):
        with pytest.raises(ScoreError, match="4x5 for 5 examples"):
            proxy(Probe(Turned(), batch))


def test_nodes_have_codes_too_but_none_can_be_left_out() -> None:
    class Rectified(Messages):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            return F.relu(self._summed(self.second(self.act(self.norm(self.first(x)))), edges))

    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    probe = Probe(made(Rectified), Batch((x, torch.tensor([[0], [1]])), torch.zeros(6).long()), examples="coupled")
    assert 1 < LinearRegions()(probe) <= 6
    with pytest.raises(ScoreError, match="belong together"):
        Swap()(probe)


@pytest.mark.parametrize("settings", [{"examples": 1}, {"examples": 54}, {"repeats": 0}, {"sigma": -1.0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(settings)))):
        Swap(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("proxy", [Nwot(), LinearRegions(), Swap(repeats=2)])
def test_the_network_and_the_generators_are_left_alone(proxy: Proxy) -> None:
    model = made(convolutional).eval()
    before, random = state(model), torch.get_rng_state()
    assert proxy(Probe(model, images())) == proxy(Probe(model, images()))
    assert state(model) == before and torch.equal(random, torch.get_rng_state())
