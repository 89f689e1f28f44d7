"""Evolution: keep the networks that nothing beats and are unlike each other, cross them, change a choice, repeat.

Selection is pymoo's (Blank & Deb 2020), behind ask and tell: NSGA-II (Deb et al. 2002), NSGA-III (Deb & Jain 2014),
SMS-EMOA (Beume et al. 2007), AGE-MOEA-II (Panichella 2022). Zero-cost warm-up and move proposal: Abdelfattah et al.
2021, arXiv:2101.08134.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from math import comb
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nascli.engine.network import Network
from nascli.engine.protocol import Search, Step
from nascli.engine.task import Task
from nascli.errors import SettingsError, UnsupportedError
from nascli.strategies.answers import Answers
from nascli.strategies.assisted import Asking, Moves, beginning, check
from nascli.strategies.operators import Breeding
from nascli.strategies.unseen import Unseen
from search_spaces import Architecture, ChoiceTable

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace

Algorithm = Literal["auto", "nsga2", "nsga3", "sms-emoa", "age-moea2"]


@dataclass(frozen=True)
class Evolution:
    """A population improved by crossover and mutation; never the same network twice (NSGA-II: Deb et al. 2002)."""

    population: int = 20
    """Survivors of a generation, and the size of the first; 50 is no better after 1000 trials and far behind before."""
    offspring: int = 0
    """Children a generation; 0: as many as the population."""
    algorithm: Algorithm = "auto"
    """How survivors are chosen; auto: nsga2 up to three objectives, nsga3 from four."""
    crossover: float = 0.9
    """Probability that a child has two parents."""
    mutation: float = 0.0
    """Probability that a choice is changed; 0: one choice a child on average."""
    first: Literal["extremes", "random"] = "extremes"
    """The first population is random; extremes: the smallest and the largest network are in it."""
    seeds: tuple[str, ...] = ()
    """Architectures that join the first population."""
    proxy: str = ""
    """What scores candidates: a proxy, or anything cheap that can be an objective. Empty: nothing does."""
    warm_up: int = 0
    """Random networks that the proxy scores at the start; the best fill the first population."""
    proposals: Literal["mutants", "best-neighbours"] = "mutants"
    """What crossing gives is changed by chance, or to the neighbour, one edit away, that the proxy scores best."""
    greedy: float = 0.75
    """Probability of the best neighbour; else a random one."""

    def __post_init__(self) -> None:
        if self.population < 4:
            raise ValueError(f"population must be at least 4, but got {self.population!r}")
        if self.offspring < 0:
            raise ValueError(f"offspring must not be negative, but got {self.offspring!r}")
        for name, value in (("crossover", self.crossover), ("mutation", self.mutation)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a probability from 0 to 1, but got {value!r}")
        if self.proposals == "best-neighbours" and not self.proxy:
            raise ValueError("proposals='best-neighbours' needs something to score by; give a proxy, as 'gradsign'")
        scored = 0 if self.proposals == "best-neighbours" else 1
        check(proxy=self.proxy, warm_up=self.warm_up, candidates=scored, greedy=self.greedy)

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """Generations until the space is used up.

        Raises SettingsError, ArchitectureError (seeds) and UnsupportedError (a missing package).
        """
        from pymoo.core.termination import NoTermination

        table, answers = task.space.table, Answers(task.objectives)
        # What is refused should be refused before a warm-up has cost an hour.
        self._algorithm(len(task.objectives))
        unseen = Unseen(table, task.rng("evolution.unseen"))
        moves = Moves(table, unseen, task.rng("evolution.moves"), self.proxy, greedy=self.greedy)
        chance = self.proposals == "mutants"
        archs = yield from self._first(task.space, unseen)
        with _contained():
            sampling = np.array([table.indices(arch) for arch in archs])
            mating = Breeding(table, unseen if chance else None, crossover=self.crossover, mutation=self.mutation)
            algorithm = self._algorithm(len(task.objectives), sampling=sampling, mating=mating)
            problem = _problem(table, len(task.objectives))
            algorithm.setup(problem, termination=NoTermination(), seed=task.entropy("evolution"))
            generation = algorithm.ask()
        while archs:
            trials = yield Step([Network(arch) for arch in archs])
            generation.set("F", answers.costs(trials), "G", answers.violations(trials)[:, None])
            with _contained():
                algorithm.tell(infills=generation)
                generation = algorithm.ask()
            archs = [] if generation is None else [table.from_indices(x) for x in generation.get("X")]
            if not chance:
                archs = yield from _moved(archs, moves)
                generation = generation[: len(archs)].set("X", np.array([table.indices(arch) for arch in archs]))

    def _first(self, space: SearchSpace, unseen: Unseen) -> Asking[list[Architecture]]:
        """Seeds, extremes, and random architectures up to the size of the population, the best of a warm-up first."""
        given = [space.parse(text) for text in self.seeds]
        if self.first == "extremes":
            given += [space.table.smallest, space.table.largest]
        given = [arch for arch in given if unseen.take(arch)]
        count = max(0, self.population - len(given))
        return given + (yield from beginning(unseen, count, proxy=self.proxy, warm_up=self.warm_up))

    def _algorithm(self, objectives: int, **parts: object) -> Any:
        """The pymoo algorithm, not set up yet; `parts` are its first population and its mating."""
        name = self.algorithm
        if name == "auto":
            name = "nsga3" if objectives >= 4 else "nsga2"
        if objectives == 1 and name != "nsga2":
            raise SettingsError(f"algorithm={name!r} trades objectives off, but there is one only; use 'nsga2'.")
        sizes = {"pop_size": self.population, "n_offsprings": self.offspring or self.population}
        if name == "nsga3":
            from pymoo.algorithms.moo.nsga3 import NSGA3

            return NSGA3(directions(objectives, self.population), eliminate_duplicates=False, **sizes, **parts)
        if name == "sms-emoa":
            from pymoo.algorithms.moo.sms import SMSEMOA

            return SMSEMOA(eliminate_duplicates=False, **sizes, **parts)
        if name == "age-moea2":
            if find_spec("numba") is None:
                raise UnsupportedError("algorithm='age-moea2' needs numba: pip install numba. Or use 'nsga3'.")
            from pymoo.algorithms.moo.age2 import AGEMOEA2

            return AGEMOEA2(eliminate_duplicates=False, **sizes, **parts)
        from pymoo.algorithms.moo.nsga2 import NSGA2

        return NSGA2(eliminate_duplicates=False, **sizes, **parts)


def _moved(archs: Sequence[Architecture], moves: Moves) -> Asking[list[Architecture]]:
    """A child of each architecture; fewer only when the space is used up."""
    children = []
    for arch in archs:
        child = yield from moves.child(arch)
        if child is None:
            break
        children.append(child)
    return children


def directions(objectives: int, population: int) -> np.ndarray:
    """Das and Dennis' directions [directions, objectives], as many as the population can serve.

    Raises SettingsError if the population is smaller than the number of objectives.
    """
    from pymoo.util.ref_dirs import get_reference_directions

    divisions = 0
    while comb(divisions + objectives, objectives - 1) <= population:
        divisions += 1
    if not divisions:
        raise SettingsError(f"population={population} is too small for {objectives} objectives with nsga3.")
    found: np.ndarray = get_reference_directions("das-dennis", objectives, n_partitions=divisions)
    return found


def _problem(table: ChoiceTable, objectives: int) -> Any:
    """What pymoo has to know: one constraint stands for all limits and failures, and comes before the objectives."""
    from pymoo.core.problem import Problem

    return Problem(n_var=len(table.choices), n_obj=objectives, n_ieq_constr=1, vtype=int)


@contextmanager
def _contained() -> Iterator[None]:
    """Keeps pymoo to itself: NSGA-III switches all warnings off for good, and missing extensions go to stdout."""
    from pymoo.config import Config

    Config.warnings["not_compiled"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
