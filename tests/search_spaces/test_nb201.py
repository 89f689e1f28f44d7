from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest

from search_spaces.choices import Architecture, Choice, ChoiceTable
from search_spaces.errors import ArchitectureError, SpaceError
from search_spaces.nb201 import Nb201Space
from search_spaces.space import Signature
from search_spaces.table import TableSpace
from search_spaces.tabulated import Tabulated

SPACE = Nb201Space()
OPS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
"""The benchmark's best cell for CIFAR-10, its number 6111."""


def arch(*options: str) -> Architecture:
    return SPACE.table.canonical(
        [{"-": "none", "=": "skip_connect", "3": "nor_conv_3x3", "p": "avg_pool_3x3"}[o] for o in options]
    )


@pytest.fixture
def measured(tmp_path: Path) -> Nb201Space:
    """Three measured cells."""
    path = tmp_path / "cells.npz"
    code = np.array([[3] * 6, [0] * 6, [1, 2, 3, 4, 0, 1]], np.uint8)
    np.savez(
        path, ops=OPS, code=code, datasets=["cifar10"], test_acc_200ep=np.array([[94.0], [10.0], [90.0]], np.float32)
    )
    return Nb201Space(path=str(path))


# -- architectures ---------------------------------------------------------------------------------------------------


def test_the_table_is_that_of_the_measured_space(measured: Nb201Space) -> None:
    assert TableSpace(measured.path, name="nb201").table == SPACE.table
    assert SPACE.table.size == 15_625


def test_the_benchmarks_strings_are_read_and_written() -> None:
    best = SPACE.parse(f" {BEST}\n")
    assert str(best) == "nb201:nor_conv_3x3,nor_conv_3x3,nor_conv_3x3,skip_connect,nor_conv_3x3,nor_conv_1x1"
    assert SPACE.field(best) == BEST
    assert SPACE.parse(str(best)) == best


def test_every_architecture_reads_back_from_its_own_fields_string() -> None:
    for one in itertools.islice(SPACE.table.members(), 0, None, 37):
        assert SPACE.parse(SPACE.field(one)) == one


