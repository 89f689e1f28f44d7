"""Filling ramps up to a budget: the one equation behind the value, the conjugate and the prox of the sparse envelope.

Group j has a ramp: nothing below `lo`, full above `hi`, a straight line between. Looked for is the level mu at which
the ramps' cost, phi(mu) = sum of cost * clip((mu - lo) / (hi - lo), 0, 1), is the budget. phi never falls and is linear
between breakpoints, so this is a continuous quadratic knapsack (Brucker 1984, Operations
Research Letters 3).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Ramps(NamedTuple):
    """Ramps of groups, float64."""

    lo: Tensor
    """Where each begins [..., groups], at least 0."""
    hi: Tensor
    """Where it is full [..., groups], at least `lo`; if equal, it is a step."""
    cost: Tensor
    """What it costs when full [..., groups], or the same for all []."""


class Root(NamedTuple):
    """The level at which ramps cost the budget."""

    mu: Tensor
    """[...]."""
    share: Tensor
    """How full steps are that lie exactly at `mu` [...], in [0, 1]."""


def heights(ramps: Ramps, root: Root) -> Tensor:
    """How full each ramp is at the root, in [0, 1] [..., groups]."""
    mu, share = root.mu[..., None], root.share[..., None]
    steps = has_steps(ramps)
    found = clipped((mu - ramps.lo).div_(ramps.hi - ramps.lo), steps)
    if steps:
        found = torch.where((ramps.lo == mu) & (ramps.hi == mu), share, found)
    return found


def by_sorting(ramps: Ramps, budget: Tensor) -> Root:
    """The root by sorting the breakpoints, for every row at once; budgets [...] between 0 and the sum of a row's costs.

    Sums along the sorted breakpoints say where the root lies, but their rounding adds up over steep and flat ramps
    alike. So it is checked by sums of what there is at a breakpoint, and halving goes on until they agree.
    """
    places, guess = _placed(ramps, budget)
    last = places.shape[-1] - 1
    low, high = torch.full_like(guess, -1), torch.full_like(guess, last + 1)
    tries = 0
    while bool((high - low > 1).any()):
        probe = (guess + tries if tries < 2 else (low + high) // 2).clamp(low + 1, high - 1).clamp(0, last)
        left, step = _cost_at(ramps, places.gather(-1, probe[..., None]))
        undecided = high - low > 1
        low = torch.where(undecided & (left <= budget), probe, low)
        high = torch.where(undecided & (left + step >= budget), probe, high)
        tries += 1
    start = places.gather(-1, low.clamp_min(0)[..., None]) * (low >= 0)[..., None]
    return _settled(ramps, budget, start, places.gather(-1, high.clamp_max(last)[..., None]))


def has_steps(ramps: Ramps) -> bool:
    """Whether some ramps have no width."""
    return bool((ramps.lo == ramps.hi).any())


def clipped(risen: Tensor, steps: bool) -> Tensor:
    """Cut off at 0 and 1, in place; steps divide by 0, and 0 by 0 if they lie at the level: they count from above."""
    risen.clamp_(0.0, 1.0)
    return risen.nan_to_num_(nan=0.0) if steps else risen


def _risen(ramps: Ramps, mu: Tensor) -> Tensor:
    """How full ramps are at levels [..., 1], steps at the level not yet [..., groups]."""
    return clipped((mu - ramps.lo).div_(ramps.hi - ramps.lo), has_steps(ramps))


def total(cost: Tensor, share: Tensor) -> Tensor:
    """What shares of groups cost, together [...]."""
    return (cost * share).sum(-1) if cost.dim() else cost * share.sum(-1)


def _cost_at(ramps: Ramps, at: Tensor) -> tuple[Tensor, Tensor]:
    """The cost just below levels [..., 1], and how much it jumps there; [...] each."""
    step = total(ramps.cost, (ramps.lo == at) & (ramps.hi == at))
    return total(ramps.cost, _risen(ramps, at)), step


def _placed(ramps: Ramps, budget: Tensor) -> tuple[Tensor, Tensor]:
    """The breakpoints in order [..., 2 * groups], and the last at which the cost is below the budget [...], roughly."""
    lo, hi, cost = ramps
    cost = cost.expand_as(lo)
    slope = torch.where(hi > lo, cost / (hi - lo), 0.0)
    places, order = torch.cat([lo, hi], -1).sort(-1)
    slopes = torch.cat([slope, -slope], -1).gather(-1, order).cumsum(-1).clamp_min_(0.0)
    steps = torch.cat([torch.where(hi > lo, 0.0, cost), torch.zeros_like(lo)], -1).gather(-1, order).cumsum(-1)
    grown = (slopes[..., :-1] * places.diff(dim=-1)).cumsum(-1)
    steps[..., 1:] += grown
    return places, (steps < budget[..., None]).sum(-1) - 1


def _settled(ramps: Ramps, budget: Tensor, low: Tensor, high: Tensor) -> Root:
    """The root between two levels [..., 1] with no breakpoint between them, from sums over all groups."""
    lo, hi, cost = ramps
    line = (lo <= low) & (hi >= high) & (hi > lo)
    slope = torch.where(line, cost / (hi - lo), 0.0).sum(-1)
    missing = budget - total(cost, torch.where(hi <= low, 1.0, _risen(ramps, low)))
    low, high = low.squeeze(-1), high.squeeze(-1)
    mu = torch.where(slope > 0, low + missing / slope, low).clamp(low, high)
    left, step = _cost_at(ramps, mu[..., None])
    return Root(mu, torch.where(step > 0, (budget - left) / step, 0.0).clamp(0.0, 1.0))
