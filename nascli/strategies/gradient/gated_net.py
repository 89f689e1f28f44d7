"""A supernet under fixed gates, as a network of its own: what counts costs and scores proxies can read it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nascli.strategies.gradient.mixture import Mixture
from predictors.cost import count
from search_spaces.space import Gates


class GatedNet(nn.Module):
    """`forward(*inputs)` of a supernet under gates, whose weights it shares."""

    def __init__(self, supernet: nn.Module, gates: Gates) -> None:
        super().__init__()
        self.supernet, self._gates = supernet, gates

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.supernet(*inputs, gates=self._gates)
        return logits


def option_macs(supernet: nn.Module, mixture: Mixture, inputs: tuple[Tensor, ...]) -> tuple[float, Tensor]:
    """Multiply-adds of one example: with the cheapest option everywhere, and what each option adds [rows, options].

    Each is counted with all other choices at their cheapest option that lets something through, in all cells that
    share it; padding and `none` add nothing. The supernet should be in evaluation mode.
    """
    rows = mixture.rows
    resting = [_passing(rows.options(name))[0] for name in rows.names]
    costs = torch.zeros(rows.valid.shape)

    def counted(options: list[int]) -> float:
        weights = torch.zeros(rows.valid.shape)
        weights[range(len(options)), options] = 1.0
        return float(count(GatedNet(supernet, mixture.gates(weights)), inputs).macs)

    base = counted(resting)
    for row, options in enumerate(rows.counts):
        for option in range(options):
            if option in _passing(rows.options(rows.names[row])):
                changed = [*resting[:row], option, *resting[row + 1 :]]
                costs[row, option] = counted(changed) - base
    return base, costs


def _passing(options: tuple[str, ...]) -> list[int]:
    """Options that compute something, cheapest first: without an input, what follows would not be counted."""
    return [i for i, option in enumerate(options) if option != "none"] or [0]
