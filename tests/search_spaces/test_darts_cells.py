from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from search_spaces import darts_cells
from search_spaces.choices import Choice, ChoiceTable
from search_spaces.darts_cells import EDGES, KINDS, TABLES, Cell, architecture, cells, graph, operations, reduced
from search_spaces.errors import ArchitectureError

DARTS = TABLES["darts"]
SKIP = dict.fromkeys([(0, 2), (1, 2), (0, 3), (1, 3), (0, 4), (1, 4), (0, 5), (1, 5)], "skip_connect")


@pytest.mark.parametrize(("preset", "count"), [("darts", 7), ("darts-none", 8), ("s1", 2), ("s2", 2), ("s3", 3)])
def test_sizes_are_those_of_the_papers(preset: darts_cells.Preset, count: int) -> None:
    # Pairs of inputs of the four nodes, times the operations of eight edges, for each kind of cell.
    assert TABLES[preset].size == (math.comb(2, 2) * 3 * 6 * 10 * count**8) ** 2


def test_tables_have_a_name_a_preset() -> None:
    assert [t.name for t in TABLES.values()] == ["darts", "darts-none", "darts-s1", "darts-s2", "darts-s3", "darts-s4"]
    arch = TABLES["s2"].smallest
    for preset, table in TABLES.items():
        if preset != "s2":
            with pytest.raises(ArchitectureError, match="is an architecture of 'darts-s2'; the space here is"):
                table.parse(str(arch))


def test_the_second_space_of_robust_darts_is_all_of_its_parts() -> None:
    listed = {preset: {operations(preset, k, e) for k in KINDS for e in EDGES} for preset in TABLES}
    assert listed["s2"] == {("skip_connect", "sep_conv_3x3")}
    assert listed["s3"] == {("none", "skip_connect", "sep_conv_3x3")}
    assert listed["s4"] == {("noise", "sep_conv_3x3")}
    assert len(listed["s1"]) == 8 and all(len(options) == 2 for options in listed["s1"])


@pytest.mark.parametrize(
    ("kind", "edge", "expected"),
    [
        ("normal", (0, 2), {"skip_connect", "dil_conv_3x3"}),
        ("normal", (1, 2), {"skip_connect", "dil_conv_5x5"}),
        ("normal", (2, 3), {"skip_connect", "dil_conv_3x3"}),
        ("normal", (0, 4), {"max_pool_3x3", "skip_connect"}),
        ("normal", (1, 5), {"max_pool_3x3", "skip_connect"}),
        ("normal", (4, 5), {"dil_conv_3x3", "dil_conv_5x5"}),
        ("reduce", (0, 2), {"max_pool_3x3", "avg_pool_3x3"}),
        ("reduce", (1, 2), {"max_pool_3x3", "dil_conv_3x3"}),
        ("reduce", (1, 4), {"max_pool_3x3", "sep_conv_3x3"}),
        ("reduce", (2, 4), {"skip_connect", "dil_conv_3x3"}),
        ("reduce", (4, 5), {"skip_connect", "dil_conv_5x5"}),
    ],
)
def test_the_first_space_differs_by_edge(kind: darts_cells.Kind, edge: tuple[int, int], expected: set[str]) -> None:
    assert set(operations("s1", kind, edge)) == expected


def test_architectures_are_written_node_by_node() -> None:
    arch = architecture(DARTS, {"normal": SKIP | {(1, 2): "sep_conv_3x3"}, "reduce": SKIP})
    text = str(arch)
    assert text.startswith("darts:skip_connect,sep_conv_3x3/0+1,skip_connect,skip_connect,-/0+1,skip_connect,skip_con")
    assert DARTS.parse(text) == arch and arch != DARTS.smallest
    assert DARTS.smallest == architecture(DARTS, {"normal": SKIP, "reduce": SKIP})


def test_cells_and_architectures_are_two_forms_of_one_thing() -> None:
    rng = np.random.default_rng(0)
    for table in TABLES.values():
        for arch in (table.sample(rng) for _ in range(30)):
            found = cells(table, arch)
            assert architecture(table, found) == arch
            for cell in found.values():
                assert list(cell) == sorted(cell, key=lambda e: (e[1], e[0]))
                assert [target for _, target in cell] == [2, 2, 3, 3, 4, 4, 5, 5]
                assert all(source < target for source, target in cell)


