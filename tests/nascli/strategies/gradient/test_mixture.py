from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor

from nascli.strategies.gradient.mixture import Mixture, Moment
from nascli.strategies.gradient.rows import Rows
from search_spaces.darts import DartsSpace
from search_spaces.gated import KnownGates
from search_spaces.nb201 import Nb201Space
from search_spaces.space import SearchSpace, Signature
from tests.toy_cells import Cells, Uneven, mixture_of
from tests.toy_images import same

IMAGES = Signature("image", (1, 4, 4), 4)
SPACES: dict[str, SearchSpace] = {
    "cells": Cells(("normal", "reduce")),
    "nb201": Nb201Space(IMAGES, channels=2, cells=1),
    "s3": DartsSpace(IMAGES, preset="s3", channels=2, cells=3),
}
PAIRS = "normal.node3.inputs"
FROM = [f"normal.node3.from{s}" for s in range(3)]


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def loss_under(space: SearchSpace, mixture: Mixture, moment: Moment = Moment()) -> Tensor:
    weights = mixture.sampled(mixture.alpha, moment)
    gates = mixture.gates(weights, importance=mixture.importance())
    logits = space.supernet().train()(torch.randn(8, 1, 4, 4), gates=gates)
    return torch.nn.functional.cross_entropy(logits, torch.arange(8) % 4)


# -- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel", "dirichlet"])
@pytest.mark.parametrize("name", SPACES)
def test_decided_rows_get_exactly_no_gradient_and_open_ones_get_some(name: str, relaxation: str) -> None:
    space = SPACES[name]
    mixture = mixture_of(space, relaxation=relaxation)
    closed = [mixture.rows.names[0], mixture.rows.names[2]]
    for row in closed:
        mixture.decide(row, mixture.rows.candidates(row)[-1])
    total = torch.zeros_like(mixture.logits)
    for _ in range(3):
        (slope,) = torch.autograd.grad(loss_under(space, mixture), mixture.logits)
        assert slope.isfinite().all()
        total += slope.abs()
    touched = dict(zip(mixture.rows.names, total.sum(-1).tolist(), strict=True))
    assert all(touched[row] == 0.0 for row in closed)
    assert sum(value > 0 for row, value in touched.items() if row not in closed) >= len(touched) // 2
    assert (total[~mixture.rows.valid] == 0).all()


def test_edges_that_were_given_up_get_no_gradient_and_are_not_computed() -> None:
    space = Cells()
    mixture = mixture_of(space, edges=torch.zeros(5))
    mixture.decide(PAIRS, 1)
    slope, edges = torch.autograd.grad(loss_under(space, mixture), mixture.alpha)
    assert (slope[mixture.rows.row(FROM[1])] == 0).all() and slope[mixture.rows.row(FROM[2])].any()
    assert edges[mixture.rows.row("normal.node2.from0")] != 0


# -- gates -----------------------------------------------------------------------------------------------------------


def test_without_takes_an_option_out_and_nothing_makes_up_for_it() -> None:
    mixture = mixture_of()
    weights = mixture.weights().detach()
    name = "normal.node2.from1"
    whole, without = mixture.gates(weights), mixture.gates(weights, without=[(name, 2)])
    expected = weights[1].clone()
    expected[2] = 0
    assert torch.equal(without[name], expected)
    assert without[name].sum() < 1
    assert all(torch.equal(without[n], whole[n]) for n in whole if n != name)
    assert weights[1, 2] > 0, "the weights themselves stay"


def test_without_takes_an_edge_out_and_the_others_weigh_one() -> None:
    mixture = mixture_of()
    weights = mixture.weights().detach()
    whole, without = mixture.gates(weights), mixture.gates(weights, without=[(FROM[0], None)])
    assert whole[PAIRS].tolist() == [0.5, 0.5, 0.5]
    assert without[PAIRS].tolist() == [0, 0, 1]
    assert all(torch.equal(without[n], whole[n]) for n in whole if n != PAIRS)


def test_removing_none_is_the_same_network() -> None:
    space = Cells()
    mixture, net, x = mixture_of(space), space.supernet().eval(), torch.randn(6, 1, 4, 4)
    mixture.decide("normal.node2.from0", 3)
    weights = mixture.weights().detach()
    outputs = []
    for without in ([], [("normal.node3.from2", 0)], [("normal.node3.from2", 3)]):
        torch.manual_seed(5)
        outputs.append(net(x, gates=mixture.gates(weights, without=without)))
    assert torch.equal(outputs[0], outputs[1]) and not torch.allclose(outputs[0], outputs[2])


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel", "dirichlet"])
def test_computed_options_are_those_that_the_weights_name(relaxation: str) -> None:
    mixture = mixture_of(SPACES["cells"], relaxation=relaxation, edges=torch.zeros(10))
    mixture.decide("reduce.node2.from0", 1)
    weights = mixture.sampled(mixture.alpha, Moment(0.5))
    gates = mixture.gates(weights, importance=mixture.importance(), without=[("normal.node2.from0", 1)])
    assert isinstance(gates, KnownGates)
    assert gates.computed.keys() == set(mixture.rows.names)
    for name, computed in gates.computed.items():
        assert computed == tuple(i for i, w in enumerate(gates[name].tolist()) if w), name
    assert gates.computed["reduce.node2.from0"] == (1,)
    assert gates["reduce.node2.from0"].tolist() == [0, 1, 0, 0] and not gates["reduce.node2.from0"].requires_grad


