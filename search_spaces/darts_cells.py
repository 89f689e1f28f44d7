"""The cells of DARTS as architectures: two kinds of four nodes, each with two inputs (Liu et al. 2019, 1806.09055).

Which of the earlier nodes a node reads is a choice, and so is the operation on each edge that this lets through; the
same holds for the four reduced spaces of RobustDARTS (Zela et al. 2020, arXiv:1909.09656), on which DARTS fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from search_spaces.cells import CellGraph, Edge, cell_graph
from search_spaces.choices import Architecture, Choice, ChoiceTable

Kind = Literal["normal", "reduce"]
"""The two kinds of cells; those that reduce halve the image and double the channels."""
KINDS: tuple[Kind, ...] = get_args(Kind)

Preset = Literal["darts", "darts-none", "s1", "s2", "s3", "s4"]

Cell = Mapping[Edge, str]
"""The operation on each edge (from, to): two edges into each of the nodes."""
Cells = Mapping[Kind, Cell]

INPUTS = (0, 1)
"""What the two cells before this one gave; 0 is the older."""
NODES = (2, 3, 4, 5)
EDGES: tuple[Edge, ...] = tuple((source, node) for node in NODES for source in range(node))

OPERATIONS = (
    "none",
    "noise",
    "skip_connect",
    "max_pool_3x3",
    "avg_pool_3x3",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sep_conv_3x3",
    "sep_conv_5x5",
)
"""All operations of all presets; in ascending cost, once there are more than seven channels."""

_DARTS = tuple(o for o in OPERATIONS if o not in ("none", "noise"))
_EVERYWHERE: Mapping[str, tuple[str, ...]] = {
    "darts": _DARTS,
    "darts-none": ("none", *_DARTS),
    "s2": ("skip_connect", "sep_conv_3x3"),
    "s3": ("none", "skip_connect", "sep_conv_3x3"),
    "s4": ("noise", "sep_conv_3x3"),
}
_S1: Mapping[Kind, str] = {
    "normal": "skip+dil3 skip+dil5 / skip+dil5 skip+sep3 skip+dil3 / skip+max skip+sep3 skip+sep3 skip+dil3 / "
    "skip+sep3 skip+max skip+dil3 dil3+dil5 dil3+dil5",
    "reduce": "max+avg max+dil3 / max+avg max+avg skip+dil5 / max+avg max+sep3 skip+dil3 skip+dil5 / "
    "max+avg max+avg skip+dil5 skip+dil5 skip+dil5",
}
"""The two best operations of each edge after a search of the whole space, in the order of the edges."""
_SHORT = {
    "skip": "skip_connect",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "sep3": "sep_conv_3x3",
}

GRAPH_KINDS = ("input", "older", "newer", *OPERATIONS, "concat", "output")
"""What the nodes of `graph` are, the same for all presets."""


def operations(preset: Preset, kind: Kind, edge: Edge) -> tuple[str, ...]:
    """What a preset has on an edge, in ascending cost."""
    if preset != "s1":
        return _EVERYWHERE[preset]
    listed = _S1[kind].replace("/", "").split()
    return tuple(_SHORT[name] for name in listed[EDGES.index(edge)].split("+"))


def pairs(node: int) -> tuple[tuple[int, int], ...]:
    """The pairs of earlier nodes that a node may read."""
    return tuple(itertools.combinations(range(node), 2))


def inputs_choice(kind: Kind, node: int) -> str:
    """The name of the choice of a node's two inputs; the first node has none to choose."""
    return f"{kind}.node{node}.inputs"


def edge_choice(kind: Kind, edge: Edge) -> str:
    """The name of the choice of an edge's operation."""
    return f"{kind}.node{edge[1]}.from{edge[0]}"


def _table(preset: Preset) -> ChoiceTable:
    choices = []
    for kind, node in itertools.product(KINDS, NODES):
        options = {f"{a}+{b}": (a, b) for a, b in pairs(node)}
        if len(options) > 1:
            choices.append(Choice(inputs_choice(kind, node), tuple(options)))
        for source in range(node):
            reading = frozenset(text for text, pair in options.items() if source in pair)
            when = ((inputs_choice(kind, node), reading),) if len(options) > 1 else ()
            edge = (source, node)
            choices.append(Choice(edge_choice(kind, edge), operations(preset, kind, edge), when))
    return ChoiceTable(preset if preset.startswith("darts") else f"darts-{preset}", tuple(choices))


TABLES: Mapping[Preset, ChoiceTable] = {preset: _table(preset) for preset in get_args(Preset)}


def cells(table: ChoiceTable, arch: Architecture) -> Cells:
    """Both cells of an architecture, their edges by node and then by source; raises ArchitectureError."""
    table.indices(arch)
    chosen = table.values(arch)
    return {
        kind: {edge: chosen[name] for edge in EDGES if (name := edge_choice(kind, edge)) in chosen} for kind in KINDS
    }


def architecture(table: ChoiceTable, cells: Cells) -> Architecture:
    """The architecture with these cells; raises ArchitectureError for an operation that the table does not have."""
    chosen: dict[str, str] = {}
    for kind, cell in cells.items():
        for node in NODES:
            sources = sorted(source for source, target in cell if target == node)
            chosen[inputs_choice(kind, node)] = "+".join(map(str, sources))
        chosen |= {edge_choice(kind, edge): operation for edge, operation in cell.items()}
    return table.canonical([chosen.get(choice.name, choice.options[0]) for choice in table.choices])


def reduced(cell: Cell) -> Cell:
    """The same function with as little as possible: without what reads a node that nothing reaches.

    Such an operation becomes `none`, and what is `none` reads the first nodes that are free.
    """
    alive, found = set(INPUTS), dict[Edge, str]()
    for node in NODES:
        real = {s: o for (s, n), o in cell.items() if n == node and o != "none" and s in alive}
        free = [source for source in range(node) if source not in real]
        if real:
            alive.add(node)
        sources = sorted([*real, *free[: 2 - len(real)]])
        found |= {(source, node): real.get(source, "none") for source in sources}
    return found


def graph(cells: Cells) -> CellGraph:
    """23 nodes: the input, the normal cell, whose output the reducing cell reads, and the output.

    A cell is its two inputs, the operations of its eight edges, and what concatenates them; the output concatenates
    those of the reducing cell. An operation feeds all those that read the node it leads into.
    """
    kinds, feeds = ["input"], list[Edge]()
    for kind in KINDS:
        first, cell = len(kinds), list(cells[kind].items())
        feeds += [(first - 1, first), (first - 1, first + 1)]
        kinds += ["older", "newer", *(operation for _, operation in cell), "output" if kind == KINDS[-1] else "concat"]
        places = {edge: first + 2 + i for i, (edge, _) in enumerate(cell)}
        for (source, _), place in places.items():
            into = [first + source] if source in INPUTS else [p for (_, n), p in places.items() if n == source]
            feeds += [(before, place) for before in into]
            feeds.append((place, len(kinds) - 1))
    adjacency: Sequence[list[int]] = [[0] * len(kinds) for _ in kinds]
    for before, after in feeds:
        adjacency[before][after] = 1
    return cell_graph(adjacency, kinds, GRAPH_KINDS)
