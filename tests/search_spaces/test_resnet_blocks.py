from __future__ import annotations

import pytest
import torch
from torch import nn

from search_spaces.elastic import inherited
from search_spaces.gated import Width
from search_spaces.resnet_blocks import Block, ElasticResidual, Residual


@pytest.mark.parametrize("block, kernels, strides", [("basic", [3, 3], [2, 1]), ("bottleneck", [1, 3, 1], [1, 2, 1])])
def test_the_first_3x3_takes_the_stride(block: Block, kernels: list[int], strides: list[int]) -> None:
    made = Residual(block, 4, 6, 8, stride=2)
    convs = [m for m in made.body.modules() if isinstance(m, nn.Conv2d)]
    assert [c.kernel_size[0] for c in convs] == kernels and [c.stride[0] for c in convs] == strides
    assert made(torch.randn(2, 4, 8, 8)).shape == (2, 8, 4, 4)


def test_only_the_first_block_of_a_stage_has_a_projection() -> None:
    assert isinstance(Residual("basic", 4, 4, 4, stride=None).shortcut, nn.Identity)
    assert isinstance(Residual("basic", 4, 4, 4, stride=1).shortcut, nn.Sequential)
    assert ElasticResidual("basic", 4, 4, 4, stride=None).shortcut is None


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("stride", [None, 1, 2])
def test_the_elastic_twin_computes_the_same(block: Block, stride: int | None) -> None:
    elastic = ElasticResidual(block, 6, 8, 6, stride=stride).eval()
    plain = Residual(block, 4, 3, 4, stride=stride).eval()
    plain.load_state_dict(inherited(elastic, plain))
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(elastic(x, Width(3), Width(4)), plain(x))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_channels_are_sorted_by_what_the_next_convolution_makes_of_them(block: Block) -> None:
    made = ElasticResidual(block, 4, 8, 4, stride=1)
    made.sort_channels()
    heaviest_last = list(made.body)[-1].conv.importance()  # type: ignore[union-attr, operator]
    assert heaviest_last.tolist() == sorted(heaviest_last.tolist(), reverse=True)
