"""The proximal step on a network's groups after each step of the optimiser, and what it needs to know of the groups.

Norms of different layers are not comparable, so each group has a weight. The level is approached in stages: at the
start of each, the groups are weighed anew, by the network as it is by then, and how many may stay is found by counting
the smaller network; within it, the operator's step rises until no more than these are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nascli.compressors.envelope.functions import shrink
from nascli.compressors.selection import Rules, protected
from search_spaces.groups import Groups

Choose = Callable[[Tensor, float], Tensor]
"""The groups that live, bool [groups], by their scores [groups] and the part of the way to the level, from 0 to 1."""

LARGEST_STEP = 0.1
"""Of lr x strength: beyond it, the published operator shrinks what survives faster than training can mend."""
SLOW = 0.99
"""How slowly the automatic strength follows the gradients."""


@dataclass(frozen=True)
class Envelope:
    """How the envelope is applied; see `WGSEF` for what the settings mean."""

    operator: Literal["debiased", "published"] = "debiased"
    strength: Literal["ramp", "auto"] | float = "ramp"
    prox_steps: tuple[float, float] = (1e-4, 0.5)
    stages: int = 5
    half_space: float | None = None
    rules: Rules = Rules()

    def step_size(self, progress: float, lr: float, automatic: float) -> float:
        """The operator's step at this share of a stage; `automatic` is the strength that gradients ask for."""
        if self.strength == "ramp":
            low, high = self.prox_steps
            return float(low * (high / low) ** min(1.0, progress))
        strength = automatic if self.strength == "auto" else self.strength
        return min(LARGEST_STEP, lr * float(strength))


