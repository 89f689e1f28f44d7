"""The level at which ramps cost the budget, in linear time: Newton's steps over groups that are not decided yet.

It starts at the root of a sample, makes Newton's steps (Cominetti, Mascarenhas & Silva 2014, Mathematical Programming
Computation 6), and drops the groups that are decided: off, full or on their slope throughout the bracket. A step that
did not halve the breakpoints in the bracket is followed by one to their median, so all passes together look at a
multiple of the groups that does not depend on how many there are: linear in the worst case, as far as `torch.median`
selects in linear time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from nascli.compressors.envelope.root import Ramps, Root, by_sorting, clipped, has_steps, total

SMALL = 256
"""Rows that are not longer are sorted: a pass costs its overhead there."""
_STRIDE = 64
"""One group in so many is in the sample from whose root Newton's steps start."""
_FREE = 2
"""The first steps need not halve anything: the first has one side of the root, the second is meant for the other."""
_BLOCK = 1 << 15
"""A pass on a CPU takes so many groups at a time: what is between its operations stays in the cache."""


def by_newton(ramps: Ramps, budget: float, *, small: int = SMALL) -> Root:
    """The root for one row [groups], in linear time; the budget lies between 0 and the sum of the costs."""
    if len(ramps.lo) <= max(small, 1):
        return by_sorting(ramps, ramps.lo.new_tensor(budget))
    return Search(ramps, budget, _sampled(ramps, budget, small)).root()


def _sampled(ramps: Ramps, budget: float, small: int) -> float:
    """The root of every 64th group, with the same share of the sample's cost for a budget."""
    lo, hi, cost = ramps
    sample = Ramps(lo[::_STRIDE], hi[::_STRIDE], cost[::_STRIDE] if cost.dim() else cost)
    part = sample.cost.sum() / cost.sum() if cost.dim() else len(sample.lo) / len(lo)
    return float(by_newton(sample, budget * float(part), small=small).mu)


