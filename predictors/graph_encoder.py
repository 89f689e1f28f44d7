"""A transformer over the nodes of a cell that knows the graph: the encoder of ParZC's graph variant.

It is PINAT's (Lu et al. 2023, doi:10.1609/aaai.v37i7.26076): operations embedded, rows of the Laplacian as positions,
and convolutions over neighbours that infuse both the tokens and every attention. Those convolutions are named after
graph attention, but sum over the neighbours as sets. Here operations lie on nodes, so cells of NAS-Bench-201 need no
learned map from four nodes to six edges; padded nodes are masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import elu, leaky_relu, relu, scaled_dot_product_attention

from predictors import ScoreError
from predictors.probe import Cell

_SLOPE = 0.2
_TOKEN_HEADS = 6
_ATTENTION_HEADS = 2
"""Of attention and of the convolutions beside it."""


@dataclass(frozen=True)
class GraphSizes:
    """How large a graph encoder is; `published_graph_sizes` has the published ones."""

    dim: int = 48
    """Channels of a token."""
    layers: int = 2
    hidden: int = 12
    """Channels of one head of the convolutions over neighbours."""
    head_dim: int = 24
    """Channels of one head of attention."""
    inner: int = 96
    """Channels within the feed-forward."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.dim, self.layers, self.hidden, self.head_dim, self.inner) < 1 or not 0 <= self.dropout < 1:
            raise ValueError("a graph encoder's sizes must be at least 1, its dropout in [0, 1)")


def published_graph_sizes() -> GraphSizes:
    """The sizes of the published runs on NAS-Bench-201, found there by a search that looked at test networks."""
    return GraphSizes(dim=765, layers=4, hidden=76, head_dim=100, inner=338)


@dataclass(frozen=True)
class Graphs:
    """Cells as one batch: adjacency [networks, nodes, nodes], operations [networks, nodes, kinds], real nodes."""

    adjacency: Tensor
    operations: Tensor
    present: Tensor
    """True [networks, nodes] for nodes that are there, False for padding."""

    def __getitem__(self, rows: Tensor) -> Graphs:
        return Graphs(self.adjacency[rows], self.operations[rows], self.present[rows])


def stacked(cells: Sequence[Cell], *, nodes: int, kinds: int) -> Graphs:
    """The cells, padded to `nodes`. Raises ScoreError for larger ones or other kinds."""
    adjacency = torch.zeros(len(cells), nodes, nodes)
    operations = torch.zeros(len(cells), nodes, kinds)
    present = torch.zeros(len(cells), nodes, dtype=torch.bool)
    for i, cell in enumerate(cells):
        edges, chosen = cell.adjacency, cell.operations
        own = len(chosen)
        if own > nodes or chosen.shape[1:] != (kinds,) or edges.shape != (own, own):
            raise ScoreError(
                f"A cell has adjacency {edges.shape} and operations {chosen.shape}, but the predictor reads cells of "
                f"up to {nodes} nodes with operations of {kinds} kinds."
            )
        adjacency[i, :own, :own] = torch.as_tensor(np.asarray(edges != 0, dtype=np.float32))
        operations[i, :own] = torch.as_tensor(np.asarray(chosen, dtype=np.float32))
        present[i, :own] = True
    return Graphs(adjacency, operations, present)


class GraphEncoder(nn.Module):
    """Cells, and perhaps something to add to their tokens [networks, nodes, dim], -> [networks, dim]."""

    def __init__(self, nodes: int, kinds: int, *, sizes: GraphSizes) -> None:
        super().__init__()
        self.embed = nn.Linear(kinds, sizes.dim, bias=False)
        self.position = nn.Linear(nodes, sizes.dim)
        self.infuse = _Infusion(kinds, sizes.dim, sizes.hidden, heads=_TOKEN_HEADS)
        self.dropout = nn.Dropout(sizes.dropout)
        self.norm = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.layers = nn.ModuleList(_Layer(sizes) for _ in range(sizes.layers))

    def forward(self, graphs: Graphs, added: Tensor | None = None) -> Tensor:
        """The mean of the real nodes' tokens after the last layer."""
        laplacian = torch.diag_embed(graphs.adjacency.sum(2)) - graphs.adjacency
        sources = (graphs.adjacency + torch.eye(graphs.adjacency.shape[1])).transpose(1, 2)
        tokens = self.dropout(self.embed(graphs.operations) + self.position(laplacian))
        tokens = self.norm(tokens + self.dropout(self.infuse(graphs.operations, sources)))
        if added is not None:
            tokens = tokens + added
        for layer in self.layers:
            tokens = layer(tokens, sources, graphs.present)
        real = graphs.present.unsqueeze(2).to(tokens.dtype)
        out: Tensor = (tokens * real).sum(1) / real.sum(1)
        return out


