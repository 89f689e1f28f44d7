"""All networks of DARTS in one: every cell holds every operation on each edge, and all cells of a kind share the gates.

Weights are learnt with normalisations that do not scale, so that the gates alone say how much an operation counts
(Liu et al. 2019, arXiv:1806.09055, appendix A.1.1). In training the supernet normalises by the batch and keeps no
statistics: they would fit none of the networks it holds.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from search_spaces.darts_cells import (
    EDGES,
    INPUTS,
    KINDS,
    NODES,
    Kind,
    Preset,
    edge_choice,
    inputs_choice,
    operations,
    pairs,
)
from search_spaces.darts_net import Body, Cell, Plan, Plans, Shape, inputs, joined, modules, plan, stride
from search_spaces.elastic import ElasticBatchNorm2d
from search_spaces.mixtures import Weight, total, weighed, weighted
from search_spaces.partial import BYPASS, Divided, Mixture, Sums, part, passing
from search_spaces.space import Gates, Signature
from search_spaces.units import channels_last

_norm = partial(ElasticBatchNorm2d, affine=False)


class DartsSupernet(nn.Module):
    """The supernet of a preset."""

    def __init__(
        self, preset: Preset, signature: Signature, *, channels: int, count: int, pool_norm: bool = True
    ) -> None:
        super().__init__()
        self.preset = preset

        def make(kind: Kind, shape: Shape) -> Cell:
            return Cell(kind, _listed(preset, kind), shape, _norm, pool_norm=pool_norm)

        self.body = Body(make, signature, channels=channels, count=count, norm=ElasticBatchNorm2d)

    def forward(self, x: Tensor, *, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, h, w].

        The gate of a node's inputs weighs pairs of edges, and an edge is as heavy as all pairs that hold it: where
        pairs weigh 1 / (node - 1) each, all edges weigh 1.
        """
        plans: Plans = {kind: plan(kind, mixture(self.preset, gates, kind)) for kind in KINDS}
        logits: Tensor = self.body(channels_last(x), plans)[0]
        return logits


class PartialDartsSupernet(nn.Module):
    """The supernet whose operations are mixed on one of `parts` parts of the channels, see `search_spaces.partial`."""

    def __init__(
        self, preset: Preset, signature: Signature, *, channels: int, count: int, pool_norm: bool = True, parts: int
    ) -> None:
        super().__init__()
        part(channels, parts, least=2)
        self.preset = preset

        def make(kind: Kind, shape: Shape) -> PartialCell:
            return PartialCell(preset, kind, shape, pool_norm=pool_norm, parts=parts)

        self.body = Body(make, signature, channels=channels, count=count, norm=ElasticBatchNorm2d)

    def forward(self, x: Tensor, *, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, h, w]; see `DartsSupernet.forward`."""
        plans: Plans = {kind: plan(kind, passing(mixture(self.preset, gates, kind))) for kind in KINDS}
        logits: Tensor = self.body(channels_last(x), plans)[0]
        return logits


class PartialCell(nn.Module):
    """A cell whose operations see the first part of the channels of what they read."""

    def __init__(self, preset: Preset, kind: Kind, shape: Shape, *, pool_norm: bool, parts: int) -> None:
        super().__init__()
        self.parts, self.seen, self.stride = parts, shape.channels // parts, stride(kind, EDGES[0])
        self.inputs = inputs(shape, _norm)
        self.operations = modules(kind, _listed(preset, kind), self.seen, _norm, pool_norm=pool_norm)

    def forward(self, older: Tensor, newer: Tensor, plan: Plan) -> Tensor:
        """The nodes side by side [n, 4 * channels, h, w]."""
        values = {i: Divided(self.inputs[i](x), self.seen) for i, x in enumerate((older, newer))}
        for node, terms in zip(NODES, plan, strict=True):
            sums = Sums()
            for source, operation, weight in terms:
                read = values[source]
                if operation == BYPASS:
                    sums.pass_by(read.halved if self.stride == 2 and source in INPUTS else read.rest, weight)
                else:
                    layer = self.operations[operation] if operation else None
                    sums.add(weighted(layer, read.first, weight))
            if (value := sums.value(self.parts)) is not None:
                values[node] = Divided(value, self.seen)
        return joined({node: value.value for node, value in values.items()}, self.stride)


# -- gates -----------------------------------------------------------------------------------------------------------


def mixture(preset: Preset, gates: Gates, kind: Kind) -> Mixture:
    """The operations on the edges that the gates let through, with the products of the edge's and their own weights."""
    found: dict[tuple[int, int], list[tuple[str, Weight]]] = {}
    for node in NODES:
        for source, edge_weight in _incoming(gates, kind, node).items():
            edge = (source, node)
            listed = operations(preset, kind, edge)
            picked = weighed(gates, edge_choice(kind, edge), edge_weight)
            found[edge] = [(listed[i], weight) for i, weight in picked]
    return found


def _incoming(gates: Gates, kind: Kind, node: int) -> dict[int, Weight]:
    """The nodes that a node reads, with the weights of the edges from them: sums over the pairs that hold them."""
    possible = pairs(node)
    if len(possible) == 1:
        return dict.fromkeys(possible[0])
    held: dict[int, list[Weight]] = {}
    for i, weight in weighed(gates, inputs_choice(kind, node)):
        for source in possible[i]:
            held.setdefault(source, []).append(weight)
    return {source: total(weights) for source, weights in sorted(held.items())}


def _listed(preset: Preset, kind: Kind) -> dict[tuple[int, int], tuple[str, ...]]:
    return {edge: operations(preset, kind, edge) for edge in EDGES}
