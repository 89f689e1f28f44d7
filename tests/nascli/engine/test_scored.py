from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from nascli.engine.drive import Budget, drive
from nascli.engine.evaluate import measure
from nascli.engine.network import Network
from nascli.engine.objectives import Objective
from nascli.engine.protocol import Search, Step, Trial
from nascli.engine.runs import Run
from nascli.engine.task import Task
from nascli.engine.writer import Writer
from nascli.errors import Interrupted, SettingsError
from predictors import ScoreError
from tests.toys import ERROR, SIZE, TABLE, size, toy_task


def shy(subject: Any, task: Task) -> float:
    """The size, of networks that have more than one block."""
    if TABLE.values(subject.network.arch)["net.depth"] == "1":
        raise ScoreError("too shallow to be scored")
    return size(subject, task)


SHY = Objective("tests.nascli.engine.test_scored:SHY", "max", "", 1, shy)
PROXY = SHY.name


@dataclass(frozen=True)
class Asks:
    """Scores all the given networks, then proposes the one that costs least."""

    networks: tuple[Network, ...]
    replies: list[Sequence[Trial]] = field(default_factory=list, compare=False)

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        trials = yield Step(self.networks, proxy=PROXY)
        self.replies.append(trials)
        best = min((t for t in trials if t.costs), key=lambda t: t.costs)
        yield Step([best.network])


class Counting:
    """The in-line executor; remembers what it was asked and by which objectives."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def __call__(self, networks: Sequence[Network], task: Task) -> Iterator[Trial]:
        for network in networks:
            self.asked.append((network.key, tuple(o.name for o in (*task.objectives, *task.recorded))))
            yield measure(network, task)


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(Network(TABLE.parse(t)) for t in texts)


SMALL, LARGE, SHALLOW = networks(
    "toy:2/1,plain/1,plain/-,-", "toy:2/8,plain/8,wide/-,-", "toy:1/4,plain/-,-/-,-"
)  # fmt: skip


def writer(path: Path, task: Task) -> Writer:
    header = {"seed": 0, "space": "toy", "fingerprint": task.space.table.fingerprint, "objectives": []}
    return Writer(path, command="search", resolved={}, header=header)


def test_scores_come_back_as_costs_whatever_the_goal(tmp_path: Path) -> None:
    task, strategy = toy_task(), Asks((SMALL, LARGE, SHALLOW))
    with writer(tmp_path, task) as run:
        drive(strategy, task, run, Counting(), budget=Budget())
    ((small, large, shallow),) = strategy.replies
    assert (small.costs, large.costs) == ((-2.0,), (-16.0,))
    assert shallow.costs == () and "too shallow" in shallow.error


def test_scores_are_no_evaluations_and_no_members_of_the_front(tmp_path: Path) -> None:
    task, executor = replace(toy_task(), recorded=(SIZE,)), Counting()
    with writer(tmp_path, task) as run:
        front = drive(Asks((SMALL, LARGE)), task, run, executor, budget=Budget(evaluations=1))
    assert [t.key for t in front] == [LARGE.key]
    assert [names for _, names in executor.asked] == [(PROXY,), (PROXY,), ("error", "size", "size")]
    assert len(Run.open(tmp_path).rows) == 1 and len(Run.open(tmp_path).scores) == 2


def test_scores_are_remembered(tmp_path: Path) -> None:
    task, executor = toy_task(), Counting()
    strategy = Asks((SMALL, LARGE, SHALLOW))
    for _ in range(2):
        with writer(tmp_path, task) as run:
            drive(strategy, task, run, executor, budget=Budget())
    first, second = strategy.replies
    assert [(t.costs, t.error, dict(t.values)) for t in first] == [(t.costs, t.error, dict(t.values)) for t in second]
    assert len(executor.asked) == 4


def test_an_interruption_keeps_what_was_scored(tmp_path: Path) -> None:
    task, executor = toy_task(), Counting()
    with pytest.raises(Interrupted), writer(tmp_path, task) as run:
        drive(Asks((SMALL, LARGE)), task, run, executor, budget=Budget(), stop=lambda: len(executor.asked) == 1)
    assert len(Run.open(tmp_path).scores) == 1
    with writer(tmp_path, task) as run:
        drive(Asks((SMALL, LARGE)), task, run, executor, budget=Budget())
    assert [key for key, _ in executor.asked] == [SMALL.key, LARGE.key, LARGE.key]


def test_an_unknown_proxy_is_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Wrong:
        def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
            yield Step([SMALL], proxy="gradsing")

    task = toy_task(ERROR)
    with pytest.raises(SettingsError, match="gradsign"), writer(tmp_path, task) as run:
        drive(Wrong(), task, run, Counting(), budget=Budget())
