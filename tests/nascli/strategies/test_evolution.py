import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from nascli.engine.front import hypervolume
from nascli.engine.network import Network
from nascli.engine.protocol import Trial
from nascli.engine.task import Task
from nascli.errors import SettingsError, UnsupportedError
from nascli.strategies import evolution as module
from nascli.strategies.evolution import Evolution, directions
from nascli.strategies.random import Random
from search_spaces import ArchitectureError, Choice, ChoiceTable
from tests.toy_scores import Assisted, error
from tests.toy_search import FLAT, TABLE, Talk, costs, talk, task, weighed


def test_the_first_population_holds_seeds_and_extremes() -> None:
    seed = "toy:24,2/4,wide/8,plain/-"
    step = talk(Evolution(population=10, seeds=(seed,)), task(), trials=1).steps[0]
    assert step[:3] == [seed, str(TABLE.smallest), str(TABLE.largest)] and len(step) == 10
    step = talk(Evolution(population=10, first="random"), task(), trials=1).steps[0]
    assert str(TABLE.largest) not in step and len(step) == 10


def test_generations_are_as_large_as_asked() -> None:
    sizes = [len(s) for s in talk(Evolution(population=12, offspring=5), task(), trials=30).steps]
    assert sizes == [12, 5, 5, 5, 5]
    assert [len(s) for s in talk(Evolution(population=12, offspring=0), task(), trials=30).steps] == [12, 12, 12]


def test_finds_more_than_chance() -> None:
    def covered(strategy: Evolution | Random, seed: int) -> float:
        keys = talk(strategy, task(seed=seed), trials=150).keys[:150]
        return hypervolume([costs(TABLE.parse(k)) for k in keys], [250, 120])

    every = hypervolume([costs(a) for a in TABLE.members()], [250, 120])
    gaps = [[every - covered(s, seed) for seed in range(4)] for s in (Evolution(population=20), Random())]
    assert np.mean(gaps[0]) < 0.5 * np.mean(gaps[1])


@pytest.mark.parametrize("algorithm", ["nsga2", "nsga3", "sms-emoa"])
def test_a_limit_is_kept_to(algorithm: str) -> None:
    # The other objective pulls away from the few that are light enough.
    limited = task(table=FLAT, limit=8.0)
    strategy = Evolution(population=20, algorithm=algorithm, first="random")  # type: ignore[arg-type]
    found, by_chance = (
        [bool(t.costs) for t in talk(s, limited, weighed, trials=200).memo.values()] for s in (strategy, Random())
    )
    assert sum(by_chance) <= 5 and sum(found) >= 40 and sum(found[-50:]) >= 20


def test_one_objective_is_minimised() -> None:
    best = min(costs(a, 1)[0] for a in TABLE.members())
    found = min(t.costs[0] for t in talk(Evolution(population=20), task(1), trials=150).memo.values())
    assert found == best


def test_the_scale_of_an_objective_does_not_matter() -> None:
    """NSGA-III takes differences below 0.001 for none; an objective in seconds must not vanish."""

    def tiny(network, about):  # type: ignore[no-untyped-def]
        from tests.toy_search import measured

        trial = measured(network, about)
        return replace(trial, costs=tuple(c * 2.0**-30 for c in trial.costs))

    strategy = Evolution(population=20, algorithm="nsga3")
    assert talk(strategy, task(3), tiny, trials=120).steps == talk(strategy, task(3), trials=120).steps


def test_nsga2_ranks_and_crowding_by_hand() -> None:
    """A, B, C beat the rest; D and E are beaten by those only; F by all. B's room is 3/3 + 4/4 of the front's sides."""
    points = {"A": (1, 5), "B": (2, 3), "C": (4, 1), "D": (3, 5), "E": (5, 2), "F": (6, 6)}
    from pymoo.core.population import Population

    algorithm = Evolution()._algorithm(2, sampling=np.zeros((6, 8), dtype=int), mating=None)
    pop = Population.new("X", np.zeros((6, 8), dtype=int))
    pop.set("F", np.array(list(points.values()), dtype=float), "G", np.zeros((6, 1)))
    survivors = algorithm.survival.do(
        module._problem(TABLE, 2), pop, n_survive=6, random_state=np.random.default_rng(0)
    )
    found = {tuple(i.F): (i.get("rank"), i.get("crowding")) for i in survivors}
    assert [found[points[n]][0] for n in "ABCDEF"] == [0, 0, 0, 1, 1, 2]
    assert found[points["A"]][1] == found[points["C"]][1] == np.inf
    assert found[points["B"]][1] == pytest.approx((3 / 3 + 4 / 4) / 2)  # pymoo takes the mean of the objectives
    three = algorithm.survival.do(module._problem(TABLE, 2), pop, n_survive=3, random_state=np.random.default_rng(0))
    assert {tuple(i.F) for i in three} == {points[n] for n in "ABC"}


def test_the_best_of_a_warm_up_join_the_first_population() -> None:
    asking = Assisted(Evolution(population=10, proxy="gradsign", warm_up=60))
    first = talk(asking, task(), trials=1).steps[0]
    assert first[:2] == [str(TABLE.smallest), str(TABLE.largest)]
    assert [len(a) for a in asking.asked] == [60] and asking.proxies == ["gradsign"]
    ranking = sorted(asking.asked[0], key=lambda k: (error(TABLE.parse(k)), asking.asked[0].index(k)))
    assert first[2:] == ranking[:8]


