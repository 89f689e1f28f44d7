from __future__ import annotations

import numpy as np
import pytest
import torch

from predictors import ScoreError
from predictors.graph_encoder import GraphEncoder, Graphs, GraphSizes, _SetConvolution, published_graph_sizes, stacked
from predictors.probe import Cell

TINY = GraphSizes(dim=6, layers=2, hidden=2, head_dim=3, inner=8)


def chain(*kinds: int, of: int = 4) -> Cell:
    """A cell whose nodes follow one another."""
    return Cell(np.eye(len(kinds), k=1), np.eye(of)[list(kinds)])


@pytest.fixture
def encoder() -> GraphEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return GraphEncoder(5, 4, sizes=TINY).eval()


def test_padding_changes_nothing(encoder: GraphEncoder) -> None:
    alone = encoder(stacked([chain(0, 1, 3)], nodes=5, kinds=4))
    beside = encoder(stacked([chain(0, 1, 3), chain(0, 2, 1, 1, 3)], nodes=5, kinds=4))
    assert torch.allclose(alone[0], beside[0], atol=1e-6)
    # what stands in padded rows is never read
    graphs = stacked([chain(0, 1, 3)], nodes=5, kinds=4)
    spoilt = Graphs(graphs.adjacency, graphs.operations.clone(), graphs.present)
    spoilt.operations[0, 3:] = 7.0
    assert torch.allclose(alone, encoder(spoilt), atol=1e-6)


def test_operations_and_edges_matter(encoder: GraphEncoder) -> None:
    one, other = chain(0, 1, 2, 3), chain(0, 2, 1, 3)
    shortcut = Cell(one.adjacency + np.eye(4, k=3), one.operations)
    out = encoder(stacked([one, other, shortcut], nodes=5, kinds=4))
    assert not torch.allclose(out[0], out[1], atol=1e-3)
    assert not torch.allclose(out[0], out[2], atol=1e-3)


def test_what_is_added_to_the_tokens_reaches_the_output(encoder: GraphEncoder) -> None:
    graphs = stacked([chain(0, 1, 3)], nodes=5, kinds=4)
    added = torch.zeros(1, 5, 6, requires_grad=True)
    encoder(graphs, added)[0, 0].backward()
    assert added.grad is not None
    assert added.grad[0, :3].any(dim=1).all()


def test_a_convolution_sums_over_sources_and_the_node_itself() -> None:
    layer = _SetConvolution(2, 1, heads=1)
    with torch.no_grad():
        layer.before.copy_(torch.tensor([[1.0], [10.0]]))
        for parameter in (layer.scale, layer.mix, layer.after):
            parameter.fill_(1)
        layer.bias.fill_(-10)
        layer.after.fill_(3)
    x = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    sources = torch.tensor([[[1.0, 0, 0], [1, 1, 0], [0, 1, 1]]])  # each node's own number and the one before it
    # sent: 1, 10, -.2 (leaky); summed over sources: 1, 11, 9.8; less 10, leaky, times 3
    assert layer(x, sources).flatten().tolist() == pytest.approx([3 * 0.2 * -9, 3 * 1, 3 * 0.2 * -0.2], abs=1e-5)


def test_stacked_pads_and_refuses_what_it_cannot_hold() -> None:
    graphs = stacked([chain(0, 3), chain(0, 1, 3)], nodes=3, kinds=4)
    assert graphs.present.tolist() == [[True, True, False], [True, True, True]]
    assert graphs.adjacency[1].tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    with pytest.raises(ScoreError, match="cells of up to 2 nodes with operations of 4 kinds"):
        stacked([chain(0, 1, 3)], nodes=2, kinds=4)
    with pytest.raises(ScoreError, match="of 5 kinds"):
        stacked([chain(0, 1, 3)], nodes=3, kinds=5)


def test_published_sizes() -> None:
    sizes = published_graph_sizes()
    with torch.device("meta"):
        encoder = GraphEncoder(8, 7, sizes=sizes)
    attention = 3 * 765 * 200 + 400 * 765
    assert sum(p.numel() for n, p in encoder.layers[0].named_parameters() if "infuse" not in n) == (
        attention + (765 * 338 + 338 + 338 * 765 + 765) + 2 * 2 * 765
    )
    with pytest.raises(ValueError, match="at least 1"):
        GraphSizes(dim=0)
