"""How much of the true front of a measured space do search strategies find, and what do they cost themselves?

NAS-Bench-201 (CIFAR-10 test accuracy) with HW-NAS-Bench (edge GPU latency): 15,625 architectures, all measured, so the
true front is known. Ours run in the real engine, journal and all. Beside them stand pymoo and Optuna as their
documentation shows them, with answers remembered: a repeated proposal costs them nothing.

    NASCLI_DATA=data python benchmarks/search_peers.py --seeds 10 --out peers.csv

A row is written as soon as a search is done; run it again to go on.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nascli.engine import objectives
from nascli.engine.drive import Budget, drive
from nascli.engine.executors import inline
from nascli.engine.front import hypervolume, reference_point
from nascli.engine.protocol import Search, Strategy
from nascli.engine.runs import Run
from nascli.engine.task import Task
from nascli.engine.writer import Writer
from nascli.strategies.bayes import Bayes
from nascli.strategies.evolution import Evolution
from nascli.strategies.random import Random
from search_spaces.table import TableSpace

MARKS = (100, 300, 1000)
STALL = 50  # proposals a wanted architecture; beyond that a peer only repeats itself
OURS: Mapping[str, Strategy] = {
    "random": Random(),
    "evolution": Evolution(),
    "bayes-tpe": Bayes(),
    "evolution-nsga3": Evolution(algorithm="nsga3"),
    "evolution-sms-emoa": Evolution(algorithm="sms-emoa"),
    "bayes-nsga3": Bayes(sampler="nsga3"),
}
COLUMNS = ("searcher", "seed", "evaluations", "hypervolume", "relative", "proposals", "cpu_s", "own_cpu_s")


@dataclass(frozen=True)
class Bench:
    """The measured space, and what there is to find in it."""

    space: TableSpace
    columns: tuple[str, ...]

    def task(self, seed: int) -> Task:
        return Task(self.space, objectives=tuple(objectives.parse(c, self.space) for c in self.columns), seed=seed)

    @cached_property
    def costs(self) -> dict[str, tuple[float, ...]]:
        """Architecture -> costs, all of them."""
        goals = self.task(0).objectives
        return {str(a): tuple(o.cost(self.space.look_up(a, o.name)) for o in goals) for a in self.space.table.members()}

    @cached_property
    def reference(self) -> np.ndarray:
        """The worst of all architectures and a tenth of the range."""
        return reference_point(list(self.costs.values()))

    def volume(self, found: Sequence[str]) -> float:
        return hypervolume([self.costs[key] for key in found], self.reference)

    @cached_property
    def true_volume(self) -> float:
        return self.volume(list(self.costs))


@dataclass
class Found:
    """What a search measured, in order, and the CPU seconds: in all, and of its own decisions."""

    keys: list[str] = field(default_factory=list)
    proposals: int = 0
    cpu_s: float = 0.0
    own_cpu_s: float = 0.0


@dataclass(frozen=True)
class Timed:
    """A strategy that counts proposals, and the time between an answer and the next question."""

    strategy: Strategy
    found: Found

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        started = time.process_time()
        search = self.strategy.search(task, state)
        step = next(search, None)
        while step is not None:
            self.found.own_cpu_s += time.process_time() - started
            self.found.proposals += len(step.candidates)
            trials = yield step
            started = time.process_time()
            try:
                step = search.send(trials)
            except StopIteration:
                step = None


def engine(strategy: Strategy, bench: Bench, seed: int, count: int) -> Found:
    """A run of ours, as the command line would do it."""
    found, started = Found(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        path, header = Path(folder) / "run", {"fingerprint": bench.space.table.fingerprint}
        with Writer(path, command="search", resolved={}, header=header) as run:
            drive(Timed(strategy, found), bench.task(seed), run, inline, budget=Budget(evaluations=count))
        found.cpu_s = time.process_time() - started
        found.keys = [row["arch"] for row in Run.open(path).rows]
    return found


def remembered(proposals: Iterator[str], count: int) -> Found:
    """The first different architectures of an endless search; it ends early when the search only repeats itself."""
    found, known, started = Found(), set[str](), time.process_time()
    for key in proposals:
        found.proposals += 1
        if key not in known:
            known.add(key)
            found.keys.append(key)
        if len(known) >= count or found.proposals >= STALL * count:
            break
    found.cpu_s = found.own_cpu_s = time.process_time() - started
    return found


def pymoo_sbx(bench: Bench, seed: int) -> Iterator[str]:
    """pymoo's NSGA-II for integers: simulated binary crossover and polynomial mutation, rounded."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    table = bench.space.table
    upper = [len(c.options) - 1 for c in table.choices]
    problem = Problem(n_var=len(upper), n_obj=len(bench.columns), xl=0, xu=np.array(upper), vtype=int)
    whole = {"prob": 1.0, "eta": 3.0, "vtype": float, "repair": RoundingRepair()}
    parts = {"sampling": IntegerRandomSampling(), "crossover": SBX(**whole), "mutation": PM(**whole)}
    algorithm = NSGA2(pop_size=50, eliminate_duplicates=True, **parts)
    algorithm.setup(problem, termination=NoTermination(), seed=seed)
    while (generation := algorithm.ask()) is not None:
        keys = [str(table.from_indices(x)) for x in generation.get("X")]
        yield from keys
        generation.set("F", np.array([bench.costs[k] for k in keys]))
        algorithm.tell(infills=generation)


