"""The networks of NAS-Bench-101 (Ying et al. 2019, arXiv:1902.09635, sections 2.1 and 2.2).

A 3x3 convolution, stacks of equal cells between which a pool halves the image, and a linear classifier. All vertices
that feed a cell's output are concatenated, so its channels are divided among them; other edges add.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from search_spaces.cells import Adjacency
from search_spaces.space import Signature

OPERATIONS = ("maxpool3x3", "conv1x1-bn-relu", "conv3x3-bn-relu")
"""In ascending cost."""

_KERNELS = {"conv1x1-bn-relu": 1, "conv3x3-bn-relu": 3}


class Nb101Network(nn.Module):
    """One network. The cell is given by its graph, of which every vertex lies on a path from input to output."""

    def __init__(
        self,
        adjacency: Adjacency,
        operations: Sequence[str],
        signature: Signature,
        *,
        channels: int,
        stacks: int,
        modules: int,
    ) -> None:
        super().__init__()
        self.stem = _unit(signature.shape[0], channels, 3)
        # Sides are rounded up, as by "same" padding.
        self.shrink = nn.MaxPool2d(2, ceil_mode=True)
        self.stacks = nn.ModuleList()
        inputs = channels
        for stack in range(stacks):
            outputs, cells = channels * 2**stack, nn.Sequential()
            for _ in range(modules):
                cells.append(Cell(adjacency, operations, inputs, outputs))
                inputs = outputs
            self.stacks.append(cells)
        self.classifier = nn.Linear(inputs, signature.classes)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, c, h, w]."""
        x = self.stem(x)
        for i, stack in enumerate(self.stacks):
            x = stack(self.shrink(x) if i else x)
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


class Cell(nn.Module):
    """The operations of a cell's inner vertices, and a projection wherever its input goes."""

    def __init__(self, adjacency: Adjacency, operations: Sequence[str], inputs: int, outputs: int) -> None:
        super().__init__()
        last = len(operations) - 1
        self.channels = vertex_channels(adjacency, inputs, outputs)
        self.sources = [[v for v in range(1, node) if adjacency[v][node]] for node in range(last + 1)]
        self.operations, self.projections = nn.ModuleDict(), nn.ModuleDict()
        for node in range(1, last + 1):
            channels = self.channels[node]
            if adjacency[0][node]:
                self.projections[str(node)] = _unit(inputs, channels, 1)
            if node < last:
                self.operations[str(node)] = _operation(operations[node], channels)

    def forward(self, x: Tensor) -> Tensor:
        """The output vertex [n, c, h, w]: what feeds it side by side, plus the projected input if that does too."""
        tensors, last = [x], len(self.sources) - 1
        for node in range(1, last):
            terms = [self._first(tensors[v], v, node) for v in self.sources[node]]
            tensors.append(self.operations[str(node)](self._added(terms, x, node)))
        ends = [tensors[v] for v in self.sources[last]]
        return self._added([torch.cat(ends, 1)] if ends else [], x, last)

    def _first(self, x: Tensor, vertex: int, node: int) -> Tensor:
        """As many of a vertex' first channels as the node has."""
        # Told by the plan and not by the tensor: tracers follow no branch that a tensor decides.
        return x if self.channels[vertex] == self.channels[node] else x[:, : self.channels[node]]

    def _added(self, terms: list[Tensor], x: Tensor, node: int) -> Tensor:
        """The sum of these and of the cell's input as projected for the node, if it leads there."""
        if str(node) in self.projections:
            terms = [*terms, self.projections[str(node)](x)]
        return sum(terms[1:], start=terms[0])


def vertex_channels(adjacency: Adjacency, inputs: int, outputs: int) -> list[int]:
    """Channels of each vertex of a cell, [vertices].

    Those that feed the output share its channels evenly, the first ones taking what is left over; each other vertex
    has as many as the widest that it feeds, and those take their first ones.
    """
    last = len(adjacency) - 1
    feeding = [v for v in range(1, last) if adjacency[v][last]]
    channels = [inputs, *[0] * (last - 1), outputs]
    for rank, vertex in enumerate(feeding):
        channels[vertex] = outputs // len(feeding) + (rank < outputs % len(feeding))
    for vertex in range(last - 1, 0, -1):
        if vertex not in feeding:
            channels[vertex] = max(channels[v] for v in range(vertex + 1, last) if adjacency[vertex][v])
    return channels


def _operation(name: str, channels: int) -> nn.Module:
    return _unit(channels, channels, _KERNELS[name]) if name in _KERNELS else nn.MaxPool2d(3, 1, 1)


def _unit(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution, normalisation, activation, with the benchmark's variance of the first weights.

    Two things differ: the normal distribution is not cut off at two deviations, which would take ten times as long,
    and running statistics move by PyTorch's 0.1 a step, not by 0.003, which takes thousands of steps to settle.
    """
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    return nn.Sequential(OrderedDict[str, nn.Module](conv=conv, bn=nn.BatchNorm2d(outputs), act=nn.ReLU()))
