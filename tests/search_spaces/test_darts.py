from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces.choices import Choice, ChoiceTable
from search_spaces.darts import DartsSpace
from search_spaces.darts_cells import TABLES
from search_spaces.errors import ArchitectureError
from search_spaces.space import CellSpace, Drawable, PartialChannels, Signature
from tests.search_spaces.test_genotype import V2, genotype

SPACE = DartsSpace()
NONE = DartsSpace(Signature("image", (3, 8, 8), 4), preset="darts-none", channels=2, cells=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "s5"}, "preset='s5' is unknown; there are darts, darts-none, s1, s2, s3, s4"),
        ({"channels": 1}, "channels=1 must be at least 2"),
        ({"cells": 2}, "cells=2 must be at least 3: two that halve the image and a normal one"),
        ({"signature": Signature("sequence", (7,), 3)}, r"needs images .* but the data are sequence 7 -> 3"),
        ({"signature": Signature("image", (3, 0, 8), 3)}, "needs images"),
    ],
)
def test_settings_that_describe_no_network_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DartsSpace(**settings)  # type: ignore[arg-type]


def test_what_the_space_can_do() -> None:
    assert isinstance(SPACE, CellSpace) and isinstance(SPACE, Drawable) and isinstance(SPACE, PartialChannels)
    assert SPACE.graph(SPACE.parse(V2)).adjacency.shape == (23, 23)


# -- architectures ---------------------------------------------------------------------------------------------------


def test_one_network_has_one_string() -> None:
    arch = SPACE.parse(V2)
    assert str(arch) == (
        "darts:sep_conv_3x3,sep_conv_3x3/0+1,sep_conv_3x3,sep_conv_3x3,-/0+1,skip_connect,sep_conv_3x3,-,-/"
        "0+2,skip_connect,-,dil_conv_3x3,-,-/"
        "max_pool_3x3,max_pool_3x3/1+2,-,max_pool_3x3,skip_connect/0+2,max_pool_3x3,-,skip_connect,-/"
        "1+2,-,max_pool_3x3,skip_connect,-,-"
    )
    assert SPACE.parse(str(arch)) == arch == SPACE.parse(SPACE.field(arch))


def test_json_is_read_too() -> None:
    arch = SPACE.parse(V2)
    fields = {
        "normal": [["sep_conv_3x3", 1], ["sep_conv_3x3", 0], ["sep_conv_3x3", 0], ["sep_conv_3x3", 1]]
        + [["sep_conv_3x3", 1], ["skip_connect", 0], ["skip_connect", 0], ["dil_conv_3x3", 2]],
        "normal_concat": [2, 3, 4, 5],
        "reduce": [["max_pool_3x3", 0], ["max_pool_3x3", 1], ["skip_connect", 2], ["max_pool_3x3", 1]]
        + [["max_pool_3x3", 0], ["skip_connect", 2], ["skip_connect", 2], ["max_pool_3x3", 1]],
        "reduce_concat": [2, 3, 4, 5],
    }
    assert SPACE.parse(json.dumps(fields)) == arch


