from __future__ import annotations

import operator

import pytest
import torch
from torch import Tensor, nn

from nascli.compressors.groups.tracing import trace
from search_spaces.errors import SpaceError


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 4))

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.layer(x).relu() * scale


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        z = y + self.inner(y, scale=2.0)
        z = torch.add(z, x)
        z = z.add(y)
        z += x
        return torch.add(z + 1, x, alpha=2)


def test_calls_hold_all_that_they_compute() -> None:
    found = trace(Net())
    calls = [(c.module, len(c.nodes), c.plain) for c in found.calls]
    inside = [("inner.layer.0", 1, True), ("inner.layer", 1, True)]
    assert calls == [*inside, ("inner", 3, True), *inside, ("inner", 3, False)]


def test_sums_of_two_results_are_additions() -> None:
    sums = [total.target for total, *_ in trace(Net()).additions()]
    assert sums == [operator.add, torch.add, "add", operator.add]  # not those of numbers, nor weighted ones


def test_what_lies_between() -> None:
    found = trace(Net())
    (_, one, other), *_ = found.additions()
    assert len(found.between(one, other) or ()) == 3
    assert found.between(other, one) is None


class Choosing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_depends_on_values_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"torch\.fx can't follow"):
        trace(Choosing())
