from __future__ import annotations

import pytest
import torch
from torch import nn

from nascli.compressors.groups import members
from nascli.compressors.groups.members import Member


def shares(layer, side) -> dict[str, tuple[int, int, str]]:
    found = members.members(layer, side)
    assert len({m.tensor for m in found}) == len(found)
    for m in found:
        tensor = layer if not m.tensor else getattr(layer, m.tensor)
        assert (m.rank, m.size) == (tensor.dim(), tensor.shape[m.dim])
    return {m.tensor: (m.dim, m.size, m.role) for m in found}


def test_what_layers_have_of_their_channels() -> None:
    conv = nn.Conv2d(4, 6, 3)
    assert shares(conv, "out") == {"weight": (0, 6, "makes"), "bias": (0, 6, "makes")}
    assert shares(conv, "in") == {"weight": (1, 4, "reads")}
    assert shares(nn.ConvTranspose2d(4, 6, 3, bias=False), "out") == {"weight": (1, 6, "makes")}
    assert shares(nn.ConvTranspose2d(4, 6, 3), "in") == {"weight": (0, 4, "reads")}
    assert shares(nn.Linear(4, 6, bias=False), "out") == {"weight": (0, 6, "makes")}
    assert shares(nn.Linear(4, 6), "in") == {"weight": (1, 4, "reads")}
    assert shares(nn.Embedding(9, 4), "both") == {"weight": (1, 4, "makes")}
    assert shares(nn.PReLU(4), "both") == {"weight": (0, 4, "follows")}
    assert shares(nn.PReLU(), "both") == {}
    assert shares(nn.Parameter(torch.ones(1, 4, 1)), "both") == {"": (1, 4, "makes")}
    norm = shares(nn.BatchNorm1d(4), "both")
    assert {n for n, m in norm.items() if m[2] == "makes"} == {"weight", "bias"}
    assert {n for n, m in norm.items() if m[2] == "follows"} == {"running_mean", "running_var"}
    assert set(shares(nn.BatchNorm1d(4, affine=False), "both")) == {"running_mean", "running_var"}
    assert members.members(nn.ReLU(), "both") == ()


def test_grouped_convolutions_keep_their_places_and_depthwise_ones_their_rows() -> None:
    grouped = nn.Conv2d(8, 12, 1, groups=4)
    assert shares(grouped, "in")["weight"] == (1, 2, "reads")
    assert shares(grouped, "out")["weight"] == (0, 12, "makes")
    tied = set(members.ties(grouped))
    assert (("in", 1), ("in", 7)) in tied and (("out", 2), ("out", 11)) in tied
    assert len(tied) == 3 * 2 + 3 * 3
    depthwise = nn.Conv2d(4, 8, 3, groups=4)
    assert members.whole_groups(depthwise) and not members.produces(depthwise)
    assert shares(depthwise, "in") == {} and shares(depthwise, "out")["weight"] == (0, 8, "makes")
    assert set(members.ties(depthwise)) == {(("in", j), ("out", 2 * j + k)) for j in range(4) for k in range(2)}
    single = nn.Conv2d(6, 3, 1, groups=3)
    ties = {(("in", 0), ("in", 1)), (("in", 0), ("out", 0))}
    assert {t for t in members.ties(single) if t[0] == ("in", 0)} == ties
    turned = nn.ConvTranspose2d(4, 4, 2, groups=4)
    assert shares(turned, "in")["weight"] == (0, 4, "makes") and set(shares(turned, "out")) == {"bias"}
    assert list(members.ties(nn.Conv2d(4, 4, 1))) == []


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.LayerNorm(4), "normalised together"),
        (nn.RMSNorm(4), "normalised together"),
        (nn.GroupNorm(2, 4), "in groups"),
        (nn.GroupNorm(4, 4), ""),
        (nn.MultiheadAttention(4, 2), "attention"),
        (nn.GRU(4, 4), "recurrent"),
        (nn.BatchNorm2d(4), ""),
        (nn.Linear(4, 4), ""),
    ],
)
def test_layers_that_mix_channels_say_so(layer: nn.Module, why: str) -> None:
    assert (why in members.mixes(layer)) if why else members.mixes(layer) == ""


def test_widths() -> None:
    assert members.width(nn.Linear(3, 5), "in") == 3 and members.width(nn.Linear(3, 5), "out") == 5
    assert members.width(nn.Conv1d(3, 6, 1, groups=3), "in") == 3
    assert members.width(nn.LayerNorm((2, 7)), "both") == 7
    assert members.width(nn.PReLU(), "both") is None and members.width(nn.ReLU(), "both") is None
    assert members.width(nn.MultiheadAttention(6, 2), "both") == members.width(nn.Embedding(9, 6), "both") == 6


def test_normalisations_without_tensors_are_bare() -> None:
    assert members.bare(nn.InstanceNorm2d(4)) and members.bare(nn.GroupNorm(4, 4, affine=False))
    assert not members.bare(nn.InstanceNorm2d(4, affine=True)) and not members.bare(nn.GroupNorm(2, 4, affine=False))
    assert not members.bare(nn.ReLU()) and isinstance(members.members(nn.Linear(1, 1), "in")[0], Member)
