"""Pruning at once: groups are scored on the dense network, the lowest go, and what is left is trained.

What other methods are measured against, and often hard to beat.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from nascli.compressors import criteria, torch_pruning_scores
from nascli.compressors.pruner import Choice, Job, Pruner
from nascli.engine.protocol import Step
from nascli.recipes.session import Losses, Session


@dataclass(frozen=True, kw_only=True)
class OneShot(Pruner):
    """What all criteria have in common: one score a group, one cut, and the whole budget to heal."""

    compared: Literal["none", "mean", "max", "rms"] = "mean"
    """What of a layer its groups' scores are divided by before layers compete with each other."""
    examples: int = 512
    """Training examples that scores are taken from, where they need any."""

    @abstractmethod
    def scores(self, job: Job) -> Tensor:
        """A score for each group, the higher the worthier [groups]."""

    def choose(self, job: Job, session: Session, losses: Losses) -> Choice:
        """See `Pruner.choose`."""
        scores = criteria.normalised(self.scores(job).cpu(), job.groups, self.compared)
        alive = job.select(scores)
        metrics = {"alive": float(alive.sum()), "groups": float(len(alive)), "share": job.share(alive)}
        yield Step(metrics=metrics)
        return alive


@dataclass(frozen=True, kw_only=True)
class Magnitude(OneShot):
    """Norms of the groups' weights (Li et al. 2017, arXiv:1608.08710)."""

    power: Literal[1, 2] = 2
    """L1 or L2."""

    def scores(self, job: Job) -> Tensor:
        """See `OneShot.scores`."""
        return criteria.magnitude(job.model, job.groups, power=self.power)


@dataclass(frozen=True, kw_only=True)
class Taylor(OneShot):
    """What the loss would change by to first order without the group (Molchanov et al. 2019, arXiv:1906.10771)."""

    def scores(self, job: Job) -> Tensor:
        """See `OneShot.scores`."""
        return criteria.taylor(job.model, job.groups, job.examples(self.examples, self.batch))


@dataclass(frozen=True, kw_only=True)
class BNScale(OneShot):
    """The scale that batch normalisation gives a channel: Network Slimming (Liu et al. 2017, arXiv:1708.06519)."""

    def scores(self, job: Job) -> Tensor:
        """See `OneShot.scores`."""
        return criteria.bn_scale(job.model, job.groups)


@dataclass(frozen=True, kw_only=True)
class RandomGroups(OneShot):
    """Chance, below which no criterion should fall (Mittal et al. 2018, arXiv:1801.10447)."""

    def scores(self, job: Job) -> Tensor:
        """See `OneShot.scores`."""
        return criteria.random(job.groups, job.task.rng(f"compress/random/{job.network.key}"))


@dataclass(frozen=True, kw_only=True)
class TorchPruning(OneShot):
    """Torch-Pruning's importances on its own coupled groups: DepGraph (Fang et al. 2023, arXiv:2301.12900).

    As there by default, all layers keep the same share, and scores are compared within layers.
    """

    importance: Literal["magnitude", "taylor", "hessian", "bn_scale", "lamp", "fpgm", "random"] = "magnitude"
    scope: Literal["global", "axis"] = "axis"
    compared: Literal["none", "mean", "max", "rms"] = "none"

    def scores(self, job: Job) -> Tensor:
        """See `OneShot.scores`."""
        return torch_pruning_scores.scores(
            job.model,
            job.groups,
            job.example,
            job.examples(self.examples, self.batch),
            importance=self.importance,
            rng=job.task.rng(f"compress/random/{job.network.key}"),
        )
