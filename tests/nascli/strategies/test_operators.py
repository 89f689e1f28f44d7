import numpy as np
import pytest

from nascli.strategies.operators import Breeding, _parents, _standing
from nascli.strategies.unseen import Unseen
from search_spaces import Choice, ChoiceTable

SIZES = {
    options: ChoiceTable("t", tuple(Choice(f"g.c{i}", tuple(map(str, range(options)))) for i in range(45)))
    for options in (2, 3, 8)
}


def population(table: ChoiceTable, count: int, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    from pymoo.core.population import Population

    pop = Population.new("X", np.array([table.indices(table.sample(rng)) for _ in range(count)]))
    return pop.set("F", np.zeros((count, 2)), "G", np.zeros((count, 1)))


@pytest.mark.parametrize("options", [2, 3, 8])
def test_children_differ_from_what_crossing_gives_in_about_one_choice(options: int) -> None:
    table, rng = SIZES[options], np.random.default_rng(0)
    breeding = Breeding(table, Unseen(table, rng), crossover=0.0, mutation=0.0)
    changed = []
    for _ in range(400):
        parent = table.sample(rng)
        child = breeding.child(parent, table.sample(rng), rng)
        assert child is not None
        changed.append(sum(a != b for a, b in zip(parent.options, child.options, strict=True)))
    assert 0.85 < np.mean(changed) < 1.15


def test_a_given_rate_is_per_choice() -> None:
    table, rng = SIZES[3], np.random.default_rng(0)
    breeding = Breeding(table, Unseen(table, rng), crossover=0.0, mutation=0.2)
    parents = [table.sample(rng) for _ in range(200)]
    children = [breeding.child(p, p, rng) for p in parents]
    changed = [sum(a != b for a, b in zip(p.options, c.options, strict=True)) for p, c in zip(parents, children) if c]  # noqa: B905
    assert 8 < np.mean(changed) < 10


def test_crossing_takes_from_both_parents() -> None:
    table, rng = SIZES[2], np.random.default_rng(0)
    breeding = Breeding(table, Unseen(table, rng), crossover=1.0, mutation=0.0)
    child = breeding.child(table.smallest, table.largest, rng)
    assert child is not None and 12 < child.options.count("1") < 33


def test_offspring_are_new_and_run_out_with_the_space() -> None:
    table = ChoiceTable("t", tuple(Choice(f"g.c{i}", ("0", "1")) for i in range(4)))
    rng = np.random.default_rng(0)
    unseen = Unseen(table, rng)
    breeding = Breeding(table, unseen, crossover=0.9, mutation=0.0)
    pop = population(table, 3, rng)
    batches = [breeding.do(None, pop, 6, random_state=rng) for _ in range(4)]
    assert [len(b) for b in batches] == [6, 6, 4, 0]
    assert len({tuple(i.X) for b in batches for i in b}) == 16


def test_without_a_memory_children_are_what_crossing_gives() -> None:
    table, rng = SIZES[2], np.random.default_rng(0)
    alone = Breeding(table, None, crossover=0.0, mutation=0.5)
    assert alone.child(table.smallest, table.largest, rng) == table.smallest
    pop = population(table, 3, rng)
    members = {tuple(x) for x in pop.get("X").tolist()}
    assert {tuple(i.X.tolist()) for i in alone.do(None, pop, 12, random_state=rng)} <= members
    crossed = Breeding(table, None, crossover=1.0, mutation=0.5)
    ends = population(table, 2, rng)
    ends.set("X", np.array([table.indices(table.smallest), table.indices(table.smallest)]))
    assert not any(i.X.any() for i in crossed.do(None, ends, 5, random_state=rng))


def test_tournaments_prefer_feasible_then_rank_then_room() -> None:
    table, rng = SIZES[2], np.random.default_rng(0)
    pop = population(table, 4, rng)
    pop.set(
        "G", np.array([[0.0], [0.0], [0.0], [0.3]]), "rank", [0, 0, 1, 0], "crowding", [1.0, np.inf, np.inf, np.inf]
    )
    standing = _standing(pop)
    assert sorted(range(4), key=lambda i: standing[i]) == [1, 0, 2, 3]
    members = [table.from_indices(x) for x in pop.get("X")]
    winners = [w for _ in range(300) for w in _parents(members, standing, rng)]
    counts = [winners.count(m) for m in members]
    # Of four different contestants in two pairs the best always wins, the worst never.
    assert counts[1] == 300 and counts[3] == 0 and counts[0] > counts[2] > 0


def test_a_population_of_one_has_parents() -> None:
    table = SIZES[2]
    assert _parents([table.smallest], [(0, 0, 0)], np.random.default_rng(0)) == (table.smallest, table.smallest)
