"""Where the parts of a small directed graph go, drawn in layers from left to right.

After Sugiyama, Tagawa & Toda 1981 (IEEE Transactions on Systems, Man, and Cybernetics 11), with a lane of its own for
every edge in each gap between two layers, and past each layer where it does not end. Labels lie in the gaps, where
lanes are level: no edge runs through a node, and none through the label of another.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from typing import Literal

Edge = tuple[int, int]
"""From node, to node."""
Lane = tuple[int, Literal["node", "edge"], int]
"""What takes up height in a column: the column, and the number of the node or edge."""
Columns = list[list[Lane]]
Links = Mapping[Lane, Sequence[Lane]]
"""The lanes that a lane goes on as in the columns beside its own."""

LABELLED, BARE = 26.0, 15.0
"""The heights of lanes with a label and without."""
STARTS, SWEEPS = 24, 24
"""How many first orders are tried, and how often the columns are gone through for each."""
STRAIGHT = 4.0
"""How much an edge wants to go on straight, next to what draws it to its ends."""


@dataclass(frozen=True)
class Layout:
    """Columns from left to right: the layers are 0, 2, 4, ..., the gaps between them 1, 3, 5, ..."""

    columns: int
    heights: Mapping[Lane, float]
    """Where the middle of each lane lies, down from the top."""
    height: float
    """Of it all."""
    labels: Sequence[int]
    """The column in which each edge has its label."""


def layers(count: int, edges: Sequence[Edge], *, first: frozenset[int], last: frozenset[int]) -> list[int]:
    """The layer of each node, one beyond those of all that lead to it; `first` begin, and `last` end the graph.

    Nodes are in an order in which every edge leads to a later one.
    """
    found = [0 if node in first or not first else 1 for node in range(count)]
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        found[target] = max(found[target], found[source] + 1)
    end = max([1 + max((f for n, f in enumerate(found) if n not in last), default=-1), *(found[n] for n in last)])
    return [end if node in last else layer for node, layer in enumerate(found)]


def lay_out(
    layers: Sequence[int], edges: Sequence[Edge], *, sizes: Sequence[float], labelled: Sequence[bool]
) -> Layout:
    """The layout of nodes, whose layers are known and which take these heights, and of edges with labels or without."""
    labels = _labels(layers, edges, labelled)
    columns, links = _lanes(layers, edges)
    taken = {
        lane: sizes[lane[2]] if lane[1] == "node" else _taken(lane, labels, labelled)
        for column in columns
        for lane in column
    }
    ways = [_straightened(_heights(order, links, taken), order, taken) for order in _orders(columns, links)]
    best = min(ways, key=lambda heights: _travel(heights, links), default={})
    top = min((y - taken[lane] / 2 for lane, y in best.items()), default=0.0)
    bottom = max((y + taken[lane] / 2 for lane, y in best.items()), default=0.0)
    return Layout(len(columns), {lane: y - top for lane, y in best.items()}, bottom - top, labels)


def _labels(layers: Sequence[int], edges: Sequence[Edge], labelled: Sequence[bool]) -> list[int]:
    """A gap for each label; long edges have a choice, and take the one with the fewest."""
    held: dict[int, int] = {}
    found = [0] * len(edges)
    for number in sorted(range(len(edges)), key=lambda n: layers[edges[n][1]] - layers[edges[n][0]]):
        source, target = edges[number]
        found[number] = min(range(2 * layers[source] + 1, 2 * layers[target], 2), key=lambda gap: held.get(gap, 0))
        held[found[number]] = held.get(found[number], 0) + labelled[number]
    return found


def _taken(lane: Lane, labels: Sequence[int], labelled: Sequence[bool]) -> float:
    column, _, edge = lane
    return LABELLED if labelled[edge] and labels[edge] == column else BARE


def _lanes(layers: Sequence[int], edges: Sequence[Edge]) -> tuple[Columns, Links]:
    columns: Columns = [[] for _ in range(2 * max(layers, default=0) + 1)]
    links: dict[Lane, list[Lane]] = {}
    for node, layer in enumerate(layers):
        columns[2 * layer].append((2 * layer, "node", node))
    for number, (source, target) in enumerate(edges):
        start, end = 2 * layers[source], 2 * layers[target]
        between: list[Lane] = [(column, "edge", number) for column in range(start + 1, end)]
        for lane in between:
            columns[lane[0]].append(lane)
        for here, there in pairwise([(start, "node", source), *between, (end, "node", target)]):
            links.setdefault(here, []).append(there)
            links.setdefault(there, []).append(here)
    return columns, links


# -- order -------------------------------------------------------------------------------------------------------------


def _orders(columns: Columns, links: Links) -> list[Columns]:
    """Those of some good orders in which the fewest edges cross."""
    rng = random.Random(0)
    found: dict[int, list[Columns]] = {}
    for start in range(STARTS):
        tried = [list(column) if start == 0 else rng.sample(column, len(column)) for column in columns]
        _sort(tried, links)
        kept = found.setdefault(_crossings(tried, links), [])
        if tried not in kept:
            kept.append(tried)
    return found[min(found)][:6]


def _sort(columns: Columns, links: Links) -> None:
    """Put each column in the order of what its lanes are linked to, then swap neighbours as long as that helps."""
    at = {lane: float(i) for column in columns for i, lane in enumerate(column)}
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 else reversed(columns):
            side = 1 if sweep % 2 == 0 else -1
            means = {lane: _mean([at[o] for o in links.get(lane, ()) if o[0] - lane[0] == side]) for lane in column}
            column.sort(key=lambda lane: at[lane] if (mean := means[lane]) is None else mean)
            at |= {lane: float(i) for i, lane in enumerate(column)}
    swapped = True
    while swapped:
        swapped = False
        for column in columns:
            for i in range(len(column) - 1):
                upper, lower = column[i : i + 2]
                if _crossed(lower, upper, links, at) < _crossed(upper, lower, links, at):
                    column[i : i + 2] = lower, upper
                    at[upper], at[lower] = at[lower], at[upper]
                    swapped = True


def _crossed(upper: Lane, lower: Lane, links: Links, at: Mapping[Lane, float]) -> int:
    """How many links of two lanes of a column cross if the one lies above the other."""
    ends = ((a, b) for a in links.get(upper, ()) for b in links.get(lower, ()) if a[0] == b[0])
    return sum(at[a] > at[b] for a, b in ends)


def _crossings(columns: Columns, links: Links) -> int:
    at = {lane: float(i) for column in columns for i, lane in enumerate(column)}
    return sum(_crossed(a, b, links, at) for column in columns[::2] for a, b in combinations(column, 2))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


# -- heights -----------------------------------------------------------------------------------------------------------


def _heights(columns: Columns, links: Links, taken: Mapping[Lane, float]) -> dict[Lane, float]:
    """Each lane about as high as what it is linked to, in its column's order and at its distance from the others."""
    heights: dict[Lane, float] = {}
    for column in columns:
        heights |= zip(column, _apart([0.0] * len(column), [taken[lane] for lane in column]), strict=True)
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 else reversed(columns):
            wanted = []
            for lane in column:
                pulls = [(heights[o], _pull(lane, o)) for o in links.get(lane, ())] or [(heights[lane], 1.0)]
                wanted.append(sum(y * w for y, w in pulls) / sum(w for _, w in pulls))
            heights |= zip(column, _apart(wanted, [taken[lane] for lane in column]), strict=True)
    return heights


