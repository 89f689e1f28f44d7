import numpy as np
import pytest
import torch
from torch import Tensor, nn

from predictors.blocks import Feature, blocks, channels_last, features
from search_spaces.mobile import MobileSpace
from search_spaces.nb201 import Nb201Space
from search_spaces.resnet import ResNetSpace
from search_spaces.space import Batch
from tests.predictors.probes import Messages, Sentences, Shared, convolutional, images, made


def names(model: nn.Module) -> list[str]:
    return [name for name, _ in blocks(model)]


def test_blocks_of_nasbench201() -> None:
    space = Nb201Space(cells=2)
    model = space.build(space.parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"))
    cells = [f"body.stages.{s}.{c}" for s in range(3) for c in range(2)]
    assert names(model) == ["body.stem", *cells, "body.reductions.0", "body.reductions.1", "body.classifier"]
    found = features(model, images(2, size=32).inputs)
    order = ["stem", "stages.0.0", "stages.0.1", "reductions.0", "stages.1.0", "stages.1.1", "reductions.1"]
    assert [f.name for f in found] == [f"body.{name}" for name in [*order, "stages.2.0", "stages.2.1"]]
    assert [f.output.shape[1] for f in found] == [16] * 3 + [32] * 3 + [64] * 3


@pytest.mark.parametrize("space", [ResNetSpace(), MobileSpace()])
def test_blocks_of_residual_and_mobile_networks(space: ResNetSpace | MobileSpace) -> None:
    model = space.build(space.table.sample(np.random.default_rng(0)))
    found = [f.name for f in features(model, images(2, size=32).inputs)]
    inner = [f"stages.{s}.{b}" for s, stage in enumerate(model.stages) for b in range(len(stage))]  # type: ignore[arg-type]
    assert found == ["stem", *inner, *(["head"] if isinstance(space, MobileSpace) else [])]


def test_blocks_of_layers_in_a_row() -> None:
    assert names(made(convolutional)) == ["0", "3", "5", "6", "9", "12"]
    assert [f.name for f in features(made(convolutional), images().inputs)] == ["0", "3", "5", "6", "9"]


class Unit(nn.Module):
    """Two layers in a Sequential of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class Wrapped(nn.Module):
    """A backbone that holds the chain, and parts beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = Unit()
        self.backbone = nn.Module()
        self.backbone.first = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU())
        self.backbone.layers = nn.ModuleList([Unit(), nn.Sequential(Unit(), nn.Identity(), Unit())])
        self.drop, self.last = nn.Dropout(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone.first(self.embed(x))  # type: ignore[operator]
        for layer in self.backbone.layers:  # type: ignore[union-attr]
            x = layer(x)
        out: Tensor = self.last(self.drop(x))
        return out


def test_wrappers_are_looked_into_and_blocks_are_not() -> None:
    expected = ["embed", "backbone.first", "backbone.layers.0", "backbone.layers.1.0", "backbone.layers.1.2", "last"]
    assert names(Wrapped()) == expected
    found = features(Wrapped(), (torch.ones(3, 4),))
    assert [f.name for f in found] == expected[:-1]
    assert all(f.output.requires_grad for f in found)


def test_a_chain_can_be_the_whole_network() -> None:
    assert names(nn.Sequential(Unit(), nn.ReLU(), Unit())) == ["0", "2"]
    assert names(nn.ModuleList([Unit()])) == ["0"]
    assert names(nn.ReLU()) == []


def test_a_block_used_three_times_has_three_features() -> None:
    found = [f.name for f in features(made(Shared), images().inputs)]
    assert found == ["first", "again", "again", "again", "a", "b"]


def test_what_returns_the_output_is_no_block_and_hooks_go() -> None:
    model = made(Messages)
    batch = Batch((torch.ones(3, 5), torch.tensor([[0], [1]])), torch.zeros(3).long())
    assert [f.name for f in features(model, batch.inputs)] == ["first", "second"]
    assert [f.name for f in features(made(Sentences), (torch.ones(2, 3).long(),))] == ["query", "key", "value"]
    assert not any(part._forward_hooks for part in model.modules())


def test_where_channels_are() -> None:
    def last(part: nn.Module, *shape: int) -> list[int]:
        return list(channels_last(Feature("", part, torch.empty(0)), torch.empty(*shape)).shape)

    assert last(nn.Conv2d(1, 1, 1), 2, 3, 4, 5) == [2, 4, 5, 3]
    assert last(nn.Linear(1, 1), 2, 3) == [2, 3]
    assert last(nn.Linear(1, 1), 2, 3, 4) == [2, 3, 4]
    assert last(nn.Sequential(nn.Conv1d(1, 1, 1)), 2, 3, 4) == [2, 4, 3]
