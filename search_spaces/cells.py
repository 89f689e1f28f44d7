"""What a cell computes, read off its graph alone: which operations matter, and which cells are alike.

A cell is a graph without cycles whose nodes are numbered so that every edge leads to a later one; the first node is
the input, the last the output. NAS-Bench-201 has operations on edges (Dong & Yang 2020, arXiv:2001.00326),
NAS-Bench-101 on nodes (Ying et al. 2019, arXiv:1902.09635).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Edge = tuple[int, int]
"""From node to node; the second is the greater."""

Adjacency = Sequence[Sequence[int]]
"""Rows of 0 and 1 [nodes, nodes]; 1 where an edge leads from the row's node to the column's."""

_NOTHING = "#"


@dataclass(frozen=True, eq=False)
class CellGraph:
    """A cell for those who learn from graphs: operations on the nodes, the first the input, the last the output."""

    adjacency: np.ndarray
    """0 or 1 [nodes, nodes]: 1 where the row's node feeds the column's."""
    operations: np.ndarray
    """One-hot [nodes, kinds]."""
    kinds: tuple[str, ...]


def cell_graph(adjacency: Adjacency, operations: Sequence[str], kinds: tuple[str, ...]) -> CellGraph:
    """The graph with these rows and one operation a node, each one of `kinds`."""
    one_hot = np.zeros((len(operations), len(kinds)))
    one_hot[np.arange(len(operations)), [kinds.index(o) for o in operations]] = 1
    return CellGraph(np.array(adjacency, dtype=np.float64), one_hot, kinds)


def on_paths(edges: Collection[Edge], nodes: int) -> frozenset[Edge]:
    """The edges that lie on a path from the first node to the last."""
    reached, reaching = {0}, {nodes - 1}
    for source, target in sorted(edges):
        if source in reached:
            reached.add(target)
    for source, target in sorted(edges, key=lambda e: -e[1]):
        if target in reaching:
            reaching.add(source)
    return frozenset((i, j) for i, j in edges if i in reached and j in reaching)


# -- operations on edges ---------------------------------------------------------------------------------------------


def line_graph(edges: Sequence[Edge], nodes: int) -> list[list[int]]:
    """The adjacency [edges + 2, edges + 2] of the cell with its edges as nodes, between the input and the output."""
    ends = [(-1, 0), *edges, (nodes - 1, nodes)]
    return [[int(after == before) for before, _ in ends] for _, after in ends]


def structure(operations: Mapping[Edge, str], nodes: int, *, nothing: str, identity: str) -> str:
    """What reaches the output, as a sum of nested operations of the input; equal texts mean equal functions.

    The rule of NAS-Bench-201, by which its 15,625 cells fall into 6,466 classes: an identity is left out, and what is
    made of nothing is nothing. But nothing stays a term of a sum, and sums within sums stay apart: some cells that
    compute the same have different texts.
    """
    written = ["0"]
    for node in range(1, nodes):
        terms = []
        for source in range(node):
            operation, before = operations[source, node], written[source]
            if nothing == operation or before == _NOTHING:
                terms.append(_NOTHING)
            else:
                terms.append(before if operation == identity else f"({before}){operation}")
        written.append("+".join(sorted(terms)))
    return written[-1]


# -- operations on nodes ---------------------------------------------------------------------------------------------


def edges_of(adjacency: Adjacency) -> list[Edge]:
    """The edges, row by row."""
    return [(i, j) for i, row in enumerate(adjacency) for j, there in enumerate(row) if there]


def pruned(adjacency: Adjacency, operations: Sequence[str]) -> tuple[list[list[int]], list[str]]:
    """The cell without the nodes that lie on no path from the input to the output; ([], []) if there is no path."""
    used = on_paths(edges_of(adjacency), len(operations))
    kept = sorted({node for edge in used for node in edge})
    return [[int((i, j) in used) for j in kept] for i in kept], [operations[i] for i in kept]


def graph_hash(adjacency: Adjacency, labels: Sequence[int]) -> str:
    """32 hex digits, the same for isomorphic cells: NAS-Bench-101's hash.

    Each node begins with its degrees (out, in) and label; as often as there are nodes, it takes in its neighbours'
    hashes, those before it and those after it apart. Labels there are -1 (input), -2 (output) and the operation's
    position among the benchmark's three.
    """
    edges, nodes = edges_of(adjacency), range(len(labels))
    before = [[i for i, j in edges if j == node] for node in nodes]
    after = [[j for i, j in edges if i == node] for node in nodes]
    hashes = [_md5(str((len(after[n]), len(before[n]), int(labels[n])))) for n in nodes]
    for _ in nodes:
        hashes = [
            _md5("|".join(["".join(sorted(hashes[m] for m in near)) for near in (before[n], after[n])] + [hashes[n]]))
            for n in nodes
        ]
    return _md5(str(sorted(hashes)))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
