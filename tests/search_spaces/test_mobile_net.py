from __future__ import annotations

import torch
from torch.nn import functional as F

from search_spaces.gated import one_hot
from search_spaces.mobile import MobileSpace
from search_spaces.space import Gates, Signature

SPACE = MobileSpace(Signature("image", (1, 8, 8), 5))


def with_gate(name: str, weights: list[float]) -> Gates:
    return {**one_hot(SPACE.table, SPACE.table.largest), name: torch.tensor(weights)}


def test_weighted_resolutions_are_weighted_logits() -> None:
    net, x = SPACE.supernet().eval(), torch.randn(3, 1, 8, 8)
    low, high = (net(x, gates=with_gate("net.resolution", w)) for w in ([1.0, 0.0], [0.0, 1.0]))
    assert not torch.allclose(low, high)
    torch.testing.assert_close(net(x, gates=with_gate("net.resolution", [0.25, 0.75])), 0.25 * low + 0.75 * high)


def test_weighted_last_widths_and_depths_are_mixtures() -> None:
    net, x = SPACE.supernet().eval(), torch.randn(3, 1, 8, 8)
    seen: list[torch.Tensor] = []
    net.head.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    for weights in ([1.0, 0.0], [0.0, 1.0], [0.25, 0.75]):
        net(x, gates=with_gate("stage2.depth", weights))
    torch.testing.assert_close(seen[2], 0.25 * seen[0] + 0.75 * seen[1])


def test_only_what_is_needed_is_computed() -> None:
    net, x = SPACE.supernet().eval(), torch.randn(3, 1, 8, 8)
    shapes: list[torch.Size] = []
    for stage in net.stages:
        for block in stage.children():
            block.depthwise.register_forward_hook(lambda m, i, o: shapes.append(o.shape))
    net(x, gates=one_hot(SPACE.table, SPACE.table.parse("mobile:6/1,0.25/3,1/-/2,0.5/3,2/3,4")))
    assert [tuple(s) for s in shapes] == [(3, 8, 6, 6), (3, 4, 3, 3), (3, 32, 3, 3)]


def test_images_of_the_chosen_size_are_not_resized() -> None:
    net, x = SPACE.supernet().eval(), torch.randn(3, 1, 8, 8)
    small = F.interpolate(x, (6, 6), mode="bilinear")
    gates = with_gate("net.resolution", [1.0, 0.0])
    assert torch.equal(net(small, gates=gates), net(x, gates=gates))
