from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascli.compressors.groups.heads import heads
from search_spaces.attention import HeadAttention, keep_heads
from search_spaces.groups import Groups


class Own(nn.Module):
    """Attention of a user's own; `order` is that of queries, keys and values and heads in its layer."""

    def __init__(self, order: str = "kind, head", *, fixed: bool = False, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.order, self.width = heads, order, 8 if fixed else -1
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        kind_first = self.order == "kind, head"
        shape = (3, self.heads, -1) if kind_first else (self.heads, 3, -1)
        q, k, v = self.qkv(x).unflatten(-1, shape).unbind(-3 if kind_first else -2)  # [n, tokens, heads, head_dim]
        mixed = F.scaled_dot_product_attention(*(t.transpose(-3, -2) for t in (q, k, v))).transpose(-3, -2)
        return self.proj(mixed.reshape(*x.shape[:-1], self.width))


class Net(nn.Module):
    def __init__(self, *attention: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(attention)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + (layer(x, x, x)[0] if isinstance(layer, nn.MultiheadAttention | HeadAttention) else layer(x))
        return x


EXAMPLE = (torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)),)


def net(*attention: nn.Module) -> nn.Module:
    made = Net(*attention).eval()
    for p in made.parameters():
        nn.init.normal_(p, std=0.3)
    return made


def killed(model: nn.Module, groups: Groups, dead: list[int]) -> nn.Module:
    model = copy.deepcopy(model)
    factors = torch.ones(len(groups)).index_fill(0, torch.tensor(dead), 0)
    groups.scale_(dict(model.named_parameters()), factors)
    return model


def test_owners_of_torchs_attention_by_hand() -> None:
    groups = heads(net(nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 4, bias=False)), EXAMPLE)
    assert groups.axis.tolist() == [0, 0, 1, 1, 1, 1] and groups.names == ("layers.0", "layers.1")
    assert [(h.module, h.owners.tolist()) for h in groups.heads] == [("layers.0", [0, 1]), ("layers.1", [2, 3, 4, 5])]
    owners = {p.tensor: p.owners for p in groups.parts}
    assert owners["layers.0.in_proj_bias"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1] * 3
    assert owners["layers.1.in_proj_weight"].flatten().tolist() == [2, 2, 3, 3, 4, 4, 5, 5] * 3
    assert owners["layers.1.out_proj.weight"].tolist() == [[2, 2, 3, 3, 4, 4, 5, 5]]
    assert set(owners) & {"layers.0.out_proj.bias", "layers.1.in_proj_bias"} == set()
    # Of each head 3 x 4 rows of 8 and a bias, and 4 columns of 8; in the second 3 x 2 rows of 8, and 2 columns of 8.
    tensors = net(nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 4, bias=False)).state_dict()
    assert groups.counts(tensors).tolist() == [12 * 9 + 32] * 2 + [6 * 8 + 16] * 4
    assert groups.removable


@pytest.mark.parametrize("make", [lambda: nn.MultiheadAttention(8, 2, batch_first=True), Own], ids=["torch", "own"])
def test_a_dead_head_is_one_that_is_not_there(make) -> None:
    model = net(make(), make())
    groups = heads(model, EXAMPLE)
    assert len(groups) == 4 and not groups.left_out
    silent, fewer = killed(model, groups, [1, 2]), copy.deepcopy(model)
    keep_heads(fewer, "layers.0", [0])
    keep_heads(fewer, "layers.1", [1])
    torch.testing.assert_close(silent(*EXAMPLE), fewer(*EXAMPLE))
    assert not torch.allclose(silent(*EXAMPLE), model(*EXAMPLE))


def test_heads_can_be_found_again_in_what_is_left() -> None:
    model = net(nn.MultiheadAttention(8, 4, batch_first=True))
    keep_heads(model, "layers.0", [0, 1, 3])
    groups = heads(model, EXAMPLE)
    assert groups.heads[0].owners.tolist() == [0, 1, 2]
    silent = killed(model, groups, [1])
    keep_heads(model, "layers.0", [0, 2])
    torch.testing.assert_close(silent(*EXAMPLE), model(*EXAMPLE))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = 4, 2
        self.q, self.k, self.v, self.out = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.q(x))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Own("head, kind"), "something else|does not run"),
        (Own(fixed=True), "does not run"),
        (Own(heads=1), "one head"),
        (Grouped(), "one width"),
        (nn.MultiheadAttention(8, 2, add_bias_kv=True), "add_bias_kv"),
    ],
    ids=["order", "fixed", "one", "grouped", "added"],
)
def test_what_has_no_removable_heads_is_left_out(layer: nn.Module, reason: str) -> None:
    model = net(layer, nn.MultiheadAttention(8, 2))
    state = copy.deepcopy(model.state_dict())
    groups = heads(model, EXAMPLE)
    assert groups.names == ("layers.1",) and list(groups.left_out) == ["layers.0"]
    assert re.search(reason, groups.left_out["layers.0"])
    assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())


def test_shared_parameters_and_idle_modules_are_left_out() -> None:
    one, other = nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 2)
    model = net(one, other)
    other.in_proj_weight = one.in_proj_weight
    model.idle = Own()
    groups = heads(model, EXAMPLE)
    assert len(groups) == 0 and not groups.removable
    assert "shares" in groups.left_out["layers.0"] and "not reached" in groups.left_out["idle"]


def test_a_network_without_attention_has_none() -> None:
    groups = heads(nn.Linear(8, 8), EXAMPLE)
    assert len(groups) == 0 and not groups.left_out


def test_attention_alone_is_left_out() -> None:
    assert "wrap it" in heads(nn.MultiheadAttention(8, 2), EXAMPLE * 3).left_out[""]
