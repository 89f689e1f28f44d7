"""WGSEF: structured sparsity at a level fixed beforehand, by the envelope of "at most k groups" (arXiv:2212.12921).

Training is proximal gradient descent. After each optimiser step, the proximal operator of the weighted group sparse
envelope shrinks the groups that are not among the strongest; at the end of the phase exactly the level is left.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from nascli.compressors.criteria import fisher
from nascli.compressors.envelope.sparsifier import Envelope, Sparsifier, layer_weights
from nascli.compressors.pruner import Choice, Job, Pruner
from nascli.engine.protocol import Step
from nascli.recipes.session import Losses, Moment, Session

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WGSEF(Pruner):
    """Weighted group sparse envelope (Refael et al., arXiv:2212.12921): warm-up, pruning, projection, healing.

    The level is a floor for the operator alone, so what it leaves over is projected away at the end of the pruning
    phase; how many groups that were is told as "projected".
    """

    warm_up: float = 0.0
    """The share of the budget before anything is shrunk."""
    pruning: float = 0.1
    """The share of the budget in which groups are shrunk; the rest heals."""
    operator: Literal["debiased", "published"] = "debiased"
    """The published proximal operator also shrinks what survives; the debiased one leaves that as it is."""
    strength: Literal["ramp", "auto"] | float = "ramp"
    """The operator's step: a ramp over the phase; or lr times a number, which "auto" reads off the gradients."""
    prox_steps: tuple[float, float] = (1e-3, 0.9)
    """The first and the last step of the ramp, which is geometric."""
    weights: Literal["fisher", "layer", "none"] = "fisher"
    """What a group's squared norm is worth: the loss that it carries, to second order; one over the mean square of the
    layer's living groups; or the same everywhere, as published."""
    examples: int = 128
    """Training examples that Fisher weights are taken from."""
    priced: bool = True
    """Whether a group's norm is weighed against what it costs of the level's unit; with layers' weights it never is,
    as those let each layer lose its share."""
    half_space: float | None = None
    """If given: groups die, too, when a step leaves them with less than this share along their former direction."""
    stages: int = 5
    """Stages of the pruning phase: each removes an equal share of what is left, with weights as they are by then."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("examples", "stages"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least 1")
        for name in ("warm_up", "pruning"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value!r} must be at least 0 and less than 1: it is a share")
        if not 0 < self.pruning < 1 - self.warm_up:
            raise ValueError(f"pruning={self.pruning!r} must be more than 0 and leave some of the budget to healing")
        if not 0 < self.prox_steps[0] <= self.prox_steps[1] <= 1:
            raise ValueError(f"prox_steps={self.prox_steps!r} must rise within 0 and 1")
        if isinstance(self.strength, float) and not self.strength > 0:
            raise ValueError(f"strength={self.strength!r} must be more than 0")
        if self.half_space is not None and not 0 <= self.half_space < 1:
            raise ValueError(f"half_space={self.half_space!r} must be at least 0 and less than 1")
        if self.operator == "published":
            self._refuse_published()

    def _refuse_published(self) -> None:
        if self.strength == "ramp":
            raise ValueError(
                "operator='published' shrinks what survives, too, so its step can't be a ramp; give strength='auto'"
            )
        if self.optimizer == "adamw":
            raise ValueError(
                "operator='published' goes with optimizer='sgd': AdamW's steps have another metric in each weight, in "
                "which it removes nothing or whole layers; give operator='debiased'"
            )

    @property
    def envelope(self) -> Envelope:
        """How the envelope is applied."""
        return Envelope(
            operator=self.operator,
            strength=self.strength,
            prox_steps=self.prox_steps,
            half_space=self.half_space,
            stages=self.stages,
            rules=self.rules,
        )

    def choose(self, job: Job, session: Session, losses: Losses) -> Choice:
        """See `Pruner.choose`."""
        notes = session.notes
        if "prices" not in notes:
            priced = self.priced and self.weights != "layer"
            notes["prices"] = job.prices() if priced else torch.ones(len(job.groups), dtype=torch.float64)
        sparsifier = Sparsifier(
            session.model,
            job.groups,
            self.envelope,
            choose=job.select,
            weigh=lambda: self._weights(job, session.model),
            prices=notes["prices"],
            blocks=job.blocks,
        )
        if "envelope" in notes:
            sparsifier.load(notes["envelope"])
        start, end = self.warm_up, self.warm_up + self.pruning
        yield from session.run(losses, until=start)
        self._stop_decay(session)
        living = 0

        def after(at: Moment) -> None:
            nonlocal living
            progress = (at.spent - start) / self.pruning
            living = sparsifier.step(session.optimiser, progress=progress)
            notes["envelope"] = sparsifier.notes

        for step in session.run(losses, until=end, after=after):
            yield Step(
                metrics={**step.metrics, "alive": float(living), "groups": float(len(job.groups))}, state=step.state
            )
        before = sparsifier.norms() > 0
        alive = sparsifier.select()
        if self.round_to == 1:
            # Where there would be room for dead groups, too, they stay dead: zeros hardly learn.
            alive &= before
        projected = int((before & ~alive).sum())
        metrics = {"alive": float(alive.sum()), "groups": float(len(job.groups)), "projected": float(projected)}
        log.info("%d of %d groups are alive; the projection removed %d", alive.sum(), len(alive), projected)
        yield Step(metrics=metrics | {"share": job.share(alive)})
        return alive

    def _weights(self, job: Job, model: nn.Module) -> Tensor:
        """The weights of the model's groups as they are now [groups]."""
        squares = job.groups.squares(model.state_dict()).cpu()
        if self.weights == "none":
            return torch.ones_like(squares)
        if self.weights == "layer":
            return layer_weights(squares.sqrt(), job.groups)
        # One by one: a gradient an example through the pass of a whole batch costs as much as the batch's own.
        carried = fisher(model, job.groups, job.examples(self.examples, 1)).cpu()
        # A weight must be positive; a group that carries nothing is the first to go all the same.
        least = 1e-12 * float(carried.mean().clamp(min=1e-30))
        return carried.clamp(min=least) / squares.clamp(min=1e-30)

    def _stop_decay(self, session: Session) -> None:
        """The published envelope is weight decay already on what survives."""
        if self.operator == "published":
            for group in session.optimiser.param_groups:
                group["weight_decay"] = 0.0
