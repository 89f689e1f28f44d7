"""Channels of any network as groups: rows, biases and scales that make a channel, and all that gets shorter without it.

Coupled layers are found as in DepGraph (Fang et al. 2023, arXiv:2301.12900); modules without parameters that turn some
channels into others, which no such graph sees through, are probed (`shortcuts`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd as Conv

from nascli.compressors import members
from nascli.compressors.circuit import TRACE_ERRORS
from nascli.compressors.coupling import Channel, coupled
from nascli.compressors.members import Side
from nascli.compressors.shortcuts import Shortcut, replaced, shortcuts
from search_spaces.groups import NOBODY, Border, Cut, Groups, Part

Kind = Literal["filters", "neurons"]


def channels(
    model: nn.Module, example: tuple[Tensor, ...], *, kind: Kind, norm: Literal["produced", "coupled"] = "produced"
) -> Groups:
    """The channels that convolutions make ("filters"), or those that linear layers alone make ("neurons").

    With the norm "coupled", what the next layers make of a channel counts as its own, too. The model is left as it is.
    Layers whose channels can't be removed are named in `left_out`; so are all of them if the model can't be traced.
    """
    example = tuple(x[:2] for x in example) if len({len(x) for x in example}) == 1 else example
    layers = _layers(model)
    makers = [
        n for n, layer in layers.items() if members.produces(layer) and isinstance(layer, Conv) == (kind == "filters")
    ]
    try:
        plain = copy.deepcopy(model).eval()
        found = shortcuts(plain, example)
        ties = {s.module: s.pairs() for s in found}
        barred = {s.module: {k: "a module adds a constant to them" for k in s.constant} for s in found}
        joint = coupled(replaced(plain, found), example, ties, barred)
    except TRACE_ERRORS as error:
        reason = f"the network can't be traced ({str(error).strip().splitlines()[:1] or type(error).__name__})"
        return _Collected(layers, [], []).groups(norm, dict.fromkeys(makers, reason))
    collected = _Collected(layers, found, makers)
    reasons: dict[str, str] = {}
    for channel in joint:
        if reason := collected.add(channel, kind):
            reasons |= {name: reason for name, side, _ in channel.places if side == "out"}
    return collected.groups(norm, {name: reasons.get(name, "its output is not used") for name in makers})


def _layers(model: nn.Module) -> dict[str, nn.Module | Tensor]:
    """All modules and parameters by name."""
    return {**dict(model.named_modules()), **dict(model.named_parameters())}


@dataclass
class _Collected:
    """Channels that can be removed, sorted by the layers that they run through."""

    layers: Mapping[str, nn.Module | Tensor]
    borders: Sequence[Shortcut]
    makers: Sequence[str]
    axes: dict[frozenset[tuple[str, Side]], list[Channel]] = field(default_factory=dict)

    def add(self, channel: Channel, kind: Kind) -> str:
        """Take a channel in; why not, "" if it was."""
        inside = {s.module for s in self.borders}
        made = [self.layers[n] for n, side, _ in channel.places if side == "out" and n not in inside]
        made = [layer for layer in made if members.produces(layer)]
        foreign = any(isinstance(self.layers[n], nn.Embedding) for n, _, _ in channel.places)
        filters = any(isinstance(layer, Conv) for layer in made)
        if not made or filters != (kind == "filters") or (foreign and not filters):
            return "an embedding makes them, too" if made and foreign else "convolutions make them, too" if made else ""
        if channel.barred:
            return channel.barred
        self.axes.setdefault(frozenset((n, side) for n, side, _ in channel.places), []).append(channel)
        return ""

    def groups(self, norm: str, reasons: Mapping[str, str]) -> Groups:
        """What was taken in, as groups."""
        order = {name: i for i, name in enumerate(self.layers)}
        makers = set(self.makers)
        chosen: list[tuple[str, list[Channel]]] = []
        for places, found in self.axes.items():
            first = min((n for n, side in places if side == "out" and n in makers), key=order.__getitem__)
            if len(found) > 1:
                chosen.append(
                    (first, sorted(found, key=lambda c: min(i for n, s, i in c.places if (n, s) == (first, "out"))))
                )
        chosen.sort(key=lambda axis: order[axis[0]])
        grouped = {n for _, found in chosen for c in found for n, side, _ in c.places if side == "out"}
        left_out = {n: r for n, r in reasons.items() if n not in grouped}
        owners = self._owners([c for _, found in chosen for c in found])
        axis = torch.tensor([a for a, (_, found) in enumerate(chosen) for _ in found], dtype=torch.int64)
        parts, cuts = self._tensors(owners, norm)
        return Groups(axis, _distinct([n for n, _ in chosen]), parts, cuts, self._borders(owners), left_out=left_out)

    def _owners(self, found: Sequence[Channel]) -> dict[tuple[str, Side], Tensor]:
        """The group of each channel of each side of a layer."""
        owners: dict[tuple[str, Side], Tensor] = {}
        for group, channel in enumerate(found):
            for name, side, index in channel.places:
                if (name, side) not in owners:
                    owners[name, side] = torch.full((self._width(name, side),), NOBODY)
                owners[name, side][index] = group
        return owners

    def _width(self, name: str, side: Side) -> int:
        inside = {s.module: s for s in self.borders}
        if name in inside:
            return inside[name].inputs if side == "in" else inside[name].outputs
        return members.width(self.layers[name], side) or 0

    def _tensors(
        self, owners: Mapping[tuple[str, Side], Tensor], norm: str
    ) -> tuple[tuple[Part, ...], tuple[Cut, ...]]:
        parts, cuts = [], []
        for (name, side), owner in owners.items():
            for member in members.members(self.layers[name], side):
                tensor = ".".join(filter(None, (name, member.tensor)))
                own = owner[: member.size]
                cuts.append(Cut(tensor, member.dim, own))
                if member.role == "produces" or (norm == "coupled" and member.role == "reads"):
                    parts.append(Part(tensor, own.view([-1 if d == member.dim else 1 for d in range(member.rank)])))
        return tuple(parts), tuple(cuts)

    def _borders(self, owners: Mapping[tuple[str, Side], Tensor]) -> tuple[Border, ...]:
        """Shortcuts, and normalisations without tensors, which count their channels all the same."""
        borders = []
        for s in self.borders:
            inputs = owners.get((s.module, "in"), torch.full((s.inputs,), NOBODY))
            outputs = owners.get((s.module, "out"), torch.full((s.outputs,), NOBODY))
            if (inputs != NOBODY).any() or (outputs != NOBODY).any():
                borders.append(Border(s.module, inputs, outputs))
        for (name, _), owner in owners.items():
            if members.bare(self.layers[name]):
                borders.append(Border(name, owner, owner))
        return tuple(borders)


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Names with a number where one comes again."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(found)
