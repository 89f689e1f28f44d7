from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import ArchitectureError, Choice, ChoiceTable
from search_spaces.neighbours import neighbours
from tests.search_spaces.tables import tables

TABLE = ChoiceTable(
    "toy",
    (
        Choice("s.depth", ("1", "2")),
        Choice("s.one", ("3", "5", "7")),
        Choice("s.two", ("3", "5", "7"), (("s.depth", frozenset({"2"})),)),
    ),
)


@given(tables(), st.integers(0, 2**32 - 1))
def test_each_is_a_different_member_with_one_active_choice_changed(table: ChoiceTable, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arch = table.sample(rng)
    before = table.values(arch)
    found = list(neighbours(table, arch, rng=rng))
    assert len(set(found)) == len(found) == sum(len(c.options) - 1 for c in table.choices if c.name in before)
    for near in found:
        assert table.parse(str(near)) == near
        after = table.values(near)
        changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
        assert len(changed) == 1
        # What else differs is what the change has switched on or off.
        children = {c.name for c in table.choices if c.when}
        assert before.keys() ^ after.keys() <= children


def test_by_hand() -> None:
    rng = np.random.default_rng(0)
    shallow = TABLE.parse("toy:1,5,-")
    found = {str(a) for a in neighbours(TABLE, shallow, rng=rng)}
    grown = {t for t in found if t.startswith("toy:2,5,")}
    assert len(grown) == 1 and found - grown == {"toy:1,3,-", "toy:1,7,-"}
    deep = {str(a) for a in neighbours(TABLE, TABLE.parse("toy:2,5,7"), rng=rng)}
    assert deep == {"toy:1,5,-", "toy:2,3,7", "toy:2,7,7", "toy:2,5,3", "toy:2,5,5"}


def test_what_is_switched_on_is_uniform() -> None:
    rng = np.random.default_rng(0)
    grown = Counter(
        near.options[2]
        for _ in range(600)
        for near in neighbours(TABLE, TABLE.smallest, rng=rng)
        if near.options[0] == "2"
    )
    assert sum(grown.values()) == 600 and set(grown) == {"3", "5", "7"} and min(grown.values()) > 160


def test_the_order_is_random() -> None:
    rng = np.random.default_rng(0)
    first = Counter(str(next(neighbours(TABLE, TABLE.parse("toy:2,5,7"), rng=rng))) for _ in range(1000))
    assert len(first) == 5 and min(first.values()) > 150


def test_a_large_space_is_no_burden() -> None:
    table = ChoiceTable("wide", tuple(Choice(f"c{i}", ("0", "1", "2")) for i in range(200)))
    found = list(islice(neighbours(table, table.smallest, rng=np.random.default_rng(0)), 10))
    assert [sum(o != "0" for o in near.options) for near in found] == [1] * 10


def test_one_member_has_none() -> None:
    only = ChoiceTable("only", (Choice("a", ("1",)),))
    assert list(neighbours(only, only.smallest, rng=np.random.default_rng(0))) == []


def test_foreign_architectures_are_refused() -> None:
    other = ChoiceTable("other", (Choice("a", ("1", "2")),))
    with pytest.raises(ArchitectureError, match="no architecture of toy"):
        next(neighbours(TABLE, other.smallest, rng=np.random.default_rng(0)))
