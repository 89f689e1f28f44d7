import math

import pytest

from nascli.engine.network import Network
from nascli.engine.protocol import Trial
from nascli.errors import SettingsError
from nascli.strategies.single import only, standing
from tests.toy_search import TABLE, task

NETWORK = Network(TABLE.smallest)


def trial(*costs: float, violation: float = 0.0, **values: float) -> Trial:
    return Trial(0, NETWORK.key, NETWORK, values, costs=costs, violation=violation)


def test_several_objectives_are_refused_unless_the_others_have_limits() -> None:
    with pytest.raises(
        SettingsError, match="'toy' follows the first objective, cost0.*cost1, cost2 has none.*'evolution'"
    ):
        only(task(3), "toy")
    with pytest.raises(SettingsError, match="within limits, and cost1 has none"):
        only(task(3, limit=5.0), "toy")
    only(task(2, limit=5.0), "toy")
    only(task(1), "toy")


def test_no_objective_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least one objective"):
        only(task(1).__class__(task(1).space), "toy")


def test_costs_before_broken_limits_before_failures() -> None:
    answers = only(task(2, limit=5.0), "toy")
    order = [
        trial(-3.0, 900.0),
        trial(2.0, 0.0),
        trial(violation=0.1, cost0=-9.0),
        trial(violation=0.4, cost0=-10.0),
        trial(violation=math.inf),
    ]
    standings = [standing(answers, t) for t in order]
    assert sorted(standings) == standings and len(set(standings)) == 5
