from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces import Choice, ChoiceTable
from search_spaces.errors import SpaceError
from search_spaces.gated import KnownGates, Mixed, Width, chosen, deepened, mixed, one_hot, pick, uniform, width

TABLE = ChoiceTable(
    "toy", (Choice("depth", ("1", "2")), Choice("two", ("3", "5", "7"), (("depth", frozenset({"2"})),)))
)


def soft(*weights: float) -> Tensor:
    return torch.tensor(weights, requires_grad=True)


def test_one_hot_is_one_at_the_options_and_zero_where_nothing_applies() -> None:
    gates = one_hot(TABLE, TABLE.parse("toy:1,-"))
    assert {n: g.tolist() for n, g in gates.items()} == {"depth": [1, 0], "two": [0, 0, 0]}
    gates = one_hot(TABLE, TABLE.parse("toy:2,7"))
    assert {n: g.tolist() for n, g in gates.items()} == {"depth": [0, 1], "two": [0, 0, 1]}
    assert all(g.dtype == torch.float32 and g.device.type == "cpu" for g in gates.values())


def test_uniform_sums_to_one_everywhere() -> None:
    gates = uniform(TABLE)
    assert [len(g) for g in gates.values()] == [2, 3]
    assert all(g.sum().item() == pytest.approx(1) and g.unique().numel() == 1 for g in gates.values())


def test_chosen_is_the_only_option_with_weight() -> None:
    assert chosen(torch.tensor([0.0, 0.3, 0.0])) == 1
    assert chosen(torch.tensor([0.1, 0.3])) is None
    assert chosen(torch.zeros(2)) is None


def test_pick_is_an_index_only_without_gradients() -> None:
    assert pick({"x": torch.tensor([0.0, 0.5])}, "x") == 1
    picked = pick({"x": soft(0.0, 0.5, 0.25)}, "x")
    assert isinstance(picked, tuple) and [(i, w.item()) for i, w in picked] == [(1, 0.5), (2, 0.25)]
    picked = pick({"x": soft(0.0, 1.0)}, "x")
    assert isinstance(picked, tuple) and len(picked) == 1 and picked[0][1].requires_grad


def test_known_gates_are_not_read_to_see_what_is_computed() -> None:
    class Unreadable(Tensor):
        def tolist(self) -> list[float]:
            raise RuntimeError("this would wait for a GPU")

    gate = torch.tensor([0.0, 0.25, 0.75]).as_subclass(Unreadable).requires_grad_()
    picked = pick(KnownGates({"x": gate}, {"x": (1, 2)}), "x")
    assert isinstance(picked, tuple) and [i for i, _ in picked] == [1, 2]
    assert pick(KnownGates({"x": gate.detach()}, {"x": (2,)}), "x") == 2
    # What is not said is read, as by any gates; and what is not computed is as good as no weight.
    assert pick(KnownGates({"x": torch.tensor([0.0, 1.0])}, {}), "x") == 1
    with pytest.raises(SpaceError, match="'x'"):
        pick(KnownGates({"x": gate}, {"x": ()}), "x")


def test_known_gates_are_gates_and_can_be_copied() -> None:
    gates = KnownGates({"x": torch.tensor([0.0, 1.0])}, {"x": (1,)})
    copied = copy.deepcopy(gates)
    assert isinstance(copied, KnownGates) and copied.computed == {"x": (1,)}
    assert copied["x"] is not gates["x"] and torch.equal(copied["x"], gates["x"])


@pytest.mark.parametrize("gates", [{}, {"x": torch.zeros(3)}])
def test_gates_that_leave_a_choice_open_are_refused(gates: dict[str, Tensor]) -> None:
    with pytest.raises(SpaceError, match="'x'"):
        pick(gates, "x")


def test_mixed_computes_what_is_picked_and_no_more() -> None:
    asked: list[int] = []

    def compute(i: int) -> Tensor:
        asked.append(i)
        return torch.tensor(10.0**i)

    assert mixed(2, compute).item() == 100 and asked == [2]
    asked.clear()
    assert mixed(pick({"x": soft(0.5, 0.0, 2.0)}, "x"), compute).item() == pytest.approx(200.5)
    assert asked == [0, 2]


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.factor * x + y


def test_operations_without_weight_get_no_gradient() -> None:
    operations = [Times(2.0), Times(3.0), Times(5.0)]
    layer, one = Mixed(operations), torch.ones(1)
    assert layer(1, one, 4 * one).item() == 7
    gate = soft(0.5, 0.0, 0.25)
    layer(pick({"x": gate}, "x"), one, one).sum().backward()
    assert [None if o.factor.grad is None else o.factor.grad.item() for o in operations] == [0.5, None, 0.25]
    assert gate.grad is not None and gate.grad.tolist() == [3, 0, 6]


def test_depth_runs_each_block_once() -> None:
    ran: list[int] = []

    def block(i: int, x: Tensor) -> Tensor:
        ran.append(i)
        return x * 10

    x = torch.ones(1)
    assert deepened(x, 1, (1, 3, 4), block).item() == 1000 and ran == [0, 1, 2]
    ran.clear()
    gate = soft(0.5, 0.25, 0.0)
    result = deepened(x, pick({"d": gate}, "d"), (1, 3, 4), block)
    assert result.item() == pytest.approx(0.5 * 10 + 0.25 * 1000) and ran == [0, 1, 2]
    result.backward()
    assert gate.grad is not None and gate.grad.tolist() == [10, 1000, 0]


def test_width_under_indices_is_a_number() -> None:
    assert width((4, 8), 1) == Width(8)
    assert width(((1, 2), (3, 4)), 1, 0) == Width(3)


def test_width_under_weights_is_a_mask() -> None:
    found = width((1, 3, 4), pick({"w": soft(0.5, 0.25, 0.0)}, "w"))
    assert found.channels == 3 and found.mask is not None
    assert found.mask.flatten().tolist() == [0.75, 0.25, 0.25]
    assert found.weigh(torch.ones(2, 3, 5, 5))[1, :, 0, 0].tolist() == [0.75, 0.25, 0.25]


def test_width_of_two_choices_weighs_every_pair() -> None:
    table = ((1, 2), (2, 4))
    a, b = np.array([0.25, 0.75]), np.array([0.5, 0.5])
    found = width(table, *(pick({"w": soft(*v)}, "w") for v in (a, b)))
    expected = sum(a[i] * b[j] * (np.arange(4) < table[i][j]) for i in (0, 1) for j in (0, 1))
    assert found.mask is not None
    np.testing.assert_allclose(found.mask.detach().numpy().ravel(), expected)
    half = width(table, 1, pick({"w": soft(0.5, 0.5)}, "w"))
    assert half.mask is not None and half.mask.flatten().tolist() == [1, 1, 0.5, 0.5]


def test_a_single_option_that_needs_gradients_still_has_a_mask() -> None:
    gate = soft(1.0)
    found = width((3,), pick({"w": gate}, "w"))
    found.weigh(torch.ones(1, 3, 1, 1)).sum().backward()
    assert gate.grad is not None and gate.grad.tolist() == [3]
