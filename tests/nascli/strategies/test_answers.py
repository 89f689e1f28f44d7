import math

import numpy as np
import pytest

from nascli.engine.network import Network
from nascli.engine.protocol import Trial
from nascli.errors import SettingsError
from nascli.strategies.answers import FAILED, WORST_LIMIT, Answers
from tests.toy_search import TABLE, task

NETWORK = Network(TABLE.smallest)


def trial(*costs: float, violation: float = 0.0, **values: float) -> Trial:
    return Trial(0, NETWORK.key, NETWORK, values, costs=costs, violation=violation)


def test_the_first_answers_set_the_scale_for_good() -> None:
    answers = Answers(task().objectives)
    assert answers.costs([trial(10, 1e8), trial(20, 3e8)]).tolist() == [[0, 0], [1, 1]]
    assert answers.costs([trial(40, 2e8)]).tolist() == [[3, 0.5]]


def test_equal_answers_are_scaled_by_their_size() -> None:
    assert Answers(task().objectives).costs([trial(-4, 0), trial(-4, 0)]).tolist() == [[0, 0], [0, 0]]
    answers = Answers(task().objectives)
    answers.costs([trial(-4, 0)])
    assert answers.costs([trial(-2, 1)]).tolist() == [[0.5, 1]]


def test_what_was_not_measured_is_the_worst_so_far() -> None:
    answers = Answers(task().objectives)
    answers.costs([trial(0, 0), trial(1, 1)])
    over = trial(violation=0.2, cost0=0.25)
    broken = trial(violation=math.inf, cost1=math.nan)
    assert answers.costs([trial(2, 0), over, broken]).tolist() == [[2, 0], [0.25, 1], [2, 1]]


def test_numbers_are_finite_whatever_comes() -> None:
    answers = Answers(task().objectives)
    for trials in ([trial(violation=math.inf)], [trial(violation=1e300, cost0=math.inf)], [trial(1, 2)], []):
        costs, violations = answers.costs(trials), answers.violations(trials)
        assert costs.shape == (len(trials), 2) and violations.shape == (len(trials),)
        assert np.isfinite(costs).all() and np.isfinite(violations).all()


def test_failures_are_worse_than_any_broken_limit() -> None:
    trials = [trial(1, 2), trial(violation=0.1), trial(violation=1e12), trial(violation=math.inf), trial(violation=0)]
    assert Answers(task().objectives).violations(trials).tolist() == [0, 0.1, WORST_LIMIT, FAILED, FAILED]


def test_a_maximised_value_counts_as_its_cost() -> None:
    from dataclasses import replace

    up = tuple(replace(o, goal="max") for o in task().objectives)
    answers = Answers(up)
    answers.costs([trial(-80, -1), trial(-90, -2)])
    assert answers.costs([trial(violation=0.5, cost0=90)]).tolist() == [[0, 1]]


def test_nothing_to_optimise_is_an_error() -> None:
    with pytest.raises(SettingsError, match="at least one objective"):
        Answers(())
