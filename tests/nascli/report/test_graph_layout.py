from __future__ import annotations

import itertools
import random

import pytest

from nascli.report.graph_layout import BARE, LABELLED, Edge, Layout, lay_out, layers

K4 = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]


def drawn(edges: list[Edge], count: int, *, inputs: int = 1) -> tuple[list[int], Layout]:
    placed = layers(count, edges, first=frozenset(range(inputs)), last=frozenset({count - 1}))
    return placed, lay_out(placed, edges, sizes=[40.0] * count, labelled=[True] * len(edges))


def crossings(layout: Layout, edges: list[Edge], placed: list[int]) -> int:
    """Pairs of edges that change places from one column to the next, counted from the heights alone."""
    heights, total = layout.heights, 0
    for (i, a), (j, b) in itertools.combinations(enumerate(edges), 2):
        for column in range(layout.columns - 1):
            ends = []
            for number, (source, target) in ((i, a), (j, b)):
                if not 2 * placed[source] <= column < 2 * placed[target]:
                    break
                at = [
                    (c, "node", {2 * placed[source]: source, 2 * placed[target]: target}[c])
                    if c in (2 * placed[source], 2 * placed[target])
                    else (c, "edge", number)
                    for c in (column, column + 1)
                ]
                ends.append([heights[lane] for lane in at])  # type: ignore[index]
            if len(ends) == 2:
                total += (ends[0][0] - ends[1][0]) * (ends[0][1] - ends[1][1]) < 0
    return total


def test_layers_follow_the_longest_way() -> None:
    assert layers(4, K4, first=frozenset({0}), last=frozenset({3})) == [0, 1, 2, 3]
    # Node 2 reads the inputs alone, and node 3 node 2; the output is last, whoever feeds it.
    edges = [(0, 2), (1, 2), (2, 3), (0, 3), (2, 4)]
    assert layers(5, edges, first=frozenset({0, 1}), last=frozenset({4})) == [0, 0, 1, 2, 3]


def test_nodes_that_nothing_reaches_have_a_layer_too() -> None:
    assert layers(4, [], first=frozenset({0}), last=frozenset({3})) == [0, 1, 1, 2]
    assert layers(2, [(0, 1)], first=frozenset(), last=frozenset()) == [0, 1]
    assert layers(0, [], first=frozenset(), last=frozenset()) == []
    assert lay_out([], [], sizes=[], labelled=[]).height == 0


def test_a_plane_graph_is_drawn_without_crossings() -> None:
    placed, layout = drawn(K4, 4)
    assert crossings(layout, K4, placed) == 0


def test_labels_lie_on_their_edges_and_are_spread_over_the_gaps() -> None:
    placed, layout = drawn(K4, 4)
    for (source, target), column in zip(K4, layout.labels, strict=True):
        assert column % 2 == 1 and 2 * placed[source] < column < 2 * placed[target]
    assert sorted(layout.labels) == [1, 1, 3, 3, 5, 5]


def test_a_long_edge_that_has_room_is_level() -> None:
    _, layout = drawn(K4, 4)
    assert len({round(layout.heights[column, "edge", 3], 6) for column in range(1, 6)}) == 1


@pytest.mark.parametrize("seed", range(12))
def test_nothing_in_a_column_overlaps(seed: int) -> None:
    rng = random.Random(seed)
    # Cells like those of DARTS: four nodes with two inputs each, all of them joined in the end.
    edges = [(s, n) for n in range(2, 6) for s in sorted(rng.sample(range(n), 2))]
    edges += [(n, 6) for n in range(2, 6)]
    placed = layers(7, edges, first=frozenset({0, 1}), last=frozenset({6}))
    labelled = [target < 6 for _, target in edges]
    layout = lay_out(placed, edges, sizes=[40.0] * 7, labelled=labelled)
    assert all(placed[source] < placed[target] for source, target in edges)
    tall = {
        lane: 40.0
        if lane[1] == "node"
        else (LABELLED if labelled[lane[2]] and layout.labels[lane[2]] == lane[0] else BARE)
        for lane in layout.heights
    }
    for a, b in itertools.combinations(layout.heights, 2):
        if a[0] == b[0]:
            assert abs(layout.heights[a] - layout.heights[b]) >= (tall[a] + tall[b]) / 2 - 1e-6
    tops = [y - tall[lane] / 2 for lane, y in layout.heights.items()]
    bottoms = [y + tall[lane] / 2 for lane, y in layout.heights.items()]
    assert min(tops) == pytest.approx(0) and max(bottoms) <= layout.height + 1e-6


def test_the_same_graph_is_drawn_the_same_way() -> None:
    assert drawn(K4, 4)[1] == drawn(K4, 4)[1]
