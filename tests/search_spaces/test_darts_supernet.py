from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.choices import ChoiceTable
from search_spaces.darts import DartsSpace
from search_spaces.darts_cells import EDGES, KINDS, NODES, Preset, edge_choice, inputs_choice, operations, pairs
from search_spaces.darts_net import Cell, Shape, name, plan
from search_spaces.darts_supernet import PartialCell, mixture
from search_spaces.elastic import ElasticBatchNorm2d
from search_spaces.errors import SpaceError
from search_spaces.gated import KnownGates, one_hot, uniform
from search_spaces.partial import passing
from search_spaces.space import Gates, Signature

SMALL = Signature("image", (3, 8, 6), 5)


def images(n: int = 3) -> Tensor:
    return torch.randn(n, *SMALL.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def everything(table: ChoiceTable, seed: int = 0, *, grad: bool = False) -> dict[str, Tensor]:
    """Random operations on all edges, which all weigh 1."""
    rng = torch.Generator().manual_seed(seed)
    gates = {n: torch.rand(len(g), generator=rng).softmax(0) for n, g in uniform(table).items()}
    for gate in gates.values() if grad else ():
        gate.requires_grad_()
    for kind, node in itertools.product(KINDS, NODES[1:]):
        gates[inputs_choice(kind, node)] = torch.full((math.comb(node, 2),), 1 / (node - 1))
    return gates


def supernet(preset: Preset = "darts", cells: int = 3) -> tuple[DartsSpace, nn.Module]:
    torch.manual_seed(0)
    space = DartsSpace(SMALL, preset=preset, channels=2, cells=cells)
    return space, space.supernet().double().train()


# -- the cell --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_is_the_weighted_sum_of_all_operations_on_all_edges(kind: str) -> None:
    """Against the loop that the paper writes: a sum over edges of sums over operations."""
    space, net = supernet("darts-none")
    gates = everything(space.table, grad=True)
    cell = next(c for c, k in zip(net.body.cells, net.body.kinds, strict=True) if k == kind)
    older, newer = (torch.randn(2, c.in_channels, 6, 6).double() for c in _first_convolutions(cell))
    values = [cell.inputs[0](older), cell.inputs[1](newer)]
    for node in NODES:
        total = 0
        for source in range(node):
            gate = gates[edge_choice(kind, (source, node))]  # type: ignore[arg-type]
            for weight, operation in zip(gate, operations("darts-none", kind, (source, node)), strict=True):  # type: ignore[arg-type]
                module = name(kind, (source, node), operation)  # type: ignore[arg-type]
                if operation != "none":
                    x = values[source]
                    total = total + weight * (cell.operations[module](x) if module else x)
        values.append(total)
    found = cell(older, newer, plan(kind, mixture("darts-none", gates, kind)))  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.cat(values[2:], 1))


def _first_convolutions(cell: nn.Module) -> list[nn.Conv2d]:
    return [next(m for m in part.modules() if isinstance(m, nn.Conv2d)) for part in cell.inputs]


# -- gates -----------------------------------------------------------------------------------------------------------


def test_even_pairs_give_every_edge_weight_1() -> None:
    gates = one_hot(DartsSpace().table, DartsSpace().table.smallest)
    for kind, node in itertools.product(KINDS, NODES[1:]):
        gates[inputs_choice(kind, node)] = torch.full((math.comb(node, 2),), 1 / (node - 1))
    for kind, edge in itertools.product(KINDS, EDGES):
        gates[edge_choice(kind, edge)] = torch.eye(7)[2]
    found = mixture("darts", gates, "normal")
    assert found == {edge: [("avg_pool_3x3", None)] for edge in EDGES}, "no weight at all: nothing is multiplied"


def test_an_edge_weighs_as_much_as_the_pairs_that_hold_it() -> None:
    gates = dict(one_hot(DartsSpace().table, DartsSpace().table.smallest))
    for edge in EDGES:
        gates[edge_choice("normal", edge)] = torch.eye(7)[0]
    weights = {(0, 1): 0.5, (0, 3): 0.25, (1, 2): 0.125}
    gates["normal.node4.inputs"] = torch.tensor([weights.get(pair, 0) for pair in pairs(4)])
    found = mixture("darts", gates, "normal")
    into_4 = {edge: listed for edge, listed in found.items() if edge[1] == 4}
    assert into_4 == {(s, 4): [("skip_connect", w)] for s, w in enumerate((0.75, 0.625, 0.125, 0.25))}
    # The pairs of the nodes 3 and 5 rest on their first.
    assert [edge for edge in found if edge[1] != 4] == [(0, 2), (1, 2), (0, 3), (1, 3), (0, 5), (1, 5)]


