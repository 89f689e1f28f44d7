from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from search_spaces.choices import Choice, ChoiceTable
from search_spaces.errors import ArchitectureError, SpaceError
from search_spaces.nb101 import Nb101Space
from search_spaces.space import Signature

SPACE = Nb101Space()
C1, C3, POOL = "conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3"
FIRST = json.dumps(
    {
        "module_adjacency": [
            [0, 1, 0, 0, 1, 1, 0],
            [0, 0, 1, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 0, 1],
            [0, 0, 0, 0, 0, 1, 0],
            [0, 0, 0, 0, 0, 1, 0],
            [0, 0, 0, 0, 0, 0, 1],
            [0, 0, 0, 0, 0, 0, 0],
        ],
        "module_operations": ["input", C3, POOL, C3, C3, C1, "output"],
    }
)
"""The first cell of the benchmark's file."""


def test_the_benchmarks_json_is_read_and_written() -> None:
    first = SPACE.parse(FIRST)
    assert str(first) == f"nb101:0/{C3},0/{POOL},1,1/{C3},2,0/{C3},in,0/{C1},in+3+4"
    assert json.loads(SPACE.field(first)) == json.loads(FIRST)
    assert SPACE.parse(str(first)) == first == SPACE.parse(f"  {FIRST}\n")


def test_bits_are_read() -> None:
    assert SPACE.parse(f"100110100001001010101 {C3} {POOL} {C3} {C3} {C1}") == SPACE.parse(FIRST)


def test_the_hash_is_the_benchmarks() -> None:
    assert SPACE.isomorphism(SPACE.parse(FIRST)) == "00005c142e6f48ac74fdcf73e3439874"


def test_isomorphic_cells_have_one_hash_and_the_same_cost() -> None:
    # Two branches exchanged: 0-1-3, 0-2-3.
    one, other = (SPACE.parse(f"110011 {a} {b}") for a, b in ((C1, C3), (C3, C1)))
    assert one != other and SPACE.isomorphism(one) == SPACE.isomorphism(other)
    assert SPACE.isomorphism(one) != SPACE.isomorphism(SPACE.parse(f"110011 {C3} {C3}"))
    with torch.device("meta"):
        sizes = {sum(p.numel() for p in SPACE.build(a).parameters()) for a in (one, other)}
    assert len(sizes) == 1


def test_equivalent_architectures_are_the_same_cell() -> None:
    rng = np.random.default_rng(0)
    for arch in (SPACE.table.sample(rng) for _ in range(100)):
        standing = SPACE.equivalent(arch)
        assert SPACE.field(standing) == SPACE.field(arch)
        assert SPACE.equivalent(standing) == standing == SPACE.parse(SPACE.field(arch))


def test_drawings_have_operations_on_nodes() -> None:
    (drawing,) = SPACE.drawings(SPACE.parse(FIRST))
    described = json.loads(FIRST)
    assert [label for label, _ in drawing.nodes] == described["module_operations"]
    assert [part for _, part in drawing.nodes] == ["input", *["inner"] * (len(drawing.nodes) - 2), "output"]
    joined = {(i, j) for i, row in enumerate(described["module_adjacency"]) for j, there in enumerate(row) if there}
    assert set(drawing.edges) == {(i, j, "") for i, j in joined}


def test_graphs_are_those_of_the_cell() -> None:
    graph = SPACE.graph(SPACE.parse(FIRST))
    assert graph.adjacency.tolist() == json.loads(FIRST)["module_adjacency"]
    named = [graph.kinds[i] for i in graph.operations.argmax(1)]
    assert named == json.loads(FIRST)["module_operations"]
    assert SPACE.graph(SPACE.table.smallest).operations.tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]


@pytest.mark.parametrize(
    "text, message",
    [
        ("100 maxpool3x3", "no path from its input to its output"),
        ("1111111111 maxpool3x3 maxpool3x3 maxpool3x3", "5 vertices and 10 edges"),
        ("nb101:0", "parts between slashes"),
        ("nb201:none", "space here is 'nb101'"),
    ],
)
def test_strings_that_name_no_cell_are_refused(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        SPACE.parse(text)


def test_networks_have_the_settings_size() -> None:
    small = Nb101Space(Signature("image", (1, 9, 7), 3), channels=6, stacks=2, modules=1)
    rng = np.random.default_rng(1)
    for arch in (small.table.sample(rng) for _ in range(10)):
        net = small.build(arch)
        assert net(torch.zeros(2, 1, 9, 7)).shape == (2, 3)
        assert net.stem.conv.weight.shape == (6, 1, 3, 3) and net.classifier.in_features == 12


def test_architectures_of_other_spaces_are_refused() -> None:
    stranger = ChoiceTable("other", (Choice("x", ("1",)),)).smallest
    for method in (SPACE.build, SPACE.field, SPACE.equivalent, SPACE.graph, SPACE.isomorphism):
        with pytest.raises(ArchitectureError, match="no architecture of nb101"):
            method(stranger)


def test_there_is_no_supernet() -> None:
    with pytest.raises(SpaceError, match="nb101 space has no supernet.*take nb201"):
        SPACE.supernet()
    with pytest.raises(SpaceError, match="take nb201"):
        SPACE.inherit(torch.nn.Identity(), SPACE.table.smallest)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"signature": Signature("graph", (7,), 3)}, "needs images"),
        ({"channels": 4}, "channels=4 must be at least 5"),
        ({"stacks": 0}, "stacks=0 must be at least 1"),
        ({"modules": 0}, "modules=0 must be at least 1"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Nb101Space(**settings)  # type: ignore[arg-type]
