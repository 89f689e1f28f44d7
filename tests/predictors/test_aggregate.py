import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from predictors import ScoreError, aggregate
from predictors.aggregate import Goal, log_rank, rank_sum, ranks, vote

Aggregation = Callable[[np.ndarray, list[Goal]], np.ndarray]
ALL: list[Aggregation] = [rank_sum, log_rank, vote]
NAN = math.nan


def table(*columns: tuple[float, ...]) -> np.ndarray:
    return np.array(columns, dtype=float).T


def test_ranks_by_hand() -> None:
    found = ranks(table((10, 30, 20, 20), (1, 2, 3, 4)), ["max", "min"])
    assert found.T.tolist() == [[1, 4, 2.5, 2.5], [4, 3, 2, 1]]


@pytest.mark.parametrize("goal", ["max", "min"])
def test_missing_scores_share_the_worst_rank(goal: Goal) -> None:
    worst = -math.inf if goal == "max" else math.inf
    found = ranks(table((5, NAN, 5, NAN), (worst, 1, NAN, 1)), [goal, goal])
    assert found.T.tolist() == [[3.5, 1.5, 3.5, 1.5], [1.5, 3.5, 1.5, 3.5]]


def test_sums_by_hand() -> None:
    scores = table((1, 2, 3, 4), (9, 7, 8, NAN))
    assert rank_sum(scores, ["max", "min"]).tolist() == [1 + 2, 2 + 4, 3 + 3, 4 + 1]
    expected = [math.log(a / 4) + math.log(b / 4) for a, b in ((1, 2), (2, 4), (3, 3), (4, 1))]
    assert log_rank(scores, ["max", "min"]) == pytest.approx(expected)


def test_votes_by_hand() -> None:
    """Of three scores two put b before a, two a before c, and two c before b: a circle, in which each wins once."""
    circle = table((2, 3, 1), (3, 1, 2), (1, 2, 3))
    assert vote(circle, ["max"] * 3).tolist() == [1, 1, 1]
    # The last two columns tell fewer apart: b beats a by one vote to none, c draws with a, and with b by one each.
    assert vote(table((1, 2, 1), (1, 1, 1), (5, 5, 5)), ["max"] * 3).tolist() == [0.5, 2, 0.5]
    assert vote(table((1, 2, 3), (1, 3, 2)), ["max", "max"]).tolist() == [0, 1.5, 1.5]


def brute(scores: np.ndarray, goals: list[Goal]) -> list[float]:
    place = ranks(scores, goals)
    found = [0.0] * len(scores)
    for i, j in itertools.permutations(range(len(scores)), 2):
        won, lost = (place[i] > place[j]).sum(), (place[i] < place[j]).sum()
        found[i] += 1.0 if won > lost else 0.5 if won == lost else 0.0
    return found


@pytest.mark.parametrize("chunk", [1, 100, 2**24])
def test_votes_one_by_one(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregate, "_CHUNK_BYTES", chunk)
    rng = np.random.default_rng(0)
    scores = rng.integers(6, size=(40, 4)).astype(float)
    scores[rng.random(scores.shape) < 0.1] = NAN
    goals: list[Goal] = ["max", "min", "max", "max"]
    found = vote(scores, goals)
    assert found.tolist() == brute(scores, goals)
    assert found.sum() == 40 * 39 / 2


@pytest.mark.parametrize("aggregation", ALL)
def test_one_score_alone_is_its_own_ranking(aggregation: Aggregation) -> None:
    scores = np.random.default_rng(0).normal(size=(30, 1))
    order = np.argsort(scores[:, 0])
    assert np.argsort(aggregation(scores, ["max"])).tolist() == order.tolist()
    assert np.argsort(aggregation(scores, ["min"])).tolist() == order[::-1].tolist()


@pytest.mark.parametrize("aggregation", ALL)
def test_only_the_order_counts(aggregation: Aggregation) -> None:
    scores = np.random.default_rng(0).normal(size=(30, 3))
    assert np.array_equal(aggregation(scores, ["max"] * 3), aggregation(np.exp(scores), ["max"] * 3))
    assert np.array_equal(aggregation(scores, ["max"] * 3), aggregation(-scores, ["min"] * 3))


def test_one_bad_rank_weighs_more_in_logarithms() -> None:
    """Of nine networks one is last and first, another fourth and fourth: 1 + 9 > 4 + 4, but 1 * 9 < 4 * 4."""
    scores = table((1, 4, 2, 3, 5, 6, 7, 8, 9), (9, 4, 8, 7, 6, 5, 3, 2, 1))
    sums, logarithms = rank_sum(scores, ["max", "max"]), log_rank(scores, ["max", "max"])
    assert sums[0] > sums[1] and logarithms[0] < logarithms[1]


@pytest.mark.parametrize("aggregation", [*ALL, ranks])
@pytest.mark.parametrize(("shape", "goals"), [((3, 2), 3), ((3,), 1), ((0, 2), 2)])
def test_what_is_no_table_is_refused(aggregation: Aggregation, shape: tuple[int, ...], goals: int) -> None:
    with pytest.raises(ScoreError, match="their shape is"):
        aggregation(np.zeros(shape), ["max"] * goals)


def test_many_networks_vote_in_little_memory() -> None:
    scores = np.random.default_rng(0).normal(size=(3000, 3))
    found = vote(scores, ["max"] * 3)
    assert found.sum() == 3000 * 2999 / 2 and found.max() > 2500
