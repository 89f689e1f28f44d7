import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascli.compressors.features import Features, channels_of
from search_spaces.keep import Keep

EDIT = Keep(
    {
        "conv.weight": {0: (0, 2)},
        "conv.bias": {0: (0, 2)},
        "norm.weight": {0: (0, 2)},
        "norm.bias": {0: (0, 2)},
        "norm.running_mean": {0: (0, 2)},
        "norm.running_var": {0: (0, 2)},
        "head.weight": {1: (0, 2)},
    }
)


class Net(nn.Module):
    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.act = nn.ReLU(inplace=inplace)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.norm(self.conv(x))).mean((2, 3)))


def pair(*, inplace: bool = False) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    teacher = Net(inplace=inplace).eval()
    return EDIT.apply(copy.deepcopy(teacher)), teacher, torch.randn(4, 1, 5, 5)


def test_channels_that_are_left_are_compared_with_their_own() -> None:
    model, teacher, x = pair()
    features = Features(model, teacher, EDIT)
    with torch.no_grad():
        model.get_submodule("norm").bias.add_(0.5)  # type: ignore[union-attr, operator]
        mine = model.norm(model.conv(x))  # type: ignore[operator]
        taught = teacher.norm(teacher.conv(x))[:, [0, 2]]  # type: ignore[operator]
        model(x)
        teacher(x)
    assert features.loss().item() == pytest.approx(float(0.25 / taught.square().mean()), rel=1e-4)
    assert F.mse_loss(mine, taught).item() == pytest.approx(0.25, rel=1e-4)


def test_a_copy_has_nothing_to_learn() -> None:
    model, teacher, x = pair()
    features = Features(model, teacher, EDIT)
    model(x)
    teacher(x)
    assert features.loss().item() < 1e-10


@pytest.mark.parametrize("inplace", [False, True])
def test_gradients_reach_the_model_and_not_the_teacher(inplace: bool) -> None:
    model, teacher, x = pair(inplace=inplace)
    model.train()
    teacher.requires_grad_(False)
    features = Features(model, teacher, EDIT)
    model(x)
    with torch.no_grad():
        teacher(x)
    features.loss().backward()
    assert model.get_parameter("conv.weight").grad is not None
    assert model.get_parameter("head.weight").grad is None
    assert all(p.grad is None for p in teacher.parameters())


def test_a_layer_norm_is_read_along_its_last_dimension() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.norm = nn.Linear(2, 4), nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.lift(x))

    torch.manual_seed(0)
    teacher = Tokens()
    model = copy.deepcopy(teacher)
    with torch.no_grad():
        model.norm.bias.add_(1.0)
    features = Features(model, teacher, Keep())
    x = torch.randn(3, 5, 2)
    with torch.no_grad():
        model(x)
        taught = teacher(x)
    assert features.loss().item() == pytest.approx(float(1 / taught.square().mean()), rel=1e-4)


def test_networks_without_normalisation_have_no_features() -> None:
    model, x = nn.Linear(2, 2), torch.randn(3, 2)
    features = Features(model, copy.deepcopy(model), Keep())
    model(x)
    assert features.loss().item() == 0.0


def test_what_was_read_is_forgotten() -> None:
    model, teacher, x = pair()
    features = Features(model, teacher, EDIT)
    model(x)
    teacher(x)
    features.loss()
    assert features.loss().item() == 0.0


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_channels_are_taken_out_in_the_memory_format_they_are_in(memory_format: torch.memory_format) -> None:
    images = torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=memory_format)
    taken = channels_of(images, torch.tensor([0, 2]), 1)
    assert torch.equal(taken, images[:, [0, 2]]) and taken.is_contiguous(memory_format=memory_format)
