import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nascli.engine.front import hypervolume, non_dominated, reference_point

COSTS = arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.integers(-5, 5).map(float))


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(COSTS)
def test_non_dominated_is_its_definition(costs: np.ndarray) -> None:
    expected = [i for i, a in enumerate(costs) if not any(dominates(b, a) for b in costs)]
    found = non_dominated(costs)
    assert sorted(found) == expected
    assert [tuple(costs[i]) for i in found] == sorted(tuple(costs[i]) for i in found)


def test_ties_are_all_kept_in_the_order_they_came() -> None:
    assert non_dominated([[2, 1], [1, 2], [2, 1], [1, 3]]) == [1, 0, 2]
    assert non_dominated([[3.0], [1.0], [2.0], [1.0]]) == [1, 3]
    assert all(type(row) is int for row in non_dominated([[1, 2]]))


@given(COSTS)
def test_hypervolume_never_falls_and_only_the_front_counts(costs: np.ndarray) -> None:
    corner = reference_point(costs)
    volumes = [hypervolume(costs[:n], corner) for n in range(len(costs) + 1)]
    assert volumes[0] == 0 and (np.diff(volumes) >= -1e-9).all() and volumes[-1] > 0
    assert hypervolume(costs[non_dominated(costs)], corner) == pytest.approx(volumes[-1])


@given(COSTS)
def test_the_reference_point_is_worse_than_everything(costs: np.ndarray) -> None:
    assert (reference_point(costs) > costs.max(axis=0)).all()


def test_the_reference_point_is_a_tenth_of_the_range_away() -> None:
    assert reference_point([[0, 5], [10, 25]]).tolist() == [11, 27]
    assert reference_point([[-4, 0]]).tolist() == pytest.approx([-3.6, 0.1])


def test_nothing_covers_nothing() -> None:
    assert non_dominated([]) == [] and hypervolume([], [1, 1]) == 0.0
    with pytest.raises(ValueError, match="at least one point"):
        reference_point([])


def test_what_is_not_a_number_is_refused() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            non_dominated([[1, bad]])
        with pytest.raises(ValueError, match="finite"):
            hypervolume([[1, bad]], [2, 2])
        with pytest.raises(ValueError, match="2 finite numbers"):
            hypervolume([[1, 1]], [2, bad])
    with pytest.raises(ValueError, match="2 finite numbers"):
        hypervolume([[1, 1]], [2, 2, 2])
    with pytest.raises(ValueError, match=r"\[points, objectives\]"):
        non_dominated([1, 2])
