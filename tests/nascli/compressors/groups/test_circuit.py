from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nascli.compressors.groups.circuit import TRACE_ERRORS, Node, traced
from tests.toy_prunable import toy


def circuit(name: str) -> tuple[dict[str, Node], list]:
    model, example = toy(name)
    nodes, edges = traced(copy.deepcopy(model), example)
    return {n.name: n for n in nodes if n.name}, edges


def test_layers_and_parameters_are_nodes() -> None:
    nodes, _ = circuit("residual")
    assert set(nodes) == {"stem", "a", "bn", "act", "b", "scale", "head"}
    assert {n: nodes[n].width for n in ("stem", "a", "b", "head", "scale")} == {
        "stem": 6, "a": 5, "b": 6, "head": 4, "scale": 6,
    }  # fmt: skip


def test_ends_are_where_the_network_ends() -> None:
    model, example = toy("residual")
    nodes, _ = traced(copy.deepcopy(model), example)
    assert [n.name for n in nodes if "outputs" in n.end] == ["head"]
    assert len([n for n in nodes if "inputs" in n.end]) == 1


def test_widths_follow_concatenation_and_flattening() -> None:
    model, example = toy("joined")
    nodes, edges = traced(copy.deepcopy(model), example)
    assert [n.width for n in nodes if n.kind == "CONCAT"] == [9]
    assert [n.width for n in nodes if n.kind == "RESHAPE"] == [36]
    (wire,) = [w for s, t, w in edges if nodes[t].kind == "CONCAT" and nodes[s].width == 5]
    assert wire.forth is not None and wire.forth(0) == (4,)


def test_sequences_are_told_from_what_mixes_them() -> None:
    nodes, _ = circuit("mixer")
    assert "normalised" in nodes["norm"].barred and nodes["up"].barred == ""


class InsideOut(nn.Module):
    """Adds to its input, and joins that to what a convolution makes: Torch-Pruning's own maps of indices fail here."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 3, 1)
        self.b = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.cat([x, x + self.a(x)], 1))


def test_what_comes_after_the_trace_may_fail() -> None:
    nodes, _ = traced(InsideOut(), (torch.randn(2, 3, 4, 4),))
    assert {n.name for n in nodes} >= {"a", "b"}


def test_a_pass_that_fails_is_told() -> None:
    with pytest.raises(TRACE_ERRORS):
        traced(nn.Conv2d(3, 4, 1), (torch.randn(2, 5, 4, 4),))


def test_splits_tie_their_halves() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(2, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = torch.relu(self.a(x)).chunk(2, 1)
            return self.b(left * right)

    nodes, _ = traced(Halves(), (torch.randn(2, 3, 4, 4),))
    assert [set(n.ties) for n in nodes if n.kind == "SPLIT"] == [{(0, 2), (1, 3)}]
