from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nascli.engine.drive import Budget, Event, drive
from nascli.engine.network import Network
from nascli.engine.objectives import judge
from nascli.engine.protocol import Search, Step, Trial
from nascli.engine.runs import Run
from nascli.engine.task import Task
from nascli.engine.writer import Writer
from nascli.errors import Interrupted, NascliError
from tests.toys import ERROR, SIZE, toy_task


@dataclass(frozen=True)
class Draw:
    """Ten steps of four drawn networks, told apart from each other only by the seed."""

    steps: int = 10

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        rng = task.rng("draw")
        for i in range(self.steps):
            yield Step([Network(task.space.table.sample(rng)) for _ in range(4)], {"step": float(i)})


@dataclass(frozen=True)
class Train:
    """A method with state: counts to eight and then proposes the smallest network."""

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        for i in range(state["i"] if state else 0, 8):
            yield Step(metrics={"i": float(i)}, state=lambda i=i: {"i": i + 1})  # type: ignore[misc]
        yield Step([Network(task.space.table.smallest)], {"progress": 1.0}, lambda: {"i": 8})


class Measured:
    """An executor that computes the toy objectives and remembers what it was asked."""

    def __init__(self, *, die_at: int | None = None) -> None:
        self.keys: list[str] = []
        self._die_at = die_at

    def __call__(self, networks: Sequence[Network], task: Task) -> Iterator[Trial]:
        for network in networks:
            if len(self.keys) == self._die_at:
                raise KeyboardInterrupt
            self.keys.append(network.key)
            subject = type("Subject", (), {"network": network})()
            values = {o.name: float(o.measure(subject, task)) for o in task.objectives}  # type: ignore[arg-type]
            yield Trial(-1, network.key, network, values, *judge(values, task.objectives), seconds=0.5)


def writer(path: Path, task: Task) -> Writer:
    return Writer(
        path, command="search", resolved={"seed": task.seed}, header={"fingerprint": task.space.table.fingerprint}
    )


def test_the_budget_is_exact_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    task, measured = toy_task(), Measured()
    with writer(tmp_path, task) as run:
        drive(Draw(), task, run, measured, budget=Budget(evaluations=17))
    assert len(measured.keys) == len(set(measured.keys)) == len(Run.open(tmp_path).rows) == 17


def test_the_front_is_what_nothing_beats(tmp_path: Path) -> None:
    task = toy_task()
    with writer(tmp_path, task) as run:
        front = drive(Draw(), task, run, Measured(), budget=Budget(evaluations=30))
        trials = run.run.trials(task)
    best = {
        t.key
        for t in trials
        if not any(all(a <= b for a, b in zip(o.costs, t.costs, strict=True)) and o.costs != t.costs for o in trials)
    }
    assert {t.key for t in front} == best
    assert [m["key"] for m in Run.open(tmp_path).front["members"]] == [t.key for t in front]


@pytest.mark.parametrize("crash", range(0, 30, 3))
def test_resuming_after_a_crash_gives_the_same_journal(tmp_path: Path, crash: int) -> None:
    task = toy_task()
    with writer(tmp_path / "whole", task) as run:
        drive(Draw(), task, run, Measured(), budget=Budget(evaluations=30))
    with pytest.raises(KeyboardInterrupt), writer(tmp_path / "torn", task) as run:
        drive(Draw(), task, run, Measured(die_at=crash), budget=Budget(evaluations=30))
    with (tmp_path / "torn" / "trials.jsonl").open("ab") as file:
        file.write(b'{"n": 99, "key": "torn')
    rest = Measured()
    with writer(tmp_path / "torn", task) as run:
        drive(Draw(), task, run, rest, budget=Budget(evaluations=30))
    for name in ("trials.jsonl", "steps.jsonl", "front.json", "front.csv"):
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(rest.keys) == 30 - crash


def test_a_finished_run_is_not_worked_on_again(tmp_path: Path) -> None:
    task, again = toy_task(), Measured()
    for measured in (Measured(), again):
        with writer(tmp_path, task) as run:
            front = drive(Draw(), task, run, measured, budget=Budget(evaluations=9))
    assert not again.keys and front


