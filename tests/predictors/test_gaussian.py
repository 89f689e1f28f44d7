import math

import pytest
import torch
from torch import nn

from predictors.gaussian import he_weights, noise, normal, normal_weights
from predictors.probe import Probe
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, convolutional, images, made


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_numbers_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    found = normal((2, 3), generator=generator(), like=torch.zeros(1))
    assert torch.equal(found, torch.randn(2, 3, generator=generator()))
    assert torch.equal(before, torch.get_rng_state())


def test_noise_has_the_shape_of_the_inputs_and_as_many_examples_as_asked_for() -> None:
    (found,) = noise(Probe(made(convolutional), images(4)), 50, generator=generator())
    assert found.shape == (50, 3, 9, 9)
    assert abs(float(found.mean())) < 0.05 and float(found.std()) == pytest.approx(1, abs=0.05)


def test_whole_numbers_and_nodes_stay() -> None:
    tokens = Batch((torch.arange(6).view(2, 3),), torch.zeros(2).long())
    (found,) = noise(Probe(made(Sentences), tokens), 50, generator=generator())
    assert torch.equal(found, tokens.inputs[0])
    nodes = Batch((torch.ones(4, 5), torch.tensor([[0, 1], [2, 3]])), torch.zeros(4).long())
    x, edges = noise(Probe(made(Messages), nodes, examples="coupled"), 50, generator=generator())
    assert x.shape == (4, 5) and not torch.equal(x, nodes.inputs[0]) and torch.equal(edges, nodes.inputs[1])


def test_weights_are_drawn_and_the_rest_is_reset() -> None:
    net = nn.Sequential(nn.Conv2d(8, 64, 3), nn.BatchNorm2d(64), nn.Linear(200, 100))
    for parameter in net.parameters():
        nn.init.constant_(parameter, 7.0)
    normal_weights(net, generator=generator())
    assert float(net[0].weight.detach().std()) == pytest.approx(1, abs=0.03)  # type: ignore[operator]
    assert float(net[2].weight.detach().std()) == pytest.approx(1, abs=0.03)  # type: ignore[operator]
    assert not net[0].bias.any() and not net[2].bias.any()  # type: ignore[operator]
    assert net[1].weight.eq(1).all() and not net[1].bias.any()  # type: ignore[operator]


def test_he_weights_keep_the_variance_of_rectified_inputs() -> None:
    net = nn.Sequential(nn.Conv2d(8, 64, 3, groups=2), nn.Linear(200, 100))
    he_weights(net, generator=generator())
    assert float(net[0].weight.detach().std()) == pytest.approx(math.sqrt(2 / (4 * 9)), rel=0.05)  # type: ignore[operator]
    assert float(net[1].weight.detach().std()) == pytest.approx(math.sqrt(2 / 200), rel=0.03)  # type: ignore[operator]
    wanted = generator()
    expected = torch.randn(net[0].weight.shape, generator=wanted) * math.sqrt(2 / 36)  # type: ignore[arg-type]
    torch.testing.assert_close(net[0].weight.detach(), expected)  # type: ignore[operator]
