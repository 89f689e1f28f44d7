"""Groups: which numbers of a network live and die together, and what goes when one of them is taken out.

A group is a channel, a head, a single weight: whatever is kept or removed as one. For each tensor it is written down
which group each of its entries belongs to, in a table of owners that broadcasts against the tensor. So a thousand
groups over a hundred tensors are measured, shrunk and counted by a few array operations a tensor, whatever they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

NOBODY = -1
"""The owner of entries that belong to no group: they always stay."""


@dataclass(frozen=True, eq=False)
class Part:
    """The share that groups have in one tensor."""

    tensor: str
    """The tensor's name in the state dict."""
    owners: Tensor
    """The group of each entry, or NOBODY; int64, broadcasts against the tensor: [n, 1, 1, 1] for rows."""


@dataclass(frozen=True, eq=False)
class Cut:
    """What is taken out of one tensor, and what else of its module changes, when groups are removed."""

    tensor: str
    dim: int
    """The dimension along which the tensor gets shorter."""
    owners: Tensor
    """The group of each index along it, or NOBODY [size]."""


@dataclass(frozen=True, eq=False)
class Border:
    """A module without parameters that turns some channels into others, as shortcuts that pad do.

    It goes on working on all channels: those removed before it come in as zeros, those removed behind it are left out.
    """

    module: str
    inputs: Tensor
    """The group of each of its input channels, or NOBODY [channels]."""
    outputs: Tensor
    """The group of each of its output channels, or NOBODY [channels]."""


@dataclass(frozen=True, eq=False)
class Heads:
    """An attention module whose heads are groups."""

    module: str
    owners: Tensor
    """The group of each head [heads]."""


@dataclass(frozen=True, eq=False)
class Branch:
    """A residual branch that is a group: a chain of modules with nothing but an addition behind it."""

    modules: tuple[str, ...]
    """In the order in which they run; without the last one, the branch adds nothing."""
    owner: int


@dataclass(frozen=True, eq=False)
class Groups:
    """All groups of a network; group numbers count from 0."""

    axis: Tensor
    """The number of each group's axis [groups]: what is interchangeable lies on one axis (the channels of a layer)."""
    names: tuple[str, ...]
    """A name for each axis, for people: the layer that produces its channels."""
    parts: tuple[Part, ...]
    """What is zero when a group is dead; its norm is taken over these."""
    cuts: tuple[Cut, ...] = ()
    borders: tuple[Border, ...] = ()
    heads: tuple[Heads, ...] = ()
    branches: tuple[Branch, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Layers that could have had groups, and why they have none, in one sentence each."""

    def __len__(self) -> int:
        return len(self.axis)

    @property
    def removable(self) -> bool:
        """Whether dead groups can be taken out of the network; others can only be zero in it."""
        return bool(self.cuts or self.borders or self.heads or self.branches)

    def sizes(self) -> Tensor:
        """How many groups each axis has [axes]."""
        return torch.bincount(self.axis, minlength=len(self.names))

    def counts(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """How many numbers each group has [groups], float64."""
        of = {part.tensor: tensors[part.tensor] for part in self.parts}
        return self.squares({name: torch.ones((), device=t.device).expand_as(t) for name, t in of.items()})

    def squares(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The squared Euclidean norm of each group [groups], float64, on the tensors' device."""
        return self.sums({p.tensor: tensors[p.tensor].detach().square() for p in self.parts})

    def sums(self, values: Mapping[str, Tensor]) -> Tensor:
        """The sum of each group's entries in tensors of the parameters' shapes [groups], float64."""
        total: Tensor | None = None
        for part in self.parts:
            value = values[part.tensor]
            if total is None:
                total = torch.zeros(len(self) + 1, dtype=torch.float64, device=value.device)
            owners = part.owners.to(value.device)
            over = [d for d in range(value.dim()) if owners.shape[d] == 1 and value.shape[d] != 1]
            flat = (value.sum(over, keepdim=True) if over else value).flatten().to(torch.float64)
            # NOBODY is the last place, which is cut off.
            total.index_add_(0, owners.flatten() % (len(self) + 1), flat)
        if total is None:
            return torch.zeros(len(self), dtype=torch.float64)
        return total[:-1]

    def scale_(self, tensors: Mapping[str, Tensor], factors: Tensor) -> None:
        """Multiply each group's entries by its factor [groups], in place."""
        padded = torch.cat([factors, factors.new_ones(1)])
        with torch.no_grad():
            for part in self.parts:
                tensor = tensors[part.tensor]
                owned = padded.to(tensor.device, tensor.dtype)[part.owners.to(tensor.device) % (len(self) + 1)]
                tensor.mul_(owned)

    def only(self, axes: Sequence[int], left_out: Mapping[str, str]) -> Groups:
        """The groups of these axes alone, numbered anew; `left_out` says why the others are not among them."""
        chosen = torch.isin(self.axis, torch.tensor(list(axes), dtype=torch.int64))
        number = torch.full((len(self) + 1,), NOBODY)
        number[:-1][chosen] = torch.arange(int(chosen.sum()))

        def anew(owners: Tensor) -> Tensor:
            return number[owners % (len(self) + 1)]

        position = torch.full((len(self.names),), NOBODY)
        position[list(axes)] = torch.arange(len(axes))
        heads = [Heads(h.module, anew(h.owners)) for h in self.heads]
        branches = [Branch(b.modules, int(number[b.owner])) for b in self.branches if number[b.owner] != NOBODY]
        borders = [Border(b.module, anew(b.inputs), anew(b.outputs)) for b in self.borders]
        return Groups(
            position[self.axis[chosen]],
            tuple(self.names[a] for a in axes),
            tuple(p for p in (Part(p.tensor, anew(p.owners)) for p in self.parts) if (p.owners != NOBODY).any()),
            tuple(c for c in (Cut(c.tensor, c.dim, anew(c.owners)) for c in self.cuts) if (c.owners != NOBODY).any()),
            tuple(b for b in borders if (b.inputs != NOBODY).any() or (b.outputs != NOBODY).any()),
            tuple(h for h in heads if (h.owners != NOBODY).any()),
            tuple(branches),
            {**self.left_out, **left_out},
        )


def joined(kinds: Sequence[Groups]) -> Groups:
    """Groups of several kinds as one, numbered in this order."""
    start = axes = 0
    axis: list[Tensor] = []
    names: list[str] = []
    left_out: dict[str, str] = {}
    parts, cuts, borders, heads, branches = [], [], [], [], []
    for groups in kinds:

        def later(owners: Tensor, start: int = start) -> Tensor:
            return torch.where(owners == NOBODY, owners, owners + start)

        axis.append(groups.axis + axes)
        names += groups.names
        parts += [Part(p.tensor, later(p.owners)) for p in groups.parts]
        cuts += [Cut(c.tensor, c.dim, later(c.owners)) for c in groups.cuts]
        borders += [Border(b.module, later(b.inputs), later(b.outputs)) for b in groups.borders]
        heads += [Heads(h.module, later(h.owners)) for h in groups.heads]
        branches += [Branch(b.modules, b.owner + start) for b in groups.branches]
        left_out |= groups.left_out
        start, axes = start + len(groups), axes + len(groups.names)
    return Groups(
        torch.cat(axis) if axis else torch.zeros(0, dtype=torch.int64),
        tuple(names),
        tuple(parts),
        tuple(cuts),
        tuple(borders),
        tuple(heads),
        tuple(branches),
        left_out,
    )
