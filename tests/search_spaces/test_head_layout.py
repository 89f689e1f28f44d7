from __future__ import annotations

import pytest
import torch
from torch import nn

from search_spaces.errors import SpaceError
from search_spaces.head_attention import HeadAttention
from search_spaces.head_layout import attention_modules, layout


def own(layers: dict[str, tuple[int, int]], **attributes) -> nn.Module:
    """A module with these attributes and nn.Linear (inputs, outputs)."""
    module = nn.Module()
    for name, (inputs, outputs) in layers.items():
        module.add_module(name, nn.Linear(inputs, outputs))
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def owners(module: nn.Module) -> dict[str, tuple[int, list[int]]]:
    return {s.tensor: (s.dim, s.heads.tolist()) for s in layout(module).shares}


def test_torch_packs_queries_keys_and_values() -> None:
    assert owners(nn.MultiheadAttention(4, 2)) == {
        "in_proj_weight": (0, [0, 0, 1, 1] * 3),
        "in_proj_bias": (0, [0, 0, 1, 1] * 3),
        "out_proj.weight": (1, [0, 0, 1, 1]),
    }


def test_torch_keeps_them_apart_where_widths_differ() -> None:
    made = nn.MultiheadAttention(4, 2, bias=False, kdim=3)
    rows = (0, [0, 0, 1, 1])
    wanted = {f"{letter}_proj_weight": rows for letter in "qkv"} | {"out_proj.weight": (1, [0, 0, 1, 1])}
    assert owners(made) == wanted
    assert owners(HeadAttention(made, (1,)))["k_proj_weight"] == (0, [0, 0])


@pytest.mark.parametrize(
    "layers",
    [
        {"qkv": (5, 12), "proj": (4, 5)},
        {"Wqkv": (5, 12), "out": (4, 5)},
        {"to_q": (5, 4), "to_kv": (6, 8), "to_out": (4, 5)},
        {"q_proj": (5, 4), "k_proj": (5, 4), "v_proj": (5, 4), "o_proj": (4, 5)},
        {"query": (4, 4), "key": (4, 4), "value": (4, 4), "dense": (4, 4)},
        {"wq": (4, 4), "wk": (4, 4), "wv": (4, 4), "wo": (4, 4)},
        {"c_attn": (4, 12), "c_proj": (4, 4)},
    ],
    ids=lambda layers: next(iter(layers)),
)
def test_layers_of_a_users_own_are_known_by_name_and_size(layers: dict[str, tuple[int, int]]) -> None:
    found = owners(own(layers, num_heads=2))
    *inputs, output = layers
    assert found.pop(f"{output}.weight") == (1, [0, 0, 1, 1])
    assert set(found) == {f"{name}.{kind}" for name in inputs for kind in ("weight", "bias")}
    for name in inputs:
        times = layers[name][1] // 4
        assert found[f"{name}.weight"] == found[f"{name}.bias"] == (0, [0, 0, 1, 1] * times)


def test_attributes_that_follow() -> None:
    made = own({"qkv": (6, 18), "proj": (6, 6)}, n_head=3, heads=3, kv_heads=3, all_head_size=6, embed_dim=6, depth=3)
    found = layout(made)
    assert (set(found.counts), found.widths) == ({"n_head", "heads", "kv_heads"}, ("all_head_size",))


@pytest.mark.parametrize(
    ("layers", "attributes", "reason"),
    [
        ({"qkv": (4, 12), "proj": (4, 4)}, {}, "no number of heads"),
        ({"qkv": (4, 12), "proj": (4, 4)}, {"heads": True}, "no number of heads"),
        ({"qkv": (4, 12), "proj": (4, 4)}, {"heads": 3}, "not divisible"),
        ({"qkv": (4, 12)}, {"heads": 2}, "0 nn.Linear"),
        ({"qkv": (4, 12), "a": (4, 4), "b": (4, 4)}, {"heads": 2}, "2 nn.Linear"),
        ({"a": (4, 5), "b": (5, 4)}, {"heads": 2}, "no nn.Linear whose name"),
        ({"q": (4, 8), "k": (4, 2), "v": (4, 2), "out": (8, 4)}, {"heads": 4}, "one width"),
        ({"qkv": (4, 12), "proj": (4, 4)}, {"heads": 2, "n_kv_heads": 1}, "share keys"),
    ],
)
def test_what_cannot_be_told_is_said(layers: dict, attributes: dict, reason: str) -> None:
    with pytest.raises(SpaceError, match=reason):
        layout(own(layers, **attributes))


def test_the_inner_module_counts() -> None:
    inner = own({"qkv": (4, 12), "proj": (4, 4)}, heads=2)
    block = own({}, num_heads=2)
    block.add_module("attention", inner)
    block.add_module("other", nn.MultiheadAttention(4, 2))
    model = nn.Sequential(block, nn.TransformerEncoderLayer(4, 2), nn.Linear(4, 4))
    assert list(attention_modules(model)) == ["0.attention", "0.other", "1.self_attn"]


def test_what_computes_something_else_is_not_torchs() -> None:
    class Other(nn.MultiheadAttention):
        def forward(self, *inputs, **named):
            return torch.zeros(()), None

    with pytest.raises(SpaceError):
        layout(Other(4, 2))
