from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nascli.report.ranking import Figures, between, figures
from nascli.report.truth import Truth
from tests.toy_board import NAN, board, reached, score

ALL = np.ones(6, dtype=bool)


def one(scores: dict[str, list[float]], truth: Truth, rows: np.ndarray = ALL, k: int = 2) -> dict[str, Figures]:
    found = figures(board(scores), truth, rows, k=k, rng=lambda: np.random.default_rng(0))
    return {f.score: f for f in found}


def test_a_perfect_and_a_reversed_ranking() -> None:
    truth = reached([10, 20, 30, 40, 50, 60])
    found = one({"good": [1, 2, 3, 4, 5, 6], "bad": [6, 5, 4, 3, 2, 1], "params": [1, 1, 1, 2, 2, 2]}, truth)
    good, bad = found["good"], found["bad"]
    assert (good.rho, good.tau, good.regret, good.ndcg) == pytest.approx((1, 1, 0, 1))
    assert good.rho_interval == pytest.approx((1, 1)) and good.tau_interval == pytest.approx((1, 1))
    # The two best-scored of the reversed ranking reach 10 and 20.
    assert bad.rho == pytest.approx(-1) and bad.tau == pytest.approx(-1) and bad.regret == 40
    # They beat none and one of the others; the ideal two beat five and four.
    assert bad.ndcg == pytest.approx((0 + 1 / np.log2(3)) / (5 + 4 / np.log2(3)))
    assert (good.networks, good.scored, good.dead, good.failed, good.distinct) == (6, 6, 0, 0, 6)
    assert found["params"].distinct == 2 and found["params"].size == 1 and found["params"].partial is None


def test_goals_turn_both_sides() -> None:
    loss = reached([6, 5, 4, 3, 2, 1], goal="min", column="loss", unit="nats")
    assert one({"good": [1, 2, 3, 4, 5, 6]}, loss)["good"].rho == pytest.approx(1)
    falling = replace(board({"params": [1] * 6}), scores=(score("ntk", [6, 5, 4, 3, 2, 1], goal="min"),))
    (found,) = figures(falling, loss, ALL, k=1, rng=lambda: np.random.default_rng(0))
    assert (found.goal, found.regret) == ("min", 0) and found.rho == pytest.approx(1)


def test_networks_without_a_score_are_counted_and_ranked_last_apart() -> None:
    truth = reached([60, 10, 20, 30, 40, 50])
    found = one({"some": [NAN, 1, 2, 3, 4, 5], "params": [1, 1, 1, 2, 2, 2]}, truth)["some"]
    assert (found.networks, found.scored, found.dead, found.failed) == (6, 5, 1, 0)
    assert found.reasons == {"No gradient reaches any weight: nothing flows through the network.": 1}
    assert (found.rho, found.tau) == pytest.approx((1, 1))
    # Ranked last, the best network of all is a grave mistake: ranks 1..6 against 6, 1..5.
    assert found.rho_unscored_last == pytest.approx(stats.spearmanr([1, 2, 3, 4, 5, 6], [6, 1, 2, 3, 4, 5]).statistic)
    assert found.tau_unscored_last == pytest.approx((10 - 5) / 15)
    # And missing it costs what it is better by.
    assert found.regret == 10


def test_other_failures_are_told_from_death() -> None:
    zen = score("zen", [NAN, NAN, 3, 4, 5, 6], reason="There is no BatchNorm.")
    two = replace(board({"params": [1] * 6}), scores=(zen,))
    found = figures(two, reached([1, 2, 3, 4, 5, 6]), ALL, k=1, rng=lambda: np.random.default_rng(0))[0]
    assert (found.dead, found.failed, found.reasons) == (0, 2, {"There is no BatchNorm.": 2})


def test_only_the_rows_asked_for_and_known_count() -> None:
    truth = reached([10, 20, NAN, 40, 50, 60])
    rows = np.array([True, True, True, True, False, True])
    found = one({"s": [1, 2, 99, 4, -7, 3], "params": [1, 2, 3, 4, 5, 6]}, truth, rows)["s"]
    assert (found.networks, found.scored) == (4, 4)
    assert found.rho == pytest.approx(stats.spearmanr([1, 2, 4, 3], [10, 20, 40, 60]).statistic)


def test_a_score_that_tells_nothing_apart_has_no_figures() -> None:
    found = one({"flat": [3] * 6, "none": [NAN] * 6, "params": [1, 2, 3, 4, 5, 6]}, reached([1, 2, 3, 4, 5, 6]))
    for name, distinct in (("flat", 1), ("none", 0)):
        f = found[name]
        assert f.distinct == distinct
        assert (f.rho, f.rho_interval, f.tau, f.tau_interval, f.regret, f.ndcg, f.size, f.partial) == (None,) * 8


def test_the_k_best_are_at_most_all() -> None:
    assert one({"s": [1, 2, 3, 4, 5, 6]}, reached([6, 1, 2, 3, 4, 5]), k=50)["s"].regret == 0


def test_intervals_are_those_of_resampled_pairs() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(200)
    y = x + 1.5 * rng.standard_normal(200)
    found = one({"s": list(x), "params": list(x)}, reached(list(y)), np.ones(200, dtype=bool))["s"]
    picks = np.random.default_rng(7).integers(200, size=(1000, 200))
    expected = np.percentile([stats.spearmanr(x[p], y[p]).statistic for p in picks], (2.5, 97.5))
    assert found.rho_interval == pytest.approx(tuple(expected), abs=0.03)
    assert found.rho is not None and found.rho_interval[0] < found.rho < found.rho_interval[1]


def test_what_a_count_of_parameters_would_do_is_said() -> None:
    rng = np.random.default_rng(0)
    size = np.arange(300.0)
    truth = reached(list(size + 100 * rng.standard_normal(300)))
    disguised, real = size + rng.standard_normal(300), truth.values + 100 * rng.standard_normal(300)
    found = one(
        {"disguised": list(disguised), "real": list(real), "params": list(size)}, truth, np.ones(300, dtype=bool)
    )
    assert found["disguised"].size > 0.99 and abs(found["disguised"].partial) < 0.1  # type: ignore[arg-type, operator]
    assert found["disguised"].warning.startswith("disguised ranks nearly as params do (rho 1.000), and has little")
    assert found["real"].warning == found["params"].warning == ""


def test_correlations_between_scores_take_the_networks_that_have_both() -> None:
    two = board({"a": [1, 2, 3, NAN], "b": [NAN, 3, 2, 1], "flat": [1, 1, 1, 1]})
    found = between(two, ["a", "b", "flat"])
    assert found["a"]["b"] == found["b"]["a"] == pytest.approx(-1) and found["a"]["a"] == pytest.approx(1)
    assert found["a"]["flat"] is None