def test_random_perturbation_hides_the_logits_and_spares_decided_rows() -> None:
    mixture = mixture_of()
    mixture.decide("normal.node2.from0", 2)
    first, second = (mixture.sampled(mixture.alpha, Moment(radius=0.3)) for _ in range(2))
    assert not first.requires_grad and not torch.equal(first, second)
    assert mixture.gates(first)["normal.node2.from0"].tolist() == [0, 0, 1, 0]
    assert mixture.sampled(mixture.alpha, Moment()).requires_grad


# -- weights ---------------------------------------------------------------------------------------------------------


def test_importance_averages_one_a_node() -> None:
    edges = torch.tensor([0.0, 1.0, 2.0, 0.0, -1.0])
    mixture = mixture_of(edges=edges)
    found = mixture.importance()
    assert found is not None
    torch.testing.assert_close(found[:2], 2 * torch.tensor([0.0, 1.0]).softmax(0))
    torch.testing.assert_close(found[2:], 3 * torch.tensor([2.0, 0.0, -1.0]).softmax(0))
    weights = mixture.weights().detach()
    gate = mixture.gates(weights, importance=found)["normal.node3.from0"]
    torch.testing.assert_close(gate, weights[2] * found[2])
    assert mixture_of().importance() is None
    even = mixture_of(edges=torch.zeros(5)).importance()
    torch.testing.assert_close(even, torch.ones(5))


def test_settled_weights_are_what_was_decided() -> None:
    mixture = mixture_of()
    mixture.decide("normal.node2.from0", 3)
    mixture.decide(FROM[0], 1)
    mixture.decide(PAIRS, 2)
    found = mixture.settled(mixture.weights())
    assert found[0].tolist() == [0, 0, 0, 1]
    assert found[2].tolist() == [0, 0, 0, 0], "decided, and then given up"
    assert torch.equal(found[1], mixture.weights()[1])


def test_expected_weights_follow_the_relaxation() -> None:
    soft, hard, drawn = (mixture_of(relaxation=r) for r in ("softmax", "gumbel", "dirichlet"))
    assert torch.equal(soft.weights(), hard.weights())
    beta = torch.nn.functional.elu(drawn.logits) + 1
    torch.testing.assert_close(drawn.weights(), beta / beta.sum(-1, keepdim=True))
    other = [torch.zeros(5, 4)]
    torch.testing.assert_close(soft.weights(other), torch.full((5, 4), 0.25))


# -- decisions -------------------------------------------------------------------------------------------------------


def test_decisions_and_drops_keep_the_topology_consistent() -> None:
    mixture = mixture_of()
    assert mixture.undecided == list(mixture.rows.names)
    mixture.drop(PAIRS, FROM[1])
    assert mixture.decided == {PAIRS: 1} and mixture.dropped == {FROM[1]}
    assert mixture.undecided == [n for n in mixture.rows.names if n != FROM[1]]
    mixture.decide(FROM[0], 3)
    assert FROM[0] not in mixture.undecided
    mixture.reopen()
    assert mixture.undecided == list(mixture.rows.names) and not mixture.dropped


def test_dropping_one_by_one_leaves_one_pair() -> None:
    mixture = mixture_of(DartsSpace())
    node = "normal.node5.inputs"
    for source in (0, 4, 2):
        assert node not in mixture.decided
        mixture.drop(node, f"normal.node5.from{source}")
    options = mixture.rows.options(node)
    assert options[mixture.decided[node]] == "1+3"
    assert mixture.dropped == {f"normal.node5.from{s}" for s in (0, 2, 4)}
    gates = mixture.gates(mixture.weights().detach())
    assert gates[node].sum() == 1 and gates[node][options.index("1+3")] == 1


def test_choices_of_one_option_are_decided_from_the_start() -> None:
    mixture = mixture_of(Uneven())
    assert mixture.decided == {"a.one": 0} and mixture.undecided == ["a.two", "b.three"]
    mixture.reopen()
    assert mixture.decided == {"a.one": 0}


def test_the_state_survives_a_file_and_is_a_copy() -> None:
    mixture = mixture_of(edges=torch.arange(5.0))
    mixture.decide("normal.node2.from0", 2)
    mixture.drop(PAIRS, FROM[2])
    state = mixture.state()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other = Mixture(Rows.of(Cells()), torch.zeros(5, 4), edges=torch.zeros(5))
    leaves = other.alpha
    other.load(torch.load(file, weights_only=True))
    assert same(other.state(), state) and all(a is b for a, b in zip(leaves, other.alpha, strict=True))
    with torch.no_grad():
        mixture.logits += 1
    mixture.decide("normal.node2.from1", 2)
    assert not same(mixture.state(), state) and same(other.state(), state)
