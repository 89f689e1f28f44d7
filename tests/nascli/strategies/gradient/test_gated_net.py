from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from nascli.strategies.gradient.gated_net import GatedNet, option_macs
from predictors.cost import count
from search_spaces.darts import DartsSpace
from search_spaces.gated import one_hot
from search_spaces.nb201 import Nb201Space
from search_spaces.nb201_net import OPERATIONS
from search_spaces.space import Signature
from tests.toy_cells import Cells, mixture_of

IMAGES = Signature("image", (3, 8, 8), 10)


def test_it_is_the_supernet_under_its_gates_and_can_be_copied() -> None:
    space = Cells()
    net, mixture, x = space.supernet().eval(), mixture_of(space, scale=0.1), torch.randn(5, 1, 4, 4)
    gates = mixture.gates(mixture.weights().detach(), without=[(n, 2) for n in mixture.rows.names])
    gated = GatedNet(net, gates).eval()
    assert torch.equal(gated(x), net(x, gates=gates))
    assert torch.equal(copy.deepcopy(gated)(x), gated(x))
    assert {id(p) for p in gated.parameters()} == {id(p) for p in net.parameters()}


def test_costs_of_options_add_up_to_the_cost_of_the_network() -> None:
    space = Nb201Space(IMAGES, channels=4, cells=2)
    mixture, x = mixture_of(space), torch.zeros(1, 3, 8, 8)
    base, costs = option_macs(space.supernet().eval(), mixture, (x,))
    rng = np.random.default_rng(0)
    for _ in range(12):
        # Every edge is in use: else what it leads to costs nothing in the network.
        options = rng.integers(1, len(OPERATIONS), size=6)
        arch = space.table.from_indices(list(options))
        expected = count(space.build(arch).eval(), (x,)).macs
        assert base + costs[range(6), options].sum().item() == pytest.approx(expected, rel=1e-6)
    assert (costs[:, 0] == 0).all() and (costs[:, 1] == 0).all()
    assert (costs[:, 4] > costs[:, 3]).all() and (costs[:, 3] > 0).all()


def test_costs_of_the_toys_options_are_those_of_one_matrix() -> None:
    space = Cells(("normal", "reduce"))
    base, costs = option_macs(space.supernet().eval(), mixture_of(space), (torch.zeros(1, 1, 4, 4),))
    # The stem is 16 x 6, the classifier 24 x 4; `linear` is 6 x 6; `skip_connect`, the cheapest, is nothing.
    assert base == 16 * 6 + 24 * 4
    assert costs.tolist() == [[0, 0, 0, 36]] * 10


def test_costs_of_darts_cells_count_every_cell_that_shares_a_choice() -> None:
    space = DartsSpace(IMAGES, preset="s2", channels=2, cells=4)
    mixture, x = mixture_of(space), torch.zeros(1, 3, 8, 8)
    base, costs = option_macs(space.supernet().eval(), mixture, (x,))
    # All edges that a network has, and no others: the supernet's base holds all its skip connections.
    first = space.table.parse(str(space.table.smallest))
    other = space.table.canonical(
        [
            "sep_conv_3x3" if c.name == "normal.node2.from0" else o
            for c, o in zip(space.table.choices, first.options, strict=True)
        ]
    )
    gap = count(space.build(other).eval(), (x,)).macs - count(space.build(first).eval(), (x,)).macs
    assert costs[mixture.rows.row("normal.node2.from0"), 1].item() == pytest.approx(gap)
    under = GatedNet(space.supernet().eval(), one_hot(space.table, first))
    assert count(under, (x,)).macs == count(space.build(first).eval(), (x,)).macs <= base