@pytest.mark.parametrize(
    ("preset", "text", "message"),
    [
        (
            "darts",
            genotype([("sep_conv_7x7", 0), ("skip_connect", 1)] * 4),
            "from0='sep_conv_7x7' is not in darts; the",
        ),
        (
            "darts",
            genotype([("none", 0), ("skip_connect", 1)] * 4),
            "'none' is not in darts; the options are skip_conn",
        ),
        (
            "s2",
            genotype([("max_pool_3x3", 0), ("skip_connect", 1)] * 4),
            r"darts-s2; the options are skip_connect, sep_",
        ),
        ("darts", str(TABLES["s1"].smallest), "is an architecture of 'darts-s1'; the space here is 'darts'"),
        ("darts", "skip_connect", "no architecture: it must begin with the space's name"),
    ],
)
def test_what_is_not_in_the_space_is_refused(preset: str, text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        DartsSpace(preset=preset).parse(text)  # type: ignore[arg-type]


def test_architectures_of_other_spaces_are_refused() -> None:
    stranger = ChoiceTable("other", (Choice("a.b", ("1", "2")),)).smallest
    for method in (SPACE.build, SPACE.field, SPACE.graph, SPACE.drawings, NONE.equivalent):
        with pytest.raises(ArchitectureError, match="no architecture of darts"):
            method(stranger)


def test_equivalent_networks_compute_the_same_from_the_same_tensors() -> None:
    rng, x, table = np.random.default_rng(0), torch.randn(3, 3, 8, 8), NONE.table
    rows = [table.sample(rng).options for _ in range(60)]
    # Half of all operations are taken away.
    away = ["none" in choice.options for choice in table.choices] & (rng.random((60, len(table.choices))) < 0.5)
    archs = [
        table.canonical(["none" if gone else option for option, gone in zip(row, lost, strict=True)])
        for row, lost in zip(rows, away, strict=True)
    ]
    differing = [a for a in archs if NONE.equivalent(a) != a]
    assert len(differing) > 20 and all(NONE.equivalent(NONE.equivalent(a)) == NONE.equivalent(a) for a in archs)
    for arch in differing[:8]:
        torch.manual_seed(0)
        net, lean = NONE.build(arch).eval(), NONE.build(NONE.equivalent(arch)).eval()
        held = net.state_dict()
        lean.load_state_dict({key: held[key] for key in lean.state_dict()})
        assert torch.equal(net(x), lean(x))


def test_without_none_all_architectures_stand_for_themselves() -> None:
    arch = SPACE.table.sample(np.random.default_rng(0))
    assert SPACE.equivalent(arch) is arch and SPACE.mixed_only == frozenset()
    assert NONE.mixed_only == {"none"} == DartsSpace(preset="s3").mixed_only
    assert DartsSpace(preset="s4").mixed_only == frozenset()


def test_topology_and_nodes_name_the_choices_of_edges() -> None:
    names = {c.name: c for c in SPACE.table.choices}
    assert list(SPACE.topology) == [f"{k}.node{n}.inputs" for k in ("normal", "reduce") for n in (3, 4, 5)]
    for name, options in SPACE.topology.items():
        assert len(options) == len(names[name].options)
        for text, edges in zip(names[name].options, options, strict=True):
            stem = name.rpartition(".")[0]
            assert edges == {f"{stem}.from{source}" for source in text.split("+")}
            assert all((name, True) in {(n, text in allowed) for n, allowed in names[edge].when} for edge in edges)
    assert SPACE.nodes["normal.node2"] == ("normal.node2.from0", "normal.node2.from1")
    assert SPACE.nodes["reduce.node5"] == tuple(f"reduce.node5.from{i}" for i in range(5))
    assert sorted(e for into in SPACE.nodes.values() for e in into) == sorted(n for n in names if ".from" in n)


def test_drawings_show_both_cells() -> None:
    normal, reduce = SPACE.drawings(SPACE.parse(V2))
    assert (normal.title, reduce.title) == ("normal cell", "reduce cell")
    assert [label for label, _ in normal.nodes] == ["c_{k-2}", "c_{k-1}", "0", "1", "2", "3", "c_{k}"]
    assert [part for _, part in normal.nodes] == ["input", "input", *["inner"] * 4, "output"]
    assert set(normal.edges) == {
        *((0, 2, "sep_conv_3x3"), (1, 2, "sep_conv_3x3"), (0, 3, "sep_conv_3x3"), (1, 3, "sep_conv_3x3")),
        *((0, 4, "skip_connect"), (1, 4, "sep_conv_3x3"), (0, 5, "skip_connect"), (2, 5, "dil_conv_3x3")),
        *((2, 6, ""), (3, 6, ""), (4, 6, ""), (5, 6, "")),
    }
    assert len(reduce.edges) == 12
    (empty, _) = NONE.drawings(NONE.table.smallest)
    assert empty.edges == ((2, 6, ""), (3, 6, ""), (4, 6, ""), (5, 6, ""))


# -- networks --------------------------------------------------------------------------------------------------------


def test_the_sizes_reach_the_networks() -> None:
    space = DartsSpace(Signature("image", (1, 8, 8), 6), channels=3, cells=5, pool_norm=False)
    for net in (space.build(space.table.smallest), space.supernet()):
        assert len(net.body.cells) == 5 and net.body.stem[0].weight.shape == (9, 1, 3, 3)
        assert net.body.classifier.weight.shape == (6, 4 * 4 * 3)
    pools = space.build(space.parse(V2)).body.cells[1].operations
    assert isinstance(pools["max_pool_3x3_0_2"], nn.MaxPool2d)
