from __future__ import annotations

import pytest
import torch
from torch import nn

from search_spaces.elastic import inherited
from search_spaces.gated import Width
from search_spaces.units import Activation, ElasticUnit, channels_last, linear, unit


@pytest.mark.parametrize("act, layer", [("relu", nn.ReLU), ("hswish", nn.Hardswish)])
def test_plain_units_are_standard_layers(act: Activation, layer: type[nn.Module]) -> None:
    made = unit(3, 8, 5, stride=2, act=act)
    assert [type(m) for m in made] == [nn.Conv2d, nn.BatchNorm2d, layer]
    assert made(torch.randn(2, 3, 9, 9)).shape == (2, 8, 5, 5)
    assert list(dict(made.named_children())) == ["conv", "bn", "act"]


def test_units_without_activation_end_with_the_normalisation() -> None:
    assert list(dict(unit(3, 8, act="none").named_children())) == ["conv", "bn"]


@pytest.mark.parametrize("act", ["none", "relu", "hswish"])
@pytest.mark.parametrize("groups", [1, 6])
def test_the_elastic_twin_computes_the_same(act: Activation, groups: int) -> None:
    elastic = ElasticUnit(6, 6, (3, 5), groups=groups, act=act)
    channels = 4 if groups > 1 else 6
    x = torch.randn(4, channels, 8, 8)
    plain = unit(channels, 4, 3, groups=channels if groups > 1 else 1, act=act)
    plain.load_state_dict(inherited(elastic, plain))
    for mode in (False, True):  # training moves the plain one's statistics
        torch.testing.assert_close(plain.train(mode)(x), elastic.train(mode)(x, Width(4), 0))


@pytest.mark.parametrize("act", ["none", "relu", "hswish"])
def test_masked_channels_are_exactly_zero_and_leave_the_others_alone(act: Activation) -> None:
    elastic, x = ElasticUnit(3, 6, (3,), act=act), torch.randn(4, 3, 8, 8)
    elastic.bn.bias.data.fill_(0.5)
    mask = torch.tensor([1.0, 1, 1, 1, 0, 0]).view(1, 6, 1, 1)
    y = elastic(x, Width(6, mask))
    assert not y[:, 4:].any()
    torch.testing.assert_close(y[:, :4], elastic(x, Width(4)))


def test_channels_last_changes_the_layout_alone() -> None:
    for channels in (1, 3):
        x = torch.randn(2, channels, 4, 4)
        y = channels_last(x)
        assert torch.equal(x, y) and y.stride(1) == 1


def test_initial_activations_keep_their_scale() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 32, 8, 8).relu()
    for layer in (unit(32, 64, 3), unit(32, 32, 5, groups=32), unit(32, 64)):
        inner = layer[0](x)[:, :, 2:-2, 2:-2]
        assert 0.5 < (inner.square().mean() / (2 * x.square().mean())).sqrt() < 1.5
    assert linear(100, 50)(torch.randn(64, 100)).std().item() == pytest.approx(1, abs=0.1)
