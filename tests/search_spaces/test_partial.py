from __future__ import annotations

import pytest
import torch

from search_spaces.errors import SpaceError
from search_spaces.partial import BYPASS, Divided, Sums, part, passing


def test_parts_divide_the_channels() -> None:
    assert part(16, 4) == 4 and part(6, 3) == 2
    with pytest.raises(SpaceError, match=r"16 channels cannot be divided into 3 parts; give one of 2, 4, 8, 16\."):
        part(16, 3)
    with pytest.raises(SpaceError, match=r"give one of 2, 4, 8\."):
        part(16, 16, least=2)
    for parts in (1, 0, -2):
        with pytest.raises(SpaceError, match=f"into {parts} parts"):
            part(16, parts)
    with pytest.raises(SpaceError, match="3 channels are too few to be divided"):
        part(3, 3, least=2)


def test_values_are_divided_by_channels() -> None:
    x = torch.arange(4 * 9.0).view(1, 4, 3, 3)
    divided = Divided(x, 1)
    assert torch.equal(divided.first, x[:, :1]) and torch.equal(divided.rest, x[:, 1:])
    # Windows of two pixels; those at the end of an odd side have one.
    assert divided.halved[0, 0].tolist() == [[13, 14], [16, 17]]


def test_channels_take_turns() -> None:
    value = torch.arange(6.0).view(1, 6, 1, 1).expand(2, 6, 4, 3)
    sums = Sums()
    sums.add(value[:, :2])
    sums.pass_by(value[:, 2:], None)
    found = sums.value(3)
    assert found is not None and found.shape == (2, 6, 4, 3)
    assert found[0, :, 0, 0].tolist() == [0, 2, 4, 1, 3, 5] == found[1, :, 3, 2].tolist()
    torch.testing.assert_close(found, torch.nn.functional.channel_shuffle(value.contiguous(), 3))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_shuffling_a_sum_is_summing_what_was_shuffled() -> None:
    rng = torch.Generator().manual_seed(0)
    made, rest = torch.randn(3, 2, 4, 5, 5, generator=rng), torch.randn(3, 2, 12, 5, 5, generator=rng)
    sums = Sums()
    for i, weight in enumerate((None, 0.5, torch.tensor(2.0))):
        sums.add(made[i])
        sums.pass_by(rest[i], weight)
    weights = (1, 0.5, 2)
    edges = [torch.cat((made[i], weights[i] * rest[i]), 1) for i in range(3)]
    expected = sum(e.view(2, 4, 4, 5, 5).transpose(1, 2).reshape(2, 16, 5, 5) for e in edges)
    torch.testing.assert_close(sums.value(4), expected)


def test_what_is_missing_is_zero() -> None:
    sums = Sums()
    assert sums.value(2) is None
    sums.pass_by(torch.ones(1, 2, 1, 1), 3.0)
    found = sums.value(2)
    assert found is not None and found.flatten().tolist() == [0, 3, 0, 3]


def test_what_passes_weighs_as_much_as_the_operations() -> None:
    mixture = passing({(0, 1): [("none", 0.25), ("conv", 0.5)], (0, 2): [("none", None)]})
    assert mixture[0, 1] == [("none", 0.25), ("conv", 0.5), (BYPASS, 0.75)]
    assert mixture[0, 2] == [("none", None), (BYPASS, None)]
