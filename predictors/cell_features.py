"""What a cell's graph says of it in plain numbers: operations counted, and paths through chosen operations alone.

After the neural graph features of Kadlecova et al. 2024 (arXiv:2404.16551), with which trees rank networks well.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np

from predictors import ScoreError

_LARGE = 6
"""From more kinds than this on, not all subsets are taken, but the single ones, pairs, all but one, and all."""


def cell_features(adjacency: np.ndarray, operations: np.ndarray, *, absent: Collection[int] = ()) -> np.ndarray:
    """The features of one cell [features], in the order of `feature_names`; as many for cells of any size.

    The adjacency [nodes, nodes] is 1 where the row's node feeds a later one; the operations [nodes, kinds] are one-hot,
    the first node's kind being the input and the last one's the output. Kinds that are `absent` let nothing through.
    Raises ScoreError for arrays that are no such cell.
    """
    edges, kind = _checked(adjacency, operations)
    present = _kinds(operations, absent)
    sets = _subsets(present)
    inside = np.array([np.isin(kind, chosen) for chosen in sets])
    real = np.isin(kind, present)
    inside[:, [0, -1]] = True
    real[[0, -1]] = True
    counted = np.bincount(kind, minlength=operations.shape[1])[list(present)]
    paths, shortest, longest = _paths(edges, inside)
    most = _most(edges, real, inside)
    first = (inside & (edges[0] > 0))[:, 1:].sum(1)
    last = (inside & (edges[:, -1] > 0))[:, :-1].sum(1)
    by_set = np.stack([paths, shortest, longest, most, first, last], 1)
    return np.concatenate([counted, by_set.ravel(), [edges.sum()]]).astype(np.float64)


def feature_names(kinds: Sequence[str], *, absent: Collection[int] = ()) -> list[str]:
    """The names of the features of cells with these kinds of operation; the first is the input, the last the output."""
    present = [i for i in range(1, len(kinds) - 1) if i not in absent]
    names = [f"count({kinds[i]})" for i in present]
    for chosen in _subsets(present):
        among = "+".join(kinds[i] for i in chosen)
        names += [f"{what}({among})" for what in _BY_SET]
    return [*names, "edges"]


_BY_SET = ("paths", "shortest", "longest", "most", "from_input", "to_output")


def _checked(adjacency: np.ndarray, operations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges as whole numbers and each node's kind."""
    nodes = len(operations)
    if operations.ndim != 2 or adjacency.shape != (nodes, nodes) or nodes < 2:
        raise ScoreError(
            f"A cell has an adjacency [nodes, nodes] and operations [nodes, kinds], but their shapes are "
            f"{adjacency.shape} and {operations.shape}."
        )
    edges = (adjacency != 0).astype(np.int64)
    if np.tril(edges).any():
        raise ScoreError("Every edge of a cell must lead to a later node; number its nodes in that order.")
    if not ((operations != 0).sum(1) == 1).all():
        raise ScoreError("Every node of a cell must have exactly one operation.")
    return edges, operations.argmax(1)


def _kinds(operations: np.ndarray, absent: Collection[int]) -> list[int]:
    return [i for i in range(1, operations.shape[1] - 1) if i not in absent]


def _subsets(kinds: Sequence[int]) -> list[tuple[int, ...]]:
    sizes: Collection[int] = range(1, len(kinds) + 1)
    if len(kinds) > _LARGE:
        sizes = sorted({1, 2, len(kinds) - 1, len(kinds)})
    return [chosen for size in sizes for chosen in combinations(kinds, size)]


def _paths(edges: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the paths from input to output within each set of nodes [sets, nodes]: their number, shortest and longest.

    Lengths count the edges; without a path the shortest is one edge a node, the longest 0.
    """
    sets, nodes = inside.shape
    number = np.zeros((sets, nodes))
    shortest = np.full((sets, nodes), float(nodes))
    longest = np.zeros((sets, nodes))
    number[:, 0], shortest[:, 0] = 1, 0
    for node in range(1, nodes):
        sources = np.flatnonzero(edges[:, node])
        arrives = inside[:, node, None] & (number[:, sources] > 0)
        number[:, node] = (number[:, sources] * arrives).sum(1)
        shortest[:, node] = np.where(arrives, shortest[:, sources] + 1, nodes).min(1, initial=nodes)
        longest[:, node] = np.where(arrives, longest[:, sources] + 1, 0).max(1, initial=0)
    return number[:, -1], shortest[:, -1], longest[:, -1]


def _most(edges: np.ndarray, real: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The largest number of nodes of each set on one path through real operations [sets]; 0 without a path."""
    sets, nodes = inside.shape
    most = np.full((sets, nodes), -np.inf)
    most[:, 0] = 0
    for node in range(1, nodes):
        if real[node]:
            sources = np.flatnonzero(edges[:, node])
            most[:, node] = most[:, sources].max(1, initial=-np.inf) + (inside[:, node] & (node < nodes - 1))
    found: np.ndarray = np.maximum(most[:, -1], 0)
    return found
