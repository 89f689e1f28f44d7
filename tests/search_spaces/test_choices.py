from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Architecture, ArchitectureError, Choice, ChoiceTable
from search_spaces.choices import describe
from tests.search_spaces.tables import tables

seeds = st.integers(0, 2**32 - 1)

TABLE = ChoiceTable(
    "toy",
    (
        Choice("s.depth", ("1", "2")),
        Choice("s.one", ("3", "5", "7")),
        Choice("s.two", ("3", "5", "7"), (("s.depth", frozenset({"2"})),)),
        Choice("kind", ("plain", "wide")),
    ),
)


def is_member(table: ChoiceTable, arch: Architecture) -> bool:
    return table.canonical(arch.options) == arch and table.parse(str(arch)) == arch


@given(tables(), seeds)
def test_samples_are_members(table: ChoiceTable, seed: int) -> None:
    assert is_member(table, table.sample(np.random.default_rng(seed)))


@given(tables(), st.data())
def test_canonical_is_idempotent_and_rests_inactive_choices_on_their_first_option(
    table: ChoiceTable, data: st.DataObject
) -> None:
    options = [data.draw(st.sampled_from(c.options)) for c in table.choices]
    arch = table.canonical(options)
    assert table.canonical(arch.options) == arch
    active = table.active(table.indices(arch))
    for choice, given_option, option, on in zip(table.choices, options, arch.options, active, strict=True):
        assert option == (given_option if on else choice.options[0])
    assert arch == table.from_indices([c.options.index(o) for c, o in zip(table.choices, options, strict=True)])


