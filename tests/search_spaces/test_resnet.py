from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from search_spaces.elastic import ElasticBatchNorm2d
from search_spaces.errors import ArchitectureError, SpaceError
from search_spaces.gated import one_hot
from search_spaces.mobile import MobileSpace
from search_spaces.resnet import PRESETS, ResNetSpace
from search_spaces.space import Signature

DIGITS = Signature("image", (1, 8, 8), 10)


DEPTHS = ((3, 4), (4, 4), (6, 6), (3, 4))


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {n: tuple(m.weight.shape) for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


@pytest.mark.parametrize("side, name", [(8, "digits"), (28, "28"), (32, "32"), (224, "imagenet")])
def test_auto_takes_the_preset_of_the_image_size(side: int, name: str) -> None:
    space = ResNetSpace(Signature("image", (3, side, side), 10))
    assert space.layout == PRESETS[name] and space.preset == "auto"


def test_strings_read_depth_width_then_blocks() -> None:
    space = ResNetSpace(DIGITS)
    assert str(space.table.smallest) == "resnet:1,0.25/0.25/-/-/1,0.25/0.25/-/-"
    values = space.table.values(space.table.parse("resnet:2,0.5/1/0.25/-/1,1/0.5/-/-"))
    assert values == {
        "stage1.depth": "2",
        "stage1.width": "0.5",
        "stage1.block1.ratio": "1",
        "stage1.block2.ratio": "0.25",
        "stage2.depth": "1",
        "stage2.width": "1",
        "stage2.block1.ratio": "0.5",
    }


def test_a_network_worked_by_hand() -> None:
    space = ResNetSpace(DIGITS)
    net = space.build(space.table.parse("resnet:2,0.5/1/0.25/-/1,1/0.5/-/-"))
    assert shapes(net) == {
        "stem.conv": (8, 1, 3, 3),
        "stages.0.0.body.0.conv": (8, 8, 3, 3),
        "stages.0.0.body.1.conv": (8, 8, 3, 3),
        "stages.0.0.shortcut.conv": (8, 8, 1, 1),
        "stages.0.1.body.0.conv": (2, 8, 3, 3),
        "stages.0.1.body.1.conv": (8, 2, 3, 3),
        "stages.1.0.body.0.conv": (16, 8, 3, 3),
        "stages.1.0.body.1.conv": (32, 16, 3, 3),
        "stages.1.0.shortcut.conv": (32, 8, 1, 1),
        "classifier": (10, 32),
    }


def test_the_imagenet_preset_is_a_resnet_50_at_its_centre() -> None:
    space = ResNetSpace(Signature("image", (3, 224, 224), 1000))
    middle = "/".join(f"{depth},1/" + "/".join(["0.25"] * depth + ["-"] * (most - depth)) for depth, most in DEPTHS)
    with torch.device("meta"):
        net = space.build(space.table.parse(f"resnet:{middle}"))
    assert sum(p.numel() for p in net.parameters()) == 25_557_032  # as published, for ResNet-50


@pytest.mark.parametrize("side", [8, 28, 32])
def test_the_smallest_network_is_a_tenth_of_the_largest(side: int) -> None:
    space = ResNetSpace(Signature("image", (3, side, side), 10))
    sizes = [sum(p.numel() for p in space.build(a).parameters()) for a in (space.table.smallest, space.table.largest)]
    assert sizes[0] * 10 < sizes[1]


def test_settings_replace_the_presets() -> None:
    space = ResNetSpace(DIGITS, widths=(4, 8, 12), strides=(1, 2, 1), depths=(1, 2), ratios=(0.5,), block="bottleneck")
    assert space.layout.multipliers == PRESETS["digits"].multipliers
    assert str(space.table.largest) == "resnet:2,1/0.5/0.5/2,1/0.5/0.5/2,1/0.5/0.5"
    assert shapes(space.build(space.table.largest))["stages.2.1.body.1.conv"] == (6, 6, 3, 3)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"preset": "huge"}, "preset='huge' is unknown; there are auto, digits, 28, 32, imagenet"),
        ({"signature": Signature("graph", (7,), 3)}, "needs images"),
        ({"widths": (4, 8)}, "2 in widths, 3 in strides, 3 in depths"),
        ({"widths": (0, 8, 8)}, "widths="),
        ({"strides": (2, 0, 2)}, "strides="),
        ({"strides": (2,)}, "number of stages"),
        ({"depths": (2, 1)}, "depths="),
        ({"depths": (0, 1)}, "depths="),
        ({"ratios": (0.5, 0.5)}, "ratios="),
        ({"multipliers": (-1.0, 1.0)}, "multipliers="),
        ({"block": "dense"}, "block='dense'"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNetSpace(**settings)


def test_architectures_of_other_settings_are_refused() -> None:
    with pytest.raises(ArchitectureError, match="mobile:"):
        ResNetSpace(DIGITS).build(MobileSpace(DIGITS).table.smallest)
    with pytest.raises(ArchitectureError, match="resnet:"):
        ResNetSpace(DIGITS, depths=(1,)).build(ResNetSpace(DIGITS).table.largest)


def test_table_is_made_once() -> None:
    space = ResNetSpace(DIGITS)
    assert space.table is space.table
    assert dataclasses.replace(space, depths=(1, 2)).table != space.table


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_sorting_channels_leaves_the_largest_network_as_it_was(block: Any) -> None:
    space, x = ResNetSpace(DIGITS, block=block, depths=(1, 2)), torch.randn(4, 1, 8, 8)
    net = space.supernet().eval()
    for module in net.modules():
        if isinstance(module, ElasticBatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.add_(torch.rand_like(tensor))
    large, small = (one_hot(space.table, a) for a in (space.table.largest, space.table.smallest))
    before, narrow = net(x, gates=large), net(x, gates=small)
    space.sort_channels(net)
    torch.testing.assert_close(net(x, gates=large), before, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(net(x, gates=small), narrow)


def test_sorting_the_channels_of_other_networks_is_refused() -> None:
    with pytest.raises(SpaceError, match="A Linear is no supernet of the resnet space"):
        ResNetSpace(DIGITS).sort_channels(nn.Linear(2, 2))
