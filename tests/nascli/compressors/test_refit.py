import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascli.compressors import refit as module
from nascli.compressors.refit import refit
from search_spaces.keep import Keep
from search_spaces.space import Batch


class Net(nn.Module):
    """Two convolutions; channel 0 of the first one computes what channel 2 does, but for a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 3, 3, padding=1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.b = nn.Conv2d(3, 4, 3, dilation=2)
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.a.weight[0] = 2 * self.a.weight[2]
            self.norm.running_mean[0] = self.norm.running_mean[2] = 0  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(F.relu(self.norm(self.a(x)))).mean((2, 3)))


WITHOUT_2 = Keep(
    {
        "a.weight": {0: (0, 1)},
        **{f"norm.{t}": {0: (0, 1)} for t in ("weight", "bias", "running_mean", "running_var")},
        "b.weight": {1: (0, 1)},
    }
)


def cut(teacher: nn.Module, edit: Keep) -> nn.Module:
    return edit.apply(copy.deepcopy(teacher)).eval()


def batches(*shape: int, count: int = 3) -> list[Batch]:
    draw = torch.Generator().manual_seed(1)
    return [Batch((torch.randn(16, *shape, generator=draw),), torch.zeros(16, dtype=torch.int64)) for _ in range(count)]


def off(a: nn.Module, b: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((a(x) - b(x)).abs().max())


def test_what_another_channel_also_knows_is_made_up_for() -> None:
    torch.manual_seed(0)
    teacher = Net().eval()
    small = cut(teacher, WITHOUT_2)
    x = torch.randn(4, 2, 16, 16)
    before = off(small, teacher, x)
    assert refit(small, teacher, WITHOUT_2, batches(2, 16, 16)) == 3
    assert before > 0.01 and off(small, teacher, x) < 0.1 * before


def test_normalisation_is_the_teachers_again_and_modes_stay() -> None:
    torch.manual_seed(0)
    teacher = Net().eval()
    small = cut(teacher, WITHOUT_2).train()
    norm = small.get_submodule("norm")
    with torch.no_grad():
        norm.weight.add_(1.0)  # type: ignore[union-attr, operator]
    refit(small, teacher, WITHOUT_2, batches(2, 16, 16))
    assert torch.equal(norm.weight, teacher.norm.weight[:2]) and small.training and not teacher.training  # type: ignore[union-attr, index]
    assert torch.equal(norm.running_var, teacher.norm.running_var[:2])  # type: ignore[union-attr, index]


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=True), (4, 7, 6)),
        (lambda: nn.Conv2d(4, 4, (1, 3), padding=(0, 2), stride=(1, 2), groups=4), (4, 5, 8)),
        (lambda: nn.Linear(5, 3), (7, 5)),
        (lambda: nn.Linear(5, 3, bias=False), (5,)),
    ],
)
def test_a_layer_of_whatever_form_finds_its_own_weights_again(
    make: Callable[[], nn.Module], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RIDGE", 1e-6)
    torch.manual_seed(0)
    teacher = nn.Sequential(make())
    other = nn.Sequential(make())
    assert refit(other, teacher, Keep(), batches(*shape)) == 1
    for mine, theirs in zip(other.parameters(), teacher.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-3)


def test_the_more_it_is_held_the_less_a_layer_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    for ridge in (1e-3, 1.0, 1e6):
        monkeypatch.setattr(module, "RIDGE", ridge)
        torch.manual_seed(0)
        teacher, other = nn.Sequential(nn.Linear(5, 3)), nn.Sequential(nn.Linear(5, 3))
        before = copy.deepcopy(other)
        refit(other, teacher, Keep(), batches(5))
        moved.append(float((other[0].weight - before[0].weight).detach().norm()))  # type: ignore[operator]
    assert moved[0] > moved[1] > moved[2] and moved[2] < 1e-3


def test_layers_that_run_twice_and_odd_paddings_are_left_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.again = nn.Linear(4, 4)
            self.same = nn.Conv1d(1, 1, 1)
            self.odd = nn.Conv2d(1, 1, 3, padding="same")

        def forward(self, x: Tensor) -> Tensor:
            return self.odd(self.same(self.again(self.again(x))[:, None])[:, None])

    teacher, other = Twice(), Twice()
    before = copy.deepcopy(other.state_dict())
    assert refit(other, teacher, Keep(), batches(4)) == 0
    assert all(torch.equal(t, before[name]) for name, t in other.state_dict().items())


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    teacher, other = nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 2))
    zeros = [Batch((torch.zeros(8, 3),), torch.zeros(8, dtype=torch.int64))]
    refit(other, teacher, Keep(), zeros)
    assert all(torch.isfinite(p).all() for p in other.parameters())
    assert torch.allclose(other[0].bias, teacher[0].bias, atol=0.1)  # type: ignore[arg-type]
