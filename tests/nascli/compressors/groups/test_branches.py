from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascli.compressors.groups.branches import blocks
from search_spaces.branches import skip
from search_spaces.groups import Groups


class Basic(nn.Module):
    """A ResNet's block as it is usually written: one activation, in place, used twice."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Conv2d(inputs, outputs, 1, stride) if inputs != outputs else shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.down is None else self.down(x)
        return self.relu(out)


class Mobile(nn.Module):
    """A block with its branch in one module, whose input may be negative."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(8, 24, 1), nn.ReLU6(True), nn.Conv2d(24, 8, 1), nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj, self.drop = nn.Linear(8, 24), nn.Linear(8, 8), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        return self.drop(self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c)))


class PreNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(8), Attention(), nn.LayerNorm(8)
        self.up, self.down, self.gamma = nn.Linear(8, 16), nn.Linear(16, 8), nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return torch.add(F.dropout(self.gamma * self.down(F.gelu(self.up(self.norm2(x)))), 0.1, self.training), x)


class Padding(nn.Module):
    """A shortcut without parameters that is no identity."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :4], (0, 0, 0, 0, 0, 4))


IMAGES = (torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0)),)
TOKENS = (torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)),)


def stirred(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if name.endswith("var") else torch.randn_like(tensor) * 0.4)
    return model.eval()


def agrees(model: nn.Module, groups: Groups, example: tuple[Tensor, ...]) -> None:
    """Each block: zero is the same as gone, in training too, and says something while it is neither."""
    whole = model(*example)
    for branch in groups.branches:
        silent, without = copy.deepcopy(model), copy.deepcopy(model)
        groups.scale_(dict(silent.named_parameters()), (torch.arange(len(groups)) != branch.owner).float())
        skip(without, branch.modules)
        torch.testing.assert_close(silent(*example), without(*example))
        assert not torch.allclose(silent(*example), whole)
        without.train()(*(t.clone().requires_grad_() for t in example)).square().sum().backward()


def test_residual_networks_of_convolutions() -> None:
    model = stirred(nn.Sequential(Basic(8, 8), Basic(8, 12, 2), Basic(12, 12, shortcut=nn.Identity())))
    groups = blocks(model, IMAGES)
    names = ("conv1", "bn1", "conv2", "bn2")
    assert [b.modules for b in groups.branches] == [tuple(f"{i}.{n}" for n in names) for i in (0, 2)]
    assert groups.axis.tolist() == [0, 0] and groups.names == ("blocks",)
    assert "something else" in groups.left_out["1.bn2"] and len(groups.left_out) == 1
    assert groups.counts(model.state_dict()).tolist() == [2 * 8 * 8 * 9 + 4 * 8, 2 * 12 * 12 * 9 + 4 * 12]
    agrees(model, groups, IMAGES)


def test_branches_in_one_module_are_that_module() -> None:
    model = stirred(nn.Sequential(Mobile(), Mobile()))
    groups = blocks(model, IMAGES)
    assert [b.modules for b in groups.branches] == [("0.conv",), ("1.conv",)] and not groups.left_out
    agrees(model, groups, IMAGES)


def test_transformers_have_two_branches_a_layer() -> None:
    model = stirred(nn.Sequential(PreNorm(), PreNorm(), nn.Linear(8, 3)))
    groups = blocks(model, TOKENS)
    mlp = ("norm2", "up", "down")
    wanted = [tuple(f"{i}.{n}" for n in names) for i in (0, 1) for names in (("norm1", "attention"), mlp)]
    assert [b.modules for b in groups.branches] == wanted and not groups.left_out
    assert {p.tensor for p in groups.parts if p.owners.flatten()[0] == 1} == {
        *(f"0.{name}.{kind}" for name in mlp for kind in ("weight", "bias")), "0.gamma"
    }  # fmt: skip
    agrees(model, groups, TOKENS)


def test_shortcuts_that_change_something_are_none() -> None:
    groups = blocks(stirred(nn.Sequential(Basic(8, 8, shortcut=Padding()))), IMAGES)
    assert len(groups) == 0 and "something else" in groups.left_out["0.bn2"]


def test_nothing_is_changed() -> None:
    model = stirred(nn.Sequential(Basic(8, 8), Mobile())).train()
    state = copy.deepcopy(model.state_dict())
    blocks(model, IMAGES)
    assert model.training and all(torch.equal(state[n], t) for n, t in model.state_dict().items())


class Sum(nn.Module):
    """`how` what comes in is joined with what layers make of it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.a, self.b, self.norm = how, nn.Linear(8, 8), nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.how == "used":
            return (x + self.b(y)) * y
        if self.how == "sigmoid":
            return x + self.sigmoid(self.b(y))
        if self.how == "unlearnt norm":
            return x + self.norm(self.b(y))
        if self.how == "twice":
            return x + self.a(self.b(y)) * self.a(x)
        return self.a(x + y)


@pytest.mark.parametrize(
    ("how", "layer", "reason"),
    [
        ("used", "b", "used elsewhere"),
        ("sigmoid", "b", "still adds"),
        ("unlearnt norm", "b", "still adds"),
        ("shared", "a", "used elsewhere"),
    ],
)
def test_what_is_no_branch_is_left_out(how: str, layer: str, reason: str) -> None:
    groups = blocks(stirred(Sum(how)), (torch.randn(3, 8),))
    assert len(groups) == 0 and list(groups.left_out) == [layer]
    assert reason in groups.left_out[layer]


def test_layers_used_twice_within_one_branch_are_its_own() -> None:
    model, example = stirred(Sum("twice")), (torch.randn(3, 8),)
    groups = blocks(model, example)
    assert len(groups) == 1 and sorted(groups.branches[0].modules) == ["a", "b"]
    agrees(model, groups, example)


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), Mobile1d(), nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Mobile1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x.add(self.layer(x))


def test_the_inner_of_two_branches_is_taken() -> None:
    groups = blocks(stirred(nn.Sequential(Nested())), TOKENS)
    assert [b.modules for b in groups.branches] == [("0.body.1.layer",)]
    assert "smaller" in groups.left_out["0.body"]


class Resizing(nn.Module):
    """Its branch has another shape on the way, by a function that stays when the layers are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.interpolate(self.two(self.one(x)), scale_factor=2.0)


def test_branches_that_cannot_be_skipped_are_left_out() -> None:
    groups = blocks(stirred(nn.Sequential(Resizing())), IMAGES)
    assert len(groups) == 0 and "does not run" in groups.left_out["0.two"]


class Choosing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced_has_no_blocks() -> None:
    groups = blocks(Choosing(), TOKENS)
    assert len(groups) == 0 and groups.names == () and "torch.fx" in groups.left_out["blocks"]
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert "torch.fx" in blocks(nn.Sequential(layer, nn.Linear(8, 8)), TOKENS).left_out["0"]
