from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nascli.engine.network import Network, restore
from search_spaces.errors import SpaceError
from search_spaces.keep import Keep
from search_spaces.rewired import Rewired
from tests.toy_prunable import Lambda
from tests.toys import TABLE, ToySpace

ARCH = TABLE.parse("toy:1/4,plain/-/-")
FULL = Keep(
    cuts={"a.weight": {0: (0, 2), 1: (1,)}, "a.bias": {0: (0, 2)}},
    borders={"pad": {"inputs": (0, 2), "outputs": (1,), "of": (4,)}},
    heads={"attention": (0, 3)},
    branches=(("x", "y"), ("z",)),
)


def cut(layer: nn.Module, **kept: dict[int, tuple[int, ...]]) -> nn.Module:
    model = nn.Sequential(layer, nn.Identity())
    Keep({f"0.{name}": dims for name, dims in kept.items()}).apply(model)
    return model[0]


def test_a_linear_layer_by_hand() -> None:
    layer = nn.Linear(3, 4)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    small = cut(layer, weight={0: (1, 3), 1: (0, 2)}, bias={0: (1, 3)})
    assert torch.equal(small.weight, weight[[1, 3]][:, [0, 2]]) and torch.equal(small.bias, bias[[1, 3]])
    assert (small.in_features, small.out_features) == (2, 2) and isinstance(small.weight, nn.Parameter)


def test_frozen_parameters_stay_frozen_and_types_stay() -> None:
    layer = nn.Linear(3, 4).double().requires_grad_(False)
    small = cut(layer, weight={0: (1,)}, bias={0: (1,)})
    assert not small.weight.requires_grad and small.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("layer", "kept", "expected"),
    [
        (nn.Conv2d(4, 6, 3), {"weight": {0: (0, 5), 1: (1, 2, 3)}, "bias": {0: (0, 5)}}, (3, 2, 1)),
        (nn.ConvTranspose2d(4, 6, 3), {"weight": {0: (1, 2, 3), 1: (0, 5)}, "bias": {0: (0, 5)}}, (3, 2, 1)),
        (nn.Conv1d(8, 12, 3, groups=4), {"weight": {0: (0, 3, 6, 9), 1: (1,)}, "bias": {0: (0, 3, 6, 9)}}, (4, 4, 4)),
        (nn.Conv2d(6, 6, 3, groups=6), {"weight": {0: (1, 4)}, "bias": {0: (1, 4)}}, (2, 2, 2)),
        (nn.Conv2d(3, 6, 3, groups=3), {"weight": {0: (2, 3)}, "bias": {0: (2, 3)}}, (1, 2, 1)),
        (nn.Conv2d(6, 3, 3, groups=3), {"weight": {0: (0, 2)}, "bias": {0: (0, 2)}}, (4, 2, 2)),
        (nn.ConvTranspose2d(4, 4, 2, groups=4), {"weight": {0: (1, 3)}, "bias": {0: (1, 3)}}, (2, 2, 2)),
        (
            nn.ConvTranspose2d(4, 12, 2, groups=2),
            {"weight": {0: (0, 2), 1: (0, 1)}, "bias": {0: (0, 1, 6, 7)}},
            (2, 4, 2),
        ),
    ],
)
def test_convolutions_know_what_they_are(layer, kept, expected: tuple[int, int, int]) -> None:
    dims = layer.weight.dim() - 2
    small = cut(layer, **kept)
    assert (small.in_channels, small.out_channels, small.groups) == expected
    assert small(torch.randn(2, expected[0], *[5] * dims)).shape[1] == expected[1]


def test_grouped_convolutions_refuse_a_part_of_a_group() -> None:
    with pytest.raises(SpaceError, match="whole groups"):
        cut(nn.Conv2d(3, 6, 3, groups=3, bias=False), weight={0: (0, 1, 2)})
    with pytest.raises(SpaceError, match="4 groups"):
        cut(nn.Conv2d(8, 12, 3, groups=4, bias=False), weight={0: (0, 1, 2)})


def test_normalisations_count_along() -> None:
    four = {"weight": {0: (0, 2)}, "bias": {0: (0, 2)}}
    stats = {"running_mean": {0: (0, 2)}, "running_var": {0: (0, 2)}}
    norm = cut(nn.BatchNorm2d(4), **four, **stats)
    assert norm.num_features == 2 and norm.running_var.shape == (2,)
    assert set(dict(norm.named_buffers())) == {"running_mean", "running_var", "num_batches_tracked"}
    assert cut(nn.BatchNorm1d(4, affine=False), **stats).num_features == 2
    assert cut(nn.InstanceNorm2d(4, affine=True), **four).num_features == 2
    assert (group := cut(nn.GroupNorm(4, 4), **four)).num_groups == group.num_channels == 2
    assert cut(nn.GroupNorm(2, 4), **four).num_groups == 2
    assert cut(nn.LayerNorm(4), **four).normalized_shape == (2,)
    assert cut(nn.PReLU(4), weight={0: (1, 2, 3)}).num_parameters == 3
    assert cut(nn.Embedding(7, 4), weight={1: (1, 2)}).embedding_dim == 2