@given(tables(), seeds, st.floats(0, 1))
def test_edits_give_members(table: ChoiceTable, seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = table.sample(rng), table.sample(rng)
    assert is_member(table, table.mutate(a, rng, rate))
    assert is_member(table, table.crossover(a, b, rng))


@given(tables(), seeds)
def test_mutation_at_rate_0_changes_nothing_and_at_rate_1_every_choice_that_can_change(
    table: ChoiceTable, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    arch = table.sample(rng)
    assert table.mutate(arch, rng, 0.0) == arch
    before, after = table.values(arch), table.values(table.mutate(arch, rng, 1.0))
    several = {c.name for c in table.choices if len(c.options) > 1}
    assert all(before[n] != after[n] for n in before.keys() & after.keys() & several)


@given(tables(), seeds)
def test_crossover_takes_every_option_from_a_parent_that_has_the_choice(table: ChoiceTable, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = table.sample(rng), table.sample(rng)
    assert table.crossover(a, a, rng) == a
    mine, theirs = table.values(a), table.values(b)
    for name, option in table.values(table.crossover(a, b, rng)).items():
        from_parents = {parent[name] for parent in (mine, theirs) if name in parent}
        assert not from_parents or option in from_parents


def test_mutation_draws_newly_active_choices_uniformly() -> None:
    rng, arch = np.random.default_rng(0), TABLE.parse("toy:1,3,-/plain")
    drawn = [TABLE.values(TABLE.mutate(arch, rng, 1.0))["s.two"] for _ in range(300)]
    assert min(drawn.count(o) for o in ("3", "5", "7")) > 60


def test_sampling_is_uniform_and_decided_by_the_generator() -> None:
    drawn = [TABLE.sample(rng) for rng in [np.random.default_rng(1)] for _ in range(1200)]
    assert set(drawn) == set(TABLE.members())
    assert 500 < sum(a.options[0] == "1" for a in drawn) < 700
    assert drawn[:5] == [TABLE.sample(rng) for rng in [np.random.default_rng(1)] for _ in range(5)]


@given(tables(), seeds)
def test_encoding_has_a_one_for_each_active_choice_and_tells_members_apart(table: ChoiceTable, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = table.sample(rng), table.sample(rng)
    code = table.encode(a)
    assert code.shape == (sum(len(c.options) for c in table.choices),)
    assert code.sum() == len(table.values(a)) and set(code) <= {0.0, 1.0}
    assert np.array_equal(code, table.encode(b)) == (a == b) == (str(a) == str(b))


def test_encoding_worked_by_hand() -> None:
    assert TABLE.encode(TABLE.parse("toy:1,5,-/wide")).tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 0, 1]


def test_smallest_and_largest() -> None:
    assert str(TABLE.smallest) == "toy:1,3,-/plain"
    assert str(TABLE.largest) == "toy:2,7,7/wide"


def test_values_are_those_of_active_choices() -> None:
    assert TABLE.values(TABLE.parse("toy:1,5,7/wide")) == {"s.depth": "1", "s.one": "5", "kind": "wide"}
    assert TABLE.positions(TABLE.parse("toy:2,5,7/wide")) == {"s.depth": 1, "s.one": 1, "s.two": 2, "kind": 1}


def test_active_reads_prefixes() -> None:
    assert TABLE.active([0, 2, 0]) == [True, True, False]
    assert TABLE.active([1, 2, 0]) == [True, True, True]
    assert TABLE.active([]) == []


@given(tables())
def test_tables_and_architectures_survive_pickling(table: ChoiceTable) -> None:
    arch = table.largest
    again, same = pickle.loads(pickle.dumps((table, arch)))
    assert again == table and same == arch and hash(same) == hash(arch)
    assert again.fingerprint == table.fingerprint


def test_fingerprint_changes_with_names_options_and_conditions() -> None:
    choices = TABLE.choices
    others = [
        ChoiceTable("other", choices),
        ChoiceTable("toy", choices[:3]),
        ChoiceTable("toy", (*choices[:3], Choice("kind", ("wide", "plain")))),
        ChoiceTable("toy", (*choices[:2], Choice("s.two", ("3", "5", "7")), choices[3])),
    ]
    prints = {t.fingerprint for t in [TABLE, *others]}
    assert len(prints) == 5 and all(len(p) == 8 for p in prints)
    assert ChoiceTable("toy", choices).fingerprint == TABLE.fingerprint == "a5abe788"


@pytest.mark.parametrize(
    "options, ordered",
    [(("1", "2", "10"), True), (("0.25", "0.5"), True), (("2", "1"), False), (("a", "b"), False)],
)
def test_ordered_means_ascending_numbers(options: tuple[str, ...], ordered: bool) -> None:
    assert Choice("x", options).ordered is ordered


@pytest.mark.parametrize("options", [(), ("1", "1"), ("-",), ("",), ("a,b",), ("a/b",), ("a:b",), (" a",)])
def test_options_that_could_not_be_read_back_are_refused(options: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="x: "):
        Choice("x", options)


@pytest.mark.parametrize(
    "choices, message",
    [
        ((), "no choices"),
        ((Choice("x", ("1",)), Choice("x", ("2",))), "two choices called 'x'"),
        ((Choice("x", ("1",), (("y", frozenset("1")),)), Choice("y", ("1",))), "x depends on 'y'"),
        ((Choice("y", ("1",)), Choice("x", ("1",), (("y", frozenset("2")),))), "no earlier choice"),
    ],
)
def test_tables_that_make_no_sense_are_refused(choices: tuple[Choice, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChoiceTable("t", choices)


@pytest.mark.parametrize("name", ["", "a:b", " a"])
def test_table_names_that_could_not_be_read_back_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        ChoiceTable(name, TABLE.choices)


def test_canonical_names_the_wrong_choice_and_its_options() -> None:
    with pytest.raises(ArchitectureError, match=r"s\.one='4' is not in toy; the options are 3, 5, 7\."):
        TABLE.canonical(["1", "4", "3", "wide"])
    with pytest.raises(ArchitectureError, match="4 choices, but got 1"):
        TABLE.canonical(["1"])


@pytest.mark.parametrize("indices", [[0, 0, 0], [0, 0, 0, 2], [-1, 0, 0, 0]])
def test_positions_out_of_range_are_refused(indices: list[int]) -> None:
    with pytest.raises(ArchitectureError, match="no member"):
        TABLE.from_indices(indices)


def test_architectures_of_other_spaces_are_refused() -> None:
    other = ChoiceTable("other", TABLE.choices)
    narrower = ChoiceTable("toy", (*TABLE.choices[:3], Choice("kind", ("plain",))))
    for table in (other, narrower):
        with pytest.raises(ArchitectureError, match="toy:2,7,7/wide"):
            table.positions(TABLE.largest)


def test_describe_says_conditions_in_words() -> None:
    rows = describe(TABLE)
    assert [r["choice"] for r in rows] == ["s.depth", "s.one", "s.two", "kind"]
    assert rows[2]["when"] == "s.depth in {2}" and rows[0]["when"] == ""
    assert rows[3]["options"] == ["plain", "wide"]
