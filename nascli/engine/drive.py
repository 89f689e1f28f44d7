"""The one loop: a strategy proposes, the memory or an executor answers, the run remembers.

There is no resume branch: a strategy gets the last saved state, or is replayed from its seed, and whatever the
journal knows is answered from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from nascli.engine.archive import Front
from nascli.engine.network import Network
from nascli.engine.protocol import Evaluate, Step, Strategy, Trial
from nascli.engine.scored import Scores
from nascli.engine.task import Task
from nascli.engine.writer import Writer
from nascli.errors import Interrupted, NascliError

SAVE_EVERY_S = 30.0
"""Seconds between two saved states: what a kill may cost a training method."""
FRONT_EVERY_S = 2.0
"""Seconds between two writings of the front, which can always be made again from the journal."""


@dataclass(frozen=True)
class Budget:
    """When to stop: after so many trials in the journal or seconds spent on the run, or when nothing is new."""

    evaluations: int | None = None
    seconds: float | None = None
    patience: int = 100
    """Steps in a row with candidates of which none was new."""
    failures: int = 25
    """Trials in a row that could not be measured (a broken limit is no failure): then something is wrong with all."""

    def __post_init__(self) -> None:
        for name in ("evaluations", "seconds", "patience", "failures"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name}={value!r} must be more than 0")


@dataclass(frozen=True)
class Event:
    """What an observer is told: after each trial, and after each step."""

    trials: int
    elapsed_s: float
    front: int
    step: Step
    trial: Trial | None = None


def ignore(event: Event) -> None:
    """The observer that does nothing."""


def never() -> bool:
    """The interruption that does not come."""
    return False


def drive(
    strategy: Strategy,
    task: Task,
    run: Writer,
    evaluate: Evaluate,
    *,
    budget: Budget,
    observe: Callable[[Event], None] = ignore,
    stop: Callable[[], bool] = never,
) -> list[Trial]:
    """The front of the run after the strategy has ended or the budget is spent.

    `stop` is asked after every trial and step; when it says so, what was measured is journalled, the state is saved
    and Interrupted is raised. A step that the budget cuts short is the last.
    """
    memory = _Memory(run, task, budget)
    scores = Scores(run, task)
    state = run.state()
    saved = time.monotonic()
    stale = 0
    reply: Sequence[Trial] | None = None
    with closing(strategy.search(task, state)) as search:
        while not memory.spent() and stale < budget.patience:
            try:
                step = next(search) if reply is None else search.send(reply)
            except StopIteration:
                break
            if step.proxy:
                reply = scores.answer(step, evaluate, stop=lambda: stop() or memory.late())
                observe(Event(*memory.facts(), step))
                if stop():
                    raise Interrupted("The run was interrupted; all that was measured is kept.")
                if len(reply) < len(step.candidates):
                    break
                continue
            fresh = memory.unknown(step.candidates)
            allowed = fresh[: memory.left()]
            for trial in evaluate(allowed, task):
                observe(Event(*memory.add(trial), step, trial))
                if stop() or memory.late():
                    break
            memory.sync(bool(allowed))
            if step.metrics:
                run.tell(step.metrics)
            observe(Event(*memory.facts(), step))
            due = time.monotonic() - saved >= SAVE_EVERY_S or step.metrics.get("progress", 0.0) >= 1.0
            if step.state is not None and (stop() or due):
                run.save_state(step.state())
                run.mark("running")
                saved = time.monotonic()
            if stop():
                raise Interrupted("The run was interrupted; all that was measured is kept.")
            if any(c.key not in memory.known for c in step.candidates):
                break
            stale = stale + 1 if step.candidates and not fresh and not memory.replayed(step.candidates) else 0
            reply = [memory.known[c.key] for c in step.candidates]
    memory.write_front()
    return memory.front.members


class _Memory:
    """Key -> trial, the front among them, and what the budget has left."""

    def __init__(self, run: Writer, task: Task, budget: Budget) -> None:
        self.run, self.task, self.budget = run, task, budget
        self.known: dict[str, Trial] = {}
        self.front = Front()
        self._written = 0.0
        self._failed = 0
        for trial in run.run.trials(task):
            self._take(trial)
        self._earlier = set(self.known)
        run.keep_networks({m.number for m in self.front.members})

    def replayed(self, networks: Sequence[Network]) -> bool:
        """Whether an earlier process measured one of these, asked for by this one only now: no sign of running dry."""
        asked = {n.key for n in networks} & self._earlier
        self._earlier -= asked
        return bool(asked)

    def unknown(self, networks: Sequence[Network]) -> list[Network]:
        return list({n.key: n for n in networks if n.key not in self.known}.values())

    def add(self, trial: Trial) -> tuple[int, float, int]:
        tensors = trial.network.tensors
        trial = replace(trial, number=len(self.known), network=replace(trial.network, tensors=None))
        gone = self._take(trial)
        if tensors is not None and gone is not None:
            # Stored before it is journalled: a member of the journal never lacks its weights.
            self.run.save_network(trial, tensors, {"values": dict(trial.values)})
        self.run.record(trial)
        for member in gone or ():
            self.run.drop_network(member.number)
        self._failed = self._failed + 1 if trial.violation == float("inf") else 0
        if self._failed >= self.budget.failures:
            raise NascliError(
                f"The last {self._failed} networks could not be measured; the last error: {trial.error}. "
                f"The journal {self.run.path}/trials.jsonl has them all."
            )
        return self.facts()

    def facts(self) -> tuple[int, float, int]:
        return len(self.known), self.run.elapsed_s, len(self.front)

    def left(self) -> int | None:
        return None if self.budget.evaluations is None else max(0, self.budget.evaluations - len(self.known))

    def late(self) -> bool:
        return self.budget.seconds is not None and self.run.elapsed_s >= self.budget.seconds

    def spent(self) -> bool:
        return self.left() == 0 or self.late()

    def sync(self, changed: bool) -> None:
        if changed:
            self.run.sync()
        if changed and time.monotonic() - self._written > FRONT_EVERY_S:
            self.write_front()

    def write_front(self) -> None:
        self.run.write_front(self.front.members, self.summary())
        # The time spent so far, too, must survive a kill.
        self.run.mark("running")
        self._written = time.monotonic()

    def summary(self) -> dict[str, Any]:
        objectives = [{"name": o.name, "goal": o.goal, "unit": o.unit, "limit": o.limit} for o in self.task.objectives]
        return {"objectives": objectives, "trials": len(self.known), **self.front.summary()}

    def _take(self, trial: Trial) -> list[Trial] | None:
        """The front members that the trial drives out; None if it does not join them."""
        self.known[trial.key] = trial
        return self.front.add(trial) if trial.costs else None
