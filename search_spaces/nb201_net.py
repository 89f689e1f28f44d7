"""The networks of NAS-Bench-201, and the supernet of them all (Dong & Yang 2020, arXiv:2001.00326, section 2.1).

A 3x3 convolution, three stages of equal cells with a residual block between them that halves the image and doubles the
channels, and a linear classifier. Both networks run the same cells by a plan; the supernet makes its plan from gates.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from search_spaces.cells import Edge, on_paths
from search_spaces.elastic import ElasticBatchNorm2d
from search_spaces.mixtures import Weight, weighed, weighted
from search_spaces.partial import BYPASS, Divided, Mixture, Sums, part, passing
from search_spaces.space import Gates, Signature
from search_spaces.units import channels_last

NODES = 4
EDGES: tuple[Edge, ...] = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
"""In ascending cost."""

Norm = Callable[[int], nn.Module]
"""Channels -> their normalisation."""

Term = tuple[int, str, Weight]
"""What adds to a node: the node it comes from, the operation's name in the cell, and its weight."""

Plan = tuple[tuple[Term, ...], ...]
"""The terms of each node after the first; none for a node that does not matter."""

_searching = partial(ElasticBatchNorm2d, affine=False)
"""Cells of supernets do not learn to scale, so that the gates alone say how much an operation counts."""


def plan(mixture: Mixture) -> Plan:
    """How a cell computes its output: whatever is not on a path from input to output by real operations is left out.

    An operation that nothing reaches is left out too. The benchmark runs it on zeros, where the shift of its
    normalisation, 0 at first, can make a constant of it.
    """
    real = {edge: [(o, weight) for o, weight in mixture[edge] if o != "none"] for edge in EDGES}
    used = on_paths([edge for edge, operations in real.items() if operations], NODES)
    terms: list[list[Term]] = [[] for _ in range(1, NODES)]
    for edge in EDGES:
        if edge in used:
            terms[edge[1] - 1] += [(edge[0], name(edge, operation), weight) for operation, weight in real[edge]]
    return tuple(tuple(into_node) for into_node in terms)


def name(edge: Edge, operation: str) -> str:
    """What a cell calls the operation of an edge; those that are no module are all called the same."""
    if operation == BYPASS:
        return BYPASS
    return "" if operation == "skip_connect" else f"{operation}_{edge[0]}_{edge[1]}"


class Nb201Network(nn.Module):
    """One network. Operations that do not matter to the output have their parameters, as in the benchmark."""

    def __init__(self, operations: Mapping[Edge, str], signature: Signature, *, channels: int, cells: int) -> None:
        super().__init__()
        listed = {edge: (operation,) for edge, operation in operations.items()}
        make = partial(Cell, listed, norm=nn.BatchNorm2d)
        self.body = Body(make, signature, channels=channels, cells=cells, norm=nn.BatchNorm2d)
        self.plan = plan({edge: [(operation, None)] for edge, operation in operations.items()})

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, c, h, w]."""
        logits: Tensor = self.body(x, self.plan)
        return logits


class Nb201Supernet(nn.Module):
    """All networks in one: every cell holds every operation on each edge; all cells share the gates.

    In training it normalises by the batch and keeps no statistics: they would fit none of the networks it holds.
    """

    def __init__(self, signature: Signature, *, channels: int, cells: int) -> None:
        super().__init__()
        make = partial(Cell, _EVERY, norm=_searching)
        self.body = Body(make, signature, channels=channels, cells=cells, norm=ElasticBatchNorm2d)

    def forward(self, x: Tensor, *, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, h, w]."""
        logits: Tensor = self.body(channels_last(x), plan({edge: _picked(gates, edge) for edge in EDGES}))
        return logits


