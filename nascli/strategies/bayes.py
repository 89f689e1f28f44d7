"""Bayesian optimisation: a model of what good networks have in common proposes the next ones.

Samplers are Optuna's (Akiba et al. 2019): tree-structured Parzen estimators (Bergstra et al. 2011; several objectives:
Ozaki et al. 2020), Gaussian processes with expected hypervolume improvement, and its NSGA-III.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nascli.engine.network import Network
from nascli.engine.objectives import Objective
from nascli.engine.protocol import Search, Step, Trial
from nascli.engine.task import Task
from nascli.strategies.answers import FAILED, Answers
from nascli.strategies.unseen import Unseen
from search_spaces import Architecture, Choice, ChoiceTable

if TYPE_CHECKING:
    import optuna

TRIES = 3
"""How often the model may propose what is known before a neighbour of its last proposal takes its place.

Where options are few the model soon repeats itself: it would take dozens of tries to get something new out of it,
and neighbours turn out better (and much cheaper) than what comes after many tries, or than random ones.
"""


@dataclass(frozen=True)
class Bayes:
    """Optuna's model-based samplers, never the same network twice (multi-objective TPE: Ozaki et al. 2020)."""

    sampler: Literal["tpe", "gp", "nsga3"] = "tpe"
    """tpe scales to thousands of trials; gp is for hundreds: a proposal takes seconds, and longer with objectives."""
    startup: int = 20
    """Random networks before the model is asked; the population of nsga3."""
    batch: int = 5
    """Proposals a step, made without knowing each other's outcome."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, but got {self.batch!r}")
        if self.startup < 2:
            raise ValueError(f"startup must be at least 2, but got {self.startup!r}")

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """Batches of proposals until the space is used up."""
        unseen = Unseen(task.space.table, task.rng("bayes.unseen"))
        with _quiet():
            study = _Study(self._sampler(task.entropy("bayes")), task.space.table, task.objectives)
        while True:
            with _quiet():
                asked = [p for _ in range(self.batch) if (p := study.ask(unseen))]
            if not asked:
                return
            trials = yield Step([Network(arch) for arch, _ in asked])
            with _quiet():
                study.tell(asked, trials)

    def _sampler(self, entropy: int) -> optuna.samplers.BaseSampler:
        from optuna import samplers

        seed = entropy % 2**32
        if self.sampler == "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=self.startup, warn_independent_sampling=False)
        if self.sampler == "nsga3":
            return samplers.NSGAIIISampler(seed=seed, population_size=self.startup)
        # All choices at once: better than one by one, as choices interact, and several times as fast.
        return samplers.TPESampler(seed=seed, n_startup_trials=self.startup, multivariate=True)


Proposal = tuple[Architecture, "optuna.Trial | None"]
"""An architecture and the Optuna trial that proposed it; None for a stand-in."""


class _Study:
    """An Optuna study in memory that knows of architectures.

    What Optuna asked for is set aside when the answer comes, and the canonical architecture is added in its place:
    choices that don't apply must not look like evidence.
    """

    def __init__(
        self, sampler: optuna.samplers.BaseSampler, table: ChoiceTable, objectives: Sequence[Objective]
    ) -> None:
        import optuna

        self._answers = Answers(objectives)
        self._table = table
        self._limited = any(o.limit is not None for o in objectives)
        self._study = optuna.create_study(directions=["minimize"] * len(objectives), sampler=sampler)
        # Tree-structured: only tpe models choices that some trials lack; the others would draw them at random.
        self._conditional = isinstance(sampler, optuna.samplers.TPESampler)
        self._distributions = {c.name: _distribution(c) for c in table.choices if len(c.options) > 1}

    def ask(self, unseen: Unseen) -> Proposal | None:
        """A new architecture, taken; None when there are none left."""
        from optuna.trial import TrialState

        for _ in range(TRIES):
            asked = self._study.ask()
            arch = self._suggested(asked)
            if unseen.take(arch):
                return arch, asked
            self._study.tell(asked, state=TrialState.FAIL)
        instead = unseen.near(arch) or unseen.draw()
        return None if instead is None else (instead, None)

    def tell(self, asked: Sequence[Proposal], trials: Sequence[Trial]) -> None:
        """Takes in the trials, one a proposal; those that failed leave no trace in the model."""
        from optuna.trial import TrialState, create_trial

        rows = zip(asked, self._answers.costs(trials), self._answers.violations(trials), strict=True)
        for (arch, proposal), costs, violation in rows:
            attributes: dict[str, Any] = {}
            if proposal is not None:
                attributes = self._study.tell(proposal, state=TrialState.FAIL).system_attrs
            if violation < FAILED:
                params = self._params(arch)
                finished = create_trial(
                    params=params,
                    distributions={name: self._distributions[name] for name in params},
                    values=[float(cost) for cost in costs],
                    constraints={"limit": float(violation)} if self._limited else None,
                    system_attrs=attributes,
                )
                self._study.add_trial(finished)

    def _suggested(self, trial: optuna.Trial) -> Architecture:
        indices: list[int] = []
        for i, choice in enumerate(self._table.choices):
            rest = [0] * (len(self._table.choices) - i)
            asked = choice.name in self._distributions and (
                not self._conditional or self._table.active([*indices, *rest])[i]
            )
            indices.append(_suggest(trial, choice) if asked else 0)
        return self._table.from_indices(indices)

    def _params(self, arch: Architecture) -> dict[str, Any]:
        indices = self._table.indices(arch)
        active = self._table.active(indices)
        return {
            c.name: index if c.ordered else c.options[index]
            for c, index, on in zip(self._table.choices, indices, active, strict=True)
            if c.name in self._distributions and (on or not self._conditional)
        }


def _distribution(choice: Choice) -> optuna.distributions.BaseDistribution:
    """Numbers are counted, so that the model knows neighbours; words are not."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    return IntDistribution(0, len(choice.options) - 1) if choice.ordered else CategoricalDistribution(choice.options)


def _suggest(trial: optuna.Trial, choice: Choice) -> int:
    if choice.ordered:
        return trial.suggest_int(choice.name, 0, len(choice.options) - 1)
    return choice.options.index(trial.suggest_categorical(choice.name, choice.options))


@contextmanager
def _quiet() -> Iterator[None]:
    """No messages from Optuna, no warning that its NSGA-III may change or that gp is slow; all as before afterwards."""
    import optuna
    from optuna.exceptions import ExperimentalWarning

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "NSGAIIISampler is experimental", ExperimentalWarning)
            warnings.filterwarnings("ignore", "Box decomposition .* significantly slow", UserWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
