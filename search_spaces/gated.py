"""Gates decide what a supernet computes: one weight vector per choice, so that one-hot, softmax, ablated and pruned
networks are the same forward pass. A weight of 0 means "not computed".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.choices import Architecture, ChoiceTable
from search_spaces.errors import SpaceError
from search_spaces.space import Gates

Pick = int | tuple[tuple[int, Tensor], ...]
"""What a gate says: the index of the one option to compute, or (index, weight) of each option to compute and sum."""


class KnownGates(dict[str, Tensor]):
    """Gates that say by themselves which options are computed: reading that off the weights would wait for a GPU."""

    def __init__(self, gates: Gates, computed: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(gates)
        self.computed = computed


def one_hot(table: ChoiceTable, arch: Architecture) -> Gates:
    """Gates under which the supernet is this architecture: 1 at its options, all 0 for choices that do not apply."""
    code = torch.from_numpy(table.encode(arch)).float()
    counts = [len(c.options) for c in table.choices]
    return dict(zip((c.name for c in table.choices), torch.split(code, counts), strict=True))


def uniform(table: ChoiceTable) -> Gates:
    """Gates that weigh all options of a choice alike: where methods that learn the weights start."""
    return {c.name: torch.full((len(c.options),), 1 / len(c.options)) for c in table.choices}


def chosen(gate: Tensor) -> int | None:
    """The index of the only non-zero weight; None if there are several, or none."""
    computed = _nonzero(gate)
    return computed[0] if len(computed) == 1 else None


def pick(gates: Gates, name: str) -> Pick:
    """What the gate of this choice says; an index only if no gradient has to reach the gate.

    Raises SpaceError if the gate is missing or all zero although the network under the other gates needs it.
    """
    gate = gates.get(name)
    known = gates.computed.get(name) if isinstance(gates, KnownGates) else None
    computed = known if known is not None else _nonzero(gate)
    if gate is None or not computed:
        raise SpaceError(f"The gates leave {name!r} open: give it a weight above 0 for at least one option.")
    if len(computed) == 1 and not gate.requires_grad:
        return computed[0]
    weights = gate.unbind()
    return tuple((i, weights[i]) for i in computed)


def mixed(pick: Pick, compute: Callable[[int], Tensor]) -> Tensor:
    """The picked option's result, or the weighted sum of the results of all that were picked."""
    if isinstance(pick, int):
        return compute(pick)
    (first, weight), *rest = pick
    return sum((w * compute(i) for i, w in rest), start=weight * compute(first))


def deepened(x: Tensor, pick: Pick, depths: Sequence[int], block: Callable[[int, Tensor], Tensor]) -> Tensor:
    """`x` after as many blocks as the picked depth says, or the weighted sum of what each picked depth gives.

    `block(i, x)` applies block i; shallow networks are the beginnings of deep ones, so each block is run once.
    """
    if isinstance(pick, int):
        for i in range(depths[pick]):
            x = block(i, x)
        return x
    weights = {depths[i]: weight for i, weight in pick}
    parts = []
    for i in range(max(weights)):
        x = block(i, x)
        if i + 1 in weights:
            parts.append(weights[i + 1] * x)
    return sum(parts[1:], start=parts[0])


@dataclass(frozen=True)
class Width:
    """The first so many channels, each perhaps with a weight."""

    channels: int
    mask: Tensor | None = None
    """[1, channels, 1, 1]; None: all one."""

    def weigh(self, x: Tensor) -> Tensor:
        """`x` [n, channels, h, w] times the weights of its channels."""
        return x if self.mask is None else x * self.mask.to(x.device)


def width(channels: Sequence[Any], *picks: Pick) -> Width:
    """The channel count found by indexing `channels` (nested sequences of counts) with the picks.

    Under weights, channel c is as heavy as all picked widths that hold it: mask[c] = sum of weight_i * 1[c < width_i].
    """
    terms: list[tuple[Tensor | None, Any]] = [(None, channels)]
    for chosen_here in picks:
        options = ((chosen_here, None),) if isinstance(chosen_here, int) else chosen_here
        terms = [(_product(before, weight), table[i]) for before, table in terms for i, weight in options]
    weights = [weight for weight, _ in terms if weight is not None]
    counts = [int(count) for _, count in terms]
    if not weights:
        return Width(counts[0])
    heavy = torch.stack(weights)
    held = torch.arange(max(counts), device=heavy.device) < torch.tensor(counts, device=heavy.device)[:, None]
    return Width(max(counts), (heavy @ held.to(heavy.dtype)).view(1, -1, 1, 1))


class Mixed(nn.Module):
    """A choice among operations: computes those whose gate is not 0 and sums their results by weight."""

    def __init__(self, operations: Iterable[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)

    def forward(self, pick: Pick, *inputs: Tensor) -> Tensor:
        """What the picked operations make of the inputs; a single pick is not weighted."""
        return mixed(pick, lambda i: self.operations[i](*inputs))


def _nonzero(gate: Tensor | None) -> Sequence[int]:
    return [] if gate is None else [i for i, weight in enumerate(gate.tolist()) if weight]


def _product(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a * b