def test_parameters_of_the_model_itself() -> None:
    model = nn.Module()
    model.scale = nn.Parameter(torch.arange(3.0).view(3, 1, 1))
    Keep({"scale": {0: (0, 2)}}).apply(model)
    assert model.scale.flatten().tolist() == [0, 2]


def test_shared_tensors_stay_shared() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    model[1].weight = model[0].weight
    Keep({"0.weight": {1: (0, 3)}}).apply(model)
    assert model[0].weight is model[1].weight and model[1].in_features == 2
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    model[1].weight = model[0].weight
    Keep({"0.weight": {1: (0, 3)}, "1.weight": {1: (0, 3)}}).apply(model)
    assert model[0].weight is model[1].weight and model[1].weight.shape == (5, 2)


def padding() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), Lambda(lambda x: F.pad(x, (0, 0, 0, 0, 1, 1))), nn.Conv2d(6, 2, 1))


def test_borders_are_rewired_and_compose() -> None:
    torch.manual_seed(0)
    model, x = padding(), torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        for dead in (0, 2):
            model[0].weight[dead], model[0].bias[dead] = 0, 0
    expected = model(x)
    rows = {"0.weight": {0: (1, 2, 3)}, "0.bias": {0: (1, 2, 3)}, "2.weight": {1: (0, 2, 3, 4, 5)}}
    first = Keep(rows, {"1": {"inputs": (1, 2, 3), "outputs": (0, 2, 3, 4, 5), "of": (4,)}})
    model = first.apply(model)
    torch.testing.assert_close(model(x), expected)
    # Counted among those that are left: channel 2 is the second of three, and the third of five behind the border.
    rows = {"0.weight": {0: (0, 2)}, "0.bias": {0: (0, 2)}, "2.weight": {1: (0, 1, 3, 4)}}
    model = Keep(rows, {"1": {"inputs": (0, 2), "outputs": (0, 1, 3, 4), "of": (3,)}}).apply(model)
    torch.testing.assert_close(model(x), expected)
    assert isinstance(model[1], Rewired) and isinstance(model[1].inner, Lambda)
    assert (model[1].inputs, model[1].outputs, model[1].of) == ((1, 3), (0, 2, 4, 5), 4)


def test_bare_normalisations_are_counted_not_wrapped() -> None:
    model = nn.Sequential(nn.InstanceNorm2d(4), nn.GroupNorm(4, 4, affine=False))
    same = {"inputs": (0, 2, 3), "outputs": (0, 2, 3), "of": (4,)}
    Keep(borders={"0": same, "1": same}).apply(model)
    assert model[0].num_features == 3 and model[1].num_groups == model[1].num_channels == 3
    assert model(torch.randn(2, 3, 5, 5)).shape == (2, 3, 5, 5)


def test_branches_and_heads_go() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.attention(x, x, x, need_weights=False)[0] + self.b(torch.relu(self.a(x)))

    model, x = Block().eval(), torch.randn(2, 3, 4)
    with torch.no_grad():
        model.attention.out_proj.weight[:, :2] = 0
        expected = x + model.attention(x, x, x, need_weights=False)[0]
    small = Keep(heads={"attention": (1,)}, branches=(("a", "b"),)).apply(model)
    torch.testing.assert_close(small(x), expected)
    assert not any(name.startswith(("a.", "b.")) for name in small.state_dict())


def test_it_survives_json_with_its_key() -> None:
    network = Network(ARCH, (FULL, Keep()), tag="t")
    described = json.loads(json.dumps(network.describe()))
    again = restore(described, ToySpace())
    assert again == network and again.edits == network.edits and again.key == network.key
    assert described["edits"][0]["edit"] == "keep"
    assert set(again.edits[0].cuts["a.weight"]) == {0, 1}  # type: ignore[attr-defined]
    assert Network(ARCH, (Keep(),)).key != Network(ARCH, (FULL,)).key != Network(ARCH).key


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Keep({"b.weight": {0: (0,)}}), "no module 'b'"),
        (Keep({"0.scale": {0: (0,)}}), "no tensor '0.scale'"),
        (Keep({"0.weight": {0: (0, 9)}}), "'0.weight' is 4x3, so it has no index 9 along dimension 0"),
        (Keep({"0.weight": {2: (0,)}}), "'0.weight' is 4x3"),
        (Keep(borders={"pad": {"inputs": (0,), "outputs": (0,), "of": (1,)}}), "no module 'pad'"),
        (Keep(heads={"attention": (0,)}), "attention"),
        (Keep(branches=(("block",),)), "block"),
    ],
)
def test_names_that_are_not_in_the_network(edit: Keep, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        edit.apply(nn.Sequential(nn.Linear(3, 4)))


def test_nothing_changes_nothing_and_keeps_hash() -> None:
    model = padding()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    same = Keep().apply(model)
    assert same is model and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert hash(FULL) == hash(FULL) and FULL.name == "keep"
