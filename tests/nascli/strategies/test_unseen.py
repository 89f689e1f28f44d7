from collections import Counter

import numpy as np
import pytest

from nascli.strategies import unseen as module
from nascli.strategies.unseen import Unseen, one_gene
from search_spaces import Choice, ChoiceTable
from tests.toy_search import FOUR, TABLE


def test_takes_each_architecture_once() -> None:
    unseen = Unseen(FOUR, np.random.default_rng(0))
    arch = FOUR.parse("four:1,wide")
    assert unseen.take(arch)
    assert not unseen.take(FOUR.parse("four:1,wide"))
    assert arch not in unseen.batch(10)


def test_draws_the_whole_space_and_then_nothing() -> None:
    unseen = Unseen(TABLE, np.random.default_rng(0))
    drawn = unseen.batch(TABLE.size + 5)
    assert len(drawn) == TABLE.size == 1752 and set(drawn) == set(TABLE.members())
    assert unseen.draw() is None


def test_what_is_given_back_is_new_again() -> None:
    unseen = Unseen(FOUR, np.random.default_rng(0))
    drawn = unseen.batch(3)
    assert not any(unseen.is_new(arch) for arch in drawn)
    unseen.give_back(drawn[1:])
    assert [unseen.is_new(arch) for arch in drawn] == [False, True, True]
    assert set(unseen.batch(9)) == set(FOUR.members()) - {drawn[0]}


@pytest.mark.parametrize("enumerable", [10, 50_000])
def test_nothing_given_back_is_lost_after_the_members_were_gone_through(
    monkeypatch: pytest.MonkeyPatch, enumerable: int
) -> None:
    table = ChoiceTable("cube", tuple(Choice(f"a.c{i}", ("0", "1", "2", "3")) for i in range(3)))
    monkeypatch.setattr(module, "ENUMERABLE", enumerable)
    monkeypatch.setattr(module, "TRIES", 5)
    unseen = Unseen(table, np.random.default_rng(0))
    proposed = []
    while drawn := unseen.batch(20):
        proposed += drawn[:2]
        unseen.give_back(drawn[2:])
    assert len(proposed) == len(set(proposed)) == table.size == 64
    assert unseen.draw() is None


def test_draws_are_uniform_to_the_last() -> None:
    order = [str(Unseen(FOUR, np.random.default_rng(seed)).batch(4)[3]) for seed in range(400)]
    counts = Counter(order)
    assert len(counts) == 4 and min(counts.values()) > 70


@pytest.mark.parametrize("enumerable", [10, 50_000])
def test_ends_also_where_luck_runs_out(monkeypatch: pytest.MonkeyPatch, enumerable: int) -> None:
    # Half of all draws are the one network without blocks: most of the others hide behind it.
    on = (("net.on", frozenset("1")),)
    table = ChoiceTable("rare", (Choice("net.on", ("0", "1")), *(Choice(f"b.c{i}", ("0", "1"), on) for i in range(6))))
    monkeypatch.setattr(module, "TRIES", 2)
    monkeypatch.setattr(module, "ENUMERABLE", enumerable)
    assert len(set(Unseen(table, np.random.default_rng(0)).batch(100))) == table.size == 65


def test_near_is_one_choice_away_until_that_is_known() -> None:
    start = TABLE.largest
    unseen = Unseen(TABLE, np.random.default_rng(0))
    unseen.take(start)
    distances = []
    for _ in range(200):
        found = unseen.near(start)
        assert found is not None
        distances.append(sum(a != b for a, b in zip(found.options, start.options, strict=True)))
    assert np.mean(distances[:10]) < 2.5 < np.mean(distances[-50:])


def test_near_gives_up() -> None:
    unseen = Unseen(FOUR, np.random.default_rng(0))
    unseen.batch(4)
    assert unseen.near(FOUR.smallest) is None


def test_the_rate_counts_choices_that_can_change() -> None:
    table = ChoiceTable("t", (Choice("a.a", ("1",)), Choice("a.b", ("1", "2")), Choice("a.c", ("1", "2", "3"))))
    assert one_gene(table, table.smallest) == 0.5
    assert one_gene(TABLE, TABLE.smallest) == 1 / 4
    assert one_gene(TABLE, TABLE.largest) == 1 / 8
    only = ChoiceTable("o", (Choice("a.a", ("1",)),))
    assert one_gene(only, only.smallest) == 1
