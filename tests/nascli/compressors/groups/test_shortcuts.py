from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascli.compressors.groups.shortcuts import replaced, shortcuts
from search_spaces.rewired import Rewired
from tests.toy_prunable import Lambda, Padded, used

X = (torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)),)


def mapped(module: nn.Module, example: tuple[Tensor, ...] = X) -> dict[str, list[tuple[int, int]]]:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), module).eval()
    return {s.module: s.pairs() for s in shortcuts(model, example)}


def test_padding_shortcuts_are_found_and_mapped() -> None:
    found = shortcuts(used(Padded(2)), (torch.randn(2, 3, 8, 8),))
    assert {s.module: s.pairs() for s in found} == {
        "layer2.0.shortcut": [(i, i + 2) for i in range(4)],
        "layer3.0.shortcut": [(i, i + 4) for i in range(8)],
    }
    assert all(s.constant == () for s in found)
    assert {s.module: s.shape for s in found}["layer3.0.shortcut"] == (2, 16, 2, 2)


@pytest.mark.parametrize(
    ("function", "pairs"),
    [
        (lambda x: x.flip(1), [(0, 3), (1, 2), (2, 1), (3, 0)]),
        (lambda x: x[:, 1::2], [(1, 0), (3, 1)]),
        (lambda x: torch.cat([x, x[:, :1]], 1), [(0, 0), (0, 4), (1, 1), (2, 2), (3, 3)]),
        (lambda x: x.sum(1, keepdim=True), [(0, 0), (1, 0), (2, 0), (3, 0)]),
        (lambda x: F.pixel_shuffle(x, 2), [(0, 0), (1, 0), (2, 0), (3, 0)]),
    ],
)
def test_whatever_moves_channels_is_mapped(function, pairs: list[tuple[int, int]]) -> None:
    assert mapped(Lambda(function)) == {"1": pairs}


def test_torchs_own_shuffle_is_mapped() -> None:
    assert mapped(nn.ChannelShuffle(2)) == {"1": [(0, 0), (1, 2), (2, 1), (3, 3)]}


@pytest.mark.parametrize(
    "module",
    [
        nn.ReLU(),
        nn.Flatten(),
        nn.AvgPool2d(2),
        Lambda(lambda x: x * torch.sigmoid(x)),
        Lambda(lambda x: x.mean((2, 3))),
        Lambda(lambda x: x[:, :, ::2, ::2]),
    ],
)
def test_what_leaves_channels_alone_is_none(module: nn.Module) -> None:
    assert mapped(module) == {}


def test_what_counts_channels_by_heart_is_one() -> None:
    weight = torch.ones(4, 1, 2, 2)
    assert mapped(Lambda(lambda x: F.conv2d(x, weight, groups=4))) == {"1": [(i, i) for i in range(4)]}


def test_constants_are_told() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), Lambda(lambda x: F.pad(x, (0, 0, 0, 0, 1, 0), value=2.0)))
    (found,) = shortcuts(model.eval(), X)
    assert found.constant == (0,) and found.pairs() == [(i, i + 1) for i in range(4)]


def test_the_innermost_one_counts_and_a_rewired_one_is_whole() -> None:
    inner = Lambda(lambda x: x.flip(1))
    assert list(mapped(nn.Sequential(nn.ReLU(), inner))) == ["1.1"]
    rewired = Rewired(inner, range(4), (0, 2, 3), 4)
    assert mapped(rewired) == {"1": [(0, 2), (1, 1), (3, 0)]}


def test_modules_that_are_called_twice_are_none() -> None:
    both = Lambda(lambda x: x.flip(1))
    assert shortcuts(nn.Sequential(nn.Conv2d(4, 4, 1), both, nn.ReLU(), both), X) == []


def test_tokens_are_no_channels() -> None:
    x = (torch.randn(2, 5, 4),)
    tokens = nn.Sequential(nn.Linear(4, 4), Lambda(lambda t: t[:, 1:]))
    assert shortcuts(tokens, x) == []
    signal = nn.Sequential(nn.Conv1d(5, 5, 1), Lambda(lambda t: t[:, 1:]))
    assert [s.pairs() for s in shortcuts(signal, x)] == [[(i + 1, i) for i in range(4)]]


def test_many_channels_are_probed_by_parts() -> None:
    x = (torch.randn(1, 150, 2, 2),)
    model = nn.Sequential(nn.Conv2d(150, 150, 1, groups=150), Lambda(lambda t: t.roll(1, 1)))
    assert [s.pairs() for s in shortcuts(model, x)] == [[(i, (i + 1) % 150) for i in range(150)]]


def test_stand_ins_have_the_shapes_of_what_they_stand_for() -> None:
    model = used(Padded())
    x = (torch.randn(2, 3, 8, 8),)
    plain = copy.deepcopy(model)
    stood = replaced(plain, shortcuts(plain, x))
    assert isinstance(stood.get_submodule("layer2.0.shortcut"), nn.Conv1d)
    assert stood(*x).shape == model(*x).shape
    assert isinstance(model.get_submodule("layer2.0.shortcut"), Lambda)
