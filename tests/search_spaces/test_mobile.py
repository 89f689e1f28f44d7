from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.elastic import ElasticBatchNorm2d
from search_spaces.errors import ArchitectureError, SpaceError
from search_spaces.gated import one_hot
from search_spaces.mobile import PRESETS, MobileSpace
from search_spaces.resnet import ResNetSpace
from search_spaces.space import Signature

DIGITS = Signature("image", (1, 8, 8), 10)
IMAGES = Signature("image", (3, 224, 224), 1000)


@pytest.mark.parametrize("side, name", [(8, "digits"), (28, "28"), (32, "32"), (224, "imagenet")])
def test_auto_takes_the_preset_of_the_image_size(side: int, name: str) -> None:
    space = MobileSpace(Signature("image", (3, side, side), 10))
    assert space.layout == PRESETS[name] and space.preset == "auto"


def test_strings_read_resolution_then_stages() -> None:
    space = MobileSpace(DIGITS)
    assert str(space.table.smallest) == "mobile:6/1,0.25/3,1/-/1,0.25/3,1/-"
    assert space.table.values(space.table.parse("mobile:8/2,0.5/5,4/3,1/1,1/3,2/-")) == {
        "net.resolution": "8",
        "stage1.depth": "2",
        "stage1.width": "0.5",
        "stage1.block1.kernel": "5",
        "stage1.block1.expand": "4",
        "stage1.block2.kernel": "3",
        "stage1.block2.expand": "1",
        "stage2.depth": "1",
        "stage2.width": "1",
        "stage2.block1.kernel": "3",
        "stage2.block1.expand": "2",
    }


def test_a_network_worked_by_hand() -> None:
    space = MobileSpace(DIGITS)
    net = space.build(space.table.parse("mobile:6/2,0.5/5,4/3,1/1,1/3,2/-"))
    shapes = {n: tuple(m.weight.shape) for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert shapes == {
        "stem.conv": (8, 1, 3, 3),
        "stages.0.0.expand.conv": (32, 8, 1, 1),
        "stages.0.0.depthwise.conv": (32, 1, 5, 5),
        "stages.0.0.project.conv": (4, 32, 1, 1),
        "stages.0.1.expand.conv": (4, 4, 1, 1),
        "stages.0.1.depthwise.conv": (4, 1, 3, 3),
        "stages.0.1.project.conv": (4, 4, 1, 1),
        "stages.1.0.expand.conv": (8, 4, 1, 1),
        "stages.1.0.depthwise.conv": (8, 1, 3, 3),
        "stages.1.0.excite.reduce": (2, 8, 1, 1),
        "stages.1.0.excite.expand": (8, 2, 1, 1),
        "stages.1.0.project.conv": (16, 8, 1, 1),
        "head.conv": (48, 16, 1, 1),
        "classifier": (10, 48),
    }
    assert isinstance(net[0], nn.Upsample) and net[0].size == (6, 6)


def test_networks_resize_images_of_the_given_size() -> None:
    space, x = MobileSpace(Signature("image", (1, 8, 12), 4)), torch.randn(2, 1, 8, 12)
    assert space.sizes == ((6, 9), (8, 12))
    seen: list[Tensor] = []
    for arch in (space.table.smallest, space.table.largest):
        net = space.build(arch).eval()
        dict(net.named_children())["stem"].register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
        assert net(x).shape == (2, 4)
    assert torch.equal(seen[0], F.interpolate(x, (6, 9), mode="bilinear")) and torch.equal(seen[1], x)


def test_resolutions_are_parts_or_pixels() -> None:
    space = MobileSpace(IMAGES)
    assert [height for height, _ in space.sizes] == [128, 160, 192, 224]
    space = MobileSpace(IMAGES, resolutions=(0.5, 1, 240))
    assert [height for height, _ in space.sizes] == [112, 224, 240]
    assert space.table.choices[0].options == ("112", "224", "240")


@pytest.mark.parametrize(
    "side, kernels",
    [
        (8, ((3, 5), (3,))),
        (28, ((3, 5, 7), (3, 5, 7), (3,))),
        (32, ((3, 5, 7), (3, 5, 7), (3,))),
        (224, ((3, 5, 7),) * 5),
    ],
)
def test_kernels_larger_than_the_map_are_no_options(side: int, kernels: tuple[tuple[int, ...], ...]) -> None:
    assert MobileSpace(Signature("image", (3, side, side), 10)).kernels_of == kernels


def test_the_imagenet_preset_is_mobilenet_v3_large_in_size() -> None:
    space = MobileSpace(IMAGES)
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in space.build(a).parameters()) for a in (space.table.smallest, space.table.largest)
        ]
    assert 3e6 < sizes[0] < 5.5e6 < sizes[1] < 13e6
    assert space.table.size > 1e18