class Sparsifier:
    """Shrinks the groups of one model towards the level, step by step; `notes` is all it goes on from."""

    def __init__(
        self,
        model: nn.Module,
        groups: Groups,
        envelope: Envelope,
        *,
        choose: Choose,
        weigh: Callable[[], Tensor],
        prices: Tensor,
        blocks: Tensor | None = None,
    ) -> None:
        """`choose` says which groups live by their scores, `weigh` gives the groups' weights [groups] as they are now.

        With `blocks` [blocks, m], each has a budget of its own.
        """
        self._weigh = weigh
        self._groups, self._envelope, self._choose, self._blocks = groups, envelope, choose, blocks
        self._parameters = dict(model.named_parameters(remove_duplicate=False))
        self._prices = prices
        self._before: dict[str, Tensor] = {}
        self.notes: dict[str, Any] = {
            "weights": torch.ones(len(groups), dtype=torch.float64),
            "budget": math.nan,
            "strength": 0.0,
            "stage": -1,
        }
        self._remember()

    def load(self, notes: Mapping[str, Any]) -> None:
        """Go on from earlier notes, with the model's present values as those of the last step."""
        self.notes = dict(notes)
        self._remember()

    def norms(self) -> Tensor:
        """The norm of each group [groups], on the CPU."""
        return self._groups.squares(self._parameters).sqrt().cpu()

    def select(self) -> Tensor:
        """The groups that the level leaves room for, bool [groups]."""
        return self._choose(self._scores(self.norms()), 1.0)

    def _scores(self, norms: Tensor) -> Tensor:
        """What decides between groups [groups]: weighted norms by the root of what they cost."""
        weights: Tensor = self.notes["weights"]
        return norms * (weights / self._prices).sqrt()

    def step(self, optimiser: Optimizer, *, progress: float) -> int:
        """Shrink the groups once; how many are alive afterwards. `progress` is the share of the pruning phase."""
        norms = self.norms()
        stages = self._envelope.stages
        stage = min(stages - 1, int(progress * stages))
        if stage != self.notes["stage"]:
            self._enter(stage, norms)
        lr = float(optimiser.param_groups[0]["lr"])
        automatic = self._automatic(norms) if self._envelope.strength == "auto" else 0.0
        factors = self._factors(norms, self._envelope.step_size(progress * stages - stage, lr, automatic))
        if self._envelope.half_space is not None:
            factors = factors.masked_fill(self._turned(norms) & ~self._safe(norms), 0.0)
        dead = factors == 0
        self._groups.scale_(self._parameters, factors)
        self._forget(optimiser, (~dead).double())
        self._remember()
        return int(((norms > 0) & ~dead).sum())

    def _enter(self, stage: int, norms: Tensor) -> None:
        """Weigh the groups, and find for how many of them the stage leaves room."""
        self.notes["weights"] = self._weigh()
        alive = self._choose(self._scores(norms), (stage + 1) / self._envelope.stages)
        room = int(alive.sum())
        budget = float(self._prices[alive].sum()) if self._blocks is None else room / len(self._blocks)
        self.notes |= {"stage": stage, "budget": budget, "room": room}

    def _safe(self, norms: Tensor) -> Tensor:
        return protected(norms, self._groups, self._envelope.rules)

    def _factors(self, norms: Tensor, step: float) -> Tensor:
        """What each group is multiplied by [groups]; the best of each axis are out of the envelope's reach."""
        safe, weights = self._safe(norms), self.notes["weights"]
        debiased = self._envelope.operator == "debiased"
        # In the metric of the weights, a step means the same to all groups; but the published operator belongs to the
        # metric in which gradients make their steps, which is Euclid's.
        metric = weights if debiased else torch.ones_like(weights)
        if (rows := self._blocks) is not None:
            inside = shrink(
                norms[rows],
                self.notes["budget"],
                step,
                weights=weights[rows],
                metric=metric[rows],
                operator=self._envelope.operator,
            )
            return torch.ones_like(norms).scatter_(0, rows.flatten(), inside.flatten())
        factors = shrink(
            norms.masked_fill(safe, 0.0),
            max(0.0, self.notes["budget"] - float(self._prices[safe].sum())),
            step,
            weights=weights,
            costs=self._prices,
            metric=metric,
            operator=self._envelope.operator,
        )
        survivors = torch.ones_like(weights) if debiased else 1 / (1 + step * weights)
        return torch.where(safe, survivors, factors)

    def _automatic(self, norms: Tensor) -> float:
        """Half of the least strength at which the present groups would stay dead, averaged over steps.

        Dead groups stay so if the strength exceeds the largest weighted gradient among them over the smallest weighted
        norm among the living: the optimality condition of the envelope.
        """
        weights = self.notes["weights"].sqrt()
        gradients = {n: p.grad if p.grad is not None else torch.zeros_like(p) for n, p in self._parameters.items()}
        pulls = self._groups.squares(gradients).sqrt().cpu() / weights
        held = norms * weights
        order = torch.argsort(self._scores(norms), descending=True, stable=True)
        count = min(len(norms), self.notes["room"])
        outside, weakest = order[count:], held[order[max(0, count - 1)]]
        if len(outside) and weakest > 0:
            now = 0.5 * float(pulls[outside].max() / weakest)
            before = self.notes["strength"]
            self.notes["strength"] = now if before == 0 else SLOW * before + (1 - SLOW) * now
        return float(self.notes["strength"])

    def _turned(self, norms: Tensor) -> Tensor:
        """Groups that the last step pushed out of the half-space they were in [groups] (Chen et al. 2021, HSPG)."""
        products = {n: self._parameters[n].detach() * old for n, old in self._before.items()}
        squares = self._groups.squares(self._before).cpu()
        along = self._groups.sums(products).cpu()
        return (along < float(self._envelope.half_space or 0) * squares) & (squares > 0)

    def _remember(self) -> None:
        if self._envelope.half_space is not None:
            names = {part.tensor for part in self._groups.parts}
            self._before = {n: self._parameters[n].detach().clone() for n in names}

    def _forget(self, optimiser: Optimizer, living: Tensor) -> None:
        """Take the momentum of dead groups away, which would revive them."""
        for key in ("momentum_buffer", "exp_avg", "exp_avg_sq"):
            kept = {}
            for name, parameter in self._parameters.items():
                if isinstance(found := optimiser.state.get(parameter, {}).get(key), Tensor):
                    kept[name] = found
            if kept:
                self._groups.scale_({n: kept.get(n, p.new_zeros(p.shape)) for n, p in self._parameters.items()}, living)


def layer_weights(norms: Tensor, groups: Groups) -> Tensor:
    """One over the mean square of the living groups of each group's axis [groups]; 1 where none lives."""
    squares = norms.square()
    sums = torch.zeros(len(groups.names), dtype=torch.float64).index_add_(0, groups.axis, squares)
    living = torch.zeros_like(sums).index_add_(0, groups.axis, (squares > 0).double())
    means = torch.where(living > 0, sums / living.clamp(min=1), 1.0)
    return (1 / means)[groups.axis]
