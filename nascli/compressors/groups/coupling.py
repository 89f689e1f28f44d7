"""Which channels of which layers can only be removed together: a traced pass, walked from all layers that make some.

Channels that meet on their way become one: this is the coupling of Fang et al. 2023, arXiv:2301.12900, told by index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nascli.compressors.groups import members
from nascli.compressors.groups.circuit import Edge, Node, traced
from nascli.compressors.groups.members import Side
from nascli.compressors.groups.wires import Move

Place = tuple[int, Side]
"""A node and a side of it."""


@dataclass(frozen=True)
class Channel:
    """Channels of several layers that live and die together."""

    places: tuple[tuple[str, Side, int], ...]
    """Layer, side and index of each."""
    barred: str
    """Why they can't be removed, "" if they can."""


def coupled(
    model: nn.Module,
    example: tuple[Tensor, ...],
    ties: Mapping[str, Sequence[tuple[int, int]]],
    barred: Mapping[str, Mapping[int, str]],
) -> list[Channel]:
    """All channels of a model's layers; the model must be a copy, see `traced`, which also says what is raised.

    For layers that stand in for others, `ties` are pairs of an input and an output that go together, and `barred` says
    why some of their outputs can't go.
    """
    nodes, edges = traced(model, example)
    walk = _Walk(nodes, edges, ties)
    for at, node in enumerate(nodes):
        if members.two_sided(node.layer):
            walk.spread((at, "out"), range(members.width(node.layer, "out") or 0))
    return [
        Channel(
            tuple((nodes[at].name, side, index) for (at, side), index in places if nodes[at].name),
            next(filter(None, (_reason(nodes[at], side, i, barred) for (at, side), i in places)), "")
            or ("its channels are mixed by an operation" if lost else ""),
        )
        for places, lost in walk.found()
    ]


def _reason(node: Node, side: Side, index: int, barred: Mapping[str, Mapping[int, str]]) -> str:
    """Why a channel can't go from one of its places."""
    if side != "in" and (found := node.end or barred.get(node.name, {}).get(index, "")):
        return found
    return node.barred


class _Walk:
    """Spreads channels along edges, and unites those that meet."""

    def __init__(self, nodes: Sequence[Node], edges: Sequence[Edge], ties: Mapping[str, Sequence[tuple[int, int]]]):
        self._known: dict[Place, dict[int, int]] = {}
        """From the index of each channel that was found at a place to a number that is unique."""
        self._parents: list[int] = []
        self._lost: set[int] = set()
        """Channels that get to an index that there can't be: something happened to them that nobody knows of."""
        most = max((node.width for node in nodes if node.width is not None), default=0)
        self._widths = {
            (at, s): members.width(n.layer, s) or n.width or most for at, n in enumerate(nodes) for s in _sides(n)
        }
        self._ways: dict[Place, list[tuple[Place, Move | None]]] = {}
        self._ties: dict[tuple[Place, int], list[tuple[Place, int]]] = {}
        for source, target, wire in edges:
            left, entered = (source, _sides(nodes[source])[-1]), (target, _sides(nodes[target])[0])
            self._ways.setdefault(left, []).append((entered, wire.forth))
            self._ways.setdefault(entered, []).append((left, wire.back))
        for at, node in enumerate(nodes):
            for (one, i), (other, k) in members.ties(node.layer):
                self._tie(((at, one), i), ((at, other), k))
            for i, k in node.ties:
                self._tie(((at, _sides(node)[-1]), i), ((at, _sides(node)[-1]), k))
            for i, k in ties.get(node.name, ()):
                self._tie(((at, "in"), i), ((at, "out"), k))

    def _tie(self, one: tuple[Place, int], other: tuple[Place, int]) -> None:
        self._ties.setdefault(one, []).append(other)
        self._ties.setdefault(other, []).append(one)

    def spread(self, start: Place, indices: Sequence[int]) -> None:
        """Follow channels from a place to everywhere they get, as far as they have not been followed before."""
        waiting = [(start, [i for i in indices if self._number(start, i)[1]])]
        while waiting:
            place, fresh = waiting.pop()
            reached: dict[Place, list[int]] = {}
            for index in fresh:
                own = self._known[place][index]
                for other, k in self._neighbours(place, index):
                    if k >= self._widths[other]:
                        self._lost.add(own)
                        continue
                    number, new = self._number(other, k)
                    self._parents[self._root(number)] = self._root(own)
                    if new:
                        reached.setdefault(other, []).append(k)
            waiting += reached.items()

    def _neighbours(self, place: Place, index: int) -> list[tuple[Place, int]]:
        moved = [
            (other, k) for other, move in self._ways.get(place, ()) for k in ((index,) if move is None else move(index))
        ]
        return moved + self._ties.get((place, index), [])

    def _number(self, place: Place, index: int) -> tuple[int, bool]:
        known = self._known.setdefault(place, {})
        fresh = index not in known
        if fresh:
            known[index] = len(self._parents)
            self._parents.append(len(self._parents))
        return known[index], fresh

    def found(self) -> list[tuple[list[tuple[Place, int]], bool]]:
        """The places of each channel that was found, and whether it was lost on the way."""
        together: dict[int, list[tuple[Place, int]]] = {}
        for place, known in self._known.items():
            for index, number in known.items():
                together.setdefault(self._root(number), []).append((place, index))
        lost = {self._root(number) for number in self._lost}
        return [(places, root in lost) for root, places in together.items()]

    def _root(self, number: int) -> int:
        """The number that stands for all that a channel was united with."""
        while self._parents[number] != number:
            self._parents[number] = number = self._parents[self._parents[number]]
        return number


def _sides(node: Node) -> tuple[Side, ...]:
    return ("in", "out") if members.two_sided(node.layer) else ("both",)
