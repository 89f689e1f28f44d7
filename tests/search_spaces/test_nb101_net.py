from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from search_spaces.cells import Edge, on_paths
from search_spaces.nb101_net import Cell, Nb101Network, vertex_channels
from search_spaces.space import Signature
from tests.toy_nets import stirred

C1, C3, POOL = "conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3"
IMAGES = Signature("image", (3, 32, 32), 10)


def matrix(edges: set[Edge], nodes: int) -> list[list[int]]:
    return [[int((i, j) in edges) for j in range(nodes)] for i in range(nodes)]


# -- channels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edges, nodes, inputs, outputs, channels",
    [
        ({(0, 1)}, 2, 4, 6, [4, 6]),
        ({(0, 1), (1, 2), (2, 3)}, 4, 4, 8, [4, 8, 8, 8]),
        # 1, 2 and 3 share 8 channels: 3, 3, 2
        ({(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)}, 5, 8, 8, [8, 3, 3, 2, 8]),
        # 1 feeds 2 (5 of 9) and 3 (4 of 9): it takes 5
        ({(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)}, 5, 8, 9, [8, 5, 5, 4, 9]),
        # The input's own edge to the output takes no share.
        ({(0, 1), (0, 2), (1, 2)}, 3, 4, 8, [4, 8, 8]),
        # 1 feeds only 2, which feeds only 3; 3 and 4 share 7: 4, 3
        ({(0, 1), (1, 2), (2, 3), (0, 4), (3, 5), (4, 5)}, 6, 4, 7, [4, 4, 4, 4, 3, 7]),
    ],
)
def test_channels_as_worked_by_hand(
    edges: set[Edge], nodes: int, inputs: int, outputs: int, channels: list[int]
) -> None:
    assert vertex_channels(matrix(edges, nodes), inputs, outputs) == channels


def full(rng: np.random.Generator, nodes: int) -> set[Edge]:
    """A random cell of at most nine edges with every node on a path."""
    pairs = list(itertools.combinations(range(nodes), 2))
    while True:
        edges = {pairs[i] for i in rng.choice(len(pairs), min(9, len(pairs)), replace=False)}
        if {node for edge in on_paths(edges, nodes) for node in edge} == set(range(nodes)):
            return edges


def test_channels_never_grow_along_an_edge_and_fill_the_output() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        nodes = int(rng.integers(3, 8))
        edges, outputs = full(rng, nodes), int(rng.integers(5, 40))
        channels = vertex_channels(matrix(edges, nodes), 3, outputs)
        assert all(channels[i] - channels[j] in (0, 1) for i, j in edges if i and j < nodes - 1)
        assert sum(channels[i] for i, j in edges if j == nodes - 1 and i) == outputs
        assert min(channels) > 0


# -- an independent network ------------------------------------------------------------------------------------------


def unit(x: Tensor, state: dict[str, Tensor], key: str) -> Tensor:
    weight = state[f"{key}.conv.weight"]
    x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    mean, var, scale, shift = (
        state[f"{key}.bn.{n}"].view(1, -1, 1, 1) for n in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)


def reference(x: Tensor, state: dict[str, Tensor], edges: set[Edge], operations: list[str], key: str) -> Tensor:
    """A cell from the output backwards: what a vertex is worth to whoever asks for so many of its channels."""
    last = len(operations) - 1

    def worth(vertex: int) -> Tensor:
        projected = unit(x, state, f"{key}.projections.{vertex}") if (0, vertex) in edges else None
        inner = [i for i in range(1, vertex) if (i, vertex) in edges]
        if vertex == last:
            total = torch.cat([worth(i) for i in inner], 1) if inner else 0
            return total if projected is None else total + projected
        operation = f"{key}.operations.{vertex}"
        width = min(worth(i).shape[1] for i in inner) if inner else 0
        if projected is not None:
            width = projected.shape[1]
        elif operations[vertex] != POOL:
            width = state[f"{operation}.conv.weight"].shape[1]
        total = sum(worth(i)[:, :width] for i in inner) + (0 if projected is None else projected)
        return F.max_pool2d(total, 3, 1, 1) if operations[vertex] == POOL else unit(total, state, operation)

    return worth(last)


