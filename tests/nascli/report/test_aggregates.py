from __future__ import annotations

import numpy as np
import pytest

from nascli.errors import SettingsError
from nascli.report.aggregates import aggregate, is_aggregate, parts
from tests.toy_board import NAN, board


def test_logarithms_of_ranks_are_added() -> None:
    three = board({"jacov": [3.0, 1.0, 2.0], "params": [10.0, 30.0, 20.0]})
    found = aggregate("log_rank:jacov,params", three)
    assert found.name == "log_rank:jacov,params" and found.goal == "max" and found.reasons == ("", "", "")
    # Ranks 3, 1, 2 and 1, 3, 2 of three.
    assert found.values == pytest.approx(np.log([3 / 9, 3 / 9, 4 / 9]))


def test_a_missing_score_is_the_worst_rank() -> None:
    found = aggregate("rank_sum:a, b", board({"a": [NAN, 1.0, 2.0], "b": [3.0, 2.0, 1.0]}))
    assert list(found.values) == [1 + 3, 2 + 2, 3 + 1]


def test_a_majority_of_three_decides() -> None:
    found = aggregate("vote:a,b,c", board({"a": [1, 2, 3], "b": [1, 2, 3], "c": [3, 2, 1]}))
    assert list(found.values) == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("log_rnk:a,b", r"'log_rnk:a,b' is no aggregate; .* Did you mean 'log_rank'\?"),
        ("a,b", "is no aggregate; write WAY:SCORE,SCORE, as in log_rank:jacov,params"),
        ("vote:a", "The aggregate 'vote:a' needs at least two different scores, as in vote:jacov,params"),
        ("vote:a,a,", "needs at least two different scores"),
        ("vote:a,zen", r"The aggregate 'vote:a,zen' needs 'zen', which was not scored; give --proxy zen\."),
    ],
)
def test_what_can_not_be_made_is_said(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        aggregate(text, board({"a": [1, 2], "b": [1, 2]}))


def test_an_aggregate_is_told_from_a_class_of_ones_own() -> None:
    names = ["vote:a,b", "log_rank:jacov,params", "mine.proxies:Vote", "vote", "jacov"]
    assert [name for name in names if is_aggregate(name)] == names[:2]


def test_parts_are_the_way_and_the_scores() -> None:
    assert parts("vote:a, b ,c") == ("vote", ["a", "b", "c"])
