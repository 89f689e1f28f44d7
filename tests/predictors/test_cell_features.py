from __future__ import annotations

import itertools

import numpy as np
import pytest

from predictors import ScoreError
from predictors.cell_features import cell_features, feature_names

KINDS = ("input", "none", "conv", "pool", "output")


def cell(edges: list[tuple[int, int]], *operations: str) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of a cell with these operations between input and output."""
    names = ["input", *operations, "output"]
    adjacency = np.zeros((len(names), len(names)))
    for i, j in edges:
        adjacency[i, j] = 1
    return adjacency, np.eye(len(KINDS))[[KINDS.index(n) for n in names]]


def features(edges: list[tuple[int, int]], *operations: str) -> dict[str, float]:
    found = cell_features(*cell(edges, *operations), absent=(1,))
    return dict(zip(feature_names(KINDS, absent=(1,)), found, strict=True))


def test_by_hand() -> None:
    # input -> conv1 -> pool -> output, input -> conv2 -> output, conv1 -> output
    found = features([(0, 1), (0, 2), (1, 3), (1, 4), (2, 4), (3, 4)], "conv", "conv", "pool")
    assert found["count(conv)"] == 2 and found["count(pool)"] == 1 and found["edges"] == 6
    assert [found[f"{w}(conv)"] for w in ("paths", "shortest", "longest", "most")] == [2, 2, 2, 1]
    assert [found[f"{w}(conv+pool)"] for w in ("paths", "shortest", "longest", "most")] == [3, 2, 3, 2]
    # pools alone lead nowhere: the shortest path is as long as no path can be
    assert [found[f"{w}(pool)"] for w in ("paths", "shortest", "longest", "most")] == [0, 5, 0, 1]
    assert [found[f"{w}({s})"] for w in ("from_input", "to_output") for s in ("conv", "pool")] == [2, 0, 2, 1]


def test_nothing_goes_through_what_is_absent() -> None:
    found = features([(0, 1), (1, 2), (0, 3), (2, 4), (3, 4)], "none", "conv", "pool")
    assert found["most(conv)"] == 0 and found["paths(conv+pool)"] == 1
    assert "count(none)" not in found
    everything = cell_features(*cell([(0, 1), (1, 2), (0, 3), (2, 4), (3, 4)], "none", "conv", "pool"))
    assert len(everything) == len(feature_names(KINDS)) == 3 + 6 * 7 + 1
    assert dict(zip(feature_names(KINDS), everything, strict=True))["paths(none+conv+pool)"] == 2


def test_against_all_paths_listed_one_by_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        operations = [KINDS[i] for i in rng.integers(1, 4, size=5)]
        edges = [(i, j) for i, j in itertools.combinations(range(7), 2) if rng.random() < 0.5]
        adjacency, _ = cell(edges, *operations)
        routes = [
            [0, *middle, 6]
            for size in range(6)
            for middle in itertools.combinations(range(1, 6), size)
            if all(adjacency[a, b] for a, b in itertools.pairwise([0, *middle, 6]))
        ]
        through = [[operations[i - 1] for i in route[1:-1]] for route in routes]
        found = features(edges, *operations)
        for chosen in (("conv",), ("pool",), ("conv", "pool")):
            name = "+".join(chosen)
            lengths = [len(t) + 1 for t in through if set(t) <= set(chosen)]
            open_ = [sum(o in chosen for o in t) for t in through if "none" not in t]
            assert found[f"paths({name})"] == len(lengths)
            assert found[f"shortest({name})"] == min(lengths, default=7)
            assert found[f"longest({name})"] == max(lengths, default=0)
            assert found[f"most({name})"] == max(open_, default=0)


def test_many_kinds_do_not_make_all_subsets() -> None:
    names = feature_names(["in", *"abcdefgh", "out"])
    assert len(names) == 8 + 6 * (8 + 28 + 8 + 1) + 1
    adjacency, operations = np.eye(3, k=1), np.eye(10)[[0, 3, 9]]
    assert len(cell_features(adjacency, operations)) == len(names)


@pytest.mark.parametrize(
    ("adjacency", "operations", "message"),
    [
        (np.zeros((2, 3)), np.eye(3), "their shapes are \\(2, 3\\) and \\(3, 3\\)"),
        (np.tril(np.ones((3, 3)), -1), np.eye(3), "lead to a later node"),
        (np.eye(3, k=1), np.ones((3, 3)), "exactly one operation"),
    ],
)
def test_arrays_that_are_no_cell_are_refused(adjacency: np.ndarray, operations: np.ndarray, message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        cell_features(adjacency, operations)
