import math
from collections import Counter
from collections.abc import Generator, Sequence
from typing import TypeVar

import numpy as np
import pytest

from nascli.engine.protocol import Step, Trial
from nascli.strategies.assisted import Moves, beginning, best, best_of_each, check, ranked, scores
from nascli.strategies.unseen import Unseen
from search_spaces import Architecture, Choice, ChoiceTable
from tests.toy_search import FOUR, TABLE, failed, task

T = TypeVar("T")
LINE = ChoiceTable("line", (Choice("a.x", tuple("01234567")),))
GRID = ChoiceTable("grid", tuple(Choice(f"a.c{i}", ("0", "1", "2", "3")) for i in range(4)))


def member(number: int) -> Architecture:
    return LINE.canonical([str(number)])


def said(part: Generator[Step, Sequence[Trial], T], costs: dict[str, float]) -> tuple[T, list[list[str]]]:
    """What comes of a part of a conversation when these are the scores (none: it fails), and what it asked."""
    asked: list[list[str]] = []
    try:
        step = next(part)
        while True:
            assert step.proxy == "synflow"
            asked.append([n.key for n in step.candidates])
            known = [(n, costs.get(n.key)) for n in step.candidates]
            trials = [failed(n, task()) if c is None else Trial(-1, n.key, n, {}, costs=(c,)) for n, c in known]
            step = part.send(trials)
    except StopIteration as end:
        return end.value, asked


def test_scores_are_costs_in_order_and_failures_infinite() -> None:
    archs = [member(i) for i in (3, 1, 2)]
    found, asked = said(scores(archs, "synflow"), {"line:3": -0.5, "line:2": 7.0})
    assert found == [-0.5, math.inf, 7.0] and asked == [["line:3", "line:1", "line:2"]]


def test_of_nothing_nothing_is_asked() -> None:
    assert said(scores([], "synflow"), {}) == ([], [])


def test_ranked_from_best_to_failed_equals_in_their_order() -> None:
    archs = [member(i) for i in (0, 1, 2, 3, 4)]
    found, _ = said(ranked(archs, "synflow"), {"line:0": 2.0, "line:2": 1.0, "line:3": 2.0})
    assert found == [member(i) for i in (2, 0, 3, 1, 4)]


def test_the_best_of_each_few_in_a_row() -> None:
    archs = [member(i) for i in range(7)]
    costs = {"line:0": 3.0, "line:1": 1.0, "line:2": 1.0, "line:4": 9.0, "line:6": 5.0}
    found, asked = said(best_of_each(archs, 3, "synflow"), costs)
    assert found == [member(1), member(4), member(6)] and len(asked) == 1
    assert said(best_of_each(archs, 1, "synflow"), costs) == (archs, [])


def test_one_alone_is_not_scored() -> None:
    assert said(best([member(5)], "synflow"), {}) == (member(5), [])
    assert said(best([member(5), member(6)], "synflow"), {"line:6": 1.0})[0] == member(6)


def test_a_search_begins_with_the_best_of_the_warm_up() -> None:
    unseen = Unseen(LINE, np.random.default_rng(0))
    costs = {f"line:{i}": float(i) for i in range(8)}
    found, asked = said(beginning(unseen, 3, proxy="synflow", warm_up=8), costs)
    assert found == [member(0), member(1), member(2)] and len(asked[0]) == 8
    # What was only scored may still be proposed.
    assert sorted(str(a) for a in unseen.batch(9)) == [f"line:{i}" for i in range(3, 8)]


def test_a_short_warm_up_is_filled_up_with_random_ones() -> None:
    unseen = Unseen(LINE, np.random.default_rng(0))
    found, asked = said(beginning(unseen, 5, proxy="synflow", warm_up=2), {f"line:{i}": float(i) for i in range(8)})
    assert [str(a) for a in found[:2]] == sorted(asked[0]) and len(set(found)) == 5 and len(asked) == 1
    assert not any(unseen.is_new(a) for a in found)
    assert said(beginning(Unseen(LINE, np.random.default_rng(0)), 5, proxy="", warm_up=0), {})[1] == []


def far(text: str) -> float:
    """Less is better: the sum of GRID's choices, upwards."""
    return -float(sum(map(int, text.partition(":")[2].split(","))))


COSTS = {str(a): far(str(a)) for a in GRID.members()}


