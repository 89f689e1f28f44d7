from __future__ import annotations

import pytest
import torch

from search_spaces.elastic import inherited
from search_spaces.gated import Width
from search_spaces.mobile_blocks import (
    ElasticInvertedResidual,
    ElasticSeparable,
    ElasticSqueezeExcite,
    InvertedResidual,
    Separable,
    SqueezeExcite,
)


def test_squeeze_and_excite_weighs_channels() -> None:
    made, x = SqueezeExcite(4, 2), torch.randn(3, 4, 5, 5)
    ratio = made(x) / x
    assert torch.allclose(ratio, ratio[:, :, :1, :1].expand_as(ratio), atol=1e-5)
    assert (ratio > -1e-6).all() and (ratio < 1 + 1e-6).all() and ratio.std() > 0


def test_squeeze_and_excite_inherits() -> None:
    elastic, plain, x = ElasticSqueezeExcite(8, 4), SqueezeExcite(6, 3), torch.randn(3, 6, 5, 5)
    for convolution in (elastic.reduce, elastic.expand):
        assert convolution.bias is not None
        convolution.bias.data.normal_()
    plain.load_state_dict(inherited(elastic, plain))
    torch.testing.assert_close(elastic(x, Width(3)), plain(x))


def test_squeezed_channels_without_weight_do_not_count() -> None:
    elastic, x = ElasticSqueezeExcite(8, 4), torch.randn(3, 8, 5, 5)
    mask = torch.tensor([1.0, 1, 1, 0]).view(1, 4, 1, 1)
    torch.testing.assert_close(elastic(x, Width(4, mask)), elastic(x, Width(3)))


def test_separable_inherits() -> None:
    elastic, plain, x = ElasticSeparable(6).eval(), Separable(6).eval(), torch.randn(3, 6, 5, 5)
    plain.load_state_dict(inherited(elastic, plain))
    torch.testing.assert_close(elastic(x), plain(x))


@pytest.mark.parametrize("stride", [None, 1, 2])
@pytest.mark.parametrize("excite", [False, True])
def test_the_elastic_twin_computes_the_same(stride: int | None, excite: bool) -> None:
    elastic = ElasticInvertedResidual(
        6, 24, 6, kernels=(3, 5), stride=stride, squeezed=6 if excite else None, act="hswish"
    ).eval()
    plain = InvertedResidual(4, 8, 4, kernel=3, stride=stride, squeezed=2 if excite else None, act="hswish").eval()
    plain.load_state_dict(inherited(elastic, plain))
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(elastic(x, Width(8), Width(2), Width(4), 0), plain(x))


def test_only_later_blocks_add_their_input() -> None:
    x = torch.randn(2, 4, 6, 6)
    first, later = (
        InvertedResidual(4, 8, 4, kernel=3, stride=stride, squeezed=None, act="relu").eval() for stride in (1, None)
    )
    later.load_state_dict(first.state_dict())
    torch.testing.assert_close(later(x), x + first(x))


def test_channels_are_sorted_by_what_the_projection_makes_of_them() -> None:
    made = ElasticInvertedResidual(4, 16, 4, kernels=(3,), stride=1, squeezed=4, act="relu")
    made.sort_channels()
    importance = made.project.conv.importance().tolist()
    assert importance == sorted(importance, reverse=True)
