"""What all relaxed searches have in common: settings, and the order of things: train, decide, train on, propose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from nascli.engine.network import Network
from nascli.engine.protocol import Search, Step
from nascli.engine.task import Task
from nascli.errors import UnsupportedError
from nascli.recipes.randomness import generators, seeded
from nascli.recipes.supernet import cut
from nascli.strategies.gradient.bilevel.methods import Bilevel
from nascli.strategies.gradient.bilevel.problem import Optimisers
from nascli.strategies.gradient.loop import Loop
from nascli.strategies.gradient.mixture import Relaxation
from nascli.strategies.gradient.rows import Rows
from nascli.strategies.gradient.schedule import Stage, cosine
from nascli.strategies.gradient.watch import EarlyStop


@dataclass(frozen=True, kw_only=True)
class Relaxed(ABC):
    """A supernet of mixtures, trained on the training split while the mixtures are on the validation split."""

    epochs: float = 50.0
    """Passes over the training examples; none are made if a trained supernet is given."""
    batch: int = 64
    """Examples a step, of each split."""
    lr: float = 0.025
    """The network's learning rate at first; it falls along a cosine."""
    lr_min: float = 0.001
    optimisers: Optimisers = Optimisers()
    """SGD for the network, Adam for the architecture weights."""
    bilevel: Bilevel = Bilevel()
    """How the two are trained against each other: alternating, unrolled, implicit, lv-hba or bo-rep."""
    alpha: Literal["learnt", "fixed"] = "learnt"
    """Whether architecture weights are learnt, or all stay 0, so that every mixture is even."""
    alpha_noise: float = 1e-3
    """Deviation of the first architecture weights."""
    warm_up: float = 0.0
    """Epochs at the beginning in which only the network learns."""
    relaxation: Relaxation = "softmax"
    """softmax (DARTS), gumbel (one hard sample: GDAS), dirichlet (a soft sample: DrNAS)."""
    temperature: tuple[float, float] = (10.0, 0.1)
    """Of gumbel, at the beginning and at the end."""
    partial_channels: int = 1
    """Mix operations on one of so many parts of the channels (PC-DARTS: 4)."""
    edge_weights: Literal["even", "learnt"] = "even"
    """Whether the edges into a node get weights of their own (PC-DARTS)."""
    perturbation: float = 0.0
    """The largest random perturbation of mixtures while the network learns, from a tenth of it on (SDARTS-RS: 0.3)."""
    beta_decay: float = 0.0
    """The last weight of the mean log-sum-exp of architecture weights in the validation loss (beta-DARTS: 50)."""
    anchor: float = 0.0
    """The weight of the Dirichlet distributions' distance from the uniform one in the validation loss (DrNAS)."""
    max_macs: float | None = None
    """The most multiply-adds that the mixture is expected to take; bilevel.name='lv-hba' keeps to it."""
    early_stop: EarlyStop = "never"
    """When the search proper ends before its time: when the dominant eigenvalue grows, or skip connections lead."""
    report_steps: int = 50
    """Steps between two reports, unless two seconds or an epoch pass first."""

    def __post_init__(self) -> None:
        for name in ("batch", "lr", "partial_channels", "report_steps", "max_macs"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name}={value!r} must be more than 0")
        for name in ("epochs", "lr_min", "alpha_noise", "warm_up", "perturbation", "beta_decay", "anchor"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"{name}={value!r} must not be negative")
        if min(self.temperature) <= 0:
            raise ValueError(f"temperature={self.temperature!r} must be more than 0")
        if self.perturbation and (self.relaxation != "softmax" or self.bilevel.name not in ("alternating", "bo-rep")):
            raise ValueError(
                f"perturbation={self.perturbation!r} hides the architecture weights from the training loss; it needs "
                "relaxation='softmax' and bilevel.name='alternating'"
            )
        if self.anchor and self.relaxation != "dirichlet":
            raise ValueError(f"anchor={self.anchor!r} is of Dirichlet distributions; give relaxation='dirichlet'")
        if self.max_macs is not None and self.bilevel.name != "lv-hba":
            raise ValueError(f"max_macs={self.max_macs:g} is kept by one method only; give bilevel.name='lv-hba'")
        if self.max_macs is not None and self.alpha == "fixed":
            raise ValueError(
                f"max_macs={self.max_macs:g} can't be kept by mixtures that stay even; give alpha='learnt'"
            )

    # -- what differs ------------------------------------------------------------------------------------------------

    @abstractmethod
    def stages(self, rows: Rows) -> list[Stage]:
        """What is trained, and after which stages something is decided."""

    @abstractmethod
    def turn(self, loop: Loop) -> Search:
        """Settle one choice of each lane."""

    @abstractmethod
    def settle(self, loop: Loop) -> Search:
        """Settle all that is still open at the end."""

    @abstractmethod
    def remember(self, loop: Loop) -> None:
        """Note, after every epoch of training, what decisions will look back at."""

    # -- schedules ---------------------------------------------------------------------------------------------------

    def rate(self, stage: Stage, spent: float) -> float:
        """The network's learning rate in a stage, at this share of the schedules."""
        return cosine(spent, highest=self.lr, lowest=self.lr_min)

    def heat(self, spent: float) -> float:
        """The temperature of Gumbel-softmax at this share of the schedules."""
        first, last = self.temperature
        return first + (last - first) * spent

    def radius(self, spent: float) -> float:
        """The perturbation's radius at this share of the schedules."""
        return self.perturbation * (0.1 + 0.9 * spent)

    def all_epochs(self, rows: Rows) -> float:
        """The epochs of all stages."""
        return max(1e-9, sum(stage.epochs for stage in self.stages(rows)))

    # -- the search --------------------------------------------------------------------------------------------------

    def search(self, task: Task, state: Mapping[str, Any] | None = None) -> Search:
        """See `Strategy.search`. It proposes one network, with the supernet's weights if it can inherit them."""
        loop = Loop(self, task, state)
        metrics: dict[str, float] = {}
        if not loop.notes.get("over"):
            yield from self.run(loop)
            metrics = loop.told() | {"progress": 1.0}
            loop.notes["over"] = True
        # Taken up again from here, it proposes the network once more, but it has told all there was to tell.
        yield Step(candidates=[self.found(loop)], metrics=metrics, state=loop.state)

    def run(self, loop: Loop) -> Search:
        """All stages and all decisions."""
        stages = self.stages(loop.mixture.rows)
        if loop.trained and not stages[0].searched:
            raise UnsupportedError("decisions='greedy' are made while the supernet trains; leave --supernet out.")
        while loop.stage < len(stages):
            stage = stages[loop.stage]
            if not (loop.trained and stage.searched):
                yield from loop.train(stage)
            if stage.searched and stage.epochs and not loop.trained and "searched" not in loop.notes:
                loop.notes["searched"] = loop.searched()
            if stage.decides:
                yield from self.turn(loop)
            loop.end_stage()
            yield Step(metrics=loop.told(), state=loop.state)
        yield from self.settle(loop)

    def found(self, loop: Loop) -> Network:
        """The network of all decisions. A supernet of partial channels, or an untrained one, lends it no weights."""
        arch, task = loop.mixture.rows.architecture(loop.mixture.decided), loop.task
        if loop.parts > 1 or not (loop.trained or self.epochs > 0):
            return Network(arch)
        with torch.random.fork_rng(devices=generators(task.device)):
            seeded(task.entropy("gradient/found"), task.device)  # an operation may draw while statistics are estimated
            return Network(arch, tensors=cut(loop.model, arch, task), tag="searched")
