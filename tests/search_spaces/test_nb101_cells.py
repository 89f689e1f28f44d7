from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from search_spaces.cells import Edge, edges_of, on_paths
from search_spaces.choices import Choice, ChoiceTable
from search_spaces.errors import ArchitectureError
from search_spaces.nb101_cells import TABLE, Cell, architecture, cell, read, write

C1, C3, POOL = "conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3"


def made(edges: set[Edge], *inner: str) -> Cell:
    nodes = range(len(inner) + 2)
    return [[int((i, j) in edges) for j in nodes] for i in nodes], ["input", *inner, "output"]


def at(**values: str) -> dict[str, str]:
    """Option by choice; vertex 3 is written v3."""
    return {key.replace("v", "vertex", 1).replace("__", "."): option for key, option in values.items()}


def member(**values: str) -> Cell:
    options = at(**values)
    return cell(TABLE.canonical([options.get(c.name, c.options[0]) for c in TABLE.choices]))


# -- from architectures ----------------------------------------------------------------------------------------------


def test_every_member_is_a_cell_of_the_benchmark() -> None:
    rng, sizes = np.random.default_rng(0), set()
    for arch in (TABLE.smallest, TABLE.largest, *(TABLE.sample(rng) for _ in range(400))):
        adjacency, operations = cell(arch)
        edges = edges_of(adjacency)
        assert 2 <= len(operations) <= 7 and 1 <= len(edges) <= 9
        assert on_paths(edges, len(operations)) == set(edges)
        assert {node for edge in edges for node in edge} == set(range(len(operations)))
        assert (operations[0], operations[-1]) == ("input", "output") and set(operations[1:-1]) <= {C1, C3, POOL}
        sizes.add(len(operations))
    assert sizes == {2, 3, 4, 5, 6, 7}


def test_the_smallest_cell_is_one_edge() -> None:
    assert cell(TABLE.smallest) == made({(0, 1)})


def test_what_feeds_nothing_feeds_the_output() -> None:
    found = member(v1__operation=C1, v2__operation=C3, v2__inputs="in", v3__operation=POOL, v3__inputs="1")
    assert found == made({(0, 1), (0, 2), (1, 3), (2, 4), (3, 4)}, C1, C3, POOL)


def test_ends_are_further_edges_to_the_output() -> None:
    found = member(input__ends="1", v1__operation=C1, v1__ends="1", v2__operation=C3, v2__inputs="1")
    assert found == made({(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)}, C1, C3)


def test_an_absent_input_is_the_cells_input() -> None:
    found = member(v1__operation=C1, v3__operation=C3, v3__inputs="2", v5__operation=POOL, v5__inputs="1+3+4")
    assert found == made({(0, 1), (0, 2), (0, 3), (1, 3), (2, 3), (3, 4)}, C1, C3, POOL)


def test_there_are_never_more_than_nine_edges() -> None:
    # Each vertex keeps its last input: 5 edges. In order of the vertices 3 more make 8, and the last end makes 9.
    found = member(
        **{f"v{v}__operation": C1 for v in range(1, 6)},
        v2__inputs="in+1",
        v3__inputs="in+1+2",
        v4__inputs="1+2+3",
        v5__inputs="2+3+4",
        input__ends="1",
    )
    assert found == made({(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (3, 4), (4, 5), (5, 6)}, *[C1] * 5)


# -- to architectures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [2, 3, 4, 5])
def test_every_small_cell_is_in_the_table(nodes: int) -> None:
    pairs = list(itertools.combinations(range(nodes), 2))
    inner, seen = [C3, POOL, C1][: nodes - 2], 0
    for size in range(min(len(pairs), 9) + 1):
        for edges in map(set, itertools.combinations(pairs, size)):
            if {node for edge in on_paths(edges, nodes) for node in edge} == set(range(nodes)):
                given, seen = made(edges & on_paths(edges, nodes), *inner), seen + 1
                assert cell(architecture(given)) == given
    assert seen == {2: 1, 3: 2, 4: 10, 5: 121}[nodes]


def test_large_cells_are_in_the_table() -> None:
    rng, seen = np.random.default_rng(1), 0
    for _ in range(2000):
        fed = {(int(rng.integers(node)), node) for node in range(1, 7)}
        feeding = {(node, int(rng.integers(node + 1, 7))) for node in range(6)}
        if len(fed | feeding) <= 9:
            given, seen = made(fed | feeding, *rng.choice([C1, C3, POOL], 5).tolist()), seen + 1
            assert cell(architecture(given)) == given
    assert seen > 100


def test_what_does_not_matter_is_cut_away_first() -> None:
    # Of eight vertices, 2 leads nowhere and nothing reaches 3.
    edges = {(0, 1), (1, 2), (3, 4), (1, 4), (4, 5), (5, 6), (6, 7), (0, 7)}
    assert cell(architecture(made(edges, C1, C3, C3, POOL, C1, C3))) == made(
        {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5)}, C1, POOL, C1, C3
    )


