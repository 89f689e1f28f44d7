from collections import Counter

import pytest

from nascli import settings
from nascli.errors import SettingsError
from nascli.strategies.random import Random
from tests.toy_scores import Assisted, error, unscored
from tests.toy_search import FOUR, TABLE, costs, failed, talk, task


def test_batches_are_as_large_as_asked_until_the_last() -> None:
    said = talk(Random(batch=500), task(), trials=10_000)
    assert [len(step) for step in said.steps] == [500, 500, 500, 252]
    assert said.ended


def test_the_first_draws_are_uniform_in_every_choice() -> None:
    counts = Counter(
        TABLE.values(TABLE.parse(talk(Random(batch=1), task(seed=s), trials=1).keys[0]))["net.depth"]
        for s in range(300)
    )
    assert len(counts) == 3 and min(counts.values()) > 70


def test_answers_change_nothing() -> None:
    assert talk(Random(), task()).steps == talk(Random(), task(), failed).steps


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="batch must be at least 1, but got 0"):
        settings.build(Random, {"batch": 0}, where="strategy 'random'")


def test_of_ten_candidates_the_best_scored_is_measured() -> None:
    asking = Assisted(Random(proxy="gradsign", batch=3))
    said = talk(asking, task(), trials=30)
    assert set(asking.proxies) == {"gradsign"} and len(asking.asked) == len(said.steps) == 10
    for asked, measured in zip(asking.asked, said.steps, strict=True):
        assert len(set(asked)) == 30 and len(measured) == 3
        for i, key in enumerate(measured):
            group = asked[10 * i : 10 * (i + 1)]
            assert key in group and error(TABLE.parse(key)) == min(error(TABLE.parse(k)) for k in group)


def test_losers_may_be_drawn_again_and_winners_not() -> None:
    asking = Assisted(Random(proxy="gradsign", batch=5, candidates=4), lambda arch: float(len(arch.text)))
    said = talk(asking, task(table=FOUR), lambda n, _: failed(n, task()), trials=99)
    assert said.ended and sorted(said.keys) == sorted(str(a) for a in FOUR.members())
    asked = [key for step in asking.asked for key in step]
    assert len(set(asked)) < len(asked)


def test_a_good_proxy_helps() -> None:
    def found(strategy: Random, seed: int) -> float:
        return min(costs(TABLE.parse(k), 1)[0] for k in talk(Assisted(strategy), task(seed=seed), trials=20).keys[:20])

    pairs = [(found(Random(proxy="gradsign"), s), found(Random(), s)) for s in range(6)]
    assert sum(a for a, _ in pairs) < 0.85 * sum(b for _, b in pairs)


def test_a_warm_up_is_measured_in_the_order_of_its_scores() -> None:
    asking = Assisted(Random(proxy="gradsign", warm_up=50, batch=20, candidates=5))
    said = talk(asking, task(), trials=70)
    first = [key for step in said.steps[:3] for key in step]
    assert [len(s) for s in said.steps] == [20, 20, 10, 20]
    assert sorted(first) == sorted(asking.asked[0])
    assert first == sorted(first, key=lambda k: (error(TABLE.parse(k)), asking.asked[0].index(k)))
    assert [len(a) for a in asking.asked] == [50, 100]


def test_one_candidate_is_not_scored() -> None:
    asking = Assisted(Random(proxy="gradsign", warm_up=10, candidates=1))
    assert len(talk(asking, task(), trials=60).keys) >= 60
    assert [len(a) for a in asking.asked] == [10]


def test_without_any_scores_it_is_random_search() -> None:
    asking = Assisted(Random(proxy="gradsign", batch=4), unscored)
    assert len(talk(asking, task(), trials=40).keys) == 40


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warm_up": 5}, "warm_up=5 needs something to score by"),
        ({"candidates": 0}, "candidates must be at least 1, but got 0"),
        ({"proxy": "x", "candidates": 1}, "nothing to choose from"),
    ],
)
def test_settings_of_assistance_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings.build(Random, values, where="strategy 'random'")
