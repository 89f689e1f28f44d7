from __future__ import annotations

from itertools import product

from hypothesis import given

from search_spaces import Choice, ChoiceTable
from search_spaces.counting import positions, size
from tests.search_spaces.tables import tables


@given(tables())
def test_members_are_what_canonical_makes_of_all_combinations(table: ChoiceTable) -> None:
    every = {table.canonical(options) for options in product(*(c.options for c in table.choices))}
    listed = list(table.members())
    assert len(listed) == len(every) == size(table) == table.size
    assert set(listed) == every
    assert (
        [table.indices(a) for a in listed] == [list(p) for p in positions(table)] == sorted(map(list, positions(table)))
    )


def test_size_of_a_table_too_large_to_list() -> None:
    choices = []
    for s in range(20):
        choices.append(Choice(f"s{s}.depth", ("1", "2", "3")))
        for b in (1, 2, 3):
            deep = frozenset(d for d in ("1", "2", "3") if int(d) >= b)
            choices.append(Choice(f"s{s}.b{b}", ("3", "5"), ((f"s{s}.depth", deep),)))
    assert ChoiceTable("large", tuple(choices)).size == (2 + 4 + 8) ** 20
