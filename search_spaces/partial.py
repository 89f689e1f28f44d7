"""Partial channels: operations are mixed on one of several equal parts of the channels, the other parts pass by them
(PC-DARTS, Xu et al. 2020, arXiv:1907.05737).

Then the channels are shuffled, so that the next operations see others. Sums are shuffled as a whole, which is the same
as shuffling each of their terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from search_spaces.cells import Edge
from search_spaces.errors import SpaceError
from search_spaces.mixtures import Weight, total

BYPASS = "bypass"
"""What takes the place of an operation's name where channels pass by the operations."""

Mixture = Mapping[Edge, Sequence[tuple[str, Weight]]]
"""Edge -> operations with their weights."""


def part(channels: int, parts: int, *, least: int = 1) -> int:
    """How many channels one part has; raises SpaceError if they cannot be divided so, or `least` would not be left."""
    if parts < 2 or channels % parts or channels // parts < least:
        divisors = [n for n in range(2, channels + 1) if channels % n == 0 and channels // n >= least]
        raise SpaceError(
            f"{channels} channels cannot be divided into {parts!r} parts; give one of {', '.join(map(str, divisors))}."
            if divisors
            else f"{channels} channels are too few to be divided; give the space more of them."
        )
    return channels // parts


def passing(mixture: Mixture) -> Mixture:
    """The same with what passes by the operations of an edge, which weighs as much as they do together.

    It passes whichever they are, `none` too, of which there then is nothing but this.
    """
    return {edge: [*listed, (BYPASS, total([weight for _, weight in listed]))] for edge, listed in mixture.items()}


@dataclass(frozen=True, eq=False)
class Divided:
    """A node's value [n, channels, h, w] in two: the part that operations see, and the rest."""

    value: Tensor
    seen: int
    """Channels of the first part."""

    @cached_property
    def first(self) -> Tensor:
        """[n, seen, h, w]."""
        return self.value[:, : self.seen]

    @cached_property
    def rest(self) -> Tensor:
        """[n, channels - seen, h, w]."""
        return self.value[:, self.seen :]

    @cached_property
    def halved(self) -> Tensor:
        """The rest at half the sides, rounded up: the largest of four pixels."""
        return F.max_pool2d(self.rest, 2, ceil_mode=True)


class Sums:
    """A node's value as it is being added up, what operations made and what passed by them apart."""

    def __init__(self) -> None:
        self._made: Tensor | None = None
        self._passed: Tensor | None = None

    def add(self, made: Tensor) -> None:
        """Add what an operation made [n, seen, h, w]."""
        self._made = made if self._made is None else self._made + made

    def pass_by(self, rest: Tensor, weight: Weight) -> None:
        """Add what passed by an edge's operations [n, channels - seen, h, w]."""
        rest = rest if weight is None else weight * rest
        self._passed = rest if self._passed is None else self._passed + rest

    def value(self, parts: int) -> Tensor | None:
        """The node [n, channels, h, w]; its channels are shuffled: all parts take turns. None: no edge leads here."""
        if self._passed is None:
            return None
        channels = self._passed.shape[1] // (parts - 1)
        made = torch.zeros_like(self._passed[:, :channels]) if self._made is None else self._made
        # Stacked with channels innermost in memory: one copy joins and shuffles.
        pieces = [made, *torch.split(self._passed, channels, 1)]
        return torch.stack([p.permute(0, 2, 3, 1) for p in pieces], -1).flatten(-2).permute(0, 3, 1, 2)
