from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from nascli.strategies.gradient.rows import Rows, padded
from search_spaces.darts import DartsSpace
from search_spaces.errors import SpaceError
from search_spaces.nb201 import Nb201Space
from tests.toy_cells import Cells, Uneven, edge

PAIRS = "normal.node3.inputs"


def test_rows_are_the_choices_of_what_is_computed_in_the_tables_order() -> None:
    rows = Rows.of(Cells())
    expected = [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    assert rows.names == tuple(edge("normal", s, n) for s, n in expected)
    assert rows.counts == (4,) * 5
    assert rows.row("normal.node3.from0") == 2
    assert rows.options(PAIRS) == ("0+1", "0+2", "1+2")


def test_none_is_mixed_in_but_not_selectable() -> None:
    rows = Rows.of(Cells())
    assert rows.selectable.tolist() == [[False, True, True, True]] * 5
    assert rows.candidates("normal.node2.from0") == [1, 2, 3]
    # NAS-Bench-201 counts `none` among its operations.
    assert Rows.of(Nb201Space()).candidates("edge.0-1") == [0, 1, 2, 3, 4]


def test_shorter_rows_are_padded() -> None:
    rows = Rows.of(Uneven())
    assert rows.counts == (1, 2, 3)
    assert rows.valid.tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert not (rows.selectable & ~rows.valid).any()
    assert padded([[1.0], [2.0, 3.0], []], width=3).tolist() == [[1, 0, 0], [2, 3, 0], [0, 0, 0]]


def test_skips_are_found_where_there_are_any() -> None:
    assert Rows.of(Uneven()).skips == {"a.two": 1, "b.three": 0}


def test_a_choice_with_nothing_to_settle_on_is_refused() -> None:
    @dataclass(frozen=True)
    class Empty(Uneven):
        mixed_only = frozenset({"only"})

    with pytest.raises(SpaceError, match="a.one of uneven has no option"):
        Rows.of(Empty())


def test_kinds_of_cells_are_lanes_and_nb201_is_one_of_six() -> None:
    rows = Rows.of(Cells(("normal", "reduce")))
    assert [len(lane) for lane in rows.lanes] == [5, 5]
    assert [{name.split(".")[0] for name in lane} for lane in rows.lanes] == [{"normal"}, {"reduce"}]
    assert [len(lane) for lane in Rows.of(Nb201Space()).lanes] == [6]
    assert [len(lane) for lane in Rows.of(DartsSpace()).lanes] == [14, 14]


def test_open_gate_makes_all_kept_edges_weigh_one() -> None:
    rows = Rows.of(Cells())
    every = rows.edges(PAIRS)
    assert every == {f"normal.node3.from{s}" for s in range(3)}
    # Three pairs, each edge in two of them.
    assert rows.open_gate(PAIRS, every).tolist() == [0.5, 0.5, 0.5]
    assert rows.open_gate(PAIRS, every - {"normal.node3.from1"}).tolist() == [0, 1, 0]
    for kept in (["normal.node3.from1"], []):
        with pytest.raises(SpaceError, match="can't keep"):
            rows.open_gate(PAIRS, kept)


@pytest.mark.parametrize("dropped", [0, 1, 2, 3])
def test_open_gate_of_five_edges(dropped: int) -> None:
    rows, node = Rows.of(DartsSpace()), "reduce.node5.inputs"
    kept = sorted(rows.edges(node))[dropped:]
    gate = rows.open_gate(node, kept)
    for name in rows.edges(node):
        weight = sum(w for w, pair in zip(gate.tolist(), rows.topology[node], strict=True) if name in pair)
        assert weight == pytest.approx(float(name in kept))


def test_architecture_puts_decisions_into_the_table() -> None:
    rows = Rows.of(Cells())
    decided = {"normal.node2.from0": 3, "normal.node2.from1": 1, PAIRS: 1, "normal.node3.from0": 2}
    assert str(rows.architecture(decided)) == "toycells:linear,skip_connect/0+2,noise,-,none"
    # An edge that its node does not read rests on its first option, whatever was decided there.
    assert rows.architecture(decided | {"normal.node3.from1": 3}) == rows.architecture(decided)


def test_valid_is_boolean() -> None:
    assert Rows.of(Uneven()).valid.dtype is torch.bool
