from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nascli.engine.executors import inline
from nascli.engine.network import Network
from nascli.engine.protocol import AskTell, Search, Step, Trial
from nascli.engine.task import Task
from tests.toys import TABLE, toy_task


class Growing:
    """Says something, then proposes one network and then two; remembers what it was answered."""

    def __init__(self) -> None:
        self.answers: list[list[str]] = []
        self.closed = False

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        try:
            yield Step(metrics={"loss": 1.0})
            for count in (1, 2):
                rng = task.rng(str(count))
                trials = yield Step([Network(TABLE.sample(rng)) for _ in range(count)])
                self.answers.append([t.key for t in trials])
        finally:
            self.closed = True


def test_asking_and_telling_until_the_end() -> None:
    strategy, task = Growing(), toy_task()
    talk, asked = AskTell(strategy, task), []
    while not talk.done:
        networks = talk.ask()
        assert networks == talk.ask(), "asking changes nothing"
        asked.append([n.key for n in networks])
        talk.tell(list(inline(networks, task)))
    assert [len(keys) for keys in asked] == [0, 1, 2]
    assert strategy.answers == asked[1:]
    assert strategy.closed and list(talk.ask()) == []
    talk.tell([])
    assert talk.done


def test_a_strategy_that_has_nothing_to_say_is_done() -> None:
    class Silent:
        def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
            return
            yield Step()

    talk = AskTell(Silent(), toy_task())
    assert talk.done and list(talk.ask()) == []


def test_errors_of_the_strategy_reach_the_user() -> None:
    class Broken:
        def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
            yield Step()
            raise ZeroDivisionError

    talk = AskTell(Broken(), toy_task())
    with pytest.raises(ZeroDivisionError):
        talk.tell([])


def test_values_cannot_be_changed() -> None:
    network = Network(TABLE.smallest)
    trial = Trial(0, network.key, network, {})
    assert trial.costs == () and trial.error == "" and trial.violation == 0.0
    for thing in (trial, Step()):
        with pytest.raises(AttributeError):
            thing.number = 1  # type: ignore[misc, union-attr]
