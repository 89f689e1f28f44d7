from collections import deque
from pathlib import Path

import numpy as np
import pytest

from nascli import settings
from nascli.engine import objectives
from nascli.engine.drive import Budget, drive
from nascli.engine.executors import inline
from nascli.engine.runs import Run
from nascli.engine.task import Task
from nascli.engine.writer import Writer
from nascli.errors import SettingsError
from nascli.strategies.random import Random
from nascli.strategies.regularised import Regularised
from search_spaces.table import TableSpace
from tests.toy_scores import Assisted, error
from tests.toy_search import FLAT, TABLE, Talk, costs, failed, talk, task, weighed


def one_edit(parent: str, child: str) -> bool:
    a, b = (TABLE.values(TABLE.parse(k)) for k in (parent, child))
    return sum(a[name] != b[name] for name in a.keys() & b.keys()) == 1


def test_a_child_is_one_edit_from_someone_alive_until_age_takes_them() -> None:
    said = talk(Regularised(population=6, tournament=2), task(1), trials=60)
    assert [len(s) for s in said.steps] == [6] + [1] * 54
    alive = deque(said.steps[0], maxlen=6)
    for (child,) in said.steps[1:]:
        assert any(one_edit(parent, child) for parent in alive)
        alive.append(child)


def test_the_winner_of_the_tournament_is_the_parent() -> None:
    """With many contestants the parent is the best alive, not the best ever: it dies of age like everyone else."""
    said = talk(Regularised(population=5, tournament=200), task(1), trials=80)
    cost = {key: trial.costs[0] for key, trial in said.memo.items()}
    alive = deque(said.steps[0], maxlen=5)
    for (child,) in said.steps[1:]:
        least = min(cost[k] for k in alive)
        assert any(one_edit(parent, child) for parent in alive if cost[parent] == least)
        alive.append(child)
    assert min(cost.values()) < min(cost[k] for k in alive)


def test_small_tournaments_leave_room_for_others() -> None:
    strategy, rng = Regularised(tournament=3), np.random.default_rng(0)
    alive = [((0.0, float(i)), arch) for i, arch in zip(range(10), FLAT.members())]  # noqa: B905
    wins = [0] * 10
    for _ in range(3000):
        parent = strategy._parent(alive, rng)
        wins[[a for _, a in alive].index(parent)] += 1
    # The best of three draws with replacement: (1 - i/10)^3 - (1 - (i + 1)/10)^3.
    wanted = [3000 * ((1 - i / 10) ** 3 - (1 - (i + 1) / 10) ** 3) for i in range(10)]
    assert wins == pytest.approx(wanted, abs=75)


def test_the_best_scored_of_ten_mutants_is_measured() -> None:
    asking = Assisted(Regularised(population=10, proxy="gradsign"))
    said = talk(asking, task(1), trials=40)
    children = [key for step in said.steps[1:] for key in step]
    assert len(said.steps[0]) == 10 and len(asking.asked) == len(children) == 30
    for asked, child in zip(asking.asked, children, strict=True):
        assert len(set(asked)) == len(asked) <= 10 and child in asked
        assert error(TABLE.parse(child)) == min(error(TABLE.parse(k)) for k in asked)


def test_warm_up_and_best_of_all_neighbours() -> None:
    strategy = Regularised(population=8, tournament=4, proxy="gradsign", warm_up=80, candidates=0, greedy=0.75)
    asking = Assisted(strategy)
    said = talk(asking, task(1), trials=108)
    assert len(asking.asked[0]) == 80
    ranking = sorted(asking.asked[0], key=lambda k: (error(TABLE.parse(k)), asking.asked[0].index(k)))
    assert said.steps[0] == ranking[:8]
    assert 60 <= len(asking.asked) - 1 <= 90
    assert max(len(a) for a in asking.asked[1:]) > 10


def reached(strategy: Regularised | Random, seed: int, trials: int) -> float:
    said = talk(Assisted(strategy), task(1, seed=seed), trials=trials)
    return min(costs(TABLE.parse(k), 1)[0] for k in said.keys[:trials])


def test_finds_more_than_chance_and_more_with_a_good_proxy() -> None:
    plain, helped, chance = (
        sum(reached(s, seed, 60) for seed in range(6)) for s in (Regularised(), Regularised(proxy="gradsign"), Random())
    )
    assert helped < plain < chance


def test_a_limit_is_kept_to() -> None:
    limited = task(table=FLAT, limit=8.0)
    found = [bool(t.costs) for t in talk(Regularised(), limited, weighed, trials=200).memo.values()]
    by_chance = [bool(t.costs) for t in talk(Random(), limited, weighed, trials=200).memo.values()]
    assert sum(by_chance) <= 5 and sum(found) >= 20


def test_failures_do_not_become_parents_where_there_are_others() -> None:
    def sometimes(network, about):  # type: ignore[no-untyped-def]
        from tests.toy_search import measured

        return failed(network, about) if network.key.startswith("toy:16") else measured(network, about)

    said: Talk = talk(Regularised(tournament=8), task(1), sometimes, trials=120)
    late = list(said.memo.values())[60:]
    assert sum(not t.costs for t in late) < 0.5 * len(late)


def test_scores_are_no_evaluations_and_are_remembered(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{a},{b},{c},{a + b * c},{a + b + c}" for a in range(4) for b in range(4) for c in range(4)]
    table.write_text("\n".join(["choice.a,choice.b,choice.c,accuracy,synflow", *rows]))
    space = TableSpace(str(table), maximise=("accuracy", "synflow"))
    about = Task(space, objectives=(objectives.parse("accuracy", space),))
    header = {"fingerprint": space.table.fingerprint}
    journals = []
    for cuts in ((12,), (5, 12)):
        path = tmp_path / f"run{len(cuts)}"
        for evaluations in cuts:
            with Writer(path, command="search", resolved={}, header=header) as run:
                strategy = Regularised(population=4, proxy="synflow", candidates=0)
                drive(strategy, about, run, inline, budget=Budget(evaluations=evaluations))
        journals.append([row["key"] for row in Run.open(path).rows])
        scored = [row["key"] for row in Run.open(path).scores]
        assert len(journals[-1]) == 12 and 12 < len(scored) == len(set(scored))
    assert journals[0] == journals[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"population": 0}, "population must be at least 1, but got 0"),
        ({"tournament": 0}, "tournament must be at least 1, but got 0"),
        ({"warm_up": 100}, "warm_up=100 needs something to score by"),
        ({"proxy": "x", "candidates": -1}, "candidates must not be negative, but got -1"),
        ({"proxy": "x", "candidates": 1}, "nothing to choose from"),
        ({"greedy": -0.5}, "greedy is a probability from 0 to 1, but got -0.5"),
    ],
)
def test_settings_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings.build(Regularised, values, where="strategy 'regularised'")
