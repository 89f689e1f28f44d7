from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from search_spaces.branches import Zeros, put_instead, skip
from search_spaces.errors import SpaceError


class Block(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act = nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), act
        self.conv2, self.bn2 = nn.Conv2d(8, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x))))))


ORDER = ("conv1", "bn1", "conv2", "bn2")


def test_a_skipped_branch_adds_nothing() -> None:
    model, x = nn.Sequential(Block(nn.ReLU())), torch.randn(2, 4, 5, 5)
    skip(model, [f"0.{name}" for name in ORDER])
    assert torch.equal(model(x), x.relu()) and not list(model.parameters())
    assert [type(getattr(model[0], n)).__name__ for n in ORDER] == ["Zeros", "Identity", "Identity", "Zeros"]


def test_what_is_done_in_place_does_not_reach_the_shortcut() -> None:
    model = nn.Sequential(Block(nn.Hardtanh(0, 0.5, inplace=True)))
    skip(model, [f"0.{name}" for name in ORDER])
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    y = model(x.exp())
    torch.testing.assert_close(y, x.exp().clamp(0, 0.5))
    y.sum().backward()  # autograd complains of values that were changed


def test_zeros_can_be_traced_and_keep_type_and_shape() -> None:
    traced, x = fx.symbolic_trace(Zeros()), torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(traced(x), torch.zeros(2, 3, dtype=torch.float64))


def test_all_names_of_a_module_lead_to_its_successor() -> None:
    old, new = nn.ReLU(), nn.Identity()
    model = nn.ModuleDict({"a": old, "b": nn.Sequential(old, nn.ReLU(), old)}).eval()
    put_instead(model, old, new)
    assert [model["a"] is new, *(m is new for m in model["b"])] == [True, True, False, True]
    assert not new.training


@pytest.mark.parametrize(
    ("modules", "reason"), [((), "without"), (("0.conv9",), "no module '0.conv9'"), (("",), "whole")]
)
def test_what_is_not_there_is_refused(modules: tuple[str, ...], reason: str) -> None:
    with pytest.raises(SpaceError, match=reason):
        skip(nn.Sequential(Block(nn.ReLU())), modules)