def test_gradients_reach_the_weights_of_pairs() -> None:
    space, net = supernet()
    gates, x = {n: gate.double() for n, gate in everything(space.table).items()}, images()
    pair = gates["normal.node5.inputs"].requires_grad_()

    def loss(pair: Tensor) -> Tensor:
        return net(x, gates={**gates, "normal.node5.inputs": pair}).square().sum()

    (found,) = torch.autograd.grad(loss(pair), pair)
    steps = 1e-6 * torch.eye(len(pair), dtype=torch.float64)
    numeric = torch.stack([(loss(pair + s) - loss(pair - s)) / 2e-6 for s in steps]).detach()
    torch.testing.assert_close(found, numeric, atol=1e-6, rtol=1e-4)
    assert found.ne(0).all()


def test_only_what_has_a_weight_is_computed() -> None:
    space, net = supernet()
    gates = everything(space.table)
    gates["normal.node2.from0"] = torch.tensor([0, 0, 0, 0.5, 0, 0, 0])
    gates["normal.node4.inputs"] = torch.eye(6)[0]
    asked: set[str] = set()
    for key, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and "cells.0.operations" in key:
            module.register_forward_hook(lambda *_, key=key: asked.add(key.split(".operations.")[1].partition(".")[0]))
    net(images(), gates=gates)
    expected = {
        name("normal", edge, operation)
        for edge in EDGES
        if edge not in ((2, 4), (3, 4))
        for operation in operations("darts", "normal", edge)
        if edge != (0, 2) or operation == "dil_conv_3x3"
    }
    assert asked == expected - {""}


def test_all_cells_of_a_kind_read_the_gates_once() -> None:
    class Counted(dict[str, Tensor]):
        asked = 0

        def get(self, key: str, default: Tensor | None = None) -> Tensor | None:  # type: ignore[override]
            self.asked += 1
            return super().get(key, default)

    counts = []
    for cells in (3, 7):
        space, net = supernet("s2", cells)
        gates = Counted(everything(space.table))
        net(images(), gates=gates)
        counts.append(gates.asked)
    assert counts == [34, 34]


def test_edges_that_leave_only_none_add_nothing() -> None:
    space, net = supernet("s3")
    gates = everything(space.table)
    closed = {**gates, "normal.node5.from3": torch.tensor([1.0, 0, 0])}
    half = {**gates, "normal.node5.from3": torch.tensor([0.3, 0, 0])}
    terms = plan("normal", mixture("s3", closed, "normal"))[-1]
    assert {source for source, *_ in terms} == {0, 1, 2, 4}
    assert torch.equal(net(images(), gates=closed), net(images(), gates=half))


def test_edges_whose_pairs_all_weigh_nothing_are_not_asked_for_their_gates() -> None:
    gates = everything(DartsSpace(preset="s3").table)
    gates["normal.node5.inputs"] = torch.tensor([float(3 not in pair) for pair in pairs(5)])
    del gates["normal.node5.from3"]
    assert mixture("s3", gates, "normal").keys() == {edge for edge in EDGES if edge != (3, 5)}


def test_known_gates_compute_what_they_say() -> None:
    space, net = supernet()
    gates = everything(space.table, grad=True)
    every = {n: tuple(range(len(g))) for n, g in gates.items()}
    torch.testing.assert_close(net(images(), gates=KnownGates(gates, every)), net(images(), gates=gates))
    only = {**gates, "normal.node3.from1": gates["normal.node3.from1"] * torch.eye(7)[4]}
    known = KnownGates(only, {**every, "normal.node3.from1": (4,)})
    torch.testing.assert_close(net(images(), gates=known), net(images(), gates=only))


@pytest.mark.parametrize("missing", ["normal.node2.from1", "reduce.node4.inputs"])
def test_gates_that_are_missing_or_shut_are_named(missing: str) -> None:
    space, net = supernet()
    gates = everything(space.table)
    shut: Gates = {**gates, missing: torch.zeros(len(gates[missing]))}
    del gates[missing]
    for closed in (gates, shut):
        with pytest.raises(SpaceError, match=f"leave '{missing}' open"):
            net(images(), gates=closed)


# -- what it learns --------------------------------------------------------------------------------------------------


