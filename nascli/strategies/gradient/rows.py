"""A space as a relaxation sees it: a row of weights for each choice of what is computed, and nodes that choose edges.

Choices of topology have no row. Until they are decided all their edges are kept, each with weight 1, as in DARTS (Liu
et al. 2019, arXiv:1806.09055); their gates are constants.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces import Architecture, ChoiceTable
from search_spaces.errors import SpaceError
from search_spaces.space import SearchSpace

SKIP = "skip_connect"


@dataclass(frozen=True, eq=False)
class Rows:
    """The choices that have weights, in the table's order, padded to the longest."""

    table: ChoiceTable
    names: tuple[str, ...]
    counts: tuple[int, ...]
    """Options of each row."""
    selectable: Tensor
    """bool [rows, options]: whether a method may settle on the option; padding is False."""
    topology: Mapping[str, tuple[frozenset[str], ...]]
    """See `SearchSpace.topology`."""
    nodes: Mapping[str, tuple[str, ...]]
    """See `SearchSpace.nodes`."""

    @classmethod
    def of(cls, space: SearchSpace) -> Rows:
        """The rows of a space; raises SpaceError if a choice has no option to settle on."""
        choices = [c for c in space.table.choices if c.name not in space.topology]
        width = max(len(c.options) for c in choices)
        selectable = torch.zeros(len(choices), width, dtype=torch.bool)
        for row, choice in enumerate(choices):
            allowed = [i for i, option in enumerate(choice.options) if option not in space.mixed_only]
            if not allowed:
                raise SpaceError(f"{choice.name} of {space.table.name} has no option that could be settled on.")
            selectable[row, allowed] = True
        counts = tuple(len(c.options) for c in choices)
        return cls(
            space.table, tuple(c.name for c in choices), counts, selectable, dict(space.topology), dict(space.nodes)
        )

    @property
    def valid(self) -> Tensor:
        """bool [rows, options]: False for padding."""
        return torch.arange(self.selectable.shape[1]) < torch.tensor(self.counts)[:, None]

    def options(self, name: str) -> tuple[str, ...]:
        """The options of a choice."""
        return next(c.options for c in self.table.choices if c.name == name)

    def row(self, name: str) -> int:
        """Where the choice's row is."""
        return self.names.index(name)

    def candidates(self, name: str) -> list[int]:
        """The positions of the options that a method may settle on."""
        return self.selectable[self.row(name)].nonzero().flatten().tolist()

    @property
    def skips(self) -> Mapping[str, int]:
        """Choice -> the position of its skip connection, where it has one."""
        found = ((name, self.options(name)) for name in self.names)
        return {name: options.index(SKIP) for name, options in found if SKIP in options}

    @property
    def lanes(self) -> list[tuple[str, ...]]:
        """Rows that are decided in turn; different kinds of cells take their turns side by side, as published."""
        if not self.topology:
            return [self.names]
        kinds = dict.fromkeys(name.partition(".")[0] for name in self.names)
        return [tuple(n for n in self.names if n.partition(".")[0] == kind) for kind in kinds]

    def edges(self, node: str) -> frozenset[str]:
        """All edges that a topology choice chooses among."""
        return frozenset().union(*self.topology[node])

    def open_gate(self, node: str, kept: Collection[str]) -> Tensor:
        """The topology choice's gate [options] under which each kept edge weighs 1, all others 0.

        Options of kept edges alone share the weight. Raises SpaceError if no such weights are equal for all edges.
        """
        inside = [float(option <= set(kept)) for option in self.topology[node]]
        held = {sum(i for i, o in zip(inside, self.topology[node], strict=True) if e in o) for e in kept}
        if len(held) != 1 or 0.0 in held:
            raise SpaceError(f"{node} of {self.table.name} can't keep {sorted(kept)}, all of them alike.")
        return torch.tensor(inside) / held.pop()

    def architecture(self, decided: Mapping[str, int]) -> Architecture:
        """The architecture with these option positions; choices that are not there rest on their first option."""
        return self.table.from_indices([decided.get(c.name, 0) for c in self.table.choices])


def padded(values: Sequence[Sequence[float]], *, width: int) -> Tensor:
    """Rows of different lengths as one tensor [rows, width], 0 where there is nothing."""
    return torch.tensor([[*row, *(0.0,) * (width - len(row))] for row in values])