@pytest.mark.parametrize("side", [8, 28, 32])
def test_the_smallest_network_is_an_eighth_of_the_largest(side: int) -> None:
    space = MobileSpace(Signature("image", (3, side, side), 10))
    sizes = [sum(p.numel() for p in space.build(a).parameters()) for a in (space.table.smallest, space.table.largest)]
    assert sizes[0] * 8 < sizes[1]


def test_settings_replace_the_presets() -> None:
    space = MobileSpace(DIGITS, widths=(4, 6), depths=(2,), kernels=(3,), expansions=(1.5,), resolutions=(1,))
    assert str(space.table.largest) == "mobile:8/2,1/3,1.5/3,1.5/2,1/3,1.5/3,1.5"
    assert space.layout.hidden(0, 1) == ((2,), (3,), (6,))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"preset": "huge"}, "preset='huge' is unknown; there are auto, digits, 28, 32, imagenet"),
        ({"signature": Signature("graph", (7,), 3)}, "needs images"),
        ({"widths": (4, 8)}, "2 in widths, 3 in preset"),
        ({"widths": (0, 8, 8)}, "widths="),
        ({"depths": (2, 1)}, "depths="),
        ({"depths": (0, 1)}, "depths="),
        ({"kernels": (3, 4)}, "odd"),
        ({"kernels": (5, 3)}, "kernels="),
        ({"expansions": (0.0, 1.0)}, "expansions="),
        ({"multipliers": (1.0, 1.0)}, "multipliers="),
        ({"resolutions": (0.5, 0.51)}, "resolutions in pixels"),
        ({"resolutions": (0.5, 1, 16)}, "resolutions in pixels"),
        ({"resolutions": (0.01,)}, "resolutions in pixels"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MobileSpace(**settings)


def test_architectures_of_other_spaces_are_refused() -> None:
    with pytest.raises(ArchitectureError, match="resnet:"):
        MobileSpace(DIGITS).build(ResNetSpace(DIGITS).table.smallest)


def test_sorting_channels_leaves_the_largest_network_as_it_was() -> None:
    space, x = MobileSpace(DIGITS), torch.randn(4, 1, 8, 8)
    net = space.supernet().eval()
    for module in net.modules():
        if isinstance(module, ElasticBatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.add_(torch.rand_like(tensor))
    large, small = (one_hot(space.table, a) for a in (space.table.largest, space.table.smallest))
    before, narrow = net(x, gates=large), net(x, gates=small)
    weights = net.state_dict()["stages.0.1.depthwise.conv.weight"].clone()
    space.sort_channels(net)
    assert not torch.equal(net.state_dict()["stages.0.1.depthwise.conv.weight"], weights)
    torch.testing.assert_close(net(x, gates=large), before, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(net(x, gates=small), narrow)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    space.sort_channels(net)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_sorting_the_channels_of_other_networks_is_refused() -> None:
    with pytest.raises(SpaceError, match="A Linear is no supernet of the mobile space"):
        MobileSpace(DIGITS).sort_channels(nn.Linear(2, 2))