def test_the_supernet_is_as_large_as_the_published_one() -> None:
    """1,930,618 weights: the search network of DARTS for CIFAR-10. `none` has none."""
    for preset in ("darts", "darts-none"):
        with torch.device("meta"):
            net = DartsSpace(preset=preset).supernet()  # type: ignore[arg-type]
        assert sum(p.numel() for p in net.parameters()) == 1_930_618


def test_only_the_stem_learns_to_scale() -> None:
    _, net = supernet()
    norms = {key: m for key, m in net.named_modules() if isinstance(m, ElasticBatchNorm2d)}
    learning = [key for key, m in norms.items() if isinstance(m.weight, nn.Parameter)]
    assert learning == ["body.stem.1"] and len(norms) > 100


def test_pools_are_normalised_in_supernets() -> None:
    torch.manual_seed(0)
    shape = Shape(6, 6, 4, older_is_larger=False)
    cell = Cell("normal", {(0, 2): ("max_pool_3x3",)}, shape, nn.BatchNorm2d)
    assert isinstance(cell.operations["max_pool_3x3_0_2"][1], nn.BatchNorm2d)
    space = DartsSpace(SMALL, channels=2, cells=3, pool_norm=False)
    assert isinstance(space.supernet().body.cells[0].operations["avg_pool_3x3_1_3"], nn.AvgPool2d)


def test_noise_differs_by_pass_unless_it_is_seeded() -> None:
    space, net = supernet("s4")
    table = space.table
    noisy = table.smallest
    assert set(table.values(noisy).values()) == {"noise", "0+1"}
    plain = space.build(noisy).double().train()
    plain.load_state_dict(space.inherit(net, noisy))
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(net(images(), gates=one_hot(table, noisy)))
        torch.manual_seed(seed)
        # Numbers are drawn in the order of memory, which in supernets is that of pixels.
        torch.testing.assert_close(plain(images().contiguous(memory_format=torch.channels_last)), found[-1])
    assert torch.equal(found[0], found[1]) and not torch.allclose(found[0], found[2])


# -- partial channels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_operations_see_a_part_and_the_rest_passes_by(kind: str) -> None:
    """Against PC-DARTS as it is written down: edge by edge, each joined and shuffled by itself."""
    torch.manual_seed(0)
    cell = PartialCell("darts-none", kind, Shape(6, 6, 8, False), pool_norm=True, parts=4).double().train()  # type: ignore[arg-type]
    gates = everything(DartsSpace(preset="darts-none").table, grad=True)
    gates[f"{kind}.node3.from2"] = torch.eye(8)[0]  # none, decided: the rest passes all the same
    gates[f"{kind}.node4.from0"] = 2 * gates[f"{kind}.node4.from0"]
    older, newer = torch.randn(2, 2, 6, 7, 6, dtype=torch.float64)
    values = [cell.inputs[0](older), cell.inputs[1](newer)]
    for node in NODES:
        total = 0
        for source in range(node):
            x = values[source]
            gate = gates[edge_choice(kind, (source, node))].double()  # type: ignore[arg-type]
            halves = kind == "reduce" and source < 2
            rest = F.max_pool2d(x[:, 2:], 2, ceil_mode=True) if halves else x[:, 2:]
            mixed = torch.zeros_like(rest[:, :2])
            for weight, operation in zip(gate[1:], operations("darts", kind, (source, node)), strict=True):  # type: ignore[arg-type]
                module = name(kind, (source, node), operation)  # type: ignore[arg-type]
                mixed = mixed + weight * (cell.operations[module](x[:, :2]) if module else x[:, :2])
            total = total + F.channel_shuffle(torch.cat((mixed, gate.sum() * rest), 1), 4)
        values.append(total)
    found = cell(older, newer, plan(kind, passing(mixture("darts-none", gates, kind))))  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.cat(values[2:], 1), atol=1e-6, rtol=1e-5)


def test_partial_supernets_learn_and_are_smaller() -> None:
    space = DartsSpace(SMALL, channels=8, cells=3)
    partial = space.partial_supernet(4)
    sizes = [sum(p.numel() for p in net.parameters()) for net in (partial, space.supernet())]
    assert sizes[0] < sizes[1]
    gates = everything(space.table, grad=True)
    partial.double().train()(images(), gates=gates).square().sum().backward()
    for key, gate in gates.items():
        assert key.endswith("inputs") or (gate.grad is not None and gate.grad.ne(0).all()), key
    for parts in (3, 8):
        with pytest.raises(SpaceError, match=f"8 channels cannot be divided into {parts} parts; give one of 2, 4"):
            space.partial_supernet(parts)
