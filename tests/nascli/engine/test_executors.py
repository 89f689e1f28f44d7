from __future__ import annotations

from dataclasses import replace

import pytest

from nascli.engine.executors import inline
from nascli.engine.network import Network
from nascli.engine.objectives import Objective
from nascli.errors import DataError
from tests.toys import BROKEN, ERROR, SIZE, TABLE, toy_task


def networks(count: int) -> list[Network]:
    rng = toy_task().rng("networks")
    return [Network(TABLE.sample(rng)) for _ in range(count)]


def test_trials_come_in_the_order_asked() -> None:
    asked = networks(5)
    trials = list(inline(asked, toy_task()))
    assert [t.network for t in trials] == asked
    assert all(t.costs == (t.values["error"], t.values["size"]) for t in trials)


def test_a_network_is_measured_when_its_trial_is_asked_for() -> None:
    seen: list[str] = []

    def count(subject: object, task: object) -> float:
        seen.append(subject.network.key)  # type: ignore[attr-defined]
        return 1.0

    asked = networks(4)
    trials = inline(asked, toy_task(Objective("counted", "min", "", 0, count)))
    assert seen == []
    next(trials)
    assert seen == [asked[0].key]


def test_one_failure_does_not_end_the_others() -> None:
    trials = list(inline(networks(3), toy_task(SIZE, BROKEN)))
    assert [t.error for t in trials] == ["ValueError: this network is broken"] * 3


def test_what_would_fail_for_all_ends_at_once() -> None:
    def missing(subject: object, task: object) -> float:
        raise DataError("There is no supernet.")

    with pytest.raises(DataError, match="There is no supernet"):
        list(inline(networks(2), toy_task(replace(ERROR, measure=missing))))
