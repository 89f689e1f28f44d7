from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.cells import Edge, cell_graph, edges_of, graph_hash, line_graph, on_paths, pruned, structure

SQUARE = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = ("none", "skip", "pool", "conv1", "conv3")

edge_sets = st.integers(2, 7).flatmap(
    lambda nodes: st.tuples(st.just(nodes), st.sets(st.sampled_from(list(itertools.combinations(range(nodes), 2)))))
)


def paths(edges: set[Edge], node: int, last: int) -> Iterator[list[Edge]]:
    """All paths from a node to the last, by walking them."""
    if node == last:
        yield []
    for edge in edges:
        if edge[0] == node:
            yield from ([edge, *rest] for rest in paths(edges, edge[1], last))


def matrix(edges: set[Edge], nodes: int) -> list[list[int]]:
    return [[int((i, j) in edges) for j in range(nodes)] for i in range(nodes)]


# -- paths -----------------------------------------------------------------------------------------------------------


def test_dead_ends_and_orphans_are_on_no_path() -> None:
    # 2 leads nowhere, nothing reaches 3
    assert on_paths([(0, 1), (0, 2), (1, 4), (3, 4)], 5) == {(0, 1), (1, 4)}
    assert on_paths([(0, 1), (2, 3)], 4) == frozenset()


@given(edge_sets)
def test_edges_on_paths_are_those_that_walks_pass(drawn: tuple[int, set[Edge]]) -> None:
    nodes, edges = drawn
    walked = {edge for path in paths(edges, 0, nodes - 1) for edge in path}
    assert on_paths(edges, nodes) == walked


def test_a_cell_of_nas_bench_201_has_9445_different_functions() -> None:
    found = set()
    for row in itertools.product(OPERATIONS, repeat=6):
        used = on_paths([edge for edge, operation in zip(SQUARE, row, strict=True) if operation != "none"], 4)
        found.add(tuple(o if edge in used else "none" for edge, o in zip(SQUARE, row, strict=True)))
    assert len(found) == 9_445


# -- operations on edges ---------------------------------------------------------------------------------------------


def test_edges_become_nodes_between_input_and_output() -> None:
    # 0 -a-> 1 -b-> 2 and 0 -c-> 2: input, a, b, c, output
    assert line_graph([(0, 1), (1, 2), (0, 2)], 3) == [
        [0, 1, 0, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
    ]


def text(*row: str) -> str:
    return structure(dict(zip(SQUARE, row, strict=True)), 4, nothing="none", identity="skip")


def test_structures_read_as_sums_of_nested_operations() -> None:
    assert text("conv3", "none", "skip", "pool", "none", "conv1") == "#+(#+(0)conv3)conv1+(0)pool"
    assert text(*["none"] * 6) == "#+#+#"


def test_structures_are_equal_where_identities_make_one_node_of_two() -> None:
    assert text("skip", "none", "none", "conv3", "pool", "none") == text(
        "skip", "none", "none", "pool", "conv3", "none"
    )
    assert text("skip", "none", "none", "conv3", "pool", "none") != text(
        "skip", "none", "none", "conv3", "conv3", "none"
    )


def test_structures_stay_apart_where_the_benchmark_keeps_them_apart() -> None:
    # Nodes 1 and 2 exchanged: the sum at node 2 has a term that is nothing, that at node 1 has none.
    assert text("conv3", "pool", "none", "none", "pool", "conv3") != text(
        "pool", "conv3", "none", "none", "conv3", "pool"
    )


def test_a_cell_of_nas_bench_201_has_6466_structures() -> None:
    found = {text(*row) for row in itertools.product(OPERATIONS, repeat=6)}
    assert len(found) == 6_466


# -- operations on nodes ---------------------------------------------------------------------------------------------


def test_pruning_keeps_order_and_what_is_on_paths() -> None:
    adjacency = matrix({(0, 1), (0, 2), (2, 4), (3, 4), (1, 3), (1, 2)} - {(1, 3)}, 5)
    assert pruned(adjacency, ["in", "a", "b", "c", "out"]) == (
        [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]],
        ["in", "a", "b", "out"],
    )
    assert pruned(matrix({(0, 1)}, 3), ["in", "a", "out"]) == ([], [])


def test_the_hash_is_that_of_the_benchmark() -> None:
    # The first cell of the benchmark's own file, with the key it has there.
    edges = {(0, 1), (0, 4), (0, 5), (1, 2), (2, 3), (2, 6), (3, 5), (4, 5), (5, 6)}
    assert graph_hash(matrix(edges, 7), [-1, 0, 2, 0, 0, 1, -2]) == "00005c142e6f48ac74fdcf73e3439874"


@given(edge_sets, st.data())
def test_the_hash_does_not_see_how_nodes_are_numbered(drawn: tuple[int, set[Edge]], data: st.DataObject) -> None:
    nodes, edges = drawn
    labels = data.draw(st.lists(st.integers(0, 2), min_size=nodes, max_size=nodes))
    order = data.draw(st.permutations(range(nodes)))
    moved = {(order.index(i), order.index(j)) for i, j in edges}
    assert graph_hash(matrix(edges, nodes), labels) == graph_hash(matrix(moved, nodes), [labels[n] for n in order])


def full_cells(nodes: int) -> Iterator[tuple[list[list[int]], list[int]]]:
    """All labelled cells of so many nodes, each of them on a path."""
    pairs = list(itertools.combinations(range(nodes), 2))
    for size in range(nodes - 1, len(pairs) + 1):
        for edges in map(set, itertools.combinations(pairs, size)):
            if len({node for edge in on_paths(edges, nodes) for node in edge}) == nodes:
                for labels in itertools.product(range(3), repeat=nodes - 2):
                    yield matrix(edges, nodes), [-1, *labels, -2]


def smallest_form(adjacency: list[list[int]], labels: list[int]) -> tuple[object, ...]:
    """The least of all renumberings: equal exactly for isomorphic cells."""
    nodes = range(len(labels))
    return min(
        (tuple(labels[i] for i in order), tuple(adjacency[i][j] for i in order for j in order))
        for order in itertools.permutations(nodes)
    )


@pytest.mark.parametrize("nodes, count", [(2, 1), (3, 6), (4, 84)])
def test_hashes_are_equal_for_isomorphic_cells_alone(nodes: int, count: int) -> None:
    forms = defaultdict(set)
    for adjacency, labels in full_cells(nodes):
        forms[graph_hash(adjacency, labels)].add(smallest_form(adjacency, labels))
    assert len(forms) == count
    assert all(len(same) == 1 for same in forms.values())
    assert len({form for same in forms.values() for form in same}) == count


def test_edges_are_read_row_by_row() -> None:
    assert edges_of([[0, 1, 1], [0, 0, 1], [0, 0, 0]]) == [(0, 1), (0, 2), (1, 2)]
    assert len(edges_of(matrix(set(itertools.combinations(range(7), 2)), 7))) == math.comb(7, 2)


def test_graphs_have_one_operation_a_node() -> None:
    graph = cell_graph([[0, 1, 1], [0, 0, 1], [0, 0, 0]], ["in", "b", "out"], ("in", "a", "b", "out"))
    np.testing.assert_array_equal(graph.adjacency, [[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(graph.operations, [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(ValueError, match="tuple"):
        cell_graph([[0, 1], [0, 0]], ["in", "c"], ("in", "a", "b", "out"))
