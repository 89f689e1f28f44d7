"""The networks of DARTS (Liu et al. 2019, arXiv:1806.09055, section 3.1 and appendix A).

A 3x3 convolution, a row of cells of which two halve the image and double the channels, and a linear classifier. Each
cell reads the two before it and gives out all of its nodes. Networks and supernet run the same cells by plans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces.cells import Edge
from search_spaces.darts_cells import EDGES, INPUTS, NODES, Cells, Kind
from search_spaces.darts_ops import DropPath, Norm, factorized_reduce, new_operation, projection, strided
from search_spaces.mixtures import Weight, weighted
from search_spaces.partial import BYPASS, Mixture
from search_spaces.space import Signature

Operations = Mapping[Kind, Mapping[Edge, Sequence[str]]]
"""What each kind of cell has on its edges."""

Term = tuple[int, str, Weight]
"""What adds to a node: the node it comes from, the operation's name in the cell ("": the identity), and its weight."""

Plan = tuple[tuple[Term, ...], ...]
"""The terms of each of the four nodes; none for a node that nothing reaches."""

Plans = Mapping[Kind, Plan]


def stride(kind: Kind, edge: Edge) -> int:
    """2 on the edges from the inputs of a cell that halves the image."""
    return 2 if kind == "reduce" and edge[0] in INPUTS else 1


def name(kind: Kind, edge: Edge, operation: str) -> str:
    """What a cell calls the operation of an edge; those without a module are all called the same."""
    if operation == BYPASS:
        return BYPASS
    if operation == "skip_connect" and stride(kind, edge) == 1:
        return ""
    return f"{operation}_{edge[0]}_{edge[1]}"


def plan(kind: Kind, mixture: Mixture) -> Plan:
    """How a cell computes its nodes from the edges there are. `none` is left out, and what reads a node without terms.

    With zeros as its input an operation would be left with the shift of its normalisation, 0 at first.
    """
    alive, terms = set(INPUTS), list[tuple[Term, ...]]()
    for node in NODES:
        edges = [(source, node) for source in range(node) if source in alive]
        into = [(e[0], name(kind, e, o), w) for e in edges for o, w in mixture.get(e, ()) if o != "none"]
        if into:
            alive.add(node)
        terms.append(tuple(into))
    return tuple(terms)


class DartsNetwork(nn.Module):
    """One network; see `search_spaces.space.Tapped`. In training it drops paths, see `set_drop_path`."""

    def __init__(
        self, cells: Cells, signature: Signature, *, channels: int, count: int, pool_norm: bool = True
    ) -> None:
        super().__init__()
        listed: Operations = {kind: {edge: (o,) for edge, o in cell.items()} for kind, cell in cells.items()}

        def make(kind: Kind, shape: Shape) -> Cell:
            return Cell(kind, listed[kind], shape, nn.BatchNorm2d, pool_norm=pool_norm)

        self.body = Body(make, signature, channels=channels, count=count, norm=nn.BatchNorm2d)
        self.plans = {kind: plan(kind, {e: [(o, None)] for e, o in cell.items()}) for kind, cell in cells.items()}
        self.classes = signature.classes

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, c, h, w]."""
        return self.tapped(x)[0]

    def tapped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, classes], and what the second of the cells that halve the image gives out [n, features, h, w]."""
        results: tuple[Tensor, Tensor] = self.body(x, self.plans)
        return results

    def auxiliary(self) -> nn.Module:
        """The papers' auxiliary classifier for CIFAR: from [n, features, h, w] to logits [n, classes].

        Where their pool, 5x5 with stride 3, does not leave 2x2 pixels, as of images much smaller or larger than 32x32,
        the pixels are averaged to as many.
        """
        return Auxiliary(self.body.tapped_features, self.classes)


class Auxiliary(nn.Module):
    """A classifier that reads the network on its way: pool, 1x1 and 2x2 convolutions, linear layer."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.act, self.pool, self.shrink = nn.ReLU(), nn.AvgPool2d(5, 3), nn.AdaptiveAvgPool2d(2)
        self.body = nn.Sequential(
            *(nn.Conv2d(features, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()),
            *(nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU()),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of features [n, c, h, w]."""
        x = self.act(x)
        # Sides from 8 to 10 have two windows of five pixels three apart.
        x = self.pool(x) if all(8 <= side <= 10 for side in x.shape[2:]) else self.shrink(x)
        logits: Tensor = self.classifier(self.body(x).flatten(1))
        return logits