def moves(seed: int = 0, **settings: object) -> Moves:
    return Moves(GRID, Unseen(GRID, np.random.default_rng(seed)), np.random.default_rng(seed), **settings)  # type: ignore[arg-type]


def test_without_a_proxy_a_child_is_a_random_neighbour() -> None:
    children = Counter()
    for seed in range(600):
        child, asked = said(moves(seed).child(GRID.smallest), {})
        assert child is not None and not asked
        children[str(child)] += 1
    assert len(children) == 12 and min(children.values()) > 25
    assert all(sum(o != "0" for o in key.partition(":")[2].split(",")) == 1 for key in children)


def test_all_neighbours_are_scored_and_the_best_taken() -> None:
    search = moves(proxy="synflow")
    child, asked = said(search.child(GRID.smallest), COSTS)
    assert len(asked) == 1 and len(asked[0]) == 12
    assert child is not None and COSTS[str(child)] == -3 and not search.unseen.is_new(child)


def test_chance_decides_between_equals() -> None:
    best_ones = {str(said(moves(seed, proxy="synflow").child(GRID.smallest), COSTS)[0]) for seed in range(60)}
    assert best_ones == {"grid:3,0,0,0", "grid:0,3,0,0", "grid:0,0,3,0", "grid:0,0,0,3"}


def test_as_many_candidates_as_asked_are_drawn_without_repetition() -> None:
    counted = Counter()
    for seed in range(200):
        child, ((*asked,),) = said(moves(seed, proxy="synflow", candidates=4).child(GRID.smallest), COSTS)
        assert len(set(asked)) == 4 and COSTS[str(child)] == min(COSTS[k] for k in asked)
        counted.update(asked)
    assert len(counted) == 12 and min(counted.values()) > 35


def test_known_neighbours_are_no_candidates() -> None:
    search = moves(proxy="synflow")
    for key in ("grid:3,0,0,0", "grid:0,3,0,0", "grid:0,0,3,0", "grid:0,0,0,3"):
        search.unseen.take(GRID.parse(key))
    child, asked = said(search.child(GRID.smallest), COSTS)
    assert len(asked[0]) == 8 and COSTS[str(child)] == -2


def test_greedy_is_the_probability_of_asking() -> None:
    asked = [len(said(moves(seed, proxy="synflow", greedy=0.75).child(GRID.smallest), COSTS)[1]) for seed in range(400)]
    assert set(asked) == {0, 1} and 270 < sum(asked) < 330


def test_failed_scores_leave_it_to_chance() -> None:
    children = {str(said(moves(seed, proxy="synflow").child(GRID.smallest), {})[0]) for seed in range(100)}
    assert len(children) == 12


def test_beyond_the_known_neighbourhood_it_goes_further_until_all_is_used_up() -> None:
    search = Moves(FOUR, Unseen(FOUR, np.random.default_rng(0)), np.random.default_rng(0), "synflow")
    search.unseen.take(FOUR.smallest)
    found = [said(search.child(FOUR.smallest), {})[0] for _ in range(4)]
    assert {str(a) for a in found[:3]} == {str(a) for a in FOUR.members()} - {str(FOUR.smallest)}
    assert found[3] is None
    assert str(found[2]) == "four:2,wide"


def test_neighbours_of_conditional_tables_are_members() -> None:
    search = Moves(TABLE, Unseen(TABLE, np.random.default_rng(0)), np.random.default_rng(0), "synflow")
    arch: Architecture | None = TABLE.smallest
    for _ in range(50):
        assert arch is not None
        arch, _ = said(search.child(arch), {})
        assert arch is not None and TABLE.parse(str(arch)) == arch


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"proxy": "", "warm_up": 5}, "warm_up=5 needs something to score by; give a proxy"),
        ({"proxy": "x", "warm_up": -1}, "warm_up must not be negative, but got -1"),
        ({"proxy": "x", "candidates": -2}, "candidates must not be negative, but got -2"),
        ({"proxy": "x", "greedy": 1.5}, "greedy is a probability from 0 to 1, but got 1.5"),
        ({"proxy": "x", "candidates": 1}, "proxy='x' has nothing to choose from"),
    ],
)
def test_settings_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(**values)  # type: ignore[arg-type]


def test_settings_that_make_sense_pass() -> None:
    check(proxy="", candidates=1)
    check(proxy="x", candidates=1, warm_up=10)
    check(proxy="x", candidates=0)