def neighbourly(trials: int, *, greedy: float = 1.0) -> tuple[Talk, Assisted]:
    asked = {"proxy": "gradsign", "proposals": "best-neighbours", "greedy": greedy}
    asking = Assisted(Evolution(population=8, crossover=0.0, first="random", **asked))  # type: ignore[arg-type]
    return talk(asking, task(), trials=trials), asking


def test_best_neighbours_are_the_best_scored_of_all_around_a_parent() -> None:
    said, asking = neighbourly(24)
    assert [len(s) for s in said.steps] == [8, 8, 8] and len(asking.asked) == 16
    for asked, child in zip(asking.asked, [key for step in said.steps[1:] for key in step], strict=True):
        assert child in asked and error(TABLE.parse(child)) == min(error(TABLE.parse(k)) for k in asked)
    first = {tuple(TABLE.parse(k).options) for k in said.steps[0]}
    # Parents of the second generation are in the first, and each question is about one parent's neighbourhood.
    for asked in asking.asked[:8]:
        around = [TABLE.values(TABLE.parse(k)) for k in asked]
        assert any(all(_one_edit(TABLE.values(TABLE.canonical(p)), a) for a in around) for p in first)


def _one_edit(parent: dict[str, str], child: dict[str, str]) -> bool:
    return sum(parent[name] != child[name] for name in parent.keys() & child.keys()) == 1


def test_the_share_of_greedy_children() -> None:
    counts = [len(neighbourly(48, greedy=greedy)[1].asked) for greedy in (0.0, 0.75, 1.0)]
    assert counts[0] == 0 and 22 <= counts[1] <= 37 < counts[2] <= 40


@pytest.mark.parametrize("crossover", [0.0, 0.9])
def test_best_neighbours_are_never_measured_twice_and_end_with_the_space(crossover: float) -> None:
    table = ChoiceTable("small", tuple(Choice(f"a.c{i}", ("0", "1", "2")) for i in range(4)))

    def measure(network: Network, about: Task) -> Trial:
        total = float(sum(map(int, network.arch.options)))
        return Trial(0, network.key, network, {}, costs=(total, -total))

    strategy = Evolution(population=8, proxy="gradsign", proposals="best-neighbours", crossover=crossover)
    said = talk(Assisted(strategy, lambda a: float(a.options[0])), task(table=table), measure, trials=1000)
    assert said.ended and len(said.keys) == len(set(said.keys)) == table.size == 81


def test_a_wrong_algorithm_is_refused_before_the_warm_up() -> None:
    with pytest.raises(SettingsError, match="there is one only"):
        next(Evolution(algorithm="nsga3", proxy="gradsign", warm_up=1000).search(task(1)))


def test_auto_takes_nsga3_from_four_objectives() -> None:
    names = [type(Evolution()._algorithm(n, sampling=None, mating=None)).__name__ for n in (1, 2, 3, 4, 5)]
    assert names == ["NSGA2", "NSGA2", "NSGA2", "NSGA3", "NSGA3"]


def test_directions_never_outnumber_the_population() -> None:
    for objectives in (2, 3, 4, 5, 8):
        for population in (8, 20, 50, 100):
            found = directions(objectives, population)
            assert objectives <= len(found) <= population
            assert np.allclose(found.sum(axis=1), 1)
    assert len(directions(3, 50)) == 45 and len(directions(5, 50)) == 35
    with pytest.raises(SettingsError, match="population=4 is too small for 5 objectives"):
        directions(5, 4)


def test_trading_off_needs_two_objectives() -> None:
    with pytest.raises(SettingsError, match="there is one only; use 'nsga2'"):
        next(Evolution(algorithm="nsga3").search(task(1)))


@pytest.mark.skipif(importlib.util.find_spec("numba") is not None, reason="numba is installed")
def test_a_missing_package_is_named() -> None:
    with pytest.raises(UnsupportedError, match="pip install numba"):
        next(Evolution(algorithm="age-moea2").search(task()))


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
def test_age_moea2_works_where_numba_is() -> None:
    strategy = Evolution(algorithm="age-moea2", population=10)
    first, again = (talk(strategy, task(3), trials=40).steps for _ in range(2))
    assert first == again


def test_seeds_must_be_members() -> None:
    with pytest.raises(ArchitectureError, match="17"):
        next(Evolution(seeds=("toy:17,1/1,plain/-/-",)).search(task()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"population": 3}, "population must be at least 4, but got 3"),
        ({"offspring": -1}, "offspring must not be negative, but got -1"),
        ({"crossover": 1.5}, "crossover is a probability from 0 to 1, but got 1.5"),
        ({"mutation": -0.1}, "mutation is a probability from 0 to 1, but got -0.1"),
        ({"warm_up": 9}, "warm_up=9 needs something to score by"),
        ({"proposals": "best-neighbours"}, "proposals='best-neighbours' needs something to score by"),
        ({"proxy": "x"}, "nothing to choose from"),
        ({"proxy": "x", "warm_up": 9, "greedy": 2}, "greedy is a probability from 0 to 1, but got 2"),
    ],
)
def test_settings_are_checked(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evolution(**values)  # type: ignore[arg-type]
