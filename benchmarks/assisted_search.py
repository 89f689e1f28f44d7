"""Do zero-cost proxies help random search, aging evolution and REINFORCE on a space that was measured already?

NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326): searches see validation accuracy, and what is told is the test
accuracy of the network that was best in validation, as in GradSign's assisted searches (Zhang & Jia 2022,
arXiv:2110.08616; theirs followed the accuracy after 12 epochs: `--objective cifar10_valid_12ep`). The proxies are
columns of NAS-Bench-Suite-Zero (Krishnakumar et al. 2022, arXiv:2210.03230), or of a CSV that has the column `arch` and
one a proxy. Scores cost nothing here.

    NASCLI_DATA=data python benchmarks/assisted_search.py --seeds 100 --proxies synflow jacov nwot params:max

NAS-Bench-Suite-Zero scored the 9,445 networks without idle operations. By default a network beyond these counts as a
failed score, so assisted searches avoid idle operations, which is worth something by itself; `--unscored equivalent`
gives it the score of the network that computes the same.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nascli.engine import objectives
from nascli.engine.network import Network
from nascli.engine.protocol import Step, Strategy, Trial
from nascli.engine.task import Task
from nascli.strategies.random import Random
from nascli.strategies.regularised import Regularised
from nascli.strategies.reinforce import Reinforce
from search_spaces.errors import SpaceError
from search_spaces.nb201 import Nb201Space

MARKS = (50, 100, 200)
PLAIN: Mapping[str, Strategy] = {
    "random": Random(batch=1),
    "regularised": Regularised(),
    "reinforce": Reinforce(),
    "reinforce, lr .1": Reinforce(lr=0.1),
}


def assisted(proxy: str) -> Mapping[str, Strategy]:
    """The same with a proxy; 10 candidates each, or a warm-up of 1,000."""
    return {
        "random, best of 10": Random(batch=1, proxy=proxy),
        "random, warm-up": Random(batch=1, proxy=proxy, warm_up=1000, candidates=1),
        "regularised, best of 10 mutants": Regularised(proxy=proxy),
        "regularised, warm-up, best neighbour .75": Regularised(proxy=proxy, warm_up=1000, candidates=0, greedy=0.75),
        "reinforce, best of 10": Reinforce(proxy=proxy),
        "reinforce, best of 10, lr .1": Reinforce(proxy=proxy, lr=0.1),
        "reinforce, 10 mutants, as published": Reinforce(proxy=proxy, candidates_from="mutants"),
    }


@dataclass(frozen=True)
class Bench:
    """The measured space, scores from elsewhere, and what to do about networks without a score."""

    space: Nb201Space
    objective: str
    told: str
    unscored: str
    further: Mapping[str, Mapping[str, float]]
    """Proxy -> architecture without idle operations -> score, more is better."""

    @cached_property
    def representatives(self) -> dict[str, str]:
        """Architecture -> the one without idle operations that computes the same."""
        return {a.text: self.space.equivalent(a).text for a in self.space.table.members()}

    def values(self, column: str) -> dict[str, float]:
        """Architecture -> cost, or the value itself of what is told; NaN where there is none."""
        if column in self.further:
            return {a: -self.further[column].get(a, math.nan) for a in self.representatives}
        objective = objectives.parse(column, self.space)

        def cost(text: str) -> float:
            try:
                return objective.cost(self.space.look_up(self.space.parse(text), objective.name))
            except SpaceError:
                return math.nan

        return {text: cost(text) for text in self.representatives}

    @cached_property
    def costs(self) -> dict[str, float]:
        return self.values(self.objective)

    def scores(self, proxy: str) -> dict[str, float]:
        found = self.values(proxy)
        if self.unscored == "failed":
            return found
        return {a: found[b] if math.isnan(found[a]) else found[a] for a, b in self.representatives.items()}

    def task(self, seed: int) -> Task:
        return Task(self.space, objectives=(objectives.parse(self.objective, self.space),), seed=seed)


Costs = Mapping[str, float]


def measured(strategy: Strategy, task: Task, count: int, costs: Costs, scores: Costs) -> list[str]:
    """The first architectures that a strategy wanted measured."""

    def reply(step: Step) -> list[Trial]:
        known = [(n, (scores if step.proxy else costs)[n.key]) for n in step.candidates]
        return [trial(n, value) for n, value in known]

    keys: list[str] = []
    search = strategy.search(task)
    step = next(search)
    while len(keys) < count:
        if not step.proxy:
            keys += [n.key for n in step.candidates]
        step = search.send(reply(step))
    search.close()
    return keys[:count]


def trial(network: Network, cost: float) -> Trial:
    if math.isnan(cost):
        return Trial(-1, network.key, network, {}, error="no value", violation=math.inf)
    return Trial(-1, network.key, network, {}, costs=(cost,))


def rows(bench: Bench, proxies: Sequence[str], seeds: int, count: int) -> None:
    """Print one line a search: mean and deviation over the seeds of what is told of the best so far, per mark."""
    marks = sorted({m for m in MARKS if m < count} | {count})
    told = {a: -v for a, v in bench.values(bench.told).items()}
    print(f"{'proxy':12}{'search':42}" + "".join(f"{f'after {m}':>18}" for m in marks) + f"{'CPU s a seed':>14}")
    for proxy in ("", *proxies):
        scores = bench.scores(proxy) if proxy else {}
        for name, strategy in (assisted(proxy) if proxy else PLAIN).items():
            started = time.process_time()
            found = [measured(strategy, bench.task(seed), count, bench.costs, scores) for seed in range(seeds)]
            spent = (time.process_time() - started) / seeds
            line = f"{proxy:12}{name:42}"
            for mark in marks:
                best = [told[min(keys[:mark], key=bench.costs.__getitem__)] for keys in found]
                line += f"{f'{np.mean(best):.2f} ± {np.std(best, ddof=1):.2f}':>18}"
            print(line + f"{spent:14.3f}", flush=True)


def read_scores(path: Path, space: Nb201Space, proxies: Sequence[str]) -> dict[str, dict[str, float]]:
    """Proxy -> architecture -> score, of the columns of a CSV that are asked for; empty fields are no scores."""
    found: dict[str, dict[str, float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            arch = space.equivalent(space.parse(row["arch"])).text
            for proxy in proxies:
                if row.get(proxy):
                    found.setdefault(proxy, {})[arch] = float(row[proxy])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", default="nasbench201.npz")
    parser.add_argument("--also", nargs="*", default=["nasbench201_zero_cost_proxies.npz"])
    parser.add_argument("--scores", type=Path, help="a CSV with further proxies")
    parser.add_argument("--proxies", nargs="+", default=["synflow", "jacov", "nwot", "params:max"])
    parser.add_argument("--objective", default="cifar10_valid")
    parser.add_argument("--told", default="cifar10_test")
    parser.add_argument("--unscored", choices=["failed", "equivalent"], default="failed")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--evaluations", type=int, default=MARKS[-1])
    options = parser.parse_args()
    space = Nb201Space(path=options.table, also=tuple(options.also))
    further = read_scores(options.scores, space, options.proxies) if options.scores else {}
    bench = Bench(space, options.objective, options.told, options.unscored, further)
    best = min(bench.costs, key=bench.costs.__getitem__)
    told = space.look_up(space.parse(best), options.told)
    print(f"The best {options.objective} is {-bench.costs[best]:.2f}, and {options.told} of that network {told:.2f}.")
    print(f"Below: {options.told} of the best so far; networks without a score: {options.unscored}.")
    rows(bench, options.proxies, options.seeds, options.evaluations)


if __name__ == "__main__":
    main()