class _SetConvolution(nn.Module):
    """Each node's neighbours and itself, transformed, summed and transformed again, channel by channel over heads."""

    def __init__(self, inputs: int, outputs: int, *, heads: int) -> None:
        super().__init__()
        self.before = nn.Parameter(_glorot(inputs, outputs * heads))
        self.scale = nn.Parameter(_glorot(outputs, 1, 1))
        self.shift = nn.Parameter(torch.zeros(outputs, 1))
        self.mix = nn.Parameter(_glorot(outputs, heads, heads))
        self.bias = nn.Parameter(torch.zeros(outputs, heads))
        self.after = nn.Parameter(_glorot(outputs, heads))
        self.heads = heads

    def forward(self, x: Tensor, sources: Tensor) -> Tensor:
        """[networks, nodes, inputs], sources [networks, nodes, nodes] -> [networks, nodes, outputs, heads]."""
        sent = (x @ self.before).reshape(*x.shape[:2], -1, self.heads) * self.scale[:, 0] + self.shift
        summed = torch.einsum("bts,bsoh->btoh", sources, leaky_relu(sent, _SLOPE))
        mixed = torch.einsum("btoh,ohk->btok", summed, self.mix) + self.bias
        return leaky_relu(mixed, _SLOPE) * self.after


class _Infusion(nn.Module):
    """Three of those convolutions, each beside a linear map."""

    def __init__(self, inputs: int, outputs: int, hidden: int, *, heads: int) -> None:
        super().__init__()
        within = heads * hidden
        self.convolutions = nn.ModuleList(
            _SetConvolution(i, o, heads=heads) for i, o in ((inputs, hidden), (within, hidden), (within, outputs))
        )
        self.linear = nn.ModuleList(nn.Linear(i, o) for i, o in ((inputs, within), (within, within), (within, outputs)))

    def forward(self, x: Tensor, sources: Tensor) -> Tensor:
        for convolution, straight in zip(self.convolutions[:2], self.linear[:2], strict=True):
            x = elu(convolution(x, sources).flatten(2) + straight(x))
        out: Tensor = self.convolutions[2](x, sources).sum(3) + self.linear[2](x)
        return out


class _Layer(nn.Module):
    """Attention and convolutions side by side, then a feed-forward; both added and normalised."""

    def __init__(self, sizes: GraphSizes) -> None:
        super().__init__()
        heads, width = _ATTENTION_HEADS, _ATTENTION_HEADS * sizes.head_dim
        self.query, self.key, self.value = (nn.Linear(sizes.dim, width, bias=False) for _ in range(3))
        self.infuse = _Infusion(sizes.dim, width, sizes.hidden, heads=heads)
        self.join = nn.Linear(2 * width, sizes.dim, bias=False)
        self.first, self.second = nn.Linear(sizes.dim, sizes.inner), nn.Linear(sizes.inner, sizes.dim)
        self.norms = nn.ModuleList(nn.LayerNorm(sizes.dim, eps=1e-6) for _ in range(2))
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, tokens: Tensor, sources: Tensor, present: Tensor) -> Tensor:
        query, key, value = (_headed(part(tokens)) for part in (self.query, self.key, self.value))
        rate = self.dropout.p if self.training else 0.0
        seen = scaled_dot_product_attention(query, key, value, attn_mask=present[:, None, None], dropout_p=rate)
        both = torch.cat((self.infuse(tokens, sources), seen.transpose(1, 2).flatten(2)), dim=2)
        tokens = self.norms[0](tokens + self.dropout(self.join(both)))
        out: Tensor = self.norms[1](tokens + self.dropout(self.second(relu(self.first(tokens)))))
        return out


def _headed(tokens: Tensor) -> Tensor:
    """[networks, nodes, heads * channels] -> [networks, heads, nodes, channels]."""
    return tokens.reshape(*tokens.shape[:2], _ATTENTION_HEADS, -1).transpose(1, 2)


def _glorot(*shape: int) -> Tensor:
    """Uniform within the root of 6 over the sum of the last two sizes."""
    limit = (6 / (shape[-2] + shape[-1])) ** 0.5
    return torch.empty(shape).uniform_(-limit, limit)