def optuna_search(sampler: str) -> Callable[[Bench, int], Iterator[str]]:
    """Optuna's sampler on categorical choices."""

    def search(bench: Bench, seed: int) -> Iterator[str]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        made = getattr(optuna.samplers, sampler)(seed=seed)
        study = optuna.create_study(directions=["minimize"] * len(bench.columns), sampler=made)
        table = bench.space.table
        while trial := study.ask():
            key = str(table.canonical([trial.suggest_categorical(c.name, c.options) for c in table.choices]))
            yield key
            study.tell(trial, bench.costs[key])

    return search


PEERS: Mapping[str, Callable[[Bench, int], Iterator[str]]] = {
    "pymoo-nsga2-sbx": pymoo_sbx,
    "optuna-nsga2": optuna_search("NSGAIISampler"),
    "optuna-tpe": optuna_search("TPESampler"),
}


def rows(name: str, bench: Bench, seed: int, count: int) -> list[dict[str, Any]]:
    """One row a mark; a search that ended before a mark is judged there by all that it found."""
    found = engine(OURS[name], bench, seed, count) if name in OURS else remembered(PEERS[name](bench, seed), count)
    made: list[dict[str, Any]] = []
    for mark in sorted({m for m in MARKS if m < count} | {count}):
        volume = bench.volume(found.keys[:mark])
        numbers = (f"{volume:.6f}", f"{volume / bench.true_volume:.6f}", found.proposals)
        times = (f"{found.cpu_s:.3f}", f"{found.own_cpu_s:.3f}")
        made.append(dict(zip(COLUMNS, (name, seed, mark, *numbers, *times), strict=True)))
    return made


def table(written: Sequence[Mapping[str, Any]], count: int) -> Iterator[str]:
    """The table in words: per cent of the true hypervolume (mean +- deviation over seeds), and CPU time."""
    marks = sorted({int(r["evaluations"]) for r in written})
    head = "".join(f"{f'after {m}':>19}" for m in marks)
    yield f"{'searcher':20}{'seeds':>6}{head}{'CPU s/1000':>12}{'own ms/trial':>14}{'proposals':>11}"
    for name in dict.fromkeys(r["searcher"] for r in written):
        mine = [r for r in written if r["searcher"] == name]
        line = f"{name:20}{len({r['seed'] for r in mine}):6d}"
        for mark in marks:
            shares = [100 * float(r["relative"]) for r in mine if int(r["evaluations"]) == mark]
            spread = np.std(shares, ddof=1) if len(shares) > 1 else 0.0
            line += f"{f'{np.mean(shares):.3f} +- {spread:.3f}' if shares else '-':>19}"
        cpu, own, proposals = (np.mean([float(r[k]) for r in mine]) for k in ("cpu_s", "own_cpu_s", "proposals"))
        yield line + f"{1000 * cpu / count:12.2f}{1000 * own / count:14.3f}{proposals:11.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", default="nasbench201.npz")
    parser.add_argument("--also", nargs="*", default=["hwnasbench_nb201.npz"])
    parser.add_argument("--objectives", nargs="+", default=["cifar10_test", "edgegpu_latency_ms"])
    parser.add_argument("--searchers", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=MARKS[-1])
    parser.add_argument("--out", type=Path, required=True, help="the CSV; rows that are in it are not made again")
    options = parser.parse_args()
    bench = Bench(TableSpace(options.table, also=tuple(options.also)), tuple(options.objectives))
    options.out.touch()
    with options.out.open(newline="") as file:
        written: list[dict[str, Any]] = [r for r in csv.DictReader(file) if r["searcher"] in options.searchers]
    done = {(r["searcher"], int(r["seed"])) for r in written if int(r["evaluations"]) == options.evaluations}
    for name in options.searchers:
        rows(name, bench, 0, 30)  # so that no search pays for imports
    with options.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not file.tell():
            writer.writeheader()
        for seed in range(options.seeds):
            for name in options.searchers:
                if (name, seed) not in done:
                    made = rows(name, bench, seed, options.evaluations)
                    writer.writerows(made)
                    file.flush()
                    written += made
    print(f"Per cent of the true front's hypervolume, {bench.true_volume:.3f}, against {bench.reference.round(3)}:")
    print("\n".join(table(written, options.evaluations)))


if __name__ == "__main__":
    main()