@pytest.mark.parametrize(
    "text, message",
    [
        ("|nor_conv_3x3~0|+|none~0|none~1|", r"describes 2 nodes; a cell has 3, as in '\|nor_conv_3x3~0\|\+"),
        ("|none~0|+|none~0|+|none~0|none~1|none~2|", r"'\|none~0\|' in .* form \|OPERATION~0\|OPERATION~1\|\."),
        ("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", r"'\|none~1\|none~0\|' in .* should be of the form"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2", "should be of the form"),
        ("|none~0|+|none~0|none~1|+|none~0|x|none~1|none~2|", "should be of the form"),
        (
            "|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|",
            "edge.0-1='conv' is not in nb201; the options are none, skip",
        ),
        ("nb201:none", "has 6 choices .* but 'none' gives 1"),
        ("mobile:3", "'mobile'; the space here is 'nb201'"),
        ("", "no architecture"),
        ("6111", "6111 is an index of NAS-Bench-201, which only its table can resolve: set the space's path"),
    ],
)
def test_strings_that_name_no_cell_are_refused(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        SPACE.parse(text)


def test_an_index_is_a_row_of_the_table(measured: Nb201Space) -> None:
    assert measured.parse("0") == SPACE.table.largest
    assert measured.parse("2") == SPACE.parse(
        "|skip_connect~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|avg_pool_3x3~0|none~1|skip_connect~2|"
    )
    for index in ("3", "-1"):
        with pytest.raises(ArchitectureError, match=f"has no index {index}; those of .* are 0 to 2"):
            measured.parse(index)


def test_operations_on_no_path_do_not_matter() -> None:
    # Edges 0-1 0-2 1-2 0-3 1-3 2-3. Nothing feeds node 1; then node 2 leads nowhere; then there is no path at all.
    assert SPACE.equivalent(arch("-", "=", "3", "p", "3", "3")) == arch("-", "=", "-", "p", "-", "3")
    assert SPACE.equivalent(arch("3", "3", "3", "p", "3", "-")) == arch("3", "-", "-", "p", "3", "-")
    assert SPACE.equivalent(arch("3", "3", "3", "-", "-", "-")) == SPACE.table.smallest
    assert SPACE.equivalent(SPACE.table.largest) == SPACE.table.largest


def test_9445_architectures_stand_for_all() -> None:
    standing = {SPACE.equivalent(one) for one in SPACE.table.members()}
    assert len(standing) == 9_445
    assert all(SPACE.equivalent(one) == one for one in sorted(standing)[::20])


def test_cells_that_the_benchmark_counts_as_one_have_equal_texts() -> None:
    # Node 1 is the input itself: an operation from either to the output is the same.
    one, other = arch("=", "-", "-", "3", "p", "-"), arch("=", "-", "-", "p", "3", "-")
    assert one != other and SPACE.isomorphism(one) == SPACE.isomorphism(other)
    assert SPACE.isomorphism(one) != SPACE.isomorphism(arch("-", "-", "-", "3", "p", "-"))


def test_graphs_have_the_operations_on_nodes() -> None:
    graph = SPACE.graph(arch("3", "=", "-", "p", "3", "="))
    assert graph.kinds == ("input", *SPACE.table.choices[0].options, "output")
    named = [graph.kinds[i] for i in graph.operations.argmax(1)]
    assert named == [
        "input",
        "nor_conv_3x3",
        "skip_connect",
        "none",
        "avg_pool_3x3",
        "nor_conv_3x3",
        "skip_connect",
        "output",
    ]
    assert (graph.operations.sum(1) == 1).all()
    edges = {(int(i), int(j)) for i, j in zip(*np.nonzero(graph.adjacency), strict=True)}
    assert edges == {(0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7)}


def test_drawings_leave_out_edges_that_compute_nothing() -> None:
    (drawing,) = SPACE.drawings(arch("3", "=", "-", "p", "-", "="))
    assert drawing.nodes == (("0", "input"), ("1", "inner"), ("2", "inner"), ("3", "output"))
    assert drawing.edges == (
        (0, 1, "nor_conv_3x3"),
        (0, 2, "skip_connect"),
        (0, 3, "avg_pool_3x3"),
        (2, 3, "skip_connect"),
    )


def test_architectures_of_other_spaces_are_refused() -> None:
    stranger = ChoiceTable("other", (Choice("edge.0-1", ("none", "skip_connect")),)).smallest
    for method in (SPACE.build, SPACE.field, SPACE.equivalent, SPACE.graph, SPACE.isomorphism):
        with pytest.raises(ArchitectureError, match="no architecture of nb201"):
            method(stranger)


# -- the table -------------------------------------------------------------------------------------------------------


def test_without_a_table_there_are_no_columns() -> None:
    assert isinstance(SPACE, Tabulated) and SPACE.columns == {}
    with pytest.raises(SpaceError, match="no table to look 'cifar10_test' up in; set its path"):
        SPACE.look_up(SPACE.table.largest, "cifar10_test")


def test_with_a_table_its_columns_are_looked_up(measured: Nb201Space) -> None:
    assert measured.columns == {"cifar10_test": ("max", "%")}
    assert measured.look_up(SPACE.table.largest, "cifar10_test") == 94.0
    with pytest.raises(SpaceError, match="was not measured"):
        measured.look_up(arch("3", "3", "3", "3", "3", "-"), "cifar10_test")


def test_a_table_of_other_cells_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("choice.a,accuracy\n1,80\n2,90\n")
    space = Nb201Space(path=str(path))
    with pytest.raises(SpaceError, match="is no table of NAS-Bench-201"):
        _ = space.columns
    with pytest.raises(SpaceError, match="is no table of NAS-Bench-201"):
        space.parse("0")


def test_a_used_space_travels_as_a_few_strings(measured: Nb201Space) -> None:
    measured.look_up(SPACE.table.largest, "cifar10_test")
    travelled = pickle.dumps(measured)
    assert len(travelled) < 1000 and pickle.loads(travelled) == measured


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"signature": Signature("sequence", (7,), 3)}, "needs images"),
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"cells": 0}, "cells=0 must be at least 1"),
        ({"also": ("more.npz",)}, "give its path as well"),
        ({"path": "no/such.npz"}, "There is no table"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Nb201Space(**settings)  # type: ignore[arg-type]


def test_supernets_of_other_settings_are_refused() -> None:
    supernet = Nb201Space(channels=4, cells=1).supernet()
    with pytest.raises(SpaceError, match="not one of this space"):
        Nb201Space(channels=4, cells=2).inherit(supernet, SPACE.table.largest)
    with pytest.raises(SpaceError, match="not one of this space"):
        Nb201Space(channels=6, cells=1).inherit(supernet, SPACE.table.smallest)


# -- the benchmark itself --------------------------------------------------------------------------------------------


@pytest.mark.data
def test_indices_are_the_benchmarks() -> None:
    space = Nb201Space(path="nasbench201.npz", also=("hwnasbench_nb201.npz",))
    assert space.field(space.parse("6111")) == BEST
    # The example in HW-NAS-Bench's description.
    assert space.field(space.parse("0")) == (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    assert space.look_up(space.parse("0"), "edgegpu_latency_ms") == pytest.approx(5.807418537139893)
    assert space.look_up(space.parse(BEST), "cifar10_test") == pytest.approx(94.37, abs=0.005)


@pytest.mark.data
def test_isomorphism_is_the_benchmarks(data_root: Path) -> None:
    with np.load(data_root / "nas" / "nasbench201.npz") as file:
        classes, code = file["iso_class"].tolist(), file["code"].tolist()
    texts = [SPACE.isomorphism(SPACE.table.canonical([OPS[i] for i in row])) for row in code]
    assert len(set(texts)) == len(set(classes)) == len(set(zip(texts, classes, strict=True))) == 6_466