@dataclass(frozen=True)
class Shape:
    """Where a cell stands: the channels of what it reads, its own, and whether the older input has twice the sides."""

    older: int
    newer: int
    channels: int
    older_is_larger: bool


class Body(nn.Module):
    """The stem, the cells, and the classifier. `make` makes a cell, which is called with its two inputs and a plan."""

    def __init__(
        self,
        make: Callable[[Kind, Shape], nn.Module],
        signature: Signature,
        *,
        channels: int,
        count: int,
        norm: Norm,
    ) -> None:
        super().__init__()
        older = newer = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(signature.shape[0], newer, 3, padding=1, bias=False), norm(newer))
        self.cells, self.kinds = nn.ModuleList(), list[Kind]()
        for place in range(count):
            kind: Kind = "reduce" if place in (count // 3, 2 * count // 3) else "normal"
            channels *= 2 if kind == "reduce" else 1
            larger = bool(self.kinds) and self.kinds[-1] == "reduce"
            self.cells.append(make(kind, Shape(older, newer, channels, larger)))
            self.kinds.append(kind)
            older, newer = newer, len(NODES) * channels
        self.tap, self.tapped_features = 2 * count // 3, len(NODES) * channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(newer, signature.classes)

    def forward(self, x: Tensor, plans: Plans) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of images [n, c, h, w], and what the second cell that halves the image gives out."""
        older = newer = tapped = self.stem(x)
        for place, (kind, cell) in enumerate(zip(self.kinds, self.cells, strict=True)):
            older, newer = newer, cell(older, newer, plans[kind])
            if place == self.tap:
                tapped = newer
        return self.classifier(self.pool(newer).flatten(1)), tapped


class Cell(nn.Module):
    """Two inputs and four nodes; the operations listed for each edge between them, those without tensors left out."""

    def __init__(
        self,
        kind: Kind,
        operations: Mapping[Edge, Sequence[str]],
        shape: Shape,
        norm: Norm,
        *,
        pool_norm: bool = True,
    ) -> None:
        super().__init__()
        self.inputs = inputs(shape, norm)
        self.operations = modules(kind, operations, shape.channels, norm, pool_norm=pool_norm)
        self.drop = DropPath()
        self.stride = stride(kind, EDGES[0])

    def forward(self, older: Tensor, newer: Tensor, plan: Plan) -> Tensor:
        """The nodes side by side [n, 4 * channels, h, w], each the sum of its terms, and zero without any."""
        values: dict[int, Tensor] = {0: self.inputs[0](older), 1: self.inputs[1](newer)}
        for node, terms in zip(NODES, plan, strict=True):
            for source, operation, weight in terms:
                y = weighted(self.operations[operation] if operation else None, values[source], weight)
                if operation:
                    y = self.drop(y)
                values[node] = values[node] + y if node in values else y
        return joined(values, self.stride)


def inputs(shape: Shape, norm: Norm) -> nn.ModuleList:
    """What brings the older and the newer input to a cell's channels, and to the same size."""
    bring = factorized_reduce if shape.older_is_larger else projection
    return nn.ModuleList([bring(shape.older, shape.channels, norm), projection(shape.newer, shape.channels, norm)])


def modules(
    kind: Kind, operations: Mapping[Edge, Sequence[str]], channels: int, norm: Norm, *, pool_norm: bool
) -> nn.ModuleDict:
    """The modules of a cell's operations by their names."""
    made = {
        name(kind, edge, o): new_operation(o, channels, stride(kind, edge), norm, pool_norm=pool_norm)
        for edge, listed in operations.items()
        for o in listed
    }
    return nn.ModuleDict({key: module for key, module in made.items() if module is not None})


def joined(values: Mapping[int, Tensor], stride: int) -> Tensor:
    """A cell's four nodes side by side [n, 4 * channels, h, w], given those that are not zero and the inputs."""
    if len(values) == len(INPUTS) + len(NODES):
        return torch.cat([values[node] for node in NODES], 1)
    nothing = torch.zeros_like(strided(values[1], stride))
    return torch.cat([values.get(node, nothing) for node in NODES], 1)