@pytest.mark.parametrize("seed", range(6))
def test_cells_compute_what_the_paper_describes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = [3, 4, 5, 6, 7, 7][seed]
    edges, outputs = full(rng, nodes), int(rng.integers(5, 12))
    operations = ["input", *rng.choice([C1, C3], nodes - 2).tolist(), "output"]
    net = stirred(Cell(matrix(edges, nodes), operations, 3, outputs))
    x = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = reference(x, {f"cell.{k}": v for k, v in net.state_dict().items()}, edges, operations, "cell")
    torch.testing.assert_close(net(x), expected)


def test_a_cell_with_pools_worked_by_hand() -> None:
    # 1 and 3 are pools; 1 (3 channels) feeds 2 and 3, which share 5 channels: 3 and 2.
    edges = {(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (0, 4)}
    net = stirred(Cell(matrix(edges, 5), ["input", POOL, C1, POOL, "output"], 2, 5))
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first = F.max_pool2d(net.projections["1"](x), 3, 1, 1)
    second, third = net.operations["2"](first), F.max_pool2d(first[:, :2], 3, 1, 1)
    expected = torch.cat([second, third], 1) + net.projections["4"](x)
    assert set(net.projections) == {"1", "4"}
    torch.testing.assert_close(net(x), expected)


# -- whole networks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edges, operations, params",
    [
        # The first cell of the benchmark's file.
        (
            {(0, 1), (0, 4), (0, 5), (1, 2), (2, 3), (2, 6), (3, 5), (4, 5), (5, 6)},
            [C3, POOL, C3, C3, C1],
            8_555_530,
        ),
        # The Inception-like cell of the benchmark's own example.
        ({(0, 1), (0, 2), (0, 3), (0, 5), (1, 6), (2, 6), (3, 4), (4, 6), (5, 6)}, [C1, C3, C3, C3, POOL], 2_694_282),
        # Another cell of the file.
        (
            {(0, 1), (0, 3), (1, 2), (1, 4), (1, 5), (2, 6), (3, 4), (4, 5), (5, 6)},
            [POOL, C3, POOL, C1, POOL],
            3_468_426,
        ),
    ],
)
def test_parameters_are_those_published(edges: set[Edge], operations: list[str], params: int) -> None:
    with torch.device("meta"):
        net = Nb101Network(
            matrix(edges, 7), ["input", *operations, "output"], IMAGES, channels=128, stacks=3, modules=3
        )
    assert sum(p.numel() for p in net.parameters()) == params


def test_stacks_halve_the_image_and_double_the_channels() -> None:
    net = Nb101Network([[0, 1], [0, 0]], ["input", "output"], IMAGES, channels=8, stacks=3, modules=2)
    seen: list[tuple[int, ...]] = []
    for stack in net.stacks:
        stack.register_forward_hook(lambda module, inputs, out: seen.append((inputs[0].shape[1:], out.shape[1:])))
    net(torch.zeros(1, 3, 9, 6))
    assert seen == [((8, 9, 6), (8, 9, 6)), ((8, 5, 3), (16, 5, 3)), ((16, 3, 2), (32, 3, 2))]


def test_pools_do_not_see_the_padding() -> None:
    net = Nb101Network([[0, 1], [0, 0]], ["input", "output"], IMAGES, channels=8, stacks=2, modules=1)
    x = -torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    assert net.shrink(x).tolist() == [[[[-1.0, -3.0], [-7.0, -9.0]]]]


def test_first_weights_have_the_benchmarks_variance() -> None:
    torch.manual_seed(0)
    net = Nb101Network(matrix({(0, 1), (1, 2)}, 3), ["input", C3, "output"], IMAGES, channels=64, stacks=1, modules=1)
    weight = net.stacks[0][0].operations["1"].conv.weight
    assert weight.std().item() == pytest.approx((64 * 9) ** -0.5, rel=0.02)


def test_networks_can_be_traced() -> None:
    # 1 has a channel more than 3 takes.
    cell = matrix({(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)}, 5), ["input", C3, POOL, C1, "output"]
    net = stirred(Nb101Network(*cell, IMAGES, channels=5, stacks=2, modules=1))
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(fx.symbolic_trace(net)(x), net(x))