def test_an_operation_that_an_edge_does_not_have_is_refused_with_those_it_has() -> None:
    table = TABLES["s1"]
    cell = dict(cells(table, table.smallest)["normal"]) | {(1, 3): "max_pool_3x3"}
    with pytest.raises(
        ArchitectureError,
        match=r"normal\.node3\.from1='max_pool_3x3' is not in darts-s1; the options are skip_connect, sep_conv_3x3\.",
    ):
        architecture(table, {**cells(table, table.smallest), "normal": cell})


def test_architectures_of_other_tables_are_refused() -> None:
    stranger = ChoiceTable("other", (Choice("a.b", ("1", "2")),)).smallest
    with pytest.raises(ArchitectureError, match="no architecture of darts"):
        cells(DARTS, stranger)


# -- what computes the same ------------------------------------------------------------------------------------------


def with_operations(*into: tuple[tuple[int, str], tuple[int, str]]) -> Cell:
    return {(source, node): o for node, pairs in enumerate(into, 2) for source, o in pairs}


SEP, NONE = "sep_conv_3x3", "none"


def test_what_reads_nothing_is_nothing_and_reads_the_first_nodes() -> None:
    cell = with_operations(
        ((0, NONE), (1, NONE)), ((1, SEP), (2, SEP)), ((2, "skip_connect"), (3, NONE)), ((3, SEP), (4, SEP))
    )
    expected = with_operations(
        ((0, NONE), (1, NONE)), ((0, NONE), (1, SEP)), ((0, NONE), (1, NONE)), ((0, NONE), (3, SEP))
    )
    assert reduced(cell) == expected == reduced(expected)


def test_cells_without_none_stay_as_they_are() -> None:
    rng = np.random.default_rng(1)
    for arch in (DARTS.sample(rng) for _ in range(20)):
        for cell in cells(DARTS, arch).values():
            assert reduced(cell) == cell


def test_reduced_cells_have_no_needless_differences() -> None:
    """All cells of a node that reads one real thing: the other source makes no difference."""
    found = set()
    for source in (1, 2, 3):
        pair = sorted(((0, SEP), (source, NONE)))
        cell = with_operations(((0, SEP), (1, SEP)), ((0, SEP), (1, SEP)), (pair[0], pair[1]), ((0, SEP), (1, SEP)))
        found.add(tuple(reduced(cell).items()))
    assert len(found) == 1


# -- graphs ----------------------------------------------------------------------------------------------------------


def test_the_graph_joins_both_cells() -> None:
    normal = with_operations(
        ((0, SEP), (1, SEP)), ((0, "skip_connect"), (2, SEP)), ((2, SEP), (3, SEP)), ((0, SEP), (4, SEP))
    )
    found = graph({"normal": normal, "reduce": SKIP})
    named = [found.kinds[i] for i in found.operations.argmax(1)]
    assert named == [
        *("input", "older", "newer", SEP, SEP, "skip_connect", *[SEP] * 5, "concat"),
        *("older", "newer", *["skip_connect"] * 8, "output"),
    ]
    feeds = {(int(i), int(j)) for i, j in zip(*np.nonzero(found.adjacency), strict=True)}
    # Operations of the normal cell are 3 to 10, in the order of its edges: two into each of four nodes.
    expected = {(0, 1), (0, 2), (1, 3), (2, 4), (1, 5), (3, 6), (4, 6), (3, 7), (4, 7), (5, 8), (6, 8), (1, 9)}
    expected |= {(7, 10), (8, 10), *((i, 11) for i in range(3, 11)), (11, 12), (11, 13)}
    expected |= {(12 + i % 2, 14 + i) for i in range(8)} | {(14 + i, 22) for i in range(8)}
    assert feeds == expected


def test_all_presets_have_graphs_of_one_kind() -> None:
    kinds = {graph(cells(t, t.largest)).kinds for t in TABLES.values()}
    assert len(kinds) == 1
    for table in TABLES.values():
        for arch in itertools.chain([table.smallest], [table.sample(np.random.default_rng(2))]):
            found = graph(cells(table, arch))
            assert found.adjacency.shape == (23, 23) and np.array_equal(found.adjacency, np.triu(found.adjacency, 1))
            assert (found.operations.sum(1) == 1).all()
