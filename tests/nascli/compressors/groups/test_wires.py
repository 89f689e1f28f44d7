from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nascli.compressors.groups import wires
from nascli.compressors.groups.wires import Wire


def pairs(wire: Wire, channels: int) -> set[tuple[int, int]]:
    """(before, behind) for each channel, which must be the same from both ends."""
    if wire.forth is None or wire.back is None:
        return {(i, i) for i in range(channels)}
    forth = {(i, k) for i in range(channels) for k in wire.forth(i)}
    assert forth == {(i, k) for k in range(wire.width or 0) for i in wire.back(k)}
    return forth


def moved(operation, x: Tensor, dim: int, out: int) -> set[tuple[int, int]]:
    """The same, seen by marking one channel of `x` at a time."""
    found = set()
    for i in range(x.shape[dim]):
        mark = torch.zeros_like(x)
        mark.select(dim, i).fill_(1)
        seen = operation(mark).movedim(out, 0).flatten(1).abs().sum(1)
        found |= {(i, k) for k in seen.nonzero().flatten().tolist()}
    return found


@pytest.mark.parametrize(
    ("before", "after", "dim", "out"),
    [
        ((2, 3, 4, 5), (2, 60), 1, 1),
        ((2, 3, 1, 1), (2, 3), 1, 1),
        ((2, 3, 4, 5), (2, 3, 20), 1, 1),
        ((2, 5, 3), (10, 3), 2, 1),
        ((2, 5, 3), (2, 15), 2, 1),
        ((2, 60), (2, 60, 1, 1), 1, 1),
        ((2, 5, 5, 3), (2, 75), 3, 1),
    ],
)
def test_reshapes_move_channels_as_they_do(before, after, dim: int, out: int) -> None:
    wire = wires.reshaped(before, after, before[dim])
    assert not wire.broken and wire.width == after[out]
    assert pairs(wire, before[dim]) == moved(lambda x: x.reshape(after), torch.empty(before), dim, out)


@pytest.mark.parametrize(("before", "after"), [((2, 6, 4, 4), (2, 2, 3, 4, 4)), ((2, 5, 6), (2, 5, 2, 3))])
def test_reshapes_that_take_channels_apart_are_broken(before, after) -> None:
    assert "reshape" in wires.reshaped(before, after, 6).broken


def recorded(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, requires_grad=True).clone()


@pytest.mark.parametrize("dim", [1, -3])
def test_concatenations_shift_what_comes_second(dim: int) -> None:
    out = torch.cat([recorded((2, 3, 4, 4)), torch.zeros(2, 2, 4, 4), recorded((2, 4, 4, 4))], dim)
    first, second = (wires.concatenated(out.grad_fn, i, [3, 4]) for i in (0, 1))
    assert (first.width, second.width) == (9, 9)
    assert pairs(first, 3) == {(0, 0), (1, 1), (2, 2)}
    assert pairs(second, 4) == {(0, 5), (1, 6), (2, 7), (3, 8)}


def test_concatenations_of_something_else_leave_channels_alone() -> None:
    out = torch.cat([recorded((2, 1, 6)), recorded((2, 5, 6))], 1)
    assert wires.concatenated(out.grad_fn, 1, [6, 6]).forth is None


def test_parts_of_unknown_size_break_a_concatenation() -> None:
    out = torch.cat([torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4), recorded((1, 4, 4, 4))], 1)
    assert "unknown size" in wires.concatenated(out.grad_fn, 0, [4]).broken


def test_splits_and_slices() -> None:
    x = recorded((2, 6, 4, 4))
    part = x.split((2, 4), 1)[1]
    assert pairs(wires.chunk(part.grad_fn, 1, 6), 6) == moved(lambda t: t[:, 2:], x.detach(), 1, 1)
    assert wires.chunk(x.split(2, 2)[1].grad_fn, 1, 6).forth is None
    for cut in (slice(1, 4), slice(0, None, 2), slice(-2, None), slice(1, 6, 3)):
        wire = wires.window(x[:, cut].grad_fn, 6)
        # torch records no operation for a slice of everything along the first dimension.
        assert pairs(wire, 6) == moved(lambda t, cut=cut: t[:, cut], x.detach(), 1, 1)
    assert wires.window(x[:, :, 1:3].grad_fn, 6).forth is None


def test_halves_are_tied() -> None:
    halves = recorded((2, 6, 4, 4)).chunk(2, 1)
    wire = wires.chunk(halves[1].grad_fn, 1, 6)
    assert wires.repeated(wire, 6) == [(0, 3), (1, 4), (2, 5)]
    assert wires.repeated(wires.sliced(0, 4, 1), 6) == []
    gated = wires.gated(F.glu(recorded((2, 6, 5)), 1).grad_fn, 6)
    assert gated.width == 3 and pairs(gated, 6) == {(i, i % 3) for i in range(6)}


def test_wires_in_a_row() -> None:
    both = wires.after(wires.sliced(2, 6, 1), wires.shifted(3, 4, 9))
    assert both.width == 9 and pairs(both, 6) == {(2, 3), (3, 4), (4, 5), (5, 6)}
    assert wires.after(Wire(4), wires.sliced(0, 2, 1)).width == 2
    assert wires.after(wires.sliced(0, 2, 1), Wire(2)).forth is not None


def test_folded_and_spread() -> None:
    assert pairs(wires.folded(6, 3), 6) == {(i, i % 3) for i in range(6)}
    assert wires.folded(3, 3).forth is None
    assert pairs(wires.spread(5), 1) == set()
