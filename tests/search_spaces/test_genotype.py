from __future__ import annotations

import json
from collections import namedtuple

import numpy as np
import pytest

from search_spaces.darts_cells import TABLES, architecture, cells
from search_spaces.errors import ArchitectureError
from search_spaces.genotype import read, write

V2 = """DARTS_V2 = Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),  # two a node
            ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=range(2, 6))
"""
"""The cells of DARTS' second-order search."""

NORMAL = [("sep_conv_3x3", 0), ("skip_connect", 1)] * 4
"""Every node reads both inputs."""


def genotype(normal: object = NORMAL, concat: object = range(2, 6), reduce: object = NORMAL) -> str:
    return f"Genotype(normal={normal!r}, normal_concat={concat!r}, reduce={reduce!r}, reduce_concat=range(2, 6))"


def test_the_cells_of_darts_are_read() -> None:
    found = read(V2)
    assert found is not None
    assert found["normal"] == {
        **{(0, 2): "sep_conv_3x3", (1, 2): "sep_conv_3x3", (0, 3): "sep_conv_3x3", (1, 3): "sep_conv_3x3"},
        **{(0, 4): "skip_connect", (1, 4): "sep_conv_3x3", (0, 5): "skip_connect", (2, 5): "dil_conv_3x3"},
    }
    assert found["reduce"] == {
        **{(0, 2): "max_pool_3x3", (1, 2): "max_pool_3x3", (1, 3): "max_pool_3x3", (2, 3): "skip_connect"},
        **{(0, 4): "max_pool_3x3", (2, 4): "skip_connect", (1, 5): "max_pool_3x3", (2, 5): "skip_connect"},
    }


def test_the_text_is_what_python_shows_of_the_tuple() -> None:
    Genotype = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")
    shown = repr(Genotype(NORMAL, range(2, 6), NORMAL, range(2, 6)))
    found = read(shown)
    assert found is not None and write(found) == shown == genotype()


@pytest.mark.parametrize("preset", list(TABLES))
def test_writing_and_reading_again_changes_nothing(preset: str) -> None:
    table, rng = TABLES[preset], np.random.default_rng(0)  # type: ignore[index]
    for arch in (table.sample(rng) for _ in range(20)):
        again = read(write(cells(table, arch)))
        assert again is not None and architecture(table, again) == arch


def test_all_forms_say_the_same() -> None:
    listed = [list(pair) for pair in NORMAL]
    flat = json.dumps(
        {"normal": listed, "reduce": listed, "reduce_concat": [2, 3, 4, 5], "normal_concat": [2, 3, 4, 5]}
    )
    swapped = [NORMAL[1], NORMAL[0]] * 4
    forms = [
        genotype(),
        f"  PC_DARTS_cifar={genotype()}\n",
        f"genotypes.{genotype()}",
        f"Genotype({NORMAL!r}, [2, 3, 4, 5], {NORMAL!r}, (2, 3, 4, 5))",
        f"Genotype({NORMAL!r}, range(2, 6), reduce_concat=range(2, 6), reduce={NORMAL!r})",
        genotype(swapped, reduce=[*NORMAL[:6], *swapped[:2]]),
        genotype(tuple(NORMAL)),
        flat,
    ]
    assert [read(form) == read(genotype()) for form in forms] == [True] * len(forms)


@pytest.mark.parametrize("text", ["darts:skip_connect", "", "Genotypes", "|none~0|", "genotype(1)"])
def test_other_texts_are_no_genotypes(text: str) -> None:
    assert read(text) is None


def changed(entry: int, pair: object) -> str:
    return genotype([*NORMAL[:entry], pair, *NORMAL[entry + 1 :]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(3, ("skip_connect", 3)), r"normal\[3\] reads 3, but node 3 can read 0 to 2 only"),
        (changed(0, ("skip_connect", -1)), r"no '-1'"),
        (changed(7, ("skip_connect", 0)), "normal: node 5 reads 0 twice; its two sources must differ"),
        (changed(1, ("skip_connect",)), r"normal\[1\] is \['skip_connect'\]; it should be an operation and its sourc"),
        (changed(1, (1, "skip_connect")), r"normal\[1\] is \[1, 'skip_connect'\]"),
        (changed(1, ("skip_connect", True)), r"normal\[1\] is \['skip_connect', True\]"),
        (changed(1, "skip_connect"), r"normal\[1\] is 'skip_connect'"),
        (genotype(NORMAL[:6]), "normal must list 8 pairs, two for each of the nodes 2 to 5, but has 6 entries"),
        (genotype(reduce=3), "reduce must list 8 pairs, .* but has 3"),
        (genotype(concat=[2, 3, 4, 5, 6]), r"normal_concat is \[2, 3, 4, 5, 6\], but the cells here give out all"),
        (genotype(concat=range(3, 6)), r"normal_concat is \[3, 4, 5\]"),
        (genotype(concat=[5, 4, 3, 2]), r"normal_concat is \[5, 4, 3, 2\]"),
        (genotype(concat=range(2, 10**12)), r"holds no 'range\(2, 1000000000000\)'"),
        ("Genotype(normal=[], normal_concat=[2, 3, 4, 5])", "lacks 'reduce'; its fields are normal, normal_concat"),
        ("Genotype(normal=[], recurrent=[])", "no field 'recurrent'"),
        ("Genotype([], normal=[])", "gives 'normal' twice"),
        ("Genotype(**{})", r"gives \*\*"),
        ("Genotype(1, 2, 3, 4, 5)", "has 4 fields, .* but got 5"),
        ("Genotype(normal=[('skip_connect', 0)", r"no Python \('\[' was never closed in line 1\)"),
        (f"A = {genotype()}; B = 1", "must be one genotype and nothing else"),
        (f"{genotype()}.normal", "must be one genotype and nothing else"),
        ("Genotype(normal=__import__('os').system('true'))", "holds no "),
        ("Genotype(normal=[x for x in y])", r"holds no '\[x for x in y\]'"),
        ("Genotype(" + "-" * 100_000 + "1)", "no Python"),
        ("Genotype(" + "[" * 100_000, "no Python"),
        ('{"normal": ', "no JSON"),
        ('{"normal": []}', "lacks 'normal_concat'"),
        ('{"cell": []}', "no field 'cell'"),
        ("{" + '"a":[' * 100_000, "no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_pair_of_cells_is_refused(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        read(text)