def test_a_larger_budget_goes_on(tmp_path: Path) -> None:
    task = toy_task()
    with writer(tmp_path / "two", task) as run:
        drive(Draw(), task, run, Measured(), budget=Budget(evaluations=6))
    with writer(tmp_path / "two", task) as run:
        drive(Draw(), task, run, Measured(), budget=Budget(evaluations=20))
    with writer(tmp_path / "one", task) as run:
        drive(Draw(), task, run, Measured(), budget=Budget(evaluations=20))
    assert (tmp_path / "two/trials.jsonl").read_bytes() == (tmp_path / "one/trials.jsonl").read_bytes()


def test_an_interruption_keeps_state_and_trials(tmp_path: Path) -> None:
    task, events = toy_task(), list[Event]()
    with pytest.raises(Interrupted), writer(tmp_path, task) as run:
        drive(Train(), task, run, Measured(), budget=Budget(), observe=events.append, stop=lambda: len(events) >= 3)
    with writer(tmp_path, task) as run:
        drive(Train(), task, run, Measured(), budget=Budget())
    told = [json.loads(line)["i"] for line in (tmp_path / "steps.jsonl").read_text().splitlines() if '"i"' in line]
    assert told == [float(i) for i in range(8)]
    assert len(Run.open(tmp_path).rows) == 1


def test_patience_ends_a_strategy_that_repeats_itself(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Stubborn:
        def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
            while True:
                yield Step([Network(task.space.table.smallest)])

    task, measured = toy_task(), Measured()
    with writer(tmp_path, task) as run:
        drive(Stubborn(), task, run, measured, budget=Budget(patience=5))
    assert len(measured.keys) == 1


def test_patience_does_not_run_out_while_a_long_run_is_replayed(tmp_path: Path) -> None:
    task, measured = toy_task(), Measured()
    with writer(tmp_path, task) as run:
        drive(Draw(steps=30), task, run, measured, budget=Budget(patience=5))
    known = len(set(measured.keys))
    assert known > 60
    with writer(tmp_path, task) as run:
        drive(Draw(steps=60), task, run, measured, budget=Budget(patience=5))
    assert len(set(measured.keys)) == len(measured.keys) > known


def test_failures_in_a_row_end_the_run_and_limits_do_not(tmp_path: Path) -> None:
    def failing(networks: Sequence[Network], task: Task) -> Iterator[Trial]:
        for n in networks:
            yield Trial(-1, n.key, n, {}, (), "out of memory", float("inf"))

    task = toy_task()
    with pytest.raises(NascliError, match="The last 5 networks could not be measured; the last error: out of memory"):  # noqa: SIM117
        with writer(tmp_path / "a", task) as run:
            drive(Draw(), task, run, failing, budget=Budget(failures=5))
    from dataclasses import replace

    limited = toy_task(ERROR, replace(SIZE, limit=0.5))
    with writer(tmp_path / "b", limited) as run:
        assert drive(Draw(), limited, run, Measured(), budget=Budget(failures=5, evaluations=12)) == []
    assert len(Run.open(tmp_path / "b").rows) == 12


def test_members_of_the_front_keep_their_own_tensors(tmp_path: Path) -> None:
    import torch

    @dataclass(frozen=True)
    class Three:
        def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
            rng = task.rng("three")
            archs = [task.space.table.largest, task.space.table.smallest, task.space.table.sample(rng)]
            for i, arch in enumerate(archs):
                yield Step([Network(arch, tensors={"w": torch.full((2,), float(i))}, tag="t")])

    task = toy_task(SIZE)
    with writer(tmp_path, task) as run:
        front = drive(Three(), task, run, Measured(), budget=Budget())
    assert [t.number for t in front] == [1]
    assert sorted(p.name for p in (tmp_path / "networks").iterdir()) == ["1.json", "1.safetensors"]
    network = Run.open(tmp_path).network(1, task.space)
    assert network.key == front[0].key and network.tensors is not None
    assert network.tensors["w"].tolist() == [1.0, 1.0]
