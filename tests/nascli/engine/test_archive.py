from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.engine.archive import FIRST, Front
from nascli.engine.front import hypervolume, non_dominated, reference_point
from nascli.engine.network import Network
from nascli.engine.protocol import Trial
from tests.toys import TABLE


def trial(number: int, *costs: float) -> Trial:
    network = Network(TABLE.smallest, tag=str(number))
    return Trial(number, network.key, network, {}, costs)


def filled(*points: tuple[float, ...]) -> Front:
    front = Front()
    for number, point in enumerate(points):
        front.add(trial(number, *point))
    return front


def numbers(front: Front) -> list[int]:
    return [t.number for t in front.members]


def test_what_is_beaten_leaves_and_what_is_worse_stays_out() -> None:
    front = filled((3.0, 3.0), (2.0, 4.0), (4.0, 2.0))
    assert front.add(trial(3, 5.0, 2.0)) is None, "as good in one and worse in the other is worse"
    assert numbers(front) == [1, 0, 2] and len(front) == 3
    gone = front.add(trial(4, 2.0, 3.0))
    assert gone is not None and [t.number for t in gone] == [0, 1]
    assert numbers(front) == [4, 2] and len(front) == 2
    assert front.add(trial(5, 1.0, 9.0)) == []
    assert numbers(front) == [5, 4, 2]


def test_equal_costs_stand_side_by_side_in_the_order_they_came() -> None:
    assert numbers(filled((1.0, 2.0), (2.0, 1.0), (1.0, 2.0))) == [0, 2, 1]


def test_one_objective_leaves_the_best() -> None:
    assert numbers(filled((2.0,), (1.0,), (3.0,), (1.0,))) == [1, 3]


@given(st.integers(1, 4).flatmap(lambda d: st.lists(st.tuples(*[st.integers(0, 4).map(float)] * d), max_size=40)))
def test_the_running_front_is_the_front_of_all(points: list[tuple[float, ...]]) -> None:
    front = filled(*points)
    assert sorted(numbers(front)) == sorted(non_dominated(points))
    assert [m.costs for m in front.members] == sorted(m.costs for m in front.members)


def test_nothing_covers_nothing() -> None:
    assert Front().summary() == {"reference": None, "hypervolume": 0.0}
    assert Front().members == []


def test_a_hypervolume_worked_by_hand() -> None:
    # Worst (3, 3) and ranges (2, 2) make the corner (3.2, 3.2): 2.2 x 0.2 + 0.2 x 2.2 - 0.2 x 0.2.
    summary = filled((1.0, 3.0), (3.0, 1.0)).summary()
    assert summary["reference"] == pytest.approx([3.2, 3.2])
    assert summary["hypervolume"] == pytest.approx(0.84)
    assert json.loads(json.dumps(summary)) == summary


def test_the_reference_is_that_of_the_first_trials_dominated_ones_too() -> None:
    rng = np.random.default_rng(0)
    points = [(float(a), float(b)) for a, b in rng.uniform(1, 2, (FIRST, 2))]
    before = filled(*points).summary()
    after = filled(*points, (50.0, 0.5), (0.1, 90.0)).summary()
    assert before["reference"] == after["reference"] == pytest.approx(reference_point(points))
    assert after["hypervolume"] == pytest.approx(hypervolume(points, reference_point(points))), "beyond it adds nothing"
    assert filled(*points[:-1], (50.0, 0.5)).summary()["reference"] != before["reference"]