class Search:
    """Newton's steps on one row, over the groups that are not decided yet."""

    def __init__(self, ramps: Ramps, budget: float, start: float) -> None:
        self._ramps, self._budget, self._steps = ramps, budget, has_steps(ramps)
        # Above all breakpoints, as there may be a step at the last one.
        self._low, self._high = 0.0, 2 * float(ramps.hi.max())
        self._start = start if 0 < start < self._high else self._high / 4
        # What decided groups cost: those that are full, and the others as a line, by its value at the anchor.
        self._full = self._on_slope = self._slope = self._anchor = 0.0
        self.looked_at = 0
        """How many groups all passes together have looked at."""

    def root(self) -> Root:
        """The root; steps of Newton or to the median until no breakpoint lies in the bracket."""
        at, breaks, steps = self._start, 2 * len(self._ramps.lo), 0
        while True:
            below, step, slope = self._measured(at)
            if below <= self._budget <= below + step:
                return self._root(at, (self._budget - below) / step if step else 0.0)
            missing = self._budget - below - (step if below < self._budget else 0.0)
            self._low, self._high = (at, self._high) if missing > 0 else (self._low, at)
            newton = at + missing / slope if slope else math.nan
            if at == newton:
                return self._root(at, 1.0 if missing > 0 else 0.0)
            steps += 1
            if steps < _FREE and self._low < (beyond := 2 * newton - at) < self._high:
                at = beyond
                continue
            before, breaks = breaks, self._drop()
            if not breaks or self._nothing_between(at, newton):
                return self._finished()
            at = newton if 2 * breaks <= before and self._low < newton < self._high else self._middle()

    def _blocks(self) -> Iterator[Ramps]:
        lo, hi, cost = self._ramps
        self.looked_at += len(lo)
        size = _BLOCK if lo.device.type == "cpu" else max(len(lo), 1)
        for i in range(0, len(lo), size):
            yield Ramps(lo[i : i + size], hi[i : i + size], cost[i : i + size] if cost.dim() else cost)

    def _measured(self, at: float) -> tuple[float, float, float]:
        """The cost just below a level, how much it jumps there, and its slope on the side where the root is."""
        sums = self._ramps.lo.new_zeros(4)
        for lo, hi, cost in self._blocks():
            width = hi - lo
            below = total(cost, clipped((at - lo).div_(width), self._steps))
            rate = width.reciprocal_()
            left = total(cost, torch.where((lo < at) & (hi >= at), rate, 0.0))
            right = total(cost, torch.where((lo <= at) & (hi > at), rate, 0.0))
            step = total(cost, (lo == at) & (hi == at)) if self._steps else below.new_zeros(())
            sums += torch.stack([below, step, left, right])
        below, step, left, right = sums.tolist()
        below += self._full + self._on_slope + self._slope * (at - self._anchor)
        return below, step, self._slope + (right if below < self._budget else left)

    def _drop(self) -> int:
        """Add up what is decided and keep the rest, if that is worth it; how many breakpoints are in the bracket."""
        counts = [self._inside(r.lo).sum() + self._inside(r.hi).sum() for r in self._blocks()]
        breaks = int(torch.stack(counts).sum()) if counts else 0
        if 2 * breaks <= len(self._ramps.lo):
            self._add_up()
            kept = [_picked(r, self._inside(r.lo) | self._inside(r.hi)) for r in self._blocks()]
            cost = torch.cat([r.cost for r in kept]) if self._ramps.cost.dim() else self._ramps.cost
            self._ramps = Ramps(torch.cat([r.lo for r in kept]), torch.cat([r.hi for r in kept]), cost)
        return breaks

    def _add_up(self) -> None:
        """Add what is decided to the sums; their anchor stays in the bracket, as lines explode far outside of it."""
        sums = self._ramps.lo.new_zeros(3)
        for lo, hi, cost in self._blocks():
            line = (lo <= self._low) & (hi >= self._high) & (hi > lo)
            rate = torch.where(line, (hi - lo).reciprocal_(), 0.0)
            full = total(cost, (hi <= self._low) & ~line)
            sums += torch.stack([full, total(cost, rate), total(cost, rate * (self._low - lo))])
        full, slope, on_slope = sums.tolist()
        self._on_slope += self._slope * (self._low - self._anchor) + on_slope
        self._full += full
        self._slope += slope
        self._anchor = self._low

    def _inside(self, places: Tensor) -> Tensor:
        return (places > self._low) & (places < self._high)

    def _nothing_between(self, at: float, newton: float) -> bool:
        """Whether Newton's step stayed on one line, so that its end is the root; the bracket is then this step."""
        low, high = min(at, newton), max(at, newton)
        if math.isnan(newton) or not self._low <= low <= high <= self._high:
            return False
        before = self._low, self._high
        self._low, self._high = low, high
        if not any(bool((self._inside(r.lo) | self._inside(r.hi)).any()) for r in self._blocks()):
            return True
        self._low, self._high = before
        return False

    def _middle(self) -> float:
        """The median of the breakpoints in the bracket."""
        inside = [p[self._inside(p)] for r in self._blocks() for p in (r.lo, r.hi)]
        return float(torch.cat(inside).median())

    def _finished(self) -> Root:
        """The root on the line that is left."""
        self._add_up()
        missing = self._budget - self._full - self._on_slope
        mu = self._low + missing / self._slope if self._slope else self._low
        mu = min(max(mu, self._low), self._high)
        return self._root(mu, 1.0 if mu == self._low else 0.0)

    def _root(self, mu: float, share: float) -> Root:
        return Root(self._ramps.lo.new_tensor(mu), self._ramps.lo.new_tensor(share))


def _picked(ramps: Ramps, chosen: Tensor) -> Ramps:
    places = chosen.nonzero().squeeze(-1)
    return Ramps(ramps.lo[places], ramps.hi[places], ramps.cost[places] if ramps.cost.dim() else ramps.cost)
