from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import ArchitectureError, Choice, ChoiceTable
from search_spaces.notation import read, write
from tests.search_spaces.tables import tables

DEEP = frozenset({"2", "3"})
TABLE = ChoiceTable(
    "toy",
    (
        Choice("kind", ("plain", "wide")),
        Choice("s.depth", ("1", "2", "3")),
        Choice("s.two", ("3", "5"), (("s.depth", DEEP),)),
        Choice("s.three", ("3", "5"), (("s.two", frozenset({"5"})),)),
        Choice("s.b3.x", ("3", "5"), (("s.depth", frozenset({"3"})), ("kind", frozenset({"wide"})))),
    ),
)


@given(tables(), st.integers(0, 2**32 - 1))
def test_read_inverts_write(table: ChoiceTable, seed: int) -> None:
    arch = table.sample(np.random.default_rng(seed))
    indices = table.indices(arch)
    assert read(table, write(table, arch.options, table.active(indices))) == indices


@pytest.mark.parametrize(
    "text, values",
    [
        ("toy:plain/1,-,-/-", {"kind": "plain", "s.depth": "1"}),
        ("toy:plain/2,3,-/-", {"kind": "plain", "s.depth": "2", "s.two": "3"}),
        ("toy:wide/3,5,5/5", {"kind": "wide", "s.depth": "3", "s.two": "5", "s.three": "5", "s.b3.x": "5"}),
        (" toy:plain/1,-,-/-\n", {"kind": "plain", "s.depth": "1"}),
    ],
)
def test_strings_say_what_they_mean(text: str, values: dict[str, str]) -> None:
    arch = TABLE.parse(text)
    assert TABLE.values(arch) == values
    assert str(arch) == text.strip()


def test_options_of_choices_that_do_not_apply_are_forgotten() -> None:
    assert str(TABLE.parse("toy:plain/1,5,5/5")) == "toy:plain/1,-,-/-"


@pytest.mark.parametrize(
    "text, message",
    [
        ("plain/1,-,-/-", "'plain/1,-,-/-' is no architecture: it must begin with the space's name, 'toy:'."),
        ("other:plain", "'other:plain' is an architecture of 'other'; the space here is 'toy'."),
        ("toy:plain/1,-,-", "has 2 parts between slashes; one of toy has 3."),
        ("toy:plain/1,-/-", "toy: s has 3 choices (s.depth, s.two, s.three), but '1,-' gives 2."),
        ("toy:plain/4,3,-/-", "s.depth='4' is not in toy; the options are 1, 2, 3."),
        ("toy:round/1,-,-/-", "kind='round' is not in toy; the options are plain, wide."),
        ("toy:-/1,-,-/-", "toy needs kind; the options are plain, wide."),
        ("toy:plain/2,-,-/-", "toy needs s.two (as s.depth=2); the options are 3, 5."),
        ("toy:plain/2,5,-/-", "toy needs s.three (as s.two=5); the options are 3, 5."),
        ("toy:wide/3,3,-/-", "toy needs s.b3.x (as s.depth=3, kind=wide); the options are 3, 5."),
        ("toy:", "has 1 parts between slashes"),
        ("", "is no architecture"),
    ],
)
def test_errors_name_the_part_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=re.escape(message)):
        TABLE.parse(text)


@given(tables(), st.text(alphabet="random:/,-012 ", max_size=12))
def test_anything_else_is_an_architecture_error(table: ChoiceTable, text: str) -> None:
    try:
        arch = table.parse(f"random:{text}")
    except ArchitectureError:
        return
    assert table.parse(str(arch)) == arch