def _straightened(heights: dict[Lane, float], columns: Columns, taken: Mapping[Lane, float]) -> dict[Lane, float]:
    """The heights with long edges made level as far as they can be without a push to their neighbours."""
    place = {lane: (column, i) for column in columns for i, lane in enumerate(column)}

    def room(lane: Lane) -> tuple[float, float]:
        column, i = place[lane]
        above = heights[column[i - 1]] + (taken[column[i - 1]] + taken[lane]) / 2 if i else -math.inf
        below = heights[column[i + 1]] - (taken[column[i + 1]] + taken[lane]) / 2 if i + 1 < len(column) else math.inf
        return above, below

    ways: dict[int, list[Lane]] = {}
    for lane in sorted(lane for lane in heights if lane[1] == "edge"):
        ways.setdefault(lane[2], []).append(lane)
    for way in sorted(ways.values(), key=len, reverse=True):
        while way:
            run, (low, high) = [way[0]], room(way[0])
            for lane in way[1:]:
                above, below = room(lane)
                if max(low, above) > min(high, below):
                    break
                low, high = max(low, above), min(high, below)
                run.append(lane)
            level = min(max(sum(heights[lane] for lane in run) / len(run), low), high)
            heights |= dict.fromkeys(run, level)
            way = way[len(run) :]
    return heights


def _pull(a: Lane, b: Lane) -> float:
    return STRAIGHT if a[1] == b[1] == "edge" else 1.0


def _apart(wanted: Sequence[float], taken: Sequence[float]) -> list[float]:
    """Heights nearest to those wanted, by least squares, at which nothing overlaps (isotonic regression)."""
    middles = list(accumulate(((a + b) / 2 for a, b in pairwise(taken)), initial=0.0))[: len(taken)]
    blocks: list[tuple[float, int]] = []
    for goal, middle in zip(wanted, middles, strict=True):
        mean, count = goal - middle, 1
        while blocks and blocks[-1][0] >= mean:
            other, more = blocks.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        blocks.append((mean, count))
    flat = [mean for mean, count in blocks for _ in range(count)]
    return [mean + middle for mean, middle in zip(flat, middles, strict=True)]


def _travel(heights: Mapping[Lane, float], links: Links) -> float:
    """How far edges climb and fall in all."""
    return sum(abs(y - heights[other]) for lane, y in heights.items() for other in links.get(lane, ()))
