"""How much of a network is left without some of its groups: counted on the smaller one, or by a formula as exact."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nascli.compressors.formula import Formula
from nascli.compressors.groups.removal import keep
from nascli.compressors.protocol import Level
from nascli.engine.task import Task
from nascli.errors import UnsupportedError
from predictors.cost import count
from search_spaces.groups import Groups


class Meter:
    """The share of a network that is left, as its level counts it; called with the living groups, bool [groups].

    Raises UnsupportedError where dead groups stay in the network as zeros, so that there is nothing to measure.
    """

    def __init__(self, model: nn.Module, groups: Groups, example: tuple[Tensor, ...], level: Level, task: Task) -> None:
        self._model, self._groups, self._example = copy.deepcopy(model).eval(), groups, example
        self._of, self._task = level.of, task
        if not groups.removable and level.of not in ("groups", "params"):
            raise UnsupportedError(
                f"These groups can't be taken out of the network, only be zero in it, so their level is no share of "
                f"{level.of}; give it as params or groups."
            )
        self._numbers = groups.counts(model.state_dict()).cpu()
        self._absolute = self._measure()
        self._full = self._absolute(torch.ones(len(groups), dtype=torch.bool))

    def __call__(self, alive: Tensor) -> float:
        """The share that is left."""
        return self._absolute(alive) / self._full

    def prices(self) -> Tensor:
        """What taking out one group of the whole network saves [groups], relative to the mean; the same on an axis."""
        alive = torch.ones(len(self._groups), dtype=torch.bool)
        by_axis = torch.ones(len(self._groups.names), dtype=torch.float64)
        for axis, size in enumerate(self._groups.sizes().tolist()):
            # Where there is but one group, it can't be taken out, and its price is of no account.
            if size > 1 and self._of != "groups":
                first = int((self._groups.axis == axis).nonzero()[0])
                alive[first] = False
                by_axis[axis] = max(1e-12, 1 - self(alive))
                alive[first] = True
        prices = by_axis[self._groups.axis]
        return prices / prices.mean()

    def _measure(self) -> Callable[[Tensor], float]:
        """How much there is of the unit if only these groups live."""
        if self._of == "groups":
            return lambda alive: float(alive.sum())
        if not self._groups.removable:
            return self._nonzero
        if self._of == "latency":
            return self._latency
        formula = Formula(self._model, self._groups, self._example, self._of)
        return formula if formula.agrees(self._counted) else self._counted

    def _nonzero(self, alive: Tensor) -> float:
        total = sum(p.numel() for p in self._model.parameters())
        return float(total - self._numbers[~alive].sum())

    def _counted(self, alive: Tensor) -> float:
        cost = count(self._smaller(alive), self._example)
        return float({"macs": cost.macs, "params": cost.params, "bytes": cost.size_bytes}[self._of])

    def _latency(self, alive: Tensor) -> float:
        if self._task.latency is None:
            raise UnsupportedError("A level of latency needs a latency model; give --latency measured or roofline.")
        return self._task.latency(self._smaller(alive), self._example).ms

    def _smaller(self, alive: Tensor) -> nn.Module:
        return keep(self._groups, alive, self._model).apply(copy.deepcopy(self._model))