@pytest.mark.parametrize(
    "given, message",
    [
        (made({(0, 1), (2, 3)}, C1, C3), "no path from its input to its output"),
        (made(set(itertools.combinations(range(5), 2)), C1, C3, C3), "has 5 vertices and 10 edges that matter"),
        (made({(i, i + 1) for i in range(7)}, *[C1] * 6), "has 8 vertices and 7 edges .* at most 7 and 9"),
    ],
)
def test_cells_outside_the_benchmark_are_refused(given: Cell, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        architecture(given)


def test_architectures_of_other_tables_are_refused() -> None:
    with pytest.raises(ArchitectureError, match="no architecture of nb101"):
        cell(ChoiceTable("other", (Choice("x", ("1",)),)).smallest)


# -- texts -----------------------------------------------------------------------------------------------------------


def test_json_is_read_and_written() -> None:
    given = made({(0, 1), (1, 2), (0, 2)}, POOL)
    text = '{"module_operations": ["input", "maxpool3x3", "output"], "module_adjacency": [[0,1,1],[0,0,1],[0,0,0]]}'
    assert json.loads(write(given)) == json.loads(text)
    assert read(text) == given


def test_bits_are_read_row_by_row() -> None:
    # rows: 0 -> 1 2 3, 1 -> 2 3, 2 -> 3
    expected = made({(0, 1), (0, 2), (1, 3), (2, 3)}, C1, POOL)
    assert read(f"110011 {C1} {POOL}") == read(f"110011, {C1},{POOL}") == expected
    assert read("1") == made({(0, 1)})


@pytest.mark.parametrize("text", ["nb101:0/absent", "", "conv3x3-bn-relu", "12 maxpool3x3", "10x"])
def test_other_texts_are_left_to_others(text: str) -> None:
    assert read(text) is None


def shown(adjacency: object, operations: object) -> str:
    return json.dumps({"module_adjacency": adjacency, "module_operations": operations})


@pytest.mark.parametrize(
    "text, message",
    [
        ("1100 maxpool3x3", "'1100' should have 3 bits, one for each pair of the 3 vertices .* but it has 4"),
        ("110 avgpool", "'avgpool' is not in nb101; the operations are maxpool3x3, conv1x1-bn-relu, conv3x3"),
        ("{'module_adjacency'", "is no JSON"),
        ('{"module_operations": []}', "lacks 'module_adjacency'; a cell of NAS-Bench-101 has module_adjacency and"),
        (shown([[0]], ["input"]), "should run from 'input' to 'output', but is"),
        (shown([[0]], "input output"), "should run from"),
        (shown([[0, 1], [0, 0]], ["input", POOL]), "should run from"),
        (shown([[0, 1], [0, 0]], ["input", POOL, "output"]), "should be 3 rows of 3 numbers"),
        (shown([[0, 1], [0]], ["input", "output"]), "should be 2 rows of 2 numbers"),
        (shown([[0, "1"], [0, 0]], ["input", "output"]), "should be 2 rows of 2 numbers"),
        (shown([[0, 2], [0, 0]], ["input", "output"]), "1 or 0 above its diagonal"),
        (shown([[0, 1], [1, 0]], ["input", "output"]), "1 or 0 above its diagonal and 0 elsewhere"),
        (shown([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ["input", "pool", "output"]), "'pool' is not in nb101"),
    ],
)
def test_texts_that_describe_no_cell_are_refused(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        read(text)
