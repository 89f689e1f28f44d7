"""Which groups to keep: those with the highest scores, as many as the level allows, and never a whole layer's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nascli.errors import InfeasibleError, SettingsError
from search_spaces.groups import Groups

Share = Callable[[Tensor], float]
"""How much of the network is left, from 0 to 1, if only these groups live, bool [groups]; fewer are never more."""
Select = Callable[[Tensor], Tensor]
"""The groups that live, bool [groups], by their scores [groups]."""


@dataclass(frozen=True)
class Rules:
    """What no selection may do, whatever the scores say."""

    floor: float = 0.1
    """The share of each axis that always stays."""
    least: int = 1
    """Groups of each axis that always stay."""
    round_to: int = 1
    """The groups left on an axis are a multiple of this, where the axis has so many."""
    scope: Literal["global", "axis"] = "global"
    """Whether all groups compete with each other, or each axis keeps the same share of its own."""

    def __post_init__(self) -> None:
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor={self.floor!r} must be at least 0 and less than 1: it is a share of each axis")
        for name in ("least", "round_to"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least 1")

    def floors(self, groups: Groups) -> Tensor:
        """How many groups of each axis always stay [axes]."""
        sizes = groups.sizes()
        floors = (sizes * self.floor).ceil().long().clamp(min=self.least)
        return torch.minimum(self._multiple(floors, sizes, up=True), sizes)

    def rounded(self, counts: Tensor, groups: Groups) -> Tensor:
        """Counts of living groups [axes] as multiples, at least the floors."""
        sizes = groups.sizes()
        return torch.maximum(self._multiple(counts, sizes, up=False), self.floors(groups))

    def _multiple(self, counts: Tensor, sizes: Tensor, *, up: bool) -> Tensor:
        whole = (counts + (self.round_to - 1) * up) // self.round_to * self.round_to
        return torch.where((sizes < self.round_to) | (counts == sizes), counts, whole)


def ranks(scores: Tensor, groups: Groups) -> Tensor:
    """The place of each group on its axis, 0 for the highest score [groups]; of equal scores, the first one leads."""
    by_score = torch.argsort(scores, descending=True, stable=True)
    order = by_score[torch.argsort(groups.axis[by_score], stable=True)]
    starts = torch.cumsum(groups.sizes(), 0) - groups.sizes()
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order)) - starts[groups.axis[order]]
    return places


def protected(scores: Tensor, groups: Groups, rules: Rules) -> Tensor:
    """The groups that stay whatever the level, bool [groups]: the best ones of each axis."""
    return ranks(scores, groups) < rules.floors(groups)[groups.axis]


def select(scores: Tensor, groups: Groups, rules: Rules, share: Share, kept: float) -> Tensor:
    """The most groups, highest scores first, of which no more than `kept` of the network is left; bool [groups].

    Scores [groups] are compared across axes, or within each if the rules say so. Raises InfeasibleError if even the
    fewest groups are more than that.
    """
    places = ranks(scores, groups)
    if rules.scope == "axis":
        scores = -(places.double() + 0.5) / groups.sizes()[groups.axis]
    safe = places < rules.floors(groups)[groups.axis]
    order = torch.argsort(torch.where(safe, torch.inf, scores), descending=True, stable=True)

    def living(count: int) -> Tensor:
        alive = torch.zeros(len(groups), dtype=torch.bool)
        alive[order[:count]] = True
        counts = torch.bincount(groups.axis[alive], minlength=len(groups.names))
        return places < rules.rounded(counts, groups)[groups.axis]

    low, high = int(safe.sum()), len(groups)
    least = share(living(low))
    if least > kept:
        raise InfeasibleError(
            f"The level {kept:g} can't be reached: with the fewest groups allowed, {least:.4f} is left; "
            "give a higher level, a lower floor, or more kinds of groups."
        )
    # The largest count that is within the level lies in [low, high].
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if share(living(middle)) <= kept else (low, middle - 1)
    alive = living(low)
    # The next group in line may be a dear one, of a coupled axis, while others would still fit.
    fills = rules.round_to == 1 and rules.scope == "global"
    return _filled(alive, scores, places, groups, share, kept) if fills else alive


def select_in_blocks(scores: Tensor, blocks: Tensor, count: int) -> Tensor:
    """The best `count` groups of each block [blocks, m]; bool [groups]. Groups in no block live."""
    alive = torch.ones(len(scores), dtype=torch.bool)
    alive[blocks.flatten()] = False
    best = torch.topk(scores[blocks], count, dim=1).indices
    alive[blocks.gather(1, best).flatten()] = True
    return alive


def whole(kept: float, size: int) -> int:
    """How many of a block's groups a level keeps; raises SettingsError unless it is a whole number of them."""
    count = round(kept * size)
    if abs(count - kept * size) > 1e-9:
        levels = ", ".join(f"{n / size:g}" for n in range(1, size))
        raise SettingsError(f"Of blocks of {size}, the level {kept:g} keeps no whole number; give one of {levels}.")
    return count


def _filled(alive: Tensor, scores: Tensor, places: Tensor, groups: Groups, share: Share, kept: float) -> Tensor:
    """With the next groups in line that still fit; an axis of which one did not is closed."""
    counts = torch.bincount(groups.axis[alive], minlength=len(groups.names))
    dead = (~alive).nonzero().flatten()
    following = groups.axis[dead[torch.argsort(scores[dead], descending=True, stable=True)]]
    still_open = set(following.tolist())
    for axis in following.tolist():
        if not still_open:
            break
        if axis in still_open:
            counts[axis] += 1
            more = places < counts[groups.axis]
            if share(more) <= kept:
                alive = more
            else:
                counts[axis] -= 1
                still_open.remove(axis)
    return alive