class PartialNb201Supernet(nn.Module):
    """The supernet whose operations are mixed on one of `parts` parts of the channels, see `search_spaces.partial`."""

    def __init__(self, signature: Signature, *, channels: int, cells: int, parts: int) -> None:
        super().__init__()
        part(channels, parts)
        self.body = Body(
            partial(PartialCell, parts=parts), signature, channels=channels, cells=cells, norm=ElasticBatchNorm2d
        )

    def forward(self, x: Tensor, *, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, h, w]."""
        mixture = passing({edge: _picked(gates, edge) for edge in EDGES})
        logits: Tensor = self.body(channels_last(x), plan(mixture))
        return logits


class Body(nn.Module):
    """The stem, the cells with the residual blocks between them, and the classifier. `make` makes cells by channels."""

    def __init__(
        self,
        make: Callable[[int], nn.Module],
        signature: Signature,
        *,
        channels: int,
        cells: int,
        norm: Norm,
    ) -> None:
        super().__init__()
        first = nn.Conv2d(signature.shape[0], channels, 3, padding=1, bias=False)
        self.stem = nn.Sequential(OrderedDict[str, nn.Module](conv=first, bn=norm(channels)))
        self.stages, self.reductions = nn.ModuleList(), nn.ModuleList()
        for stage in range(3):
            if stage:
                self.reductions.append(Reduction(channels, norm))
                channels *= 2
            self.stages.append(nn.ModuleList(make(channels) for _ in range(cells)))
        self.last = nn.Sequential(OrderedDict[str, nn.Module](bn=norm(channels), act=nn.ReLU()))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, signature.classes)

    def forward(self, x: Tensor, plan: Plan) -> Tensor:
        """Logits [n, classes] of images [n, c, h, w], each cell computed by the plan."""
        x = self.stem(x)
        for stage, cells in enumerate(self.stages):
            if stage:
                x = self.reductions[stage - 1](x)
            for cell in cells:  # type: ignore[attr-defined]
                x = cell(x, plan)
        logits: Tensor = self.classifier(self.pool(self.last(x)).flatten(1))
        return logits


class Cell(nn.Module):
    """Four nodes; the operations listed for each edge between them, those without tensors left out."""

    def __init__(self, operations: Mapping[Edge, Sequence[str]], channels: int, norm: Norm) -> None:
        super().__init__()
        self.operations = nn.ModuleDict(
            {
                name(edge, operation): _MAKERS[operation](channels, norm)
                for edge in EDGES
                for operation in operations[edge]
                if operation in _MAKERS
            }
        )

    def forward(self, x: Tensor, plan: Plan) -> Tensor:
        """The last node [n, c, h, w]: each is the sum of its terms, and zero without any."""
        nodes = {0: x}
        for node, terms in enumerate(plan, 1):
            for source, operation, weight in terms:
                y = weighted(self.operations[operation] if operation else None, nodes[source], weight)
                nodes[node] = nodes[node] + y if node in nodes else y
        return nodes[NODES - 1] if NODES - 1 in nodes else torch.zeros_like(x)


class PartialCell(nn.Module):
    """A cell whose operations see the first part of the channels of what they read."""

    def __init__(self, channels: int, *, parts: int) -> None:
        super().__init__()
        self.parts, self.seen = parts, channels // parts
        self.operations = Cell(_EVERY, self.seen, _searching).operations

    def forward(self, x: Tensor, plan: Plan) -> Tensor:
        """The last node [n, c, h, w]; zero if nothing leads there."""
        nodes = {0: Divided(x, self.seen)}
        for node, terms in enumerate(plan, 1):
            sums = Sums()
            for source, operation, weight in terms:
                if operation == BYPASS:
                    sums.pass_by(nodes[source].rest, weight)
                else:
                    layer = self.operations[operation] if operation else None
                    sums.add(weighted(layer, nodes[source].first, weight))
            value = sums.value(self.parts)
            if value is not None:
                nodes[node] = Divided(value, self.seen)
        return nodes[NODES - 1].value if NODES - 1 in nodes else torch.zeros_like(x)


class Reduction(nn.Module):
    """Twice the channels at half the image's sides, rounded up: a residual block with two 3x3 convolutions."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _unit(channels, 2 * channels, 3, norm=norm, stride=2), _unit(2 * channels, 2 * channels, 3, norm=norm)
        )
        # Rounding up leaves windows that reach beyond the image; they average what lies inside.
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(channels, 2 * channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """[n, 2 * channels, ceil(h / 2), ceil(w / 2)]."""
        result: Tensor = self.shortcut(x) + self.body(x)
        return result


def _unit(inputs: int, outputs: int, kernel: int, *, norm: Norm, stride: int = 1) -> nn.Sequential:
    """The benchmark's order: activation, convolution, normalisation; PyTorch's own initialisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(OrderedDict[str, nn.Module](act=nn.ReLU(), conv=conv, bn=norm(outputs)))


_MAKERS: Mapping[str, Callable[[int, Norm], nn.Module]] = {
    "avg_pool_3x3": lambda channels, norm: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "nor_conv_1x1": lambda channels, norm: _unit(channels, channels, 1, norm=norm),
    "nor_conv_3x3": lambda channels, norm: _unit(channels, channels, 3, norm=norm),
}


_EVERY: Mapping[Edge, Sequence[str]] = dict.fromkeys(EDGES, OPERATIONS)


def _picked(gates: Gates, edge: Edge) -> list[tuple[str, Weight]]:
    """The operations that the gate of an edge lets through, with their weights."""
    return [(OPERATIONS[i], weight) for i, weight in weighed(gates, f"edge.{edge[0]}-{edge[1]}")]
