"""Scores that a strategy asks for on its way: answered from memory or by a proxy, and remembered in a journal apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from nascli.engine.network import Network
from nascli.engine.objectives import Objective, judge, parse
from nascli.engine.protocol import Evaluate, Step, Trial
from nascli.engine.task import Task
from nascli.engine.writer import Writer


class Scores:
    """(Proxy, key) -> what the proxy said of the network."""

    def __init__(self, run: Writer, task: Task) -> None:
        self._run, self._task = run, task
        self._objectives: dict[str, Objective] = {}
        self._known = {(row["proxy"], row["key"]): (row["values"], row["error"]) for row in run.run.scores}

    def answer(self, step: Step, evaluate: Evaluate, *, stop: Callable[[], bool]) -> Sequence[Trial]:
        """The trials of a step's candidates, each with one cost; fewer if `stop` said so before all were scored.

        Raises SettingsError if there is no such proxy.
        """
        objective = self._objective(step.proxy)
        fresh = {n.key: n for n in step.candidates if (step.proxy, n.key) not in self._known}
        task = replace(self._task, objectives=(objective,), recorded=())
        with closing(evaluate(list(fresh.values()), task)) as trials:  # type: ignore[type-var]
            for trial in trials:
                self._known[step.proxy, trial.key] = (trial.values, trial.error)
                self._run.record_score(step.proxy, trial)
                if stop():
                    break
        if fresh:
            self._run.sync()
        known = [n for n in step.candidates if (step.proxy, n.key) in self._known]
        return [self._trial(n, step.proxy, objective) for n in known]

    def _objective(self, proxy: str) -> Objective:
        if proxy not in self._objectives:
            self._objectives[proxy] = parse(proxy, self._task.space, self._task.proxies)
        return self._objectives[proxy]

    def _trial(self, network: Network, proxy: str, objective: Objective) -> Trial:
        values, error = self._known[proxy, network.key]
        costs, error, violation = judge(values, (objective,), error)
        return Trial(-1, network.key, network, values, costs, error, violation)
