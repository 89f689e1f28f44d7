"""Channels of any network as groups: rows, biases and scales that make a channel, and all that gets shorter without it.

Coupled layers are found as in DepGraph (Fang et al. 2023, arXiv:2301.12900); modules without parameters that turn some
channels into others, which no such graph sees through, are probed (`shortcuts`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd as Conv

from nascli.compressors.groups import members
from nascli.compressors.groups.circuit import OUTPUTS, TRACE_ERRORS
from nascli.compressors.groups.coupling import Channel, coupled
from nascli.compressors.groups.members import Side
from nascli.compressors.groups.shortcuts import Shortcut, replaced, shortcuts
from search_spaces.groups import NOBODY, Border, Cut, Groups, Part

Kind = Literal["filters", "neurons"]
Norm = Literal["produced", "coupled"]


def channels(model: nn.Module, example: tuple[Tensor, ...], *, kind: Kind, norm: Norm = "produced") -> Groups:
    """The channels that convolutions make ("filters"), or those that linear layers alone make ("neurons").

    With the norm "coupled", what the next layers make of a channel counts as its own, too. The model is left as it is.
    `left_out` names layers whose channels can't be removed, all of them if the model can't be traced; those that make
    the network's outputs are not among them.
    """
    pass_ = _Pass(model)
    makers = pass_.makers(kind)
    try:
        found = pass_.follow(tuple(x[:2] for x in example) if len({len(x) for x in example}) == 1 else example)
    except TRACE_ERRORS as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return pass_.groups([], norm, dict.fromkeys(makers, f"the network can't be traced ({said[:120]})"))
    reasons = dict.fromkeys(makers, "the network's output does not depend on it")
    axes: dict[frozenset[tuple[str, Side]], list[Channel]] = {}
    for channel in found:
        made = {n for n, side, _ in channel.places if side == "out"} & reasons.keys()
        if channel.barred == OUTPUTS or not pass_.fits(channel, kind):
            reasons = {n: r for n, r in reasons.items() if n not in made}
            continue
        reasons |= dict.fromkeys(made, channel.barred or "its channels can only go together")
        if not channel.barred:
            axes.setdefault(frozenset((n, side) for n, side, _ in channel.places), []).append(channel)
    return pass_.groups([axis for axis in axes.values() if len(axis) > 1], norm, reasons)


class _Pass:
    """A model's layers by name, the shortcuts among them, and what is known of their channels."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers: dict[str, nn.Module | Tensor] = {**dict(model.named_modules()), **dict(model.named_parameters())}
        self._order = {name: i for i, name in enumerate(self._layers)}
        self._shortcuts: dict[str, Shortcut] = {}

    def makers(self, kind: Kind) -> list[str]:
        """The layers that make channels of their own, of a kind."""
        found = [(n, layer) for n, layer in self._layers.items() if members.produces(layer)]
        attention = {n for n, layer in self._layers.items() if isinstance(layer, nn.MultiheadAttention)}
        return [
            n
            for n, layer in found
            if isinstance(layer, Conv) == (kind == "filters") and n.rpartition(".")[0] not in attention
        ]

    def follow(self, example: tuple[Tensor, ...]) -> list[Channel]:
        """All channels, coupled. Raises what the model or the trace raises, see TRACE_ERRORS."""
        plain = copy.deepcopy(self._model).eval()
        self._shortcuts = {s.module: s for s in shortcuts(plain, example)}
        found = self._shortcuts.values()
        constant = {s.module: dict.fromkeys(s.constant, "its channels are given a constant by a module") for s in found}
        return coupled(replaced(plain, found), example, {s.module: s.pairs() for s in found}, constant)

    def fits(self, channel: Channel, kind: Kind) -> bool:
        """Whether a channel is of a kind: who makes it says so."""
        layers = [self._layers[n] for n, side, _ in channel.places if side != "in" and n not in self._shortcuts]
        convolved = any(isinstance(layer, Conv) and members.produces(layer) for layer in layers)
        embedded = any(isinstance(layer, nn.Embedding) for layer in layers)
        made = any(map(members.produces, layers))
        return convolved if kind == "filters" else made and not convolved and not embedded

    def groups(self, axes: Sequence[Sequence[Channel]], norm: Norm, reasons: Mapping[str, str]) -> Groups:
        """Channels that lie on axes as groups, in the order of the layers that make them."""
        ordered = sorted((self._ordered(axis) for axis in axes), key=lambda axis: self._order[axis[0]])
        found = [channel for _, axis in ordered for channel in axis]
        owners = self._owners(found)
        return Groups(
            torch.tensor([a for a, (_, axis) in enumerate(ordered) for _ in axis], dtype=torch.int64),
            _distinct(name for name, _ in ordered),
            tuple(self._parts(owners, norm)),
            tuple(self._cuts(owners)),
            tuple(self._borders(owners)),
            left_out={n: r for n, r in reasons.items() if (n, "out") not in owners},
        )

    def _ordered(self, axis: Sequence[Channel]) -> tuple[str, list[Channel]]:
        """The first layer that makes the channels of an axis, and the channels in its order."""
        places = {n for n, side, _ in axis[0].places if side == "out" and n not in self._shortcuts}
        first = min((n for n in places if members.produces(self._layers[n])), key=self._order.__getitem__)
        return first, sorted(axis, key=lambda c: min(i for n, side, i in c.places if (n, side) == (first, "out")))

    def _owners(self, found: Sequence[Channel]) -> dict[tuple[str, Side], Tensor]:
        """The group of each channel of each side of a layer."""
        owners: dict[tuple[str, Side], Tensor] = {}
        for group, channel in enumerate(found):
            for name, side, index in channel.places:
                if (name, side) not in owners:
                    owners[name, side] = torch.full((self._width(name, side),), NOBODY)
                if len(owners[name, side]):
                    owners[name, side][index] = group
        return owners

    def _width(self, name: str, side: Side) -> int:
        if name in self._shortcuts:
            return self._shortcuts[name].reached.shape[0 if side == "in" else 1]
        return members.width(self._layers[name], side) or 0

    def _parts(self, owners: Mapping[tuple[str, Side], Tensor], norm: Norm) -> Iterator[Part]:
        roles = {"produced": ("makes",), "coupled": ("makes", "reads")}[norm]
        for (name, side), owner in owners.items():
            for m in members.members(self._layers[name], side):
                if m.role in roles:
                    yield Part(
                        _dotted(name, m.tensor), owner[: m.size].view([-1 if d == m.dim else 1 for d in range(m.rank)])
                    )

    def _cuts(self, owners: Mapping[tuple[str, Side], Tensor]) -> Iterator[Cut]:
        for (name, side), owner in owners.items():
            for m in members.members(self._layers[name], side):
                yield Cut(_dotted(name, m.tensor), m.dim, owner[: m.size])

    def _borders(self, owners: Mapping[tuple[str, Side], Tensor]) -> Iterator[Border]:
        """Shortcuts, and normalisations without tensors, which count their channels all the same."""
        for name in self._shortcuts:
            if (name, "in") in owners or (name, "out") in owners:
                nobody = [torch.full((self._width(name, side),), NOBODY) for side in ("in", "out")]
                yield Border(name, owners.get((name, "in"), nobody[0]), owners.get((name, "out"), nobody[1]))
        for (name, _), owner in owners.items():
            if members.bare(self._layers[name]):
                yield Border(name, owner, owner)


def _dotted(*names: str) -> str:
    return ".".join(filter(None, names))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Names, with a number where one comes again."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(found)
